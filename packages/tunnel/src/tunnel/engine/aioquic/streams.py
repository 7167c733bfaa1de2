"""What aioquic does not keep of a connection's streams: how far each has come, and who waits for what to send.

Rules:
- The two directions of a stream end independently, each once: the states below never go back.
- Room under the send cap is shared in turn: while others wait for it, a stream gets a share, and then waits behind
  them. A stream that waits for credit of its own takes no share.
- A stream is woken for a worthwhile amount of room and never missed: as a connection's unsent bytes drain, the whole
  cap becomes free.
"""

from collections.abc import Callable
from enum import Enum, auto
from itertools import islice

from tunnel.engine.aioquic.credit import StreamCredit
from tunnel.engine.port import CONTROL_STREAM
from tunnel.engine.settings import KIB

SHARE_BYTES = 16 * KIB
"""What each stream that waits for the send cap is offered in its turn, at least."""


class Sending(Enum):
    OPEN = auto()
    FINISHED = auto()
    """FIN was written; it may still be lost, repeated, or overtaken by a reset."""
    RESET = auto()
    """By us, or by the peer's STOP_SENDING."""


class Receiving(Enum):
    OPEN = auto()
    FINISHED = auto()
    """The peer's FIN was delivered. Bytes before it may still wait for their reader."""
    DISCARDING = auto()
    """Stopped here or reset by the peer: nothing is reported or consumed any more, everything is credited."""


class StreamRecord:
    __slots__ = ("credit", "delivered_bytes", "receiving", "sending")

    def __init__(self, credit: StreamCredit) -> None:
        self.credit = credit
        self.delivered_bytes = 0
        self.receiving = Receiving.OPEN
        self.sending = Sending.OPEN

    @property
    def unread_bytes(self) -> int:
        """Delivered, and not consumed yet."""
        return self.delivered_bytes - self.credit.consumed_bytes


class SendTurns:
    """The streams whose last `send` came up short, longest wait first."""

    def __init__(self, cap_bytes: int) -> None:
        self._cap_bytes = cap_bytes
        self._short_of_credit: dict[int, None] = {}
        self._short_of_room: dict[int, None] = {}

    def share(self, stream_id: int, unsent_bytes: int) -> int:
        """What one stream may send of what the cap leaves."""
        room = self._cap_bytes - unsent_bytes
        others = len(self._short_of_room) - (stream_id in self._short_of_room)
        return min(room, max(SHARE_BYTES, room // (1 + others)))

    def wait(self, stream_id: int, *, for_credit: bool) -> None:
        """Keeps its place, if it has one."""
        waiting = self._short_of_credit if for_credit else self._short_of_room
        waiting.setdefault(stream_id)

    def leave(self, stream_id: int) -> None:
        self._short_of_credit.pop(stream_id, None)
        self._short_of_room.pop(stream_id, None)

    def take_ready(self, unsent_bytes: Callable[[], int], has_credit: Callable[[int], bool]) -> list[int]:
        """Those that have credit and room again, in turn; they wait no longer. The control stream needs no room."""
        ready: list[int] = []
        for stream_id in [stream_id for stream_id in self._short_of_credit if has_credit(stream_id)]:
            del self._short_of_credit[stream_id]
            if stream_id == CONTROL_STREAM:
                ready.append(stream_id)
            else:
                self._short_of_room.setdefault(stream_id)
        if self._short_of_room:
            room = self._cap_bytes - unsent_bytes()
            # A quarter of the cap at least, so that a wake-up is worth its cost; three quarters keep the line busy.
            turns = -(-room // SHARE_BYTES) if 4 * room >= self._cap_bytes else 0
            for stream_id in list(islice(self._short_of_room, turns)):
                del self._short_of_room[stream_id]
                ready.append(stream_id)
        return ready

"""Which datagram size a client's handshake tries, and when it tries another one.

    LARGE --nothing for a second--> ASKING --an answer--> AGAIN --no large answer--> SMALL
      `------only small answers for a second-----------------------------------------^

Rules:
- A handshake in large datagrams that is answered in large ones proves the path, both ways. Nothing else does: a server
  whose large datagrams get lost still acknowledges in small ones.
- Silence does not prove that datagrams are too large; mostly the server is away. So small ones only ask whether it is
  there, and when it is, large ones are tried once more.
"""

from enum import Enum, auto

LARGE_S = 1.0
"""aioquic has sent its first packet three times by then, so it is not a matter of one lost packet."""

AGAIN_S = 0.3
AGAIN_ROUND_TRIPS = 3
"""The longer of the two. Two packets are sent by then."""


class Phase(Enum):
    LARGE = auto()
    ASKING = auto()
    AGAIN = auto()
    SMALL = auto()


class SizeProbe:
    """`size` is what the handshake under way uses."""

    def __init__(self, large: int, small: int, now: float) -> None:
        self.phase = Phase.SMALL if large == small else Phase.LARGE
        self.deadline: float | None = None if large == small else now + LARGE_S
        self._large = large
        self._small = small
        self._started_at = now
        self._largest_answer = 0

    @property
    def size(self) -> int:
        return self._large if self.phase in (Phase.LARGE, Phase.AGAIN) else self._small

    def answered(self, datagram_bytes: int) -> None:
        """The server sent a datagram."""
        self._largest_answer = max(self._largest_answer, datagram_bytes)

    def start_over(self, now: float) -> bool:
        """Whether the handshake has to begin anew, in what `size` says from now on."""
        late = self.deadline is not None and now >= self.deadline
        if late and self._largest_answer >= self._large:
            self.deadline = None
        elif self.phase is Phase.LARGE and late:
            self._enter(Phase.SMALL if self._largest_answer else Phase.ASKING, None, now)
            return True
        elif self.phase is Phase.ASKING and self._largest_answer:
            patience_s = max(AGAIN_S, AGAIN_ROUND_TRIPS * (now - self._started_at))
            self._enter(Phase.AGAIN, now + patience_s, now)
            return True
        elif self.phase is Phase.AGAIN and late:
            self._enter(Phase.SMALL, None, now)
            return True
        return False

    def _enter(self, phase: Phase, deadline: float | None, now: float) -> None:
        self.phase = phase
        self.deadline = deadline
        self._started_at = now
        self._largest_answer = 0

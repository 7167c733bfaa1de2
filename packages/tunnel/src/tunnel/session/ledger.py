"""What a session counts. Plain numbers, all present from the start; the edge exports them.

Rules:
- The FIN ledger counts clean ends only, per direction: `received` (from the socket, or from the tunnel),
  `forwarded` (into the tunnel, or to the socket), `confirmed` (DONE came, or was sent), `rescued` (by END), and
  `abandoned`: received, but its stream is gone and nobody will confirm it any more. The request was refused, the other
  side had had enough, a reset or the loss of the connection came first, or a wait was over.
- An end that is received is confirmed or abandoned, never both. So, at rest, received = confirmed + abandoned for each
  direction at each hop, whatever went wrong; where it is not, an end was forgotten.
- Where nothing went wrong, nothing is abandoned, and received = forwarded = confirmed.
- Only an end of a live direction is one. What a socket says after its stream has ended is not counted.
"""

from typing import Protocol

from tunnel.errors import Cause
from tunnel.session.events import Ending, WaitsFor
from tunnel.wire.messages import Direction

END_EVENTS = ("received", "forwarded", "confirmed", "rescued", "abandoned")
REFUSED = "refused"
STREAM_ENDINGS = (*(ending.value for ending in Ending), REFUSED)


class Half(Protocol):
    """One direction of a stream, as far as the FIN ledger is concerned."""

    direction: Direction
    end_open_at: float | None
    """When its end was received; None while there is none, and once it is confirmed or abandoned."""


class Ledger:
    """Counters since the start and gauges of now, of one role."""

    def __init__(self) -> None:
        self.ends = {(direction, event): 0 for direction in Direction for event in END_EVENTS}
        self.bytes = dict.fromkeys(Direction, 0)
        self.streams = dict.fromkeys(STREAM_ENDINGS, 0)
        self.connections = dict.fromkeys(Cause, 0)
        self.half_closed = dict.fromkeys(Direction, 0)
        """Streams of which this direction ended and the other did not."""
        self.undelivered_bytes = 0
        """Received from the tunnel, not taken by the applications' sockets yet."""
        self.flow_control_waits = 0
        self.stalls = dict.fromkeys(WaitsFor, 0)
        """Streams that began to stand still, by what they wait for."""
        self.pings_answered = 0

    def end_received(self, half: Half, now: float) -> None:
        """Once for each end, however often it is said before the end is confirmed."""
        if half.end_open_at is None:
            half.end_open_at = now
            self.ends[half.direction, "received"] += 1

    def end_forwarded(self, half: Half) -> None:
        self.ends[half.direction, "forwarded"] += 1

    def end_rescued(self, half: Half) -> None:
        self.ends[half.direction, "rescued"] += 1

    def end_confirmed(self, half: Half) -> None:
        half.end_open_at = None
        self.ends[half.direction, "confirmed"] += 1

    def half_over(self, half: Half) -> None:
        """The stream leaves the tables: nobody will say anything about this direction any more."""
        if half.end_open_at is not None:
            half.end_open_at = None
            self.ends[half.direction, "abandoned"] += 1

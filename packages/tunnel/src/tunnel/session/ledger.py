"""What a session counts. Plain numbers, all present from the start; the edge exports them.

Rules:
- The FIN ledger counts clean ends only, per direction: `received` (from the socket, or from the tunnel),
  `forwarded` (into the tunnel, or to the socket), `confirmed` (DONE came, or was sent), `rescued` (by END).
- Requests that were refused and streams that were cancelled are outside the balance: a half-close in front of a
  refusal is received and forwarded, and nobody confirms it.
- Otherwise, at rest, received = forwarded = confirmed for each direction at each hop; where it is not, an end was lost.
"""

from tunnel.errors import Cause
from tunnel.session.events import Ending
from tunnel.wire.messages import Direction

END_EVENTS = ("received", "forwarded", "confirmed", "rescued")
REFUSED = "refused"
STREAM_ENDINGS = (*(ending.value for ending in Ending), REFUSED)


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
        self.pings_answered = 0

    def count_end(self, direction: Direction, event: str) -> None:
        self.ends[direction, event] += 1

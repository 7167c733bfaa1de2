"""One QUIC connection as a session sees it: who is at the other end, its control stream, its streams.

    CONNECTING ──handshake──▶ GREETING ──WELCOME──▶ UP ──GOAWAY, spare, drain──▶ LEAVING ──last DONE──▶ CLOSING ──▶ gone
                (the server has no CONNECTING; its GREETING waits for HELLO)

Rules:
- New streams: on GREETING (bounded) and UP, unless the connection is suspect or doubted.
- CLOSING has sent PING and waits for PONG: then the peer has processed every DONE, and nothing can be lost (F01).
"""

from dataclasses import dataclass, field
from enum import Enum, unique
from typing import TYPE_CHECKING

from tunnel.engine.port import Address
from tunnel.session.evidence import Ring
from tunnel.session.liveness import Liveness
from tunnel.session.stream import Stream
from tunnel.wire.codec import Decoder
from tunnel.wire.messages import Done

if TYPE_CHECKING:
    from tunnel.session.shares import Share


@unique
class State(Enum):
    CONNECTING = "connecting"
    GREETING = "greeting"
    UP = "up"
    LEAVING = "leaving"
    CLOSING = "closing"


@dataclass(slots=True)
class Connection:
    """`number` is the engine's."""

    number: int
    state: State
    liveness: Liveness
    started_at: float
    address: Address | None = None
    instance_id: bytes | None = None
    session_id: bytes = b""
    peer_name: str | None = None
    shares: "list[Share]" = field(default_factory=list)
    """Server: what it counts against, see `shares`; and with how many streams."""
    counted_streams: int = 0
    token_digest: bytes = field(default=b"", repr=False)
    """Server: SHA-256 of the token that HELLO brought."""
    max_streams: int = 0
    """Client: streams that may be on it at a time."""
    full: bool = False
    """Client: the engine has no stream to give until it says so."""
    streams: dict[int, Stream] = field(default_factory=dict)
    """By QUIC stream id."""
    control: Decoder = field(default_factory=Decoder)
    outbox: bytearray = field(default_factory=bytearray)
    """Control messages that the engine did not take yet: at most `max_control_backlog_bytes`, and one turn."""
    early_ends: dict[int, int] = field(default_factory=dict)
    """END for streams that were not seen yet."""
    early_dones: dict[int, Done] = field(default_factory=dict)
    """Server: DONE for such streams: their application left, and the packet with OPEN was lost."""
    highest_qid: int = 0
    """The highest stream id that was seen; the control stream's at first."""
    unseen_qids: set[int] = field(default_factory=set)
    """Server: stream ids below the highest that were not seen yet, because packets overtake each other."""
    promised_qid: int | None = None
    """Server: the last stream that GOAWAY promised to process; those above it are not, in whatever order they come."""
    ring: Ring = field(default_factory=Ring)
    ping_payload: bytes = b""
    was_up: bool = False

    def expects(self, qid: int) -> bool:
        """Whether a stream of the peer's is still to come."""
        return qid > self.highest_qid or qid in self.unseen_qids

    @property
    def empty(self) -> bool:
        """Whether no stream is on it, nor on its way: a lost packet may hold an OPEN that GOAWAY has promised."""
        promised_qid = self.highest_qid if self.promised_qid is None else self.promised_qid
        return not self.streams and not any(qid <= promised_qid for qid in self.unseen_qids)

    @property
    def unseen_entries(self) -> int:
        """What is kept about streams that are still to come."""
        return len(self.early_ends) + len(self.early_dones) + len(self.unseen_qids)

    @property
    def takes_streams(self) -> bool:
        return (
            self.state in (State.GREETING, State.UP)
            and self.liveness.trusted
            and not self.full
            and len(self.streams) < self.max_streams
        )

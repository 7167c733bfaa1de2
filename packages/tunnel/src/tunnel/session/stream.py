"""One SOCKS connection on one QUIC stream, seen from one end: two halves that end independently.

    sending half    OPEN ──finish──▶ FINISHED          CONFIRMED by the peer's DONE, which can come in any state:
                      └────reset───▶ RESET             the peer may have had enough before we have

    receiving half  OPEN ──FIN, RESET, loss, our stop──▶ ENDED ──edge: "handed over"──▶ RECEIPTED (DONE is sent)

Rules:
- A half leaves a state once and never comes back: endings are idempotent, the first one counts (F08).
- What does not fit into the engine waits in `outbox` (the head and early bytes only), so it is bounded.
- A stream is retired when its sending half is confirmed and its receiving half is receipted, or with its connection.
"""

from dataclasses import dataclass, field
from enum import Enum, unique

from tunnel.session.events import Ending, WaitsFor
from tunnel.session.ledger import REFUSED
from tunnel.target import Target
from tunnel.wire.codec import Decoder
from tunnel.wire.messages import Direction, Outcome

OUTCOMES = {
    Ending.EOF: Outcome.EOF,
    Ending.RESET: Outcome.RESET,
    Ending.LOST: Outcome.LOST,
    Ending.CLOSED: Outcome.CLOSED,
}

_WORST_FIRST = (Outcome.LOST, Outcome.RESET, Outcome.CLOSED, Outcome.EOF)
_WORSE = {(one, other): min(one, other, key=_WORST_FIRST.index).label for one in Outcome for other in Outcome}


@unique
class SendState(Enum):
    OPEN = "open"
    FINISHED = "finished"
    RESET = "reset"


@unique
class ReceiveState(Enum):
    OPEN = "open"
    ENDED = "ended"
    RECEIPTED = "receipted"


@dataclass(slots=True)
class Wait:
    """What a half was found waiting for. It is the same wait while `reached` does not move."""

    waits_for: WaitsFor
    reached: int
    since: float
    told: bool = False


@dataclass(slots=True)
class SendHalf:
    """From our application's socket into the tunnel. Offsets are QUIC stream offsets."""

    direction: Direction
    state: SendState = SendState.OPEN
    outbox: bytearray = field(default_factory=bytearray)
    offset: int = 0
    """Bytes that the engine took."""
    blocked: bool = False
    """The engine took less than it was given last."""
    confirmed: Outcome | None = None
    """What the peer's DONE said."""
    taken: int = 0
    """What the peer's application has taken, as far as TAKEN told."""
    taken_at: float = 0.0
    ended_at: float | None = None
    end_open_at: float | None = None
    """See `ledger.Half`."""
    wait: Wait | None = None
    """At the last look for stalls."""

    @property
    def final_offset(self) -> int:
        return self.offset + len(self.outbox)


@dataclass(slots=True)
class ReceiveHalf:
    """From the tunnel to our application's socket."""

    direction: Direction
    state: ReceiveState = ReceiveState.OPEN
    offset: int = 0
    """Bytes that the engine delivered."""
    undelivered_bytes: int = 0
    """Given to the edge, not taken by its socket's kernel yet."""
    told_at: float = 0.0
    """When TAKEN was sent last; at first when the stream began."""
    ending: Ending | None = None
    end_offset: int | None = None
    """Where END says that the direction ends."""
    ended_at: float | None = None
    end_open_at: float | None = None
    """See `ledger.Half`."""
    wait: Wait | None = None
    """At the last look for stalls."""


@dataclass(slots=True)
class Stream:
    """`number` is the session's own; `qid` is the QUIC stream id on `connection`, None while it waits for one."""

    number: int
    send: SendHalf
    receive: ReceiveHalf
    opened_at: float
    last_progress_at: float
    connection: int | None = None
    qid: int | None = None
    head: Decoder | None = field(default_factory=Decoder)
    """Collects the peer's OPEN or REPLY; None once that is read."""
    detached: bool = False
    """The edge knows nothing of it any more: its endings need nobody's hands."""
    refused: bool = False
    answered: bool = False
    """REPLY said yes: received at the client, sent by the server."""
    counted_half_closed: Direction | None = None
    """What the ledger's gauge counts it under."""
    application: str = ""
    """Client: the address of the SOCKS connection, as evidence names it."""

    held: list[tuple[bytes, bool]] = field(default_factory=list)
    """Server: what came before the token was checked; bounded by the credit of a stranger."""

    # Client only.
    target: Target | None = None
    early: bytearray | None = None
    """What was sent before REPLY, OPEN not included: kept for a replay. None once REPLY came."""
    replayed: bool = False
    open_deadline: float = 0.0
    """How long it may wait for a connection, replays included."""

    @property
    def retired(self) -> bool:
        return self.send.confirmed is not None and self.receive.state is ReceiveState.RECEIPTED

    @property
    def half_closed(self) -> Direction | None:
        """The direction that ended, where the other one did not."""
        sent, received = self.send.state is not SendState.OPEN, self.receive.state is not ReceiveState.OPEN
        if sent == received:
            return None
        return self.send.direction if sent else self.receive.direction

    @property
    def ending(self) -> str:
        """The metric label of the whole stream: the worse of its directions' outcomes."""
        if self.refused:
            return REFUSED
        received = Outcome.LOST if self.receive.ending is None else OUTCOMES[self.receive.ending]
        sent = Outcome.LOST if self.send.confirmed is None else self.send.confirmed
        return _WORSE[received, sent]

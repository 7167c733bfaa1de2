"""The QUIC port: what a session asks of a QUIC library, at the level of an endpoint (one UDP socket).

Rules:
- No clock, no socket, no task. Time is passed in as `now` (seconds, monotonic); datagrams go in through `receive`
  and come out of `poll_transmit`; what happened comes out of `poll_event`.
- Connections and streams are plain integers. A connection's number is never used again; a stream's number is its
  QUIC stream id (RFC 9000 section 2.1).
- Flow control is honest. `send` takes only what the peer's stream credit and the send cap allow, and says how much
  that was; a `Writable` follows when there is room again. The peer is given credit for what `consumed` reported,
  never for what merely arrived, so at most one window a stream waits for a slow reader.
- The control stream, the client's first one, is exempt from the send cap and is sent before the others.
- Nothing here ever waits, and nothing is implied: a stream ends by `finish` or `reset`, never by being forgotten.
- What `Data` carried is `consumed`, all of it, or else the stream is stopped: until then it counts against the peer's
  streams, also when it has ended in both directions.
- Calls on a connection or stream that has ended do nothing (`send` takes 0 bytes): an ending can always cross a call.

An adapter is one small module beside this one. The same contract tests run on every adapter
(tests/unit/tunnel/engine/test_contract.py).
"""

from dataclasses import dataclass, field
from typing import Protocol

from tunnel.errors import Cause

Address = tuple[str, int] | tuple[str, int, int, int]
"""A socket address as the `socket` module has it, for IPv4 or IPv6."""

CONTROL_STREAM = 0
"""The client's first bidirectional stream (RFC 9000 section 2.1)."""


@dataclass(frozen=True, slots=True)
class Transmit:
    """Datagrams to send to one address: `data` cut into pieces of `segment_size` bytes, the last may be shorter."""

    data: bytes
    segment_size: int
    address: Address


@dataclass(frozen=True, slots=True)
class Connected:
    """The handshake is complete: streams can be opened. `address` is the peer's.

    `started_at` is when its first packet came or went, on the clock of `now`; None from an engine that does not tell.
    """

    address: Address
    started_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream, in order, each once. `end` says that the peer's FIN stands behind them.

    A stream of the peer's is announced by its first event. `data` can be empty where `end` is true.
    """

    stream: int
    data: bytes
    end: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """RESET_STREAM came: no more bytes will. Not reported for a stream that was stopped here before."""

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """STOP_SENDING came: what was not sent is discarded, `send` takes nothing more, the engine has reset the stream."""

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class Writable:
    """`send` took less than it was given, and now there is room again."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamsAvailable:
    """`open` gave None, and now the peer allows another stream."""


@dataclass(frozen=True, slots=True)
class PingAnswered:
    """The peer acknowledged a packet that carried a `ping`, the last one or one before."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection ended. The last event of a connection; `close` called here brings it too, and takes back the
    connection's events that were not polled yet. At a server, a handshake that fails is a Closed without a Connected.

    `cause` is the closer's code where it is one of ours, else TRANSPORT_ERROR, HANDSHAKE_FAILED,
    CERTIFICATE_REFUSED or PEER_SILENT. `detail` is for people.
    """

    cause: Cause
    detail: str
    by_peer: bool


Event = Connected | Data | Reset | Stopped | Writable | StreamsAvailable | PingAnswered | Closed


@dataclass(frozen=True, slots=True)
class Stats:
    """Of one connection: times in seconds, sizes in bytes, counts since its start."""

    rtt_s: float
    congestion_window_bytes: int
    datagram_bytes: int
    last_received_at: float
    """When the last packet that authenticated came in, on the clock of `now`."""
    buffered_send_bytes: int
    """Accepted by `send`, not acknowledged yet."""
    flow_control_waits: int
    """How often `send` took less than it was given."""


@dataclass(slots=True)
class Packets:
    """QUIC packets of all connections since the endpoint's start, those included that have ended."""

    sent: int = 0
    received: int = 0
    """quinn counts the datagrams."""
    lost: int = 0
    retries: int = 0
    """Retry packets sent: strangers who were asked to prove their address."""


class Engine(Protocol):
    """One endpoint. Adapters raise no exception for anything that a peer does."""

    name: str

    def connect(self, address: Address, now: float) -> int:
        """Starts a handshake; `Connected` or `Closed` follows. Client endpoints only."""

    def receive(self, data: bytes | memoryview, segment_size: int, address: Address, now: float) -> None:
        """Takes a whole GRO buffer: datagrams of `segment_size` bytes one after the other, the last may be shorter.

        Does not keep `data`.
        """

    def poll_transmit(self, now: float) -> Transmit | None:
        """The next datagrams to send; None when there is nothing to send now."""

    def poll_event(self) -> tuple[int, Event] | None:
        """The next event and the connection it belongs to."""

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called; changes with nearly every call."""

    def handle_timer(self, now: float) -> None:
        """Does what is due. Harmless when nothing is."""

    def accept(self, connection: int) -> None:
        """Lifts the limits of a connection that has not introduced itself yet to the full ones. Server only."""

    def use_certificate(self, certificate: bytes, private_key: bytes) -> None:
        """Handshakes from now on show this certificate (PEM, with its chain, and its key). Server only.

        Raises ValueError, and then nothing has changed.
        """

    def refuse_strangers(self) -> None:
        """From now on no handshake begins: who asks for one hears SERVER_BUSY at once. Server only."""

    def open(self, connection: int) -> int | None:
        """A new bidirectional stream; None while the peer's limit is reached (`StreamsAvailable` follows)."""

    def send(self, connection: int, stream: int, data: bytes | memoryview) -> int:
        """Takes as many bytes from the front of `data` as flow control allows; returns how many."""

    def finish(self, connection: int, stream: int) -> None:
        """FIN behind everything that was sent. Idempotent."""

    def reset(self, connection: int, stream: int, code: int) -> None:
        """RESET_STREAM; what was not delivered yet may never be. No effect once everything was acknowledged."""

    def stop(self, connection: int, stream: int, code: int) -> None:
        """STOP_SENDING; the stream's further bytes are discarded here, credited, and never reported."""

    def consumed(self, connection: int, stream: int, count: int) -> None:
        """The application took `count` more bytes of what `Data` carried: grants the peer that much credit."""

    def ping(self, connection: int) -> None:
        """Sends a transport PING; `PingAnswered` follows when it is acknowledged."""

    def close(self, connection: int, code: int, reason: str) -> None:
        """CONNECTION_CLOSE at once, throwing away whatever is still queued."""

    def stats(self, connection: int) -> Stats | None:
        """None for a connection that has ended."""

    def packets(self) -> Packets:
        """So far, in an object of the caller's own."""

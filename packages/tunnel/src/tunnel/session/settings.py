"""Every wait and every cap of a session, in one place."""

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Server: what one client may have at a time; `shares` says what counts, and from when to when."""

    max_connections_per_token: int = 256
    max_connections_per_address: int = 256
    """A quarter of what the engine takes: nobody is kept out by one client. A proxy-client has ten at most."""
    max_streams_per_token: int = 4096
    max_streams_per_address: int = 8192
    """A stream takes a socket, and what ADR 2 says in memory. A proxy-client has room for 1,600."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Times in seconds, sizes in bytes. The same on both sides unless said otherwise."""

    # Getting there.
    hello_timeout_s: float = 5.0
    """Client: handshake to WELCOME. Server: handshake to HELLO."""
    open_timeout_s: float = 10.0
    """Client: how long a SOCKS request waits for a connection."""
    reply_timeout_s: float = 15.0
    """Client: OPEN to REPLY. Longer than the server's dial, so that the server's answer wins."""
    reconnect_floor_s: float = 0.05
    reconnect_cap_s: float = 1.0
    """Client: the back-off is uniform between the floor and a ceiling that doubles up to this cap (F25)."""
    next_address_s: float = 0.5
    """Client: an address of the server's that is silent for this long has the next one tried beside it."""
    max_addresses: int = 8
    """Client: so many are tried before the name is resolved again; those that failed then come last."""
    max_connections: int = 10
    """Client: connections to the server at a time. With quinn the first two have 31 streams for requests (ADR 2)."""
    max_streams_per_connection: int = 200
    """Client: stays below what the engine allows, so that a slot that is not free yet is never waited for (F15)."""
    max_waiting_opens: int = 1024
    """Client: SOCKS requests that wait for a connection. About 17 KiB each at worst."""
    spare_connection_s: float = 30.0
    """Client: a second connection without streams is closed after this."""

    # Delivery.
    early_bytes: int = 16 * KIB
    """Client: bytes taken before REPLY. They are kept until then, for a replay elsewhere."""
    end_after_s: float = 1.0
    """A finished direction without DONE for this long is announced again by END."""
    rescue_after_s: float = 2.0
    """END acts on a direction that has held all its bytes without a FIN for this long."""
    end_rescue: bool = True
    """Whether END is sent and acted on."""
    max_early_ends: int = 256
    """Per connection: ENDs, and DONEs, kept for streams that were not seen yet. As many as there can be streams."""
    max_control_backlog_bytes: int = 64 * KIB
    """Per connection: control messages that wait for a peer. One that asks and reads nothing is put out. Four
    times what can be said of 256 streams at once."""

    tell_taken_every_s: float = 60.0
    """The peer is told that the application takes its bytes, at most this often: a fifth of the half-closed linger."""

    stall_after_s: float = 5.0
    """Evidence is told of a stream that waits for something and has stood still for this long."""

    # Silence.
    ping_after_s: float = 1.0
    """A connection with something pending is probed after this long without a packet."""
    suspect_after_s: float = 1.5
    """A probe unanswered for this long makes the connection suspect."""
    dead_after_s: float = 10.0
    """Without a packet for this long, with something pending and a probe out, the connection is dead."""
    keep_alive_s: float = 10.0
    """A connection with nothing pending is probed after this long: a third of the engine's idle timeout."""
    pause_s: float = 1.0
    """A timer that comes this late shows that we stood still ourselves; silence is then measured anew."""
    half_closed_linger_s: float = 300.0
    """A stream of which one direction ended goes on this long without any progress (F24)."""
    stream_idle_s: float = 3600.0
    """A stream that is open in both directions goes on this long without any progress."""

    # Leaving.
    close_timeout_s: float = 2.0
    """From the last PING to the close, where no PONG comes."""

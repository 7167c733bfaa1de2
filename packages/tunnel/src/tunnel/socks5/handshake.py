"""The SOCKS5 server's handshake with one client: a machine without clock, socket or event loop.

Rules:
- The events depend on the bytes, never on how they were split.
- Every failure is an answer the client can read (where its protocol has one), then `Close`. Nothing raises on
  what a client sends, and after `Close` nothing is said any more.
- No byte is lost: what the client sends behind its request is kept, and handed on by `take_early` (F22).
- Memory is bounded by `wanted`: the owner reads at most so many bytes and leaves the rest in the kernel.

    GREETING -> CREDENTIALS -> REQUEST -> DECIDING -> ESTABLISHED      (without users, CREDENTIALS is skipped)
        each of them but ESTABLISHED -> CLOSED
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from tunnel.errors import Cause
from tunnel.socks5 import messages
from tunnel.socks5.messages import Close, Event, Request, Write
from tunnel.target import AddressKind, Target

# Every message states its lengths in single octets, so a handshake cannot be longer than this:
# 2 + 255 methods; 3 + 255 user + 255 password; 4 + 1 + 255 name + 2 port.
HANDSHAKE_BYTES_MAX: Final = 257 + 513 + 262

# What a client may send behind its request before it has the reply (16 KiB for each connection in handshake).
EARLY_BYTES_MAX: Final = 16 * 1024

CheckCredentials = Callable[[bytes, bytes], bool]


class State(Enum):
    """What the machine waits for."""

    __hash__ = object.__hash__  # Each member is one object, and Enum's own is written in Python.

    GREETING = auto()  # version and methods
    CREDENTIALS = auto()  # user name and password
    REQUEST = auto()  # command and target
    DECIDING = auto()  # the owner's `reply`
    ESTABLISHED = auto()  # nothing: the connection belongs to the relay
    CLOSED = auto()  # nothing: the connection ends


TRANSITIONS: Final = {
    State.GREETING: {State.CREDENTIALS, State.REQUEST, State.CLOSED},
    State.CREDENTIALS: {State.REQUEST, State.CLOSED},
    State.REQUEST: {State.DECIDING, State.CLOSED},
    State.DECIDING: {State.ESTABLISHED, State.CLOSED},
    State.ESTABLISHED: set[State](),
    State.CLOSED: set[State](),
}

# What a client that broke off or broke the rules is told before the connection closes.
_REFUSALS: Final = {
    State.GREETING: b"",
    State.CREDENTIALS: messages.AUTH_REFUSED,
    State.REQUEST: messages.reply(Cause.BAD_REQUEST),
}

_WAITING_FOR: Final = {
    State.GREETING: "its greeting",
    State.CREDENTIALS: "its user name and password",
    State.REQUEST: "its request",
}


# How long the address of a request is; of a name, an octet in front of it says so.
_FIXED_ADDRESS_BYTES: Final = {int(AddressKind.IPV4): 4, int(AddressKind.IPV6): 16}


class Handshake:
    """One client's handshake.

    `check_credentials` takes a user name and a password and says in constant time whether they are right; with
    it, method 2 (user name and password) is the only one accepted, without it method 0 (none) is.
    """

    __slots__ = ("_buffer", "_check_credentials", "_early_taken", "_user", "answered", "state")

    def __init__(self, check_credentials: CheckCredentials | None = None) -> None:
        self.state = State.GREETING
        self.answered = False
        """Whether the client was given a reply to a request: not where it was turned away before."""
        self._check_credentials = check_credentials
        self._buffer = bytearray()
        self._early_taken = 0
        self._user: str | None = None

    @property
    def wanted(self) -> int:
        """How many bytes `receive` takes now. 0: leave what comes in the kernel."""
        if self.state in (State.ESTABLISHED, State.CLOSED):
            return 0
        return max(0, EARLY_BYTES_MAX - self._early_taken - len(self._buffer))

    def receive(self, data: bytes) -> list[Event]:
        """Takes what the client sent; gives back what to do, in this order."""
        events: list[Event] = []
        if self.state is State.CLOSED:
            return events
        self._buffer += data
        while (parse := _PARSERS.get(self.state)) and (step := parse(self)) is not None:
            events += step
        return events

    def receive_eof(self) -> list[Event]:
        """The client has sent its last byte. Behind a whole request that is a half-close: nothing happens here."""
        if self.state not in _PARSERS:
            return []
        return self._abandon(Cause.SOCKS_TRUNCATED, "left before")

    def timed_out(self) -> list[Event]:
        """The owner's handshake timer fired. Once the request is whole the timer is none of this machine's."""
        if self.state not in _PARSERS:
            return []
        return self._abandon(Cause.SOCKS_TIMEOUT, "took too long with")

    def reply(self, cause: Cause, bound: Target | None = None) -> bytes:
        """The answer to the request, to be written in one write; on any cause but NONE the owner then closes.

        Raises RuntimeError where there is no request to answer.
        """
        self._go(State.ESTABLISHED if cause is Cause.NONE else State.CLOSED, expected=State.DECIDING)
        self.answered = True
        return messages.reply(cause, bound)

    def take_early(self) -> bytes:
        """The bytes behind the request, once: at most EARLY_BYTES_MAX if the owner kept to `wanted`."""
        if self.state not in (State.DECIDING, State.ESTABLISHED):
            return b""
        self._early_taken += len(self._buffer)
        return self._take(len(self._buffer))

    # Parsers: None for "not whole yet", else the events; the state has moved on then.

    def _greeting(self) -> list[Event] | None:
        buffer = self._buffer
        if not buffer:
            return None
        if buffer[0] != messages.VERSION:
            return self._refuse_stranger(buffer[0])
        if len(buffer) < 2 or len(buffer) < 2 + buffer[1]:
            return None
        methods = self._take(2 + buffer[1])[2:]
        if self._check_credentials is None and messages.NO_AUTHENTICATION in methods:
            self._go(State.REQUEST)
            return [Write(messages.METHOD_NO_AUTHENTICATION)]
        if self._check_credentials is not None and messages.USER_PASSWORD in methods:
            self._go(State.CREDENTIALS)
            return [Write(messages.METHOD_USER_PASSWORD)]
        needed = "none" if self._check_credentials is None else "user name and password"
        detail = f"the client does not offer the authentication method accepted here ({needed})"
        return self._fail(Cause.NO_ACCEPTABLE_METHOD, detail, messages.METHOD_NONE)

    def _credentials(self) -> list[Event] | None:
        buffer = self._buffer
        if not buffer:
            return None
        if buffer[0] != messages.AUTH_VERSION:
            return self._fail(Cause.BAD_REQUEST, "the version of the user name and password message is not 1")
        if len(buffer) < 2 or len(buffer) < 3 + buffer[1]:
            return None
        user_end = 2 + buffer[1]
        password_end = user_end + 1 + buffer[user_end]
        if len(buffer) < password_end:
            return None
        message = self._take(password_end)
        user, password = message[2:user_end], message[user_end + 1 :]
        if self._check_credentials is None or not self._check_credentials(user, password):
            return self._fail(Cause.BAD_CREDENTIALS, "the user name or the password is wrong")
        self._user = user.decode("utf-8", "backslashreplace")
        self._go(State.REQUEST)
        return [Write(messages.AUTH_ACCEPTED)]

    def _request(self) -> list[Event] | None:
        buffer = self._buffer
        if not buffer:
            return None
        if buffer[0] != messages.VERSION:
            return self._fail(Cause.BAD_REQUEST, "the version of the request is not 5")
        # The third octet is reserved: some clients leave rubbish there, and nothing depends on it.
        if len(buffer) < 4:
            return None
        command, kind = buffer[1], buffer[3]
        start, length = 4, _FIXED_ADDRESS_BYTES.get(kind)
        if kind == AddressKind.NAME:
            if len(buffer) < 5:
                return None
            start, length = 5, buffer[4]
        if length is None:
            # Where the request ends cannot be known, so nothing is waited for.
            bad_command = command != messages.CONNECT
            return self._fail_command(command) if bad_command else self._fail_kind(kind)
        end = start + length
        if len(buffer) < end + 2:
            return None
        message = self._take(end + 2)
        # Only now, behind the whole request: bytes left unread would turn our close into a reset (F22).
        if command != messages.CONNECT:
            return self._fail_command(command)
        try:
            target = _target(kind, message[start:end], int.from_bytes(message[end:], "big"))
        except ValueError as error:
            return self._fail(Cause.BAD_REQUEST, str(error))
        self._go(State.DECIDING)
        return [Request(target, self._user)]

    # Endings.

    def _refuse_stranger(self, first: int) -> list[Event]:
        """The first octet is not 5: tell what it is likely to be, because that is what people get wrong."""
        if first == 4:
            detail = "the client speaks SOCKS version 4; SOCKS5 (socks5h://) is wanted"
            return self._fail(Cause.SOCKS_VERSION, detail, messages.SOCKS4_REFUSED)
        if ord("A") <= first <= ord("Z"):
            detail = "the client speaks HTTP; this is a SOCKS5 proxy, not an HTTP one"
            return self._fail(Cause.SOCKS_VERSION, detail)
        if first == 0x16:
            return self._fail(Cause.SOCKS_VERSION, "the client speaks TLS; SOCKS5 is spoken here without TLS")
        return self._fail(Cause.SOCKS_VERSION, f"the first octet is {first}, SOCKS5 begins with 5")

    def _abandon(self, cause: Cause, what: str) -> list[Event]:
        got = f"{len(self._buffer)} bytes of it had arrived" if self._buffer else "nothing of it had arrived"
        return self._fail(cause, f"the client {what} {_WAITING_FOR[self.state]}; {got}")

    def _fail_command(self, command: int) -> list[Event]:
        cause = Cause.COMMAND_NOT_SUPPORTED
        return self._fail(cause, f"command {command}; only CONNECT (1) is supported", messages.reply(cause))

    def _fail_kind(self, kind: int) -> list[Event]:
        cause = Cause.ADDRESS_TYPE_NOT_SUPPORTED
        return self._fail(cause, f"address type {kind}", messages.reply(cause))

    def _fail(self, cause: Cause, detail: str, answer: bytes | None = None) -> list[Event]:
        answer = _REFUSALS[self.state] if answer is None else answer
        self.answered = self.state is State.REQUEST
        self._go(State.CLOSED)
        self._buffer.clear()
        events: list[Event] = [Write(answer)] if answer else []
        return [*events, Close(cause, detail)]

    def _go(self, state: State, expected: State | None = None) -> None:
        if state not in TRANSITIONS[self.state] or (expected or self.state) is not self.state:
            raise RuntimeError(f"no way from {self.state.name} to {state.name}")
        self.state = state

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


_PARSERS: Final[dict[State, Callable[[Handshake], list[Event] | None]]] = {
    State.GREETING: Handshake._greeting,
    State.CREDENTIALS: Handshake._credentials,
    State.REQUEST: Handshake._request,
}


def _target(kind: int, packed: bytes, port: int) -> Target:
    """Raises ValueError with the reason, which quotes nothing of what the client sent."""
    if port == 0:
        raise ValueError("port 0 cannot be connected to")
    if kind == AddressKind.NAME:
        # Some clients send an address as a name. Read as what it is, it needs no resolver.
        return Target.of(packed.decode("latin-1"), port)
    return Target.unpacked(kind, packed, port)

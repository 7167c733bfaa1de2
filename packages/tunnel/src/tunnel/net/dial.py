"""Connects to a target: resolve once, ask the policy, connect to the addresses it allowed and to no others.

Rules:
- A name is resolved once, and what was checked is what is connected to: an answer that changes meanwhile has no say
  (F27).
- One bound covers resolving and connecting together.
- Of several addresses that failed, the cause that tells most is reported.
- Nothing is left behind, however it ends: every socket but the one returned is closed.
"""

import asyncio
import os
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from aiohappyeyeballs import start_connection
from aiohappyeyeballs.types import AddrInfoType

from tunnel.errors import Cause, cause_of_dial_error
from tunnel.net.egress import EgressPolicy
from tunnel.target import AddressKind, Target

# RFC 8305 section 5: the next address is tried when the one before has not answered for so long.
HAPPY_EYEBALLS_DELAY_S: Final = 0.25

# A name may have thousands of addresses; so many are tried.
ADDRESSES_MAX: Final = 16

Resolver = Callable[[str, int], Awaitable[Sequence[AddrInfoType]]]
"""Name and port to what getaddrinfo gives for TCP; raises socket.gaierror, or another OSError."""

Connector = Callable[[Sequence[AddrInfoType]], Awaitable[socket.socket]]
"""Connects to the first of these addresses that answers; raises OSError."""

# The event loops' own threads are few (4 with uvloop): as many names of a dead DNS server would hold up all the others.
LOOK_UPS_MAX: Final = 32
_THREADS: Final = ThreadPoolExecutor(LOOK_UPS_MAX, thread_name_prefix="resolver")

# From the most telling: what is wrong here, then what the target said, then what the network said, then silence.
_TELLING: Final = (
    Cause.LIMIT_REACHED,
    Cause.CONNECTION_REFUSED,
    Cause.HOST_UNREACHABLE,
    Cause.NETWORK_UNREACHABLE,
    Cause.DIAL_TIMEOUT,
    Cause.DIAL_FAILED,
)
_NO_SUCH_NAME: Final = (socket.EAI_NONAME, socket.EAI_NODATA)
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")


class DialError(Exception):
    """A dial that failed: the cause, and for the log a detail in words."""

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(f"{cause.label}: {detail}")
        self.cause = cause
        self.detail = detail


async def dial(
    target: Target,
    policy: EgressPolicy,
    *,
    timeout_s: float,
    resolver: Resolver | None = None,
    connector: Connector | None = None,
) -> socket.socket:
    """A non-blocking TCP socket connected to `target`; the caller owns it.

    Waits at most `timeout_s`. Raises DialError. A cancellation leaves no socket behind; a look-up under way goes on
    in its thread, and its answer is thrown away.
    """
    found: Sequence[AddrInfoType] = ()
    try:
        async with asyncio.timeout(timeout_s):
            found = await _resolve(target, resolver or resolve)
            sock = await _connect(allowed(target, found, policy), connector or connect)
    except TimeoutError:
        if not found:
            raise DialError(Cause.NAME_LOOKUP_FAILED, f"no answer of the resolver within {timeout_s:g} s") from None
        raise DialError(Cause.DIAL_TIMEOUT, f"no connection within {timeout_s:g} s") from None
    return sock


async def resolve(host: str, port: int) -> Sequence[AddrInfoType]:
    """The default resolver: the system's, in a thread of a pool of our own."""
    # As bytes, so that no IDNA encoding is tried: a label of 64 letters is a name without addresses, no exception.
    look_up = partial(_look_up, host.encode("ascii"), port)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, look_up)


def _look_up(host: bytes, port: int) -> Sequence[AddrInfoType]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        socket.socket().close()  # Where there is no descriptor, glibc says that there is no such name; this says why.
        raise


async def connect(infos: Sequence[AddrInfoType]) -> socket.socket:
    """The default connector: happy eyeballs, families interleaved."""
    return await start_connection(infos, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_S, interleave=1)


def addresses_of(target: Target) -> Sequence[AddrInfoType]:
    """What there is to connect to without a look-up: nothing for a name."""
    match target.kind:
        case AddressKind.IPV4:
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (target.host, target.port))]
        case AddressKind.IPV6:
            return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (target.host, target.port, 0, 0))]
        case AddressKind.NAME:
            return []


async def _resolve(target: Target, resolver: Resolver) -> Sequence[AddrInfoType]:
    if known := addresses_of(target):
        return known
    try:
        found = await resolver(target.host, target.port)
    except socket.gaierror as error:
        cause = Cause.NAME_NOT_FOUND if error.errno in _NO_SUCH_NAME else Cause.NAME_LOOKUP_FAILED
        raise DialError(cause, error.strerror or str(error)) from None
    except OSError as error:
        known_cause = cause_of_dial_error(error)
        cause = known_cause if known_cause is Cause.LIMIT_REACHED else Cause.NAME_LOOKUP_FAILED
        raise DialError(cause, str(error)) from None
    if not found:
        raise DialError(Cause.NAME_NOT_FOUND, "the name has no address")
    return found


def allowed(target: Target, found: Sequence[AddrInfoType], policy: EgressPolicy) -> Sequence[AddrInfoType]:
    """Those that the policy allows, of `found` for `target`. Raises DialError where there are none."""
    if target.port == 0:
        raise DialError(Cause.DIAL_FAILED, "port 0 cannot be connected to")
    chosen = [info for info in found if policy.allows(_host(info))]
    if not chosen:
        denied = ", ".join(dict.fromkeys(_host(info) for info in found[:ADDRESSES_MAX]))
        raise DialError(Cause.POLICY_DENIED, f"not allowed: {denied}")
    return chosen[:ADDRESSES_MAX]


def failure(error: OSError | RuntimeError, tried: Sequence[AddrInfoType]) -> DialError:
    """What a connect that raised `error` comes to."""
    if isinstance(error, TimeoutError):
        return DialError(Cause.DIAL_TIMEOUT, "the target's host did not answer")
    return DialError(_cause(error), _words(error, tried))


async def _connect(infos: Sequence[AddrInfoType], connector: Connector) -> socket.socket:
    try:
        sock = await connector(infos)
    except (OSError, RuntimeError) as error:
        raise failure(error, infos) from None
    if _meets_itself(sock):
        sock.close()
        raise DialError(Cause.CONNECTION_REFUSED, "nobody listens: the connection met itself")
    return sock


def _numbers(error: OSError | RuntimeError) -> list[int]:
    """What several attempts raised is one error without a number, whose text holds the text of each."""
    if isinstance(error, OSError) and error.errno is not None:
        return [error.errno]
    return [int(number) for number in _ERRNO.findall(str(error))]


def _words(error: OSError | RuntimeError, tried: Sequence[AddrInfoType]) -> str:
    """For example `Connection refused: 192.0.2.1, 192.0.2.2`."""
    reasons = ", ".join(dict.fromkeys(os.strerror(number) for number in _numbers(error))) or str(error)
    return f"{reasons}: {', '.join(map(_host, tried))}"


def _cause(error: OSError | RuntimeError) -> Cause:
    causes = {cause_of_dial_error(OSError(number, "")) for number in _numbers(error)}
    return next((cause for cause in _TELLING if cause in causes), Cause.DIAL_FAILED)


def _meets_itself(sock: socket.socket) -> bool:
    """Whether TCP's simultaneous open has joined the socket to itself: a local port in the range of source ports that
    nobody listens on is reached, once in some 28,000 attempts, from the same port.
    """
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # Gone again already: the relay will see that.
        return False


def _host(info: AddrInfoType) -> str:
    address: tuple[Any, ...] = info[4]
    return str(address[0])

"""The view of a real HTTP client: httpx through its own SOCKS5 support, with nothing of ours in the way of the bytes.

Rules
- One client a transaction, so that its connection is fresh; several requests on it use it again. httpx would replace
  one that has ended in between without a word: here that is the end of the transaction, and it came too early.
- No timeouts of httpx: the watchdog ends what takes too long. The phases come from httpx's trace extension, as far as
  it goes: socks_connect holds the whole SOCKS handshake, ttfb ends with the last byte of the head, and eof_wait does
  not exist, because a client that knows the length does not wait for the end.
- httpx 0.28 forgets a connection whose SOCKS handshake failed or was cancelled; it is closed here.
"""

import select
import ssl
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Self

import httpx
import socksio

from loadgen.transaction.outcomes import Failed, Outcome, of_os_error
from loadgen.transaction.phases import Phase
from loadgen.transaction.route import Route
from loadgen.transaction.sinks import Sink
from loadgen.transaction.transaction import Transaction
from servicekit.address import Address

_ENTERS = {
    "socks.connect_tcp.started": Phase.TCP_CONNECT,
    "socks.setup_socks5_connection.started": Phase.SOCKS_CONNECT,
    "http11.send_request_headers.started": Phase.REQUEST_WRITE,
    "http11.send_request_body.complete": Phase.TTFB,
    "http11.receive_response_headers.complete": Phase.BODY,
}


class RealClient:
    """An async context manager around one httpx client. Its requests run one after the other."""

    def __init__(self, transaction: Transaction, route: Route) -> None:
        self._transaction = transaction
        self._route = route
        self._stream: Any = None
        self._client: httpx.AsyncClient

    async def __aenter__(self) -> Self:
        self._transaction.enter(Phase.TCP_CONNECT)
        try:
            _, address = await self._route.proxy_address()
        except OSError as error:
            raise of_os_error(error) from error
        credentials = self._route.credentials
        proxy = httpx.Proxy(
            f"socks5h://{Address(address[0], address[1])}",
            auth=(credentials.name, credentials.password) if credentials else None,
        )
        transport = httpx.AsyncHTTPTransport(verify=_no_tls(), trust_env=False, proxy=proxy)
        self._client = httpx.AsyncClient(transport=transport, trust_env=False, timeout=None)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transaction.waits_for(-1, 0)
        try:
            await self._client.aclose()
        finally:
            if self._stream is not None:
                await self._stream.aclose()

    async def get(self, path: str, sink: Sink) -> None:
        """One GET, its response into `sink`. Raises Failed."""
        url = f"http://{self._route.target}{path}"
        try:
            async with self._client.stream("GET", url, extensions={"trace": self._trace}) as response:
                if response.status_code != 200:
                    raise Failed(Outcome.HTTP_ERROR, f"status {response.status_code}")
                async for data in response.aiter_raw():
                    self._transaction.progress()
                    sink.feed(data)
        except (httpx.TransportError, socksio.ProtocolError, AssertionError) as error:
            raise self._failure(error) from error
        sink.check_end()
        self._transaction.finish()

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "socks.connect_tcp.started" and self._stream is not None:
            raise Failed(Outcome.EOF_PREMATURE, "the connection ended between two requests")
        if event == "socks.connect_tcp.complete":
            self._stream = info["return_value"]
            connection = self._stream.get_extra_info("socket")
            self._transaction.application = str(Address.of_socket(connection.getsockname()))
            self._transaction.waits_for(connection.fileno(), select.POLLIN)
        phase = _ENTERS.get(event)
        if phase is not None:
            allowance_s = self._transaction.arrival.think_s if phase is Phase.TTFB else 0.0
            self._transaction.enter(phase, allowance_s)

    def _failure(self, error: Exception) -> Failed:
        """What httpx's error, and what it was made from, comes to."""
        text = str(error) or type(error).__name__
        if isinstance(error, httpx.ProxyError):
            return Failed(Outcome.SOCKS_REJECTED, text)
        if isinstance(error, httpx.RemoteProtocolError):
            early = "peer closed connection" in text or "Server disconnected" in text
            return Failed(Outcome.EOF_PREMATURE if early else Outcome.CORRUPT, text)
        if isinstance(error, (socksio.ProtocolError, AssertionError)):  # an empty read is one, for httpx 0.28
            return Failed(
                Outcome.EOF_PREMATURE if self._peer_has_ended() else Outcome.CORRUPT, f"no SOCKS5 reply: {text}"
            )
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno is not None:
                return of_os_error(cause)
            cause = cause.__cause__ or cause.__context__
        return Failed(Outcome.RESET, text)

    def _peer_has_ended(self) -> bool:
        if self._stream is None:
            return False
        poll = select.poll()
        ended = getattr(select, "POLLRDHUP", select.POLLHUP)
        poll.register(self._stream.get_extra_info("socket").fileno(), ended)
        return bool(poll.poll(0))


def warm_up() -> None:
    """Imports what httpx imports only when the first request is made, which would hold up the load for 0.1 s."""
    import_module("httpcore")
    import_module("anyio._backends._asyncio")
    if find_spec("sniffio") is None:
        # httpcore looks for it four times a request, and Python searches its whole path for what is not there.
        sys.modules["sniffio"] = None  # type: ignore[assignment]
    _no_tls()


@cache
def _no_tls() -> ssl.SSLContext:
    """httpx makes a context for each client unless it is given one; loading the CA bundle alone takes 20 ms."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

"""HTTP/1.1 on one connection, the server's side: h11 speaks, `Connection` moves the bytes.

Rules:
- Every wait has its bound: the idle one before a request, one for a whole head, one for each piece of a body.
- A head that is not complete after 16 KiB is refused with 431. Together with one receive buffer of 64 KiB, that is all
  that is kept of what a client sends.
- The head of an answer leaves together with the first bytes of its body, in one write.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import h11

from http_target.connection import Connection, StalledError, bounded
from http_target.query import RefusedError
from http_target.settings import HttpTargetSettings

MAX_HEAD_BYTES = 16384
OCTETS = "application/octet-stream"
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request: method, path and query as text, header names in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]


class Http:
    """The requests of one connection, one after the other, and their answers."""

    def __init__(self, connection: Connection, settings: HttpTargetSettings, draining: asyncio.Event) -> None:
        self.connection = connection
        self._settings = settings
        self._draining = draining
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._method = ""
        self._unsent = b""
        self._close_delimited = False

    # Requests.

    async def request(self) -> Request | None:
        """The next request; None when the client has ended, or was idle for too long.

        Raises RefusedError for what is not HTTP or takes too long, OSError for a reset.
        """
        if not self._h11.trailing_data[0]:
            try:
                self._h11.receive_data(await self.connection.receive_idle(self._settings.idle_timeout_s))
            except StalledError:
                return None
        try:
            async with bounded(self._settings.head_timeout_s):
                event = await self._event()
        except StalledError:
            raise RefusedError(408, "the head of the request took too long") from None
        if not isinstance(event, h11.Request):  # ConnectionClosed
            return None
        self._method = event.method.decode()
        return _request(event)

    async def body(self) -> AsyncIterator[bytes]:
        """The body of the request in pieces, to its end. Asks for it first where the client waits for that.

        Raises RefusedError, StalledError and OSError.
        """
        if self._h11.they_are_waiting_for_100_continue:
            self._send_later(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))
            await self.flush()
        while self._h11.their_state is h11.SEND_BODY:
            event = await self._event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def raw(self) -> AsyncIterator[bytes]:
        """What follows the head, as it is, up to the client's end of stream. Raises StalledError and OSError."""
        yield self._h11.trailing_data[0]
        while data := await self.connection.receive(self._settings.progress_timeout_s):
            yield data

    async def next_may_follow(self) -> bool:
        """Whether the connection goes on after this request, which is answered. Drops a body that nobody has read.

        Raises what `body` raises.
        """
        if self._close_delimited or self._h11.our_state is not h11.DONE:
            return False
        async with bounded(self._settings.linger_timeout_s):
            async for _ in self.body():
                pass
        if self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        return True

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise RefusedError(error.error_status_hint, f"this is not valid HTTP: {error}") from None
            if event is not h11.NEED_DATA:
                return event
            self._h11.receive_data(await self.connection.receive(self._settings.progress_timeout_s))

    # Answers.

    @property
    def answering(self) -> bool:
        """Whether an answer has begun, so that it is too late for another one."""
        return self._close_delimited or self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    def start(self, status: int, content_type: str, length: int | None, *headers: tuple[str, str]) -> None:
        """Begins an answer of `length` bytes, or a chunked one. An HTTP/1.0 client gets that close-delimited."""
        fields = [("Content-Type", content_type), *headers]
        if length is not None:
            fields.append(("Content-Length", str(length)))
        if self._draining.is_set():
            fields.append(("Connection", "close"))
        reason = HTTPStatus(status).phrase
        self._send_later(h11.Response(status_code=status, headers=fields, reason=reason))

    def start_close_delimited(self, content_type: str) -> None:
        """Begins an answer whose body ends with the stream. h11 would make it chunked for an HTTP/1.1 client."""
        self._unsent += f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n".encode()
        self._close_delimited = True

    async def data(self, data: bytes) -> None:
        """Sends a piece of the body, and returns when the kernel has it. Raises StalledError and OSError."""
        if self._close_delimited:
            self._unsent += data
        else:
            self._send_later(h11.Data(data=data))
        await self.flush()

    async def end(self) -> None:
        """The body is complete; a close-delimited one is ended by our end of stream."""
        if not self._close_delimited:
            self._send_later(h11.EndOfMessage())
        await self.flush()
        if self._close_delimited:
            self.connection.finish()

    async def answer(self, status: int, content_type: str, body: bytes, *headers: tuple[str, str]) -> None:
        """A whole answer, in one write."""
        self.start(status, content_type, len(body), *headers)
        if self._method != "HEAD":
            self._send_later(h11.Data(data=body))
        await self.end()

    async def flush(self) -> None:
        """Sends what is made so far, such as a head, which otherwise waits for the first piece of its body."""
        if data := self._unsent:
            self._unsent = b""
            await self.connection.send(data, self._settings.progress_timeout_s)

    def _send_later(self, event: h11.Event) -> None:
        # Nothing is copied where nothing waits, which is so for all of a body but its first piece.
        self._unsent += self._h11.send(event) or b""


def _request(event: h11.Request) -> Request:
    try:
        target = urlsplit(event.target.decode("ascii"))  # as a path, or absolute as RFC 9112 section 3.2.2 allows
    except ValueError as error:
        raise RefusedError(400, f"the request target is not valid: {error}") from None
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
    return Request(event.method.decode("ascii"), target.path, target.query, headers)

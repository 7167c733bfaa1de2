"""One HTTP/1.1 exchange over a raw connection, which ends, as every exchange here, with the end of the stream.

Rules
- h11 reads heads and framings; what the framing says and what is expected out of band have to agree.
- Phases: the caller has opened ttfb (or upload_eof) when it calls `receive`; the first byte opens body, the last
  expected one eof_wait, and the end of stream closes it.
- The end before the last expected byte is `eof_premature`; bytes behind it are `excess`; bytes that are not HTTP,
  `corrupt`.
"""

from collections.abc import Sequence

import h11

from loadgen.transaction.outcomes import Failed, Outcome
from loadgen.transaction.phases import Phase
from loadgen.transaction.raw import RawConnection
from loadgen.transaction.sinks import Sink
from loadgen.transaction.transaction import Transaction
from servicekit.address import Address

Header = tuple[str, str]


class Exchange:
    """A request and its response. The request always says `Connection: close`."""

    def __init__(self, connection: RawConnection, transaction: Transaction, host: Address) -> None:
        self._connection = connection
        self._transaction = transaction
        self._host = host
        self._http = h11.Connection(h11.CLIENT)
        self._is_close_delimited = False

    async def get(self, path: str) -> None:
        """Sends a whole GET: phase request_write, and then opens ttfb."""
        await self.send_head("GET", path)
        self.await_response()

    async def send_head(self, method: str, path: str, headers: Sequence[Header] = ()) -> None:
        """Opens request_write and sends the head of a request. A body, if any, is the caller's to write."""
        self._transaction.enter(Phase.REQUEST_WRITE)
        request = h11.Request(
            method=method, target=path, headers=[("Host", str(self._host)), ("Connection", "close"), *headers]
        )
        head = self._http.send(request)
        assert head is not None
        await self._connection.write(head)

    def await_response(self, phase: Phase = Phase.TTFB) -> None:
        """The request is out: opens ttfb, with the scenario's think time on top, or `phase`."""
        self._transaction.enter(phase, allowance_s=self._transaction.arrival.think_s)

    async def receive(self, sink: Sink) -> None:
        """Waits for the whole response, status 200, and for the end of the stream behind it. Raises Failed."""
        await self._receive_data()
        self._transaction.enter(Phase.BODY)
        await self._receive_head()
        await self._receive_body(sink)
        self._transaction.enter(Phase.EOF_WAIT)
        await self._expect_end(sink)
        self._transaction.finish()

    async def _receive_head(self) -> None:
        while (event := self._next_event()) is h11.NEED_DATA or isinstance(event, h11.InformationalResponse):
            if event is h11.NEED_DATA:
                await self._receive_data()
        if not isinstance(event, h11.Response):
            raise Failed(Outcome.CORRUPT, f"a response was expected, {type(event).__name__} came")
        if event.status_code != 200:
            raise Failed(Outcome.HTTP_ERROR, f"status {event.status_code}")
        self._is_close_delimited = not {name for name, _ in event.headers} & {b"content-length", b"transfer-encoding"}

    async def _receive_body(self, sink: Sink) -> None:
        """Until HTTP's framing ends; or, where only the end of stream ends it, until every expected byte is there."""
        while not (self._is_close_delimited and sink.complete):
            event = self._next_event()
            if event is h11.NEED_DATA:
                await self._receive_data()
            elif isinstance(event, h11.Data):
                _feed(self._transaction, sink, bytes(event.data))
            else:
                break

    async def _expect_end(self, sink: Sink) -> None:
        if behind := self._http.trailing_data[0]:
            raise Failed(Outcome.EXCESS, f"{len(behind)} bytes or more behind the end of the response")
        sink.check_end()
        if data := await self._connection.read():
            raise Failed(Outcome.EXCESS, f"{len(data)} bytes or more behind the end of the response")

    async def _receive_data(self) -> None:
        data = await self._connection.read()
        if not data:
            raise ended_early(self._transaction)
        self._http.receive_data(data)

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise Failed(Outcome.CORRUPT, f"not HTTP: {error}") from error


async def receive_bare(connection: RawConnection, transaction: Transaction, sink: Sink, then_ends: bool) -> None:
    """Like `Exchange.receive` for bytes that are no HTTP. Without `then_ends` it leaves body open, reads no further."""
    while not sink.complete:
        if not (data := await connection.read()):
            raise ended_early(transaction)
        if transaction.phase is not Phase.BODY:
            transaction.enter(Phase.BODY)
        _feed(transaction, sink, data)
    sink.check_end()
    if not then_ends:
        return
    transaction.enter(Phase.EOF_WAIT)
    if data := await connection.read():
        raise Failed(Outcome.EXCESS, f"{len(data)} bytes or more behind the end")
    transaction.finish()


def _feed(transaction: Transaction, sink: Sink, data: bytes) -> None:
    """Bytes behind the last expected one are those of eof_wait, also where they come in the same read."""
    try:
        sink.feed(data)
    except Failed as failure:
        if failure.outcome is Outcome.EXCESS:
            transaction.enter(Phase.EOF_WAIT)
        raise


def ended_early(transaction: Transaction) -> Failed:
    """The end of stream where bytes were expected."""
    if transaction.phase is not Phase.BODY:
        return Failed(Outcome.EOF_PREMATURE, "the stream ended before the response")
    received, expected = transaction.received_bytes, transaction.expected_bytes
    return Failed(Outcome.EOF_PREMATURE, f"the stream ended after {received} of {expected} payload bytes")

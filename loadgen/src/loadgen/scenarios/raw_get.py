"""What the raw GET scenarios share: they differ in the framing of the response, and in its size."""

from loadgen.scenarios.paths import bytes_path
from loadgen.transaction.http1 import Exchange
from loadgen.transaction.raw import dial
from loadgen.transaction.route import Route
from loadgen.transaction.sinks import PayloadSink
from loadgen.transaction.transaction import Transaction


async def raw_get(transaction: Transaction, route: Route, framing: str) -> None:
    """GET, the body compared byte by byte, and then the end of stream. Raises Failed."""
    arrival = transaction.arrival
    async with await dial(transaction, route, route.target) as connection:
        exchange = Exchange(connection, transaction, route.target)
        await exchange.get(bytes_path(arrival, framing))
        await exchange.receive(PayloadSink(transaction, arrival.seed, arrival.size_bytes))

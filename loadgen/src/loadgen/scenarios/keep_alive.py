"""Several GETs on one connection through httpx."""

from loadgen.scenarios.paths import bytes_path, part_seed
from loadgen.transaction.real_client import RealClient
from loadgen.transaction.route import Route
from loadgen.transaction.sinks import PayloadSink
from loadgen.transaction.transaction import Transaction

SUMMARY = "several requests (4) on one connection, by a real HTTP client (httpx)"


async def run(transaction: Transaction, route: Route) -> None:
    arrival = transaction.arrival
    async with RealClient(transaction, route) as client:
        for part in range(arrival.requests):
            sink = PayloadSink(transaction, part_seed(arrival, part), arrival.size_bytes)
            await client.get(bytes_path(arrival, "length", part), sink)

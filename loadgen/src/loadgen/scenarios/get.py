"""A GET with Content-Length through httpx."""

from loadgen.scenarios.paths import bytes_path
from loadgen.transaction.real_client import RealClient
from loadgen.transaction.route import Route
from loadgen.transaction.sinks import PayloadSink
from loadgen.transaction.transaction import Transaction

SUMMARY = "one GET with Content-Length, by a real HTTP client (httpx)"


async def run(transaction: Transaction, route: Route) -> None:
    arrival = transaction.arrival
    async with RealClient(transaction, route) as client:
        await client.get(bytes_path(arrival, "length"), PayloadSink(transaction, arrival.seed, arrival.size_bytes))

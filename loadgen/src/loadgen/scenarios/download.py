"""A raw GET, framing `length`."""

from loadgen.scenarios.raw_get import raw_get
from loadgen.transaction.route import Route
from loadgen.transaction.transaction import Transaction

SUMMARY = "a large response (1 MB), compared byte by byte, and the end of stream"


async def run(transaction: Transaction, route: Route) -> None:
    await raw_get(transaction, route, "length")

"""A raw GET, framing `close`."""

from loadgen.scenarios.raw_get import raw_get
from loadgen.transaction.route import Route
from loadgen.transaction.transaction import Transaction

SUMMARY = "a response that only the end of stream ends: the founding bug lives here"


async def run(transaction: Transaction, route: Route) -> None:
    await raw_get(transaction, route, "close")

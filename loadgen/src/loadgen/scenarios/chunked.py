"""A raw GET, framing `chunked`."""

from loadgen.scenarios.raw_get import raw_get
from loadgen.transaction.route import Route
from loadgen.transaction.transaction import Transaction

SUMMARY = "a chunked response and, behind its last chunk, the end of stream"


async def run(transaction: Transaction, route: Route) -> None:
    await raw_get(transaction, route, "chunked")

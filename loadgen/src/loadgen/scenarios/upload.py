"""A POST with Content-Length; the target answers with length and SHA-256 of what it received."""

from loadgen.scenarios.uploading import send_payload
from loadgen.transaction.http1 import Exchange
from loadgen.transaction.raw import dial
from loadgen.transaction.route import Route
from loadgen.transaction.sinks import ReceiptSink
from loadgen.transaction.transaction import Transaction

SUMMARY = "a large upload (1 MB), its digest checked by the target"


async def run(transaction: Transaction, route: Route) -> None:
    size_bytes = transaction.arrival.size_bytes
    async with await dial(transaction, route, route.target) as connection:
        exchange = Exchange(connection, transaction, route.target)
        await exchange.send_head("POST", "/upload", [("Content-Length", str(size_bytes))])
        sha256 = await send_payload(connection, transaction)
        exchange.await_response()
        await exchange.receive(ReceiptSink(size_bytes, sha256))

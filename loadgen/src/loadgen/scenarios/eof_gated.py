"""An upload that only our end of stream ends: the target answers when it has seen it, and not before."""

from loadgen.scenarios.uploading import send_payload
from loadgen.transaction.http1 import Exchange
from loadgen.transaction.phases import Phase
from loadgen.transaction.raw import dial
from loadgen.transaction.route import Route
from loadgen.transaction.sinks import ReceiptSink
from loadgen.transaction.transaction import Transaction

SUMMARY = "half-close: the target answers only after it has seen the end of the upload"


async def run(transaction: Transaction, route: Route) -> None:
    async with await dial(transaction, route, route.target) as connection:
        exchange = Exchange(connection, transaction, route.target)
        await exchange.send_head("POST", "/eof-gated")
        sha256 = await send_payload(connection, transaction)
        connection.shutdown_write()
        exchange.await_response(Phase.UPLOAD_EOF)
        await exchange.receive(ReceiptSink(transaction.arrival.size_bytes, sha256))

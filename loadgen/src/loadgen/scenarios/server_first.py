"""The target speaks first, as mail and database servers do: 64 bytes, before we have sent anything."""

from loadgen.scenarios.uploading import send_payload
from loadgen.transaction.http1 import receive_bare
from loadgen.transaction.phases import Phase
from loadgen.transaction.raw import dial
from loadgen.transaction.route import Route
from loadgen.transaction.sinks import PayloadSink, ReceiptSink
from loadgen.transaction.transaction import Transaction

SUMMARY = "the target speaks first; then an upload that our end of stream ends, and a receipt"

GREETING_SEED, GREETING_BYTES = 0, 64


async def run(transaction: Transaction, route: Route) -> None:
    async with await dial(transaction, route, route.server_first) as connection:
        transaction.enter(Phase.TTFB)
        greeting = PayloadSink(transaction, GREETING_SEED, GREETING_BYTES)
        await receive_bare(connection, transaction, greeting, then_ends=False)
        transaction.enter(Phase.REQUEST_WRITE)
        sha256 = await send_payload(connection, transaction)
        connection.shutdown_write()
        transaction.enter(Phase.UPLOAD_EOF)
        receipt = ReceiptSink(transaction.arrival.size_bytes, sha256)
        await receive_bare(connection, transaction, receipt, then_ends=True)

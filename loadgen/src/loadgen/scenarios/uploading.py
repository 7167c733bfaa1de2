"""Sending a payload, for the scenarios that do."""

from hashlib import sha256

from loadgen.transaction.raw import RawConnection
from loadgen.transaction.transaction import Transaction
from servicekit import payload


async def send_payload(connection: RawConnection, transaction: Transaction) -> str:
    """Writes the arrival's payload and returns its SHA-256 in hex. Raises Failed."""
    digest = sha256()
    for chunk in payload.chunks(transaction.arrival.seed, transaction.arrival.size_bytes):
        digest.update(chunk)
        await connection.write(chunk)
        transaction.sent(len(chunk))
    return digest.hexdigest()

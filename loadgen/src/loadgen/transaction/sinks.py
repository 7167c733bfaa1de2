"""What is expected from the target, compared as it arrives. Nothing is collected that can be large.

Rules
- `feed` raises Failed with `corrupt` at the first byte that differs, with `excess` at the first one behind the end.
- `complete` says whether every expected byte is there.
"""

import json
from typing import Protocol

from loadgen.transaction.outcomes import Failed, Outcome
from loadgen.transaction.transaction import Transaction
from servicekit import payload

_RECEIPT_MAX_BYTES = 4096


class Sink(Protocol):
    """Takes the body of a response."""

    @property
    def complete(self) -> bool: ...

    def feed(self, data: bytes) -> None: ...

    def check_end(self) -> None:
        """The end is there, where HTTP's framing puts it. Raises Failed where the content is not the expected one."""


class PayloadSink:
    """Expects `size_bytes` of the stream of `seed`."""

    def __init__(self, transaction: Transaction, seed: int, size_bytes: int) -> None:
        self._transaction = transaction
        self._seed, self._size_bytes = seed, size_bytes
        self._offset = 0
        transaction.expected_bytes += size_bytes

    @property
    def complete(self) -> bool:
        return self._offset == self._size_bytes

    def feed(self, data: bytes) -> None:
        expected = next(payload.chunks(self._seed, self._size_bytes, self._offset, len(data)), b"") if data else b""
        if data[: len(expected)] != expected:
            raise Failed(Outcome.CORRUPT, f"byte {self._offset + _first_difference(data, expected)} differs")
        self._offset += len(expected)
        self._transaction.received(len(expected))
        if len(data) > len(expected):
            raise Failed(
                Outcome.EXCESS, f"{len(data) - len(expected)} bytes or more behind the {self._size_bytes} expected"
            )

    def check_end(self) -> None:
        if not self.complete:
            raise Failed(
                Outcome.CORRUPT, f"the response says that it is whole after {self._offset} of {self._size_bytes} bytes"
            )


class ReceiptSink:
    """Expects the target's receipt for an upload: one JSON object with the number of bytes and their SHA-256."""

    def __init__(self, sent_bytes: int, sha256: str) -> None:
        self._sent_bytes, self._sha256 = sent_bytes, sha256
        self._text = b""

    @property
    def complete(self) -> bool:
        """A bare receipt is a line; within HTTP it is the framing that tells."""
        return self._text.endswith(b"\n")

    def feed(self, data: bytes) -> None:
        self._text += data
        if len(self._text) > _RECEIPT_MAX_BYTES:
            raise Failed(Outcome.EXCESS, f"a receipt of more than {_RECEIPT_MAX_BYTES} bytes")
        if behind := self._text.partition(b"\n")[2]:
            raise Failed(Outcome.EXCESS, f"{len(behind)} bytes or more behind the receipt")

    def check_end(self) -> None:
        try:
            receipt = json.loads(self._text)
            received, sha256 = int(receipt["received"]), str(receipt["sha256"])
        except (ValueError, TypeError, KeyError) as error:
            raise Failed(Outcome.CORRUPT, f"the receipt is not readable: {self._text[:100]!r}") from error
        if received < self._sent_bytes:
            raise Failed(Outcome.EOF_PREMATURE, f"the target saw the end after {received} of {self._sent_bytes} bytes")
        if received > self._sent_bytes:
            raise Failed(Outcome.EXCESS, f"the target received {received} bytes, {self._sent_bytes} were sent")
        if sha256 != self._sha256:
            raise Failed(Outcome.CORRUPT, f"the target received other bytes: their SHA-256 is {sha256}")


def _first_difference(one: bytes, other: bytes) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))

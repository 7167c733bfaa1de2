"""Faults of quinn-proto as it is built into the wheel, each the reason for a rule of ours (docs/FAILURES.md).

A test that fails here is good news: the library has mended something, and the message says what may go.
"""

import pytest
from tests.sim.pair import Pair


@pytest.mark.failure("F01")
def test_f01_close_throws_away_what_is_queued(pair: Pair) -> None:
    stream = pair.client.open()
    sent = pair.client.send(stream, bytes(60_000))
    pair.client.finish(stream)
    pair.client.close(0, "")
    pair.until(lambda: pair.server.closed is not None)
    arrived = len(pair.server.received.get(stream, b""))
    assert arrived < sent, "close() sends what is queued: sessions need not wait for receipts before they close"

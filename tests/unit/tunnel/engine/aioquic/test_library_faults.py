"""Faults of aioquic as it is installed, each the reason for a rule of ours (docs/FAILURES.md), shown without our code.

A test that fails here is good news: the library has mended something, and the message says what may go.
(F23's fault is mended: acceptance/founding_bug.py shows it with aioquic 1.7.0, test_canaries.py that it is gone.)
"""

import asyncio
from typing import cast

import pytest
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamDataReceived, StreamReset
from tests.unit.tunnel.engine.harness import Certificates

CLIENT, SERVER = ("192.0.2.1", 1), ("192.0.2.2", 2)
ROUND_TRIP_S = 0.02


class Bare:
    """Two connections of the library's own, and a path that loses nothing."""

    def __init__(self, certificates: Certificates) -> None:
        tls = certificates.server
        theirs = QuicConfiguration(is_client=False, alpn_protocols=["x"])
        theirs.load_cert_chain(tls.certificate_file, tls.private_key_file)
        ours = QuicConfiguration(alpn_protocols=["x"], server_name="proxy.test")
        ours.load_verify_locations(str(certificates.client.ca_file))
        self.now = 1.0
        self.client = QuicConnection(configuration=ours)
        self.client.connect(SERVER, now=self.now)
        self.server = QuicConnection(
            configuration=theirs, original_destination_connection_id=self.client.original_destination_connection_id
        )
        self.received: dict[QuicConnection, list[object]] = {self.client: [], self.server: []}
        self.run()

    def run(self, rounds: int = 40) -> None:
        """Exchanges what there is to say; timers run too."""
        for _ in range(rounds):
            self.now += ROUND_TRIP_S / 2
            for one, other, address in ((self.client, self.server, CLIENT), (self.server, self.client, SERVER)):
                for data, _ in one.datagrams_to_send(self.now):
                    other.receive_datagram(data, address, self.now)
                timer = one.get_timer()
                if timer is not None and timer <= self.now:
                    one.handle_timer(self.now)
                self.received[other] += iter(other.next_event, None)

    def of(self, connection: QuicConnection, kind: type) -> list[object]:
        return [event for event in self.received[connection] if isinstance(event, kind)]

    def bytes_at(self, connection: QuicConnection) -> int:
        return sum(len(cast(StreamDataReceived, event).data) for event in self.of(connection, StreamDataReceived))


class Nowhere(asyncio.DatagramTransport):
    """Sends nothing."""

    def sendto(self, data: object, addr: object = None) -> None: ...

    def close(self) -> None: ...


def stock(bare: Bare) -> QuicConnectionProtocol:
    """The library's own asyncio protocol, on the client's connection."""
    protocol = QuicConnectionProtocol(bare.client)
    protocol.connection_made(Nowhere())
    return protocol


@pytest.fixture
def bare(certificates: Certificates) -> Bare:
    return Bare(certificates)


@pytest.mark.failure("F01")
def test_f01_close_throws_away_what_is_queued(bare: Bare) -> None:
    bare.client.send_stream_data(0, bytes(200_000), end_stream=True)
    bare.client.close()
    bare.run()
    assert bare.of(bare.server, ConnectionTerminated)
    arrived = bare.bytes_at(bare.server)
    assert arrived < 200_000, "close() sends what is queued: sessions need not wait for receipts before they close"


@pytest.mark.failure("F06")
async def test_f06_a_lost_connection_reads_as_a_clean_end(bare: Bare) -> None:
    protocol = stock(bare)
    reader, writer = await protocol.create_stream()
    reader.feed_data(b"half of it")
    protocol.quic_event_received(ConnectionTerminated(error_code=1, frame_type=None, reason_phrase="lost"))
    async with asyncio.timeout(5):
        read = await reader.read(-1)
    writer.close()
    assert read == b"half of it", "a lost connection is no clean end any more: its asyncio streams might be used"


@pytest.mark.failure("F07")
async def test_f07_a_reset_wakes_no_reader(bare: Bare) -> None:
    protocol = stock(bare)
    reader, writer = await protocol.create_stream()
    protocol.quic_event_received(StreamReset(error_code=1, stream_id=0))
    writer.close()
    assert not reader.at_eof(), "a reset ends the reader: its asyncio streams might be used"
    assert reader.exception() is None, "a reset is told to the reader: its asyncio streams might be used"


@pytest.mark.failure("F08")
def test_f08_a_send_behind_a_stop_raises(bare: Bare) -> None:
    bare.client.send_stream_data(0, b"x")
    bare.run()
    bare.server.stop_stream(0, 1)
    bare.run()
    assert bare.of(bare.client, StopSendingReceived)
    told = "a send behind STOP_SENDING is ignored: the adapter's `write` need not look at its own state first"
    try:
        bare.client.send_stream_data(0, b"more")
    except (AssertionError, RuntimeError):
        return
    pytest.fail(told)


@pytest.mark.failure("F09")
def test_f09_credit_comes_back_on_arrival(bare: Bare) -> None:
    """Nobody has read a byte: there is no call to say so."""
    window = bare.server.configuration.max_data
    bare.client.send_stream_data(0, bytes(5 * window))
    bare.run(2000)
    arrived = bare.bytes_at(bare.server)
    assert arrived == 5 * window, "credit waits for a reader: the adapter's two overrides that write limits may go"


@pytest.mark.failure("F10")
def test_f10_a_send_is_taken_whole(bare: Bare) -> None:
    bare.client.send_stream_data(0, bytes(10_000_000))
    unsent = len(bare.client._streams[0].sender._buffer)
    assert unsent == 10_000_000, "a send has a bound: the adapter's send cap may go"


@pytest.mark.failure("F16")
def test_f16_two_streams_that_nobody_wrote_to_have_one_number(bare: Bare) -> None:
    numbers = [bare.client.get_next_available_stream_id() for _ in range(2)]
    assert numbers[0] == numbers[1], "each open has a number of its own: `open_stream` need not send nothing at once"


@pytest.mark.failure("F19")
def test_f19_a_close_that_got_lost_is_not_repeated(bare: Bare) -> None:
    bare.client.close()
    assert bare.client.datagrams_to_send(bare.now), "the close, which gets lost"
    bare.server.send_ping(1)
    bare.run()
    told = "a closing connection answers: the adapter need not repeat its closes (engine/aioquic/link.py)"
    assert not bare.of(bare.server, ConnectionTerminated), told

"""A server's engine at the mercy of a script: datagrams of anybody, and those of a client's, bent.

Rules:
- An input is a list of acts, each an octet (its number, modulo their count) and what it takes; a script that ends in
  the middle of an act goes on with zeros. So every input means something, and small changes of it are small.
- The client is always one of aioquic's, because what it encrypts can be chosen; its randomness is the same each time.
- Time is the script's. At the end it runs until the server has nothing left to do, which it must come to.
- A fault that an engine caught and logged is a finding as well: nobody reads the log of a fuzzer.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from unittest.mock import patch

from aioquic.buffer import Buffer, encode_uint_var  # type: ignore[attr-defined]
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicFrameType, QuicPacketType, QuicProtocolVersion
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.tls import Epoch
from tests.sim.engines import SERVER_NAME, make_certificate, seeded
from tests.sim.pair import CLIENT, SERVER
from tests.unit.tunnel.engine.harness import STRANGER, assert_empty, datagrams, transmits, with_limits

from tunnel.engine.aioquic import client_engine
from tunnel.engine.aioquic.endpoint import Endpoint
from tunnel.engine.port import Address, Connected, Data, Engine, StreamsAvailable
from tunnel.engine.settings import ClientTls, EngineLimits, ServerTls

LIMITS = with_limits(max_connections=6, retry_above_handshakes=3)
ACTS_MAX = 64
REPEATS_MAX = 8
REQUESTS = 3
FRAMES_BYTES_MAX = 1000
TOKEN_BYTES_MAX = 64
INITIAL_BYTES = 1200
TIMERS_MAX = 1000
"""How often the server's timer may fire before it has to be at rest: a minute of probes comes to far less."""

MakeServer = Callable[[ServerTls, EngineLimits], Engine]


def run(make_server: MakeServer, data: bytes) -> None:
    with seeded(Random(1)):
        exchange = Exchange(make_server(_tls(), LIMITS), Script(data))
        with _noted(exchange.faults):
            exchange.run()


class Script:
    """The input, read from its front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        return self._at >= len(self._data)

    def take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at].ljust(count, b"\0")

    def octet(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        """Of two octets."""
        return int.from_bytes(self.take(2), "big")

    def counted(self) -> bytes:
        """As many bytes as the number in front of them says, or as there are."""
        count = min(self.number(), max(0, len(self._data) - self._at))
        return self.take(count)


class Exchange:
    """A server, a client of its own, and a stranger."""

    def __init__(self, server: Engine, script: Script) -> None:
        self.faults: list[BaseException] = []
        self._server = server
        self._script = script
        self._client = client_engine(ClientTls(SERVER_NAME, ca_file=_tls().certificate_file), LIMITS)
        self._now = 1000.0
        self._connection = self._client.connect(SERVER, self._now)
        self._client_connected = False
        self._outbox: list[bytes] = []
        """The client's, not delivered yet."""
        self._delivered: list[bytes] = []
        self._answers: list[bytes] = []
        """The server's to the client, not delivered yet."""
        self._initials = 0
        self._living: set[int] = set()

    def run(self) -> None:
        for _ in range(ACTS_MAX):
            if self._script.over:
                break
            ACTS[self._script.octet() % len(ACTS)](self)
        self._come_to_rest()

    # Acts.

    def noise(self) -> None:
        """Any bytes from a stranger, in segments of any size."""
        size = self._script.number()
        self._arrive(self._script.counted(), STRANGER, size)

    def padded_noise(self) -> None:
        """Any bytes from a stranger, as long as what starts a connection."""
        self._arrive(self._script.counted().ljust(INITIAL_BYTES, b"\0"), STRANGER)

    def next_one(self) -> None:
        """The client's next datagram arrives as it is."""
        self._let_client_send()
        if self._outbox:
            self._deliver(self._outbox.pop(0))

    def next_one_bent(self) -> None:
        """The client's next datagram arrives, and something is wrong with it."""
        self._let_client_send()
        if self._outbox:
            self._deliver(self._bent(self._outbox.pop(0)))

    def again(self) -> None:
        """What has arrived before arrives again, bent or not, from the client or from somewhere else."""
        if self._delivered:
            datagram = self._delivered[self._script.octet() % len(self._delivered)]
            address = STRANGER if self._script.octet() & 1 else CLIENT
            self._arrive(self._bent(datagram), address)

    def initial(self) -> None:
        """A stranger's first packet: it decrypts, and has any token and frames."""
        self._initials += 1
        destination_id = self._script.take(8)
        token = self._script.take(self._script.octet() % TOKEN_BYTES_MAX)
        frames = self._script.counted()[:FRAMES_BYTES_MAX]
        self._arrive(initial_packet(destination_id, token, frames, self._initials), STRANGER)

    def frames(self) -> None:
        """A packet of the client's connection that decrypts, and has any frames."""
        frames = self._script.counted()[:FRAMES_BYTES_MAX]
        link = self._client._links.get(self._connection) if isinstance(self._client, Endpoint) else None
        if link is None or not self._client_connected:
            return
        quic = link.quic

        def write(builder: QuicPacketBuilder, network_path: object, now: float) -> None:
            builder.start_packet(QuicPacketType.ONE_RTT, quic._cryptos[Epoch.ONE_RTT])
            builder.start_frame(QuicFrameType.PING).push_bytes(frames)

        self._let_client_send()
        with patch.object(quic, "_write_application", write):
            self._client.ping(self._connection)
            self._let_client_send()
        while self._outbox:
            self._deliver(self._outbox.pop(0))

    def short_header(self) -> None:
        """Noise for a connection that exists."""
        identifier = self._delivered[-1][1:9] if self._delivered else bytes(8)
        self._arrive(b"\x40" + identifier + self._script.counted(), CLIENT)

    def time_passes(self) -> None:
        self._pass(self._script.octet() / 100)

    def answer(self) -> None:
        """All that the server has sent arrives at the client."""
        answers, self._answers = self._answers, []
        for datagram in answers:
            self._client.receive(datagram, len(datagram), SERVER, self._now)
        self._let_client_work()
        self.faults.clear()  # The client's own: it hears what a server never says.

    def exchange(self) -> None:
        """Both talk until they have nothing more to say for now."""
        for _ in range(REPEATS_MAX):
            self._let_client_send()
            if not self._outbox and not self._answers:
                break
            while self._outbox:
                self._deliver(self._outbox.pop(0))
            self.answer()

    # Private.

    def _bent(self, datagram: bytes) -> bytes:
        """Some of its octets changed, or cut off."""
        bent = bytearray(datagram)
        for _ in range(self._script.octet() % 5):
            at, change = self._script.number() % len(bent), self._script.octet()
            if change:
                bent[at] ^= change
            elif at:
                del bent[at:]
        return bytes(bent)

    def _deliver(self, datagram: bytes) -> None:
        self._delivered.append(datagram)
        self._arrive(datagram, CLIENT)

    def _arrive(self, data: bytes, address: Address, segment_size: int | None = None) -> None:
        self._server.receive(memoryview(data), len(data) if segment_size is None else segment_size, address, self._now)
        self._let_server_work()

    def _pass(self, seconds: float) -> None:
        self._now += seconds
        self._server.handle_timer(self._now)
        self._let_server_work()
        self._client.handle_timer(self._now)
        self._let_client_work()
        self.faults.clear()

    def _let_server_work(self) -> None:
        self._poll_server()
        for transmit in transmits(self._server, self._now):
            assert 0 < transmit.segment_size <= LIMITS.datagram_cap_bytes
            assert transmit.data
            if transmit.address == CLIENT:
                self._answers += datagrams(transmit)
        self._poll_server()
        if self.faults:
            raise self.faults[0]

    def _poll_server(self) -> None:
        while (happened := self._server.poll_event()) is not None:
            connection, event = happened
            match event:
                case Connected():
                    self._living.add(connection)
                    self._server.accept(connection)
                case Data(stream, data, end):
                    self._server.consumed(connection, stream, len(data))
                    self._server.send(connection, stream, data[:100])
                    if end:
                        self._server.finish(connection, stream)
        assert len(self._living) <= LIMITS.max_connections

    def _let_client_send(self) -> None:
        self._let_client_work()
        for transmit in transmits(self._client, self._now):
            self._outbox += datagrams(transmit)
        self.faults.clear()

    def _let_client_work(self) -> None:
        while (happened := self._client.poll_event()) is not None:
            connection, event = happened
            match event:
                case Connected() | StreamsAvailable():
                    self._client_connected = True
                    for _ in range(REQUESTS):
                        stream = self._client.open(connection)
                        if stream is not None:
                            self._client.send(connection, stream, b"a request of some length")
                case Data(stream, data, _):
                    self._client.consumed(connection, stream, len(data))

    def _come_to_rest(self) -> None:
        """Nobody says anything any more: the server gives up what it holds."""
        for _ in range(TIMERS_MAX):
            timer = self._server.get_timer()
            if timer is None:
                break
            self._now = max(self._now, timer)
            self._server.handle_timer(self._now)
            self._let_server_work()
        assert_empty(self._server)


ACTS = (
    Exchange.noise,
    Exchange.padded_noise,
    Exchange.next_one,
    Exchange.next_one_bent,
    Exchange.again,
    Exchange.initial,
    Exchange.frames,
    Exchange.short_header,
    Exchange.time_passes,
    Exchange.answer,
    Exchange.exchange,
)


def initial_packet(destination_id: bytes, token: bytes, frames: bytes, number: int) -> bytes:
    """As a client would send it, filled up to what starts a connection. Its keys follow from the id."""
    version = QuicProtocolVersion.VERSION_1
    crypto = CryptoPair()
    crypto.setup_initial(cid=destination_id, is_client=True, version=version)
    header = Buffer(capacity=64 + TOKEN_BYTES_MAX)
    header.push_uint8(0xC1)  # an Initial, its packet number in two octets
    header.push_uint32(version)
    for identifier in (destination_id, b"stranger"):
        header.push_uint8(len(identifier))
        header.push_bytes(identifier)
    header.push_bytes(encode_uint_var(len(token)) + token)
    payload = frames.ljust(INITIAL_BYTES - header.tell() - 4 - 16, b"\0")
    header.push_uint16(0x4000 | (2 + len(payload) + 16))
    header.push_uint16(number)
    packet: bytes = crypto.encrypt_packet(header.data, payload, number)
    return packet


class _Faults(logging.Handler):
    def __init__(self, faults: list[BaseException]) -> None:
        super().__init__(logging.ERROR)
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._faults.append(error or AssertionError(record.getMessage()))


@contextmanager
def _noted(faults: list[BaseException]) -> Iterator[None]:
    """What the tunnel logs as an error meanwhile goes there, and nowhere else."""
    logger, handler = logging.getLogger("tunnel"), _Faults(faults)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


@cache
def _tls() -> ServerTls:
    """Made once a process; its folder goes with the process."""
    directory = TemporaryDirectory(prefix="fuzz-")
    _FOLDERS.append(directory)
    return make_certificate(Path(directory.name))


_FOLDERS: list[TemporaryDirectory[str]] = []

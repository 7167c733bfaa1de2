"""Whatever bytes come: no exception, nothing kept, and no other connection is bothered (F21, F26)."""

import logging
from random import Random
from typing import Any

import pytest
from aioquic.buffer import Buffer, encode_uint_var  # type: ignore[attr-defined]
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.tls import Epoch
from tests.sim.network import Link, Network
from tests.sim.pair import CLIENT, SERVER, Pair, Side
from tests.sim.world import World
from tests.unit.tunnel.engine.aioquic.harness import endpoint, quic
from tests.unit.tunnel.engine.harness import SMALL, MakeRealPair, assert_empty

from tunnel.engine.aioquic import client_engine
from tunnel.engine.aioquic.endpoint import Endpoint
from tunnel.engine.port import Address, Closed, Connected, Data, Event, Transmit
from tunnel.errors import Cause

STRANGER: Address = ("198.51.100.7", 9)
HOSTILE: Address = ("192.0.2.66", 666)
VARINTS = (0, 1, 2, 3, 4, 5, 7, 8, 63, 64, 200, 1200, 16383, 16384, 2**20, 2**30 - 1, 2**30, 2**60, 2**62 - 1)
BODY = bytes(range(256)) * 100


class TestGarbage:
    @pytest.mark.failure("F21")
    @pytest.mark.parametrize("seed", range(5))
    def test_noise_and_damaged_packets_change_nothing(
        self, pair: Pair, seed: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        rng, seen = Random(seed), list[bytes]()
        send = pair.world.network.send

        def listen(transmit: Transmit, own: Address, now: float) -> None:
            seen.append(transmit.data[: transmit.segment_size])
            send(transmit, own, now)

        pair.world.network.send = listen  # type: ignore[method-assign]
        for side in (pair.client, pair.server):
            for _ in range(200):
                stream = pair.client.open()
                pair.client.write(stream, b"x", end=True)
                pair.until_ended(pair.server, stream)
                pair.server.finish(stream)
                datagram = garbage(rng, seen, [*endpoint(side)._routes])
                source = rng.choice([CLIENT, SERVER, STRANGER])
                size = rng.choice([len(datagram), 1, 100, 1200, 0])
                side.engine.receive(memoryview(datagram), size, source, pair.world.now)
        pair.until(lambda: quic(pair.client).stream_count == 0)
        stream = pair.client.open()
        pair.client.write(stream, BODY, end=True)
        assert pair.until_ended(pair.server, stream) == BODY
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]

    @pytest.mark.failure("F20")
    @pytest.mark.parametrize("seed", range(5))
    def test_noise_alone_leaves_nothing_behind(self, make_pair: MakeRealPair, seed: int) -> None:
        rng, now = Random(seed), 1.0
        client, server = (endpoint(side) for side in (make_pair().client, make_pair().server))
        other = client_engine(make_pair.certificates.client, SMALL)
        other.connect(SERVER, now)
        first = other.poll_transmit(now)
        assert first is not None
        for _ in range(2000):
            datagram = garbage(rng, [first.data], [bytes(8)])
            for engine in (client, server):
                engine.receive(datagram, rng.choice([len(datagram), 1200, 7]), STRANGER, now)
                while engine.poll_transmit(now):
                    pass
        now += 20
        server.handle_timer(now)
        while server.poll_transmit(now):
            pass
        server.handle_timer(now + 20)
        while server.poll_transmit(now + 20):
            pass
        assert_empty(client)
        assert_empty(server)


def garbage(rng: Random, seen: list[bytes], connection_ids: list[bytes]) -> bytes:
    """Noise, noise for a connection that exists, and packets of that connection with something wrong."""
    noise = rng.randbytes(rng.choice([0, 1, 5, 8, 9, 20, 40, 1200, 1500]))
    packet = bytearray(rng.choice(seen))
    match rng.randrange(8):
        case 0:
            return noise
        case 1:
            return b"\x40" + rng.choice(connection_ids) + noise
        case 2:
            return bytes([0xC0 | rng.randrange(64)]) + b"\0\0\0\1\x08" + rng.choice(connection_ids) + noise
        case 3:
            return bytes([0xC0]) + rng.randbytes(4) + noise.ljust(1200, b"\0")
        case 4:
            return bytes(packet[: rng.randrange(len(packet))])
        case 5:
            return bytes(packet) + noise
        case 6:
            return bytes(packet)  # once more
        case _:
            for _ in range(rng.randrange(1, 4)):
                packet[rng.randrange(len(packet))] ^= 1 << rng.randrange(8)
            return bytes(packet)


class HostileWorld:
    """A pair that is connected, and a third party with a connection of its own that sends any frames it likes."""

    def __init__(self, make_pair: MakeRealPair, seed: int) -> None:
        self.pair = make_pair(link=Link(delay_s=0.001))
        self.server = endpoint(self.pair.server)
        self.log: dict[int, list[Event]] = {}
        self.pair.server.work = self._work  # type: ignore[method-assign]
        self.pair.client.connect(self.pair.world.now)
        self.hostile = Side(client_engine(make_pair.certificates.client, SMALL))
        self.pair.world.add(HOSTILE, self.hostile)
        self.hostile.connect(self.pair.world.now)
        self.pair.until(lambda: self.pair.client.connected and self.hostile.connected)
        self.pair.run(0.1)
        self.rng = Random(seed)

    def attack(self) -> None:
        """Sends a packet that is well encrypted and full of random frames."""
        inside = quic(self.hostile)
        inside._write_application = self._write_frames  # type: ignore[method-assign]
        self.hostile.engine.ping(self.hostile.connection)
        while (transmit := self.hostile.poll_transmit(self.pair.world.now)) is not None:
            self.pair.world.network.send(transmit, HOSTILE, self.pair.world.now)

    def _write_frames(self, builder: QuicPacketBuilder, network_path: object, now: float) -> None:
        builder.start_packet(QuicPacketType.ONE_RTT, quic(self.hostile)._cryptos[Epoch.ONE_RTT])
        buffer: Buffer = builder.start_frame(QuicFrameType.PING)
        for _ in range(self.rng.randrange(1, 6)):
            frame = bytes([self.rng.choice([*range(0x1F), 0x30, 0x31])])
            frame += b"".join(encode_uint_var(self.rng.choice(VARINTS)) for _ in range(self.rng.randrange(6)))
            buffer.push_bytes(frame + self.rng.randbytes(self.rng.randrange(40)))

    def _work(self, now: float) -> None:
        while (happened := self.server.poll_event()) is not None:
            number, event = happened
            self.log.setdefault(number, []).append(event)
            match event:
                case Connected():
                    self.server.accept(number)
                case Data(stream, data, _):
                    self.server.consumed(number, stream, len(data))


@pytest.mark.failure("F21")
@pytest.mark.failure("F26")
@pytest.mark.parametrize("seed", range(60))
def test_any_frames_of_a_peer_end_its_own_connection_at_most(make_pair: MakeRealPair, seed: int) -> None:
    world = HostileWorld(make_pair, seed)
    pair = world.pair
    for _ in range(30):
        if world.hostile.closed is None:
            world.attack()
            pair.run(0.005)
    stream = pair.client.open()
    pair.client.write(stream, BODY, end=True)
    pair.run(2)
    ours = next(number for number, events in world.log.items() if any(isinstance(event, Data) for event in events))
    received = b"".join(event.data for event in world.log[ours] if isinstance(event, Data))
    assert received.endswith(BODY)
    assert pair.client.closed is None
    ends = [event for events in world.log.values() for event in events if isinstance(event, Closed)]
    assert len(ends) <= 1
    assert all(event.detail for event in ends)


class TestFaults:
    """aioquic raises where it should not."""

    @pytest.mark.failure("F21")
    def test_in_receive_ends_that_connection_and_tells_the_peer(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*args: Any) -> None:
            raise RuntimeError("planted")

        monkeypatch.setattr(quic(pair.server), "receive_datagram", fail)
        pair.client.write(pair.client.open(), b"x")
        pair.until(lambda: pair.client.closed is not None and pair.server.closed is not None, 1)
        assert pair.server.closed == Closed(Cause.INTERNAL, "aioquic failed: RuntimeError('planted')", by_peer=False)
        assert pair.client.closed == Closed(Cause.INTERNAL, Cause.INTERNAL.summary, by_peer=True)
        assert "planted" in caplog.text
        pair.run(5)
        assert_empty(endpoint(pair.server))

    @pytest.mark.failure("F21")
    def test_in_a_flush_tells_the_peer_with_the_next_one(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        inside = quic(pair.server)
        works = inside.datagrams_to_send

        def fail_once(now: float) -> None:
            monkeypatch.setattr(inside, "datagrams_to_send", works)
            raise RuntimeError("planted")

        monkeypatch.setattr(inside, "datagrams_to_send", fail_once)
        pair.server.engine.ping(pair.server.connection)
        pair.until(lambda: pair.client.closed is not None, 0.05)
        assert pair.client.closed == Closed(Cause.INTERNAL, Cause.INTERNAL.summary, by_peer=True)

    @pytest.mark.failure("F21")
    @pytest.mark.parametrize("method", ["datagrams_to_send", "handle_timer", "next_event"])
    def test_for_good_leaves_nothing_behind(self, pair: Pair, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        def fail(*args: Any) -> None:
            raise RuntimeError("planted")

        monkeypatch.setattr(quic(pair.server), method, fail)
        pair.client.write(pair.client.open(), b"x")
        pair.until(lambda: pair.server.closed is not None, 40)
        assert pair.server.closed is not None
        assert pair.server.closed.cause in (Cause.INTERNAL, Cause.PEER_SILENT)
        pair.run(40)
        assert_empty(endpoint(pair.server))

    @pytest.mark.failure("F21")
    def test_others_go_on(self, make_pair: MakeRealPair, monkeypatch: pytest.MonkeyPatch) -> None:
        world = HostileWorld(make_pair, 0)
        failing = next(link for link in world.server._links.values() if link.address == HOSTILE)

        def fail(*args: Any) -> None:
            raise RuntimeError("planted")

        monkeypatch.setattr(failing.quic, "receive_datagram", fail)
        world.hostile.engine.ping(world.hostile.connection)
        stream = world.pair.client.open()
        world.pair.client.write(stream, BODY, end=True)
        world.pair.run(2)
        assert world.hostile.closed is not None
        assert world.pair.client.closed is None
        assert sum(len(event.data) for event in world.log[1] if isinstance(event, Data)) == len(BODY)


def test_a_world_of_one_server_needs_no_client(make_pair: MakeRealPair) -> None:
    """The engine of a server with nobody there asks for no timer."""
    world = World(Network(Random(0), Link()))
    engine = endpoint(make_pair().server)
    assert isinstance(engine, Endpoint)
    assert engine.get_timer() is None
    assert engine.poll_transmit(world.now) is None
    engine.handle_timer(world.now)
    assert_empty(engine)

"""Whatever bytes come: no exception, nothing kept, and no other connection is bothered (F21, F26): every pairing."""

import logging
from random import Random

import pytest
from aioquic.buffer import Buffer, encode_uint_var  # type: ignore[attr-defined]
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.tls import Epoch
from tests.sim.network import Link, Network
from tests.sim.pair import CLIENT, SERVER, Pair, Side
from tests.sim.world import World
from tests.unit.tunnel.engine.aioquic.harness import quic
from tests.unit.tunnel.engine.harness import (
    STRANGER,
    Certificates,
    MakeRealPair,
    Server,
    assert_empty,
    first_flight,
    listen,
    transmits,
)

from tunnel.engine.port import Address, Closed, Data

HOSTILE: Address = ("192.0.2.66", 666)
VARINTS = (0, 1, 2, 3, 4, 5, 7, 8, 63, 64, 200, 1200, 16383, 16384, 2**20, 2**30 - 1, 2**30, 2**60, 2**62 - 1)
BODY = bytes(range(256)) * 100


class TestGarbage:
    @pytest.mark.failure("F21")
    @pytest.mark.parametrize("seed", range(5))
    def test_noise_and_damaged_packets_change_nothing(
        self, real_pair: Pair, seed: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        pair, rng = real_pair, Random(seed)
        heard = listen(pair.world)
        for side in (pair.client, pair.server):
            for _ in range(200):
                stream = pair.client.open()
                pair.client.write(stream, b"x", end=True)
                pair.until_ended(pair.server, stream)
                pair.server.finish(stream)
                seen = [datagram for _, datagram in heard[-100:]]
                datagram = garbage(rng, seen)
                source = rng.choice([CLIENT, SERVER, STRANGER])
                size = rng.choice([len(datagram), 1, 100, 1200, 0])
                side.engine.receive(memoryview(datagram), size, source, pair.world.now)
        stream = pair.client.open()
        pair.client.write(stream, BODY, end=True)
        assert pair.until_ended(pair.server, stream) == BODY
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]

    @pytest.mark.failure("F20")
    @pytest.mark.parametrize("seed", range(3))
    def test_noise_alone_leaves_nothing_behind(self, make_real_pair: MakeRealPair, seed: int) -> None:
        rng, now = Random(seed), 1.0
        client, server = make_real_pair.client(), make_real_pair.server()
        first = first_flight(make_real_pair.client(), now)
        for _ in range(2000):
            datagram = garbage(rng, [first])
            for engine in (client, server):
                engine.receive(datagram, rng.choice([len(datagram), 1200, 7]), STRANGER, now)
                transmits(engine, now)
        for _ in range(100):
            now += 0.5
            server.handle_timer(now)
            transmits(server, now)
            while server.poll_event() is not None:
                pass
        assert_empty(client)
        assert_empty(server)

    @pytest.mark.failure("F26")
    @pytest.mark.parametrize("seed", range(3))
    def test_a_handshake_in_a_storm_of_its_own_packets_completes(self, make_real_pair: MakeRealPair, seed: int) -> None:
        """What was said before comes again, damaged and whole, in the middle of the handshake and after."""
        pair, rng = make_real_pair(), Random(seed)
        over_at = pair.world.now + 0.3
        pair.server.ignores_unfinished = True
        heard = listen(pair.world)

        def storm() -> None:
            if pair.world.now > over_at:
                return
            if heard:
                own, datagram = rng.choice(heard)
                side, source = (pair.server, CLIENT) if own == CLIENT else (pair.client, SERVER)
                replayed = garbage(rng, [datagram])
                side.receive(replayed, max(1, len(replayed)), source, pair.world.now)
            pair.world.after(0.000_3, storm)

        storm()
        pair.connect()
        stream = pair.client.open()
        pair.client.write(stream, BODY, end=True)
        assert pair.until_ended(pair.server, stream) == BODY


def garbage(rng: Random, seen: list[bytes]) -> bytes:
    """Noise, noise for a connection that exists, and packets of that connection with something wrong."""
    noise = rng.randbytes(rng.choice([0, 1, 5, 8, 9, 20, 40, 1200, 1500]))
    packet = bytearray(rng.choice(seen))
    connection_id = bytes(rng.choice(seen)[1:9])  # of a short header
    match rng.randrange(8):
        case 0:
            return noise
        case 1:
            return b"\x40" + connection_id + noise
        case 2:
            return bytes([0xC0 | rng.randrange(64)]) + b"\0\0\0\1\x08" + connection_id + noise
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


class Attacker:
    """Sends packets that are well encrypted and full of random frames, on a connection of aioquic's."""

    def __init__(self, side: Side, own: Address, world: World, seed: int) -> None:
        self.side, self.own, self.world = side, own, world
        self.rng = Random(seed)

    def attack(self) -> None:
        inside = quic(self.side)
        inside._write_application = self._write_frames  # type: ignore[method-assign]
        self.side.engine.ping(self.side.connection)
        for transmit in transmits(self.side.engine, self.world.now):
            self.world.network.send(transmit, self.own, self.world.now)

    def _write_frames(self, builder: QuicPacketBuilder, network_path: object, now: float) -> None:
        builder.start_packet(QuicPacketType.ONE_RTT, quic(self.side)._cryptos[Epoch.ONE_RTT])
        buffer: Buffer = builder.start_frame(QuicFrameType.PING)
        for _ in range(self.rng.randrange(1, 6)):
            frame = bytes([self.rng.choice([*range(0x1F), 0x30, 0x31])])
            frame += b"".join(encode_uint_var(self.rng.choice(VARINTS)) for _ in range(self.rng.randrange(6)))
            buffer.push_bytes(frame + self.rng.randbytes(self.rng.randrange(40)))


@pytest.mark.failure("F21")
@pytest.mark.failure("F26")
@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("victim", ["aioquic", "quinn"])
def test_any_frames_of_a_client_end_its_own_connection_at_most(
    certificates: Certificates, victim: str, seed: int
) -> None:
    make = MakeRealPair.of(certificates, f"aioquic to {victim}")
    world = World(Network(Random(1), Link(delay_s=0.001)))
    server, honest, hostile = Server(make.server()), Side(make.client()), Side(make.client())
    for own, party in ((SERVER, server), (CLIENT, honest), (HOSTILE, hostile)):
        world.add(own, party)
    honest.connect(world.now)
    hostile.connect(world.now)
    assert world.run(5, lambda: honest.connected and hostile.connected)
    world.run(0.1)
    attacker = Attacker(hostile, HOSTILE, world, seed)
    for _ in range(30):
        if hostile.closed is None:
            attacker.attack()
            world.run(0.005)
    stream = honest.open()
    honest.write(stream, BODY, end=True)
    world.run(2)
    carried = {number: b"" for number, _ in server.log}
    for number, event in server.log:
        if isinstance(event, Data):
            carried[number] += event.data
    assert any(data.endswith(BODY) for data in carried.values())
    assert honest.closed is None
    ends = [event for event in server.events(Closed) if isinstance(event, Closed)]
    assert len(ends) <= 1
    assert all(event.detail for event in ends)


@pytest.mark.failure("F21")
@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("victim", ["aioquic", "quinn"])
def test_any_frames_of_a_server_end_its_own_connection_at_most(
    certificates: Certificates, victim: str, seed: int
) -> None:
    """Two servers that one socket talks to, one of them gone mad."""
    make = MakeRealPair.of(certificates, f"{victim} to aioquic")
    pair = make(link=Link(delay_s=0.001)).connect()
    mad = Side(make.server())
    pair.world.add(HOSTILE, mad)
    client = pair.client.engine
    ends: list[tuple[int, Closed]] = []

    def work(now: float) -> None:
        while (happened := client.poll_event()) is not None:
            number, event = happened
            if isinstance(event, Closed):
                ends.append((number, event))

    pair.client.work = work  # type: ignore[method-assign]
    other = client.connect(HOSTILE, pair.world.now)
    pair.until(lambda: mad.connected)
    pair.run(0.1)
    attacker = Attacker(mad, HOSTILE, pair.world, seed)
    for _ in range(30):
        if mad.closed is None:
            attacker.attack()
            pair.run(0.005)
    stream = pair.client.open()
    pair.client.write(stream, BODY[:5000], end=True)
    assert pair.until_ended(pair.server, stream) == BODY[:5000]
    assert {number for number, _ in ends} <= {other}
    assert all(event.detail for _, event in ends)

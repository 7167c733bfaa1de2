"""What simulations stand on: runs replay, time cannot stand still, sockets behave, planted faults do what they say."""

import errno
from random import Random
from socket import SHUT_WR

import pytest
from tests.sim.engines import aioquic_engines, model_engines, seeded
from tests.sim.kernel import VirtualSocket
from tests.sim.model_connection import Faults
from tests.sim.network import Link, Network
from tests.sim.pair import CLIENT, SERVER, Pair
from tests.sim.plans import LIMITS, random_plan
from tests.sim.run import Run
from tests.sim.world import Stuck, World

from tunnel.engine.port import Address, Data, Transmit
from tunnel.engine.settings import ServerTls
from tunnel.errors import Cause

CLEAN = Link()


def model_pair(faults: Faults, link: Link = CLEAN) -> Pair:
    engines, rng = model_engines(faults), Random(1)
    return Pair.of(engines.client(LIMITS, rng), engines.server(LIMITS, rng), link, 1).connect()


class TestReplay:
    @pytest.mark.parametrize("seed", range(5))
    def test_a_seed_gives_the_same_run_on_the_model(self, seed: int) -> None:
        plan = random_plan(seed, transactions=6)
        first, second = (traced(Run(plan, model_engines(plan.faults))) for _ in range(2))
        assert first == second
        assert first

    @pytest.mark.parametrize("seed", range(5))
    def test_a_seed_gives_the_same_run_on_aioquic(self, seed: int, server_tls: ServerTls) -> None:
        runs = []
        for _ in range(2):
            with seeded(Random(seed)):
                runs.append(traced(Run(random_plan(seed, transactions=4), aioquic_engines(server_tls))))
        assert runs[0] == runs[1]
        assert runs[0]


def traced(run: Run) -> list[tuple[float, Address, bytes]]:
    """Every datagram of a run, with its time and sender."""
    sent: list[tuple[float, Address, bytes]] = []
    send = run.world.network.send

    def note(transmit: Transmit, own: Address, now: float) -> None:
        sent.append((now, own, transmit.data))
        send(transmit, own, now)

    run.world.network.send = note  # type: ignore[method-assign]
    run.check()
    return sent


class Idler:
    """A party whose timer stays in the past."""

    def receive(self, data: bytes, segment_size: int, address: Address, now: float) -> None: ...

    def get_timer(self) -> float | None:
        return 0.0

    def handle_timer(self, now: float) -> None: ...

    def work(self, now: float) -> None: ...

    def poll_transmit(self, now: float) -> Transmit | None:
        return None


class Talker(Idler):
    """A party that never stops sending."""

    def get_timer(self) -> float | None:
        return None

    def poll_transmit(self, now: float) -> Transmit | None:
        return Transmit(b"x", 1, SERVER)


class TestWorld:
    @pytest.mark.parametrize("party", [Idler(), Talker()])
    def test_who_makes_time_stand_still_is_found(self, party: Idler) -> None:
        world = World(Network(Random(1), CLEAN))
        world.add(CLIENT, party)
        with pytest.raises(Stuck):
            world.run(10)

    def test_actions_happen_in_order_and_can_be_taken_back(self) -> None:
        world = World(Network(Random(1), CLEAN))
        happened: list[str] = []
        world.after(2, lambda: happened.append("second"))
        world.after(1, lambda: happened.append("first"))
        world.after(1.5, lambda: happened.append("never")).cancel()
        assert not world.run(5)
        assert happened == ["first", "second"]


class TestNetwork:
    def test_a_train_of_datagrams_arrives_together(self) -> None:
        network = Network(Random(1), Link(0.1))
        network.attach(CLIENT)
        network.attach(SERVER)
        network.send(Transmit(b"aabbc", 2, SERVER), CLIENT, 0.0)
        assert network.next_at() == 0.1
        assert network.receive(0.05) is None
        assert network.receive(0.1) == (b"aabbc", 2, CLIENT, SERVER)

    def test_after_a_rebind_the_old_address_is_dead(self) -> None:
        network, moved = Network(Random(1), Link(0.1)), ("203.0.113.1", 1)
        network.attach(CLIENT)
        network.rebind(CLIENT, moved)
        network.send(Transmit(b"x", 1, CLIENT), CLIENT, 0.0)
        assert network.receive(1.0) is None
        network.send(Transmit(b"x", 1, moved), CLIENT, 0.0)
        assert network.receive(1.0) == (b"x", 1, moved, CLIENT)

    @pytest.mark.parametrize(
        ("link", "expected"),
        [(Link(loss=1.0), []), (Link(mtu_bytes=1), []), (Link(duplicate=1.0), [b"xyz", b"xyz"])],
    )
    def test_faults_are_what_they_are_called(self, link: Link, expected: list[bytes]) -> None:
        network = Network(Random(1), link)
        network.attach(CLIENT)
        network.attach(SERVER)
        network.send(Transmit(b"xyz", 3, SERVER), CLIENT, 0.0)
        received = []
        while (delivery := network.receive(10.0)) is not None:
            received.append(delivery.data)
        assert received == expected


class TestSockets:
    def test_what_was_received_before_a_reset_can_be_read(self) -> None:
        near, far = VirtualSocket(100, 100), VirtualSocket(100, 100)
        near.peer, far.peer = far, near
        far.send(b"last words")
        far.reset()
        assert near.recv(100) == b"last words"
        with pytest.raises(ConnectionResetError):
            near.recv(100)
        assert near.recv(100) == b"", "a reset is handed out once"

    def test_after_a_clean_end_a_reset_is_a_broken_pipe(self) -> None:
        near, far = VirtualSocket(100, 100), VirtualSocket(100, 100)
        near.peer, far.peer = far, near
        far.close()
        assert near.send(b"nobody reads this") == 17
        with pytest.raises(BrokenPipeError) as caught:
            near.send(b"more")
        assert caught.value.errno == errno.EPIPE
        assert near.recv(100) == b""

    def test_closing_with_bytes_unread_resets(self) -> None:
        near, far = VirtualSocket(100, 100), VirtualSocket(100, 100)
        near.peer, far.peer = far, near
        near.send(b"unread")
        far.close()
        with pytest.raises(ConnectionResetError):
            near.recv(100)

    def test_buffers_fill(self) -> None:
        near, far = VirtualSocket(10, 20), VirtualSocket(10, 20)
        near.peer, far.peer = far, near
        assert near.send(bytes(100)) == 30
        with pytest.raises(BlockingIOError):
            near.send(b"x")
        near.shutdown(SHUT_WR)
        assert len(far.recv(100)) == 30
        assert far.recv(100) == b""


class TestPlantedFaults:
    def test_a_bare_fin_can_be_lost(self) -> None:
        pair = model_pair(Faults(lose_bare_fin=1.0))
        bare, behind = pair.client.open(), pair.client.open()
        pair.client.write(bare, b"x")
        pair.client.write(behind, b"x", end=True)
        pair.until_ended(pair.server, behind)
        pair.client.finish(bare)
        pair.run(10)
        assert bare not in pair.server.ended
        pair.server.stop(bare, Cause.RESCUED.code)
        pair.until(lambda: bare in pair.client.stopped)

    def test_a_close_can_be_lost(self) -> None:
        pair = model_pair(Faults(lose_close=1.0))
        pair.client.close(0, "")
        pair.run(1)
        assert pair.client.closed is not None
        assert pair.server.closed is None

    def test_streams_can_overtake_each_other_but_not_themselves(self) -> None:
        pair = model_pair(Faults(shuffle_streams=True))
        streams = [pair.client.open() for _ in range(10)]
        for stream in streams:
            pair.client.write(stream, bytes(range(100)), end=True)
        pair.until(lambda: set(streams) <= pair.server.ended)
        order = [event.stream for event in pair.server.log if isinstance(event, Data)]
        assert order != sorted(order)
        assert all(received == bytes(range(100)) for received in pair.server.received.values())

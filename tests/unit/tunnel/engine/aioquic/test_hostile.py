"""aioquic raises where it should not: one connection ends, and nothing else. (What peers do: ../test_hostile.py.)"""

from random import Random
from typing import Any

import pytest
from tests.sim.network import Network
from tests.sim.pair import CLIENT, SERVER, Pair, Side
from tests.sim.world import World
from tests.unit.tunnel.engine.aioquic.harness import endpoint, quic
from tests.unit.tunnel.engine.harness import CLEAN, MakeRealPair, Server, assert_empty

from tunnel.engine.port import Address, Closed, Data
from tunnel.errors import Cause

OTHER: Address = ("192.0.2.66", 666)
BODY = bytes(range(256)) * 100


class TestFaults:
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
        world = World(Network(Random(1), CLEAN))
        server, client, other = Server(make_pair.server()), Side(make_pair.client()), Side(make_pair.client())
        for own, party in ((SERVER, server), (CLIENT, client), (OTHER, other)):
            world.add(own, party)
        client.connect(world.now)
        other.connect(world.now)
        assert world.run(5, lambda: client.connected and other.connected)
        world.run(0.1)
        links = server.engine._links  # type: ignore[attr-defined]
        failing = next(link for link in links.values() if link.address == OTHER)

        def fail(*args: Any) -> None:
            raise RuntimeError("planted")

        monkeypatch.setattr(failing.quic, "receive_datagram", fail)
        other.engine.ping(other.connection)
        client.write(client.open(), BODY, end=True)
        world.run(2)
        assert other.closed is not None
        assert client.closed is None
        assert sum(len(event.data) for event in server.events(Data) if isinstance(event, Data)) == len(BODY)

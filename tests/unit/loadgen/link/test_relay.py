"""The sockets of a link, in the test's own event loop: flows, their bounds, and an upstream that moves."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from loadgen.link import relay as relay_module
from loadgen.link.plan import Direction, Plan
from loadgen.link.relay import Relay
from servicekit.address import Address

Started = Callable[..., Awaitable[tuple[Relay, Address]]]
LOOPBACK = "127.0.0.1"


class Peer(asyncio.DatagramProtocol):
    """A UDP socket that queues what it receives."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait((data, addr))

    @property
    def address(self) -> Address:
        return Address.of_socket(self.transport.get_extra_info("sockname"))

    def send(self, data: bytes, to: Address) -> None:
        self.transport.sendto(data, (to.host, to.port))

    async def next(self) -> tuple[bytes, Any]:
        return await asyncio.wait_for(self.received.get(), 5)


@pytest.fixture
async def peers() -> AsyncIterator[Callable[[], Awaitable[Peer]]]:
    made: list[Peer] = []

    async def make() -> Peer:
        _, peer = await asyncio.get_running_loop().create_datagram_endpoint(Peer, local_addr=(LOOPBACK, 0))
        made.append(peer)
        return peer

    yield make
    for peer in made:
        peer.transport.close()


@pytest.fixture
async def start() -> AsyncIterator[Started]:
    """Starts relays on free ports, resolved, and closes them afterwards."""
    running: list[tuple[Relay, asyncio.Task[None]]] = []

    async def start(upstream: Address, plan: Plan | None = None) -> tuple[Relay, Address]:
        relay = Relay(Address(LOOPBACK, 0), upstream, plan or Plan(), seed=1)
        address = relay.open()
        running.append((relay, asyncio.create_task(relay.run())))
        await asyncio.wait_for(relay.resolved.wait(), 5)
        return relay, address

    yield start
    for relay, upkeep in running:
        upkeep.cancel()
        await asyncio.gather(upkeep, return_exceptions=True)
        relay.close()


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what the relay tells nobody."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_each_client_has_a_socket_of_its_own_towards_the_upstream(start: Started, peers: Any) -> None:
    server, one, two = await peers(), await peers(), await peers()
    relay, link = await start(server.address)

    one.send(b"from one", link)
    _, one_seen = await server.next()
    two.send(b"from two", link)
    _, two_seen = await server.next()
    server.transport.sendto(b"to two", two_seen)
    server.transport.sendto(b"to one", one_seen)

    assert one_seen != two_seen
    assert await two.next() == (b"to two", (link.host, link.port))
    assert await one.next() == (b"to one", (link.host, link.port))
    assert relay.flows == 2
    assert [line.counts.forwarded for line in relay.lines.values()] == [2, 2]


async def test_only_the_upstream_reaches_a_client(start: Started, peers: Any) -> None:
    server, stranger, client = await peers(), await peers(), await peers()
    _, link = await start(server.address)
    client.send(b"hello", link)
    _, seen = await server.next()

    stranger.transport.sendto(b"forged", seen)
    server.transport.sendto(b"real", seen)

    assert (await client.next())[0] == b"real"


async def test_a_client_above_the_cap_gets_nothing_through(
    start: Started, peers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MAX_FLOWS", 1)
    server, one, two = await peers(), await peers(), await peers()
    relay, link = await start(server.address)

    one.send(b"first", link)
    await server.next()
    two.send(b"refused", link)
    one.send(b"second", link)

    assert (await server.next())[0] == b"second"
    counts = relay.lines[Direction.CLIENT_TO_SERVER].counts
    assert (counts.received, counts.forwarded, counts.dropped) == (3, 2, 1)


async def test_an_idle_flow_is_forgotten(start: Started, peers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "FLOW_IDLE_S", 0.0)
    monkeypatch.setattr(relay_module, "SWEEP_EVERY_S", 0.01)
    server, one = await peers(), await peers()
    relay, link = await start(server.address)

    one.send(b"hello", link)
    _, seen_first = await server.next()
    await until(lambda: relay.flows == 0)
    one.send(b"again", link)
    _, seen_second = await server.next()

    assert seen_first != seen_second


async def test_a_rebind_gives_each_flow_a_new_source_port_and_the_old_ones_lead_nowhere(
    start: Started, peers: Any
) -> None:
    server, one, two = await peers(), await peers(), await peers()
    relay, link = await start(server.address)
    old = []
    for client in (one, two):
        client.send(b"hello", link)
        old.append((await server.next())[1])

    assert relay.rebind() == 2
    for address in old:
        server.transport.sendto(b"late", address)
    new = []
    for client in (one, two):
        client.send(b"still here", link)
        new.append((await server.next())[1])
        server.transport.sendto(b"welcome back", new[-1])

    assert len({*old, *new}) == 4
    assert [(await client.next())[0] for client in (one, two)] == [b"welcome back"] * 2
    assert (relay.flows, relay.lines[Direction.SERVER_TO_CLIENT].counts.received) == (2, 2)


async def test_what_is_under_way_to_the_upstream_leaves_from_the_new_port(start: Started, peers: Any) -> None:
    server, client = await peers(), await peers()
    relay, link = await start(server.address)
    client.send(b"hello", link)
    _, old = await server.next()
    relay.follow(Plan(delay_ms=1000))
    client.send(b"under way", link)
    await until(lambda: relay.lines[Direction.CLIENT_TO_SERVER].queued_bytes > 0)

    relay.rebind()

    data, new = await server.next()
    assert data == b"under way"
    assert new != old


async def test_a_flow_that_gets_no_socket_keeps_its_old_one(
    start: Started, peers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = await peers(), await peers()
    relay, link = await start(server.address)
    client.send(b"hello", link)
    _, old = await server.next()

    def refuse(family: int) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(relay_module, "UdpSocket", refuse)
    assert relay.rebind() == 0
    client.send(b"still here", link)
    _, seen = await server.next()
    server.transport.sendto(b"yes", seen)

    assert seen == old
    assert (await client.next())[0] == b"yes"


async def test_a_burst_of_single_datagrams_arrives_whole_and_in_order(start: Started, peers: Any) -> None:
    server, client = await peers(), await peers()
    relay, link = await start(server.address)
    sent = [bytes([number]) * (100 if number % 50 else 40) for number in range(200)]

    for data in sent:  # all are there before the relay has its turn
        client.send(data, link)

    assert [(await server.next())[0] for _ in sent] == sent
    assert relay.lines[Direction.CLIENT_TO_SERVER].counts.forwarded == len(sent)


async def test_another_plan_holds_from_the_next_datagram_on(start: Started, peers: Any) -> None:
    server, client = await peers(), await peers()
    relay, link = await start(server.address, Plan(loss=1))
    client.send(b"lost", link)
    await until(lambda: relay.lines[Direction.CLIENT_TO_SERVER].counts.lost > 0)

    relay.follow(Plan())
    client.send(b"not lost", link)

    assert (await server.next())[0] == b"not lost"


async def test_an_upstream_that_moved_is_found_again_and_the_flow_goes_on(
    start: Started, peers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "RESOLVE_EVERY_S", 0.01)
    old, new, client = await peers(), await peers(), await peers()
    loop = asyncio.get_running_loop()
    answers = [old.address]

    async def resolve(host: str, port: int, **options: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (answers[-1].host, answers[-1].port))]

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    _, link = await start(Address("server.example", 4433))
    client.send(b"hello", link)
    _, seen_by_old = await old.next()

    old.transport.close()  # a datagram to it is now answered with "port unreachable"
    answers.append(new.address)
    async with asyncio.timeout(5):
        while new.received.empty():
            client.send(b"anybody?", link)
            await asyncio.sleep(0.01)
    data, seen_by_new = await new.next()
    new.transport.sendto(b"yes", seen_by_new)

    assert (data, seen_by_new) == (b"anybody?", seen_by_old)  # the same socket of the link
    assert (await client.next())[0] == b"yes"


async def test_an_upstream_without_a_name_yet_is_asked_for_again(peers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "RESOLVE_EVERY_S", 0.01)
    server = await peers()
    failures = [socket.gaierror(-2, "Name or service not known")] * 2

    async def resolve(host: str, port: int, **options: object) -> list[Any]:
        if failures:
            raise failures.pop()
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (server.address.host, server.address.port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    relay = Relay(Address(LOOPBACK, 0), Address("server.example", 4433), Plan(), seed=1)
    relay.open()
    upkeep = asyncio.create_task(relay.run())

    await asyncio.wait_for(relay.resolved.wait(), 5)

    assert failures == []
    upkeep.cancel()
    await asyncio.gather(upkeep, return_exceptions=True)
    relay.close()

"""`loadgen link` as a process: what it does to datagrams, measured from outside."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadgen.link.udp import UdpSocket
from loadgen.stacks.process import Program, find_program
from loadgen.stacks.program_log import Event, events

SEGMENT_BYTES = 1200
LISTENERS = {"link": "--listen"}


@dataclass
class Rig:
    """A client socket, the link, and the socket that is its upstream."""

    link: Program
    client: socket.socket
    server: socket.socket

    def echo(self) -> float:
        """One datagram there and back; returns the seconds it took."""
        sent_s = monotonic()
        self.answer(b"ping")
        return monotonic() - sent_s

    def answer(self, data: bytes) -> tuple[str, int]:
        """`data` there and back, and nothing before it; returns the address that the server saw."""
        self.client.send(data)
        arrived, address = self.server.recvfrom(100)
        self.server.sendto(arrived, address)
        assert (arrived, self.client.recv(100)) == (data, data)
        return address[0], address[1]

    def metrics(self) -> dict[tuple[str, ...], float]:
        """The link's samples by (name, label values...), `link_` and `_total` left out."""
        with urlopen(self.link.metrics_url) as response:
            families = list(text_string_to_metric_families(response.read().decode()))
        return {
            (sample.name.removeprefix("link_").removesuffix("_total"), *sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith("link_")
        }

    def to_server(self) -> dict[str, float]:
        """What became of the datagrams of the client, by event."""
        return {key[2]: value for key, value in self.metrics().items() if key[:2] == ("datagrams", "client_to_server")}

    async def logged(self, event: str, **fields: object) -> Event:
        """Waits until the link has logged `event` with `fields`; returns the line."""
        async with asyncio.timeout(10):
            while True:
                for line in events(self.link.log.text()):
                    if line["event"] == event and fields.items() <= line.items():
                        return line
                await asyncio.sleep(0.01)

    def forwarded_of(self, sent: int) -> int:
        """Waits until all that the client `sent` was forwarded or lost; returns how many were forwarded."""
        end_s = monotonic() + 10
        while monotonic() < end_s:
            counts = self.to_server()
            if counts["received"] == sent == counts["forwarded"] + counts["lost"]:
                return int(counts["forwarded"])
            sleep(0.02)
        raise AssertionError(f"of {sent} datagrams: {counts}")


Start = Callable[..., Awaitable[Rig]]


@pytest.fixture
def udp() -> Iterator[Callable[[], socket.socket]]:
    made: list[socket.socket] = []

    def make() -> socket.socket:
        made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        made[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        made[-1].settimeout(5)
        made[-1].bind(("127.0.0.1", 0))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
async def start(tmp_path: Path, udp: Callable[[], socket.socket]) -> AsyncIterator[Start]:
    """Starts a link with the given flags; it has to end with exit code 0."""
    programs: list[Program] = []

    async def start(*flags: str) -> Rig:
        server, client = udp(), udp()
        upstream = f"127.0.0.1:{server.getsockname()[1]}"
        addresses = ("--listen", "127.0.0.1:0", "--upstream", upstream, "--metrics-listen", "127.0.0.1:0")
        link = await Program.start("link", [find_program("loadgen"), "link", *addresses, *flags], LISTENERS, tmp_path)
        programs.append(link)
        client.connect((link.addresses["link"].host, link.addresses["link"].port))
        return Rig(link, client, server)

    yield start
    assert [await program.stop() for program in programs] == [0] * len(programs)


async def test_the_delay_is_the_one_asked_for_in_each_direction(start: Start) -> None:
    rig = await start("--delay-ms", "200")
    rig.echo()

    round_trips_s = [await asyncio.to_thread(rig.echo) for _ in range(3)]

    assert min(round_trips_s) >= 0.4
    assert min(round_trips_s) < 0.6  # not one delay more; how exact it is, virtual time tells


async def test_without_flags_a_link_is_hardly_there(start: Start) -> None:
    rig = await start()
    rig.echo()

    # The best of a hundred: it is enough that the machine has a moment for it once.
    assert min([await asyncio.to_thread(rig.echo) for _ in range(100)]) < 0.010


async def test_a_server_that_was_away_is_reached_again_once_it_is_back(start: Start) -> None:
    rig = await start()
    rig.echo()
    address = rig.server.getsockname()

    rig.server.close()
    for _ in range(5):  # answered with "port unreachable"
        rig.client.send(b"anybody?")
        rig.metrics()  # by now the link has handed it on, and the answer is there
    rig.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with rig.server:
        rig.server.bind(address)
        rig.server.settimeout(5)

        assert rig.echo() < 1


async def survivors(rig: Rig, count: int) -> list[int]:
    """Sends numbered datagrams one by one; returns the numbers that arrived."""
    for number in range(count):
        rig.client.send(number.to_bytes(4, "big"))
    forwarded = await asyncio.to_thread(rig.forwarded_of, count)
    return [int.from_bytes(rig.server.recv(100), "big") for _ in range(forwarded)]


async def test_loss_has_its_rate_and_the_same_seed_loses_the_same_datagrams(start: Start) -> None:
    one, two, other = (
        await start("--loss", "0.2"),
        await start("--loss", "0.2"),
        await start("--loss", "0.2", "--seed", "7"),
    )

    arrived = await survivors(one, 1000)

    assert 720 < len(arrived) < 880
    assert await survivors(two, 1000) == arrived
    assert await survivors(other, 1000) != arrived


async def test_segments_of_one_buffer_are_lost_one_by_one(start: Start) -> None:
    rig = await start("--loss", "0.5")
    sender = UdpSocket(socket.AF_INET)
    try:
        if not sender.sends_segments:
            pytest.skip("this kernel has no UDP_SEGMENT")
        sender.raw.connect(rig.client.getpeername())
        for _ in range(20):
            assert sender.send(bytes(10 * SEGMENT_BYTES + 7), SEGMENT_BYTES) == 10 * SEGMENT_BYTES + 7
    finally:
        sender.close()

    forwarded = await asyncio.to_thread(rig.forwarded_of, 220)
    sizes = [len(rig.server.recv(2000)) for _ in range(forwarded)]

    assert 70 < forwarded < 150
    assert set(sizes) == {SEGMENT_BYTES, 7}  # never a whole buffer in one piece


@dataclass
class Tick:
    """One datagram: the link took it between `sent_s` and `taken_s`."""

    sent_s: float
    taken_s: float
    arrived: bool


async def test_a_blackhole_begins_and_ends_when_it_should(start: Start) -> None:
    """Three of them, for a machine that comes too late for one. Bounds that hold however long anything takes."""
    hole_s = 0.6
    rig = await start(*(f"--blackhole-at={at_s}" for at_s in (1.5, 3.5, 5.5)), f"--blackhole-for={hole_s}")
    ticks: list[Tick] = []

    def tick() -> Tick:
        before = rig.to_server()
        sent_s = monotonic()
        rig.client.send(b"tick")
        end_s = sent_s + 10
        while monotonic() < end_s:
            counts = rig.to_server()
            if counts["received"] > before["received"]:
                return Tick(sent_s, monotonic(), arrived=counts["lost"] == before["lost"])
        raise AssertionError(f"the link did not take a datagram: {counts}")

    def until_a_hole_was_seen() -> tuple[Tick, list[Tick], Tick]:
        """The last tick before it, those in it, and the first one after it."""
        end_s = monotonic() + 10
        while monotonic() < end_s:
            ticks.append(tick())
            while ticks and not ticks[0].arrived:  # it began before the first tick
                ticks.pop(0)
            lost = [each for each in ticks if not each.arrived]
            if lost and ticks[-1].arrived:
                return ticks[ticks.index(lost[0]) - 1], lost, ticks[-1]
        raise AssertionError(f"no blackhole among {len(ticks)} ticks")

    before, lost, after = await asyncio.to_thread(until_a_hole_was_seen)

    assert after.taken_s - before.sent_s >= hole_s
    assert lost[-1].sent_s - lost[0].taken_s <= hole_s


async def test_a_plan_from_a_file_is_followed(start: Start, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('delay_ms = 200\n[[at]]\nfrom_s = 0\ndirection = "server_to_client"\ndelay_ms = 0\n')
    rig = await start("--plan", str(plan))
    rig.echo()

    round_trips_s = [await asyncio.to_thread(rig.echo) for _ in range(3)]

    assert min(round_trips_s) >= 0.2
    assert min(round_trips_s) < 0.4  # the way back has none


async def test_a_plan_that_cannot_be_used_is_refused_with_exit_code_2(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("loss = 2\n")
    process = await asyncio.create_subprocess_exec(
        find_program("loadgen"),
        *("link", "--upstream", "127.0.0.1:1", "--plan", str(plan)),
        stderr=asyncio.subprocess.PIPE,
    )

    _, stderr = await process.communicate()

    assert process.returncode == 2
    assert f"{plan}: loss: must be less than or equal to 1, not 2" in stderr.decode()


async def test_sighup_reads_the_plan_again_while_datagrams_pass(start: Start, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("delay_ms = 1\n")
    rig = await start("--plan", str(plan))
    rig.answer(b"clear")

    plan.write_text("delay_ms = 1\n[[at]]\nfrom_s = 0\nblackhole = true\n")
    rig.link.signal(signal.SIGHUP)
    await rig.logged("plan_reread", number=1)
    rig.client.send(b"swallowed")
    assert await asyncio.to_thread(rig.forwarded_of, 2) == 1

    plan.write_text("loss = 2\n")
    rig.link.signal(signal.SIGHUP)
    refused = await rig.logged("plan_refused")
    rig.client.send(b"swallowed too")
    assert await asyncio.to_thread(rig.forwarded_of, 3) == 1

    plan.write_text("")
    rig.link.signal(signal.SIGHUP)
    await rig.logged("plan_reread", number=2)
    rig.answer(b"clear again")

    assert refused["reason"] == f"{plan}: loss: must be less than or equal to 1, not 2"
    assert rig.metrics()["plan_reads",] == 2


async def test_sigusr1_gives_a_flow_a_new_source_port_and_the_old_one_leads_nowhere(start: Start) -> None:
    rig = await start()
    old = rig.answer(b"before")

    rig.link.signal(signal.SIGUSR1)
    await rig.logged("rebound", number=1, flows=1)
    rig.server.sendto(b"late", old)
    new = rig.answer(b"after")  # and not "late"

    assert new != old
    assert rig.answer(b"still") == new
    assert rig.metrics()["rebinds",] == 1


async def test_a_plan_rebinds_at_its_moments(start: Start, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("rebind_at_s = [0.2, 0.4]\n")
    rig = await start("--plan", str(plan))

    await rig.logged("rebound", number=2)

    assert rig.metrics()["rebinds",] == 2


async def test_a_sighup_without_a_plan_is_ignored(start: Start) -> None:
    rig = await start()
    rig.link.signal(signal.SIGHUP)

    await rig.logged("plan_not_reread", reason="there is no --plan")

    rig.answer(b"still here")


async def test_a_throttle_holds_its_rate(start: Start) -> None:
    rig = await start("--rate-mbit-s", "2")
    count = 40  # 192 ms of it: all find room in the queue
    started_s = monotonic()
    for _ in range(count):
        rig.client.send(bytes(SEGMENT_BYTES))

    assert await asyncio.to_thread(rig.forwarded_of, count) == count
    assert monotonic() - started_s >= count * SEGMENT_BYTES * 8 / 2e6

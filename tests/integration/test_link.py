"""`loadgen link` as a process: what it does to datagrams, measured from outside."""

import asyncio
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

SEGMENT_BYTES = 1200


@dataclass
class Rig:
    """A client socket, the link, and the socket that is its upstream."""

    link: Program
    client: socket.socket
    server: socket.socket

    def echo(self) -> float:
        """One datagram there and back; returns the seconds it took."""
        sent_s = monotonic()
        self.client.send(b"ping")
        data, address = self.server.recvfrom(100)
        self.server.sendto(data, address)
        assert self.client.recv(100) == b"ping"
        return monotonic() - sent_s

    def metrics(self) -> dict[tuple[str, str], float]:
        """link_datagrams_total by (direction, event)."""
        with urlopen(self.link.metrics_url) as response:
            families = text_string_to_metric_families(response.read().decode())
        return {
            (sample.labels["direction"], sample.labels["event"]): sample.value
            for family in families
            for sample in family.samples
            if sample.name == "link_datagrams_total"
        }

    def forwarded_of(self, sent: int) -> int:
        """Waits until all that the client `sent` was forwarded or lost; returns how many were forwarded."""
        end_s = monotonic() + 10
        while monotonic() < end_s:
            counts = {event: value for (way, event), value in self.metrics().items() if way == "client_to_server"}
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
        link = await Program.start("link", [find_program("loadgen"), "link", *addresses, *flags], ["link"], tmp_path)
        programs.append(link)
        client.connect((link.addresses["link"].host, link.addresses["link"].port))
        return Rig(link, client, server)

    yield start
    assert [await program.stop() for program in programs] == [0] * len(programs)


async def test_the_delay_is_the_one_asked_for_in_each_direction(start: Start) -> None:
    rig = await start("--delay-ms", "40")
    rig.echo()

    round_trips_s = [await asyncio.to_thread(rig.echo) for _ in range(10)]

    assert min(round_trips_s) >= 0.080
    assert min(round_trips_s) < 0.090  # the best of ten, so that a busy machine does not fail it


async def test_without_flags_a_link_is_hardly_there(start: Start) -> None:
    rig = await start()
    rig.echo()

    assert min([await asyncio.to_thread(rig.echo) for _ in range(10)]) < 0.010


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


async def test_a_blackhole_begins_and_ends_when_it_should(start: Start) -> None:
    rig = await start("--blackhole-at", "1.5", "--blackhole-for", "0.6")

    def longest_silence_s() -> float:
        """Ticks until a silence of more than 0.3 s has ended."""
        rig.server.settimeout(0.01)
        arrived_s, end_s = monotonic(), monotonic() + 10
        while monotonic() < end_s:
            rig.client.send(b"tick")
            try:
                rig.server.recv(100)
            except TimeoutError:
                continue
            before_s, arrived_s = arrived_s, monotonic()
            if arrived_s - before_s > 0.3:
                return arrived_s - before_s
            sleep(0.005)
        return 0.0

    assert 0.55 < await asyncio.to_thread(longest_silence_s) < 0.75


async def test_a_plan_from_a_file_is_followed(start: Start, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('delay_ms = 30\n[[at]]\nfrom_s = 0\ndirection = "server_to_client"\ndelay_ms = 0\n')
    rig = await start("--plan", str(plan))
    rig.echo()

    assert 0.030 <= min([await asyncio.to_thread(rig.echo) for _ in range(10)]) < 0.040


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

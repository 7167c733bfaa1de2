"""Datagrams as large as the network carries, seen on the wire: proxy-server in a network of its own, of a known MTU.

Rules
- A pair of virtual network cards: one end here, with proxy-client, the other in a network namespace, with proxy-server
  and http-target. Both have names and addresses of this process, and are gone with the test.
- The sender's card takes no buffers of segments (`gso_max_segs`), so that what is seen are datagrams.
- Making a network needs root on Linux, and `ip`. Without, skipped with the reason; FINBACK_REQUIRE_NETWORK=1 makes
  that a failure.
"""

import asyncio
import os
import shutil
import socket
import struct
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.pairings import PAIRINGS, Pairing

from loadgen.stacks.process import Program, find_program

REQUIRE = "FINBACK_REQUIRE_NETWORK"
SIZE_BYTES = 6_000_000
PATIENCE_S = 30.0
IP_UDP_BYTES = 28
FIXED = Pairing("quinn", "aioquic")

_ETH_P_IP = 0x0800
_SO_RCVBUFFORCE = 33
_IPV4_HEADER = struct.Struct("!2xH5xB10x")  # the packet's length, the protocol


@dataclass(frozen=True)
class Network:
    """A network of two machines: this one, and one in a namespace."""

    here: str
    card: str
    there: str
    namespace: str

    def command(self, program: str, *arguments: str) -> list[str]:
        """A command line that runs there."""
        return [_ip_program(), "netns", "exec", self.namespace, find_program(program), *arguments]


def _ip_program() -> str:
    return shutil.which("ip") or "/usr/sbin/ip"


def _ip(*arguments: str) -> None:
    subprocess.run([_ip_program(), *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def mtu(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def network(mtu: int) -> Iterator[Network]:
    unique = os.getpid()
    net = f"198.18.{unique % 250}"  # RFC 2544: for tests of networks
    made = Network(f"{net}.1", f"fb{unique}a", f"{net}.2", f"finback-{unique}")
    peer = f"fb{unique}b"
    try:
        _ip("netns", "add", made.namespace)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"no network can be made here: {getattr(error, 'stderr', '') or error}".strip()
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"{reason} ({REQUIRE}=1)", pytrace=False)
        pytest.skip(reason)
    try:
        there = ("-n", made.namespace)
        ends = (made.card, "mtu", f"{mtu}", "type", "veth", "peer", peer, "mtu", f"{mtu}", "netns", made.namespace)
        _ip("link", "add", *ends)
        _ip(*there, "link", "set", peer, "gso_max_segs", "1")
        _ip("address", "add", f"{made.here}/30", "dev", made.card)
        _ip(*there, "address", "add", f"{made.there}/30", "dev", peer)
        for arguments in (("link", "set", made.card, "up"), (*there, "link", "set", peer, "up")):
            _ip(*arguments)
        _ip(*there, "link", "set", "lo", "up")
        yield made
    finally:
        # The kernel takes its time with what is left in a namespace, and the next test makes a card of the same name.
        subprocess.run([_ip_program(), "link", "delete", made.card], check=False, capture_output=True)
        _ip("netns", "delete", made.namespace)


@dataclass
class Stack:
    """The programs, and the sizes of the datagrams that come from proxy-server, with how many there were."""

    client: Program
    target: Program
    sizes: Counter[int]

    def share_above(self, size_bytes: int) -> float:
        """Which part of the bytes came in datagrams of more."""
        weighed = {size: size * count for size, count in self.sizes.items()}
        return sum(weight for size, weight in weighed.items() if size > size_bytes) / sum(weighed.values())

    async def download(self) -> int:
        """Through the tunnel; returns how many bytes came, head included."""
        socks, target = self.client.addresses["socks"], self.target.addresses["http"]
        reader, writer = await asyncio.open_connection(socks.host, socks.port)
        try:
            writer.write(
                b"\x05\x01\x00" + b"\x05\x01\x00\x01" + socket.inet_aton(target.host) + struct.pack("!H", target.port)
            )
            assert (await reader.readexactly(12)).startswith(b"\x05\x00" + b"\x05\x00")  # no authentication; connected
            writer.write(f"GET /bytes?seed=1&size={SIZE_BYTES}&framing=close HTTP/1.1\r\nHost: target\r\n\r\n".encode())
            came_bytes = 0
            while data := await reader.read(1 << 16):
                came_bytes += len(data)
        finally:
            writer.transport.abort()
        return came_bytes


@pytest.fixture
async def stack(network: Network, pairing: Pairing, certificates: Path, tmp_path: Path) -> AsyncIterator[Stack]:
    free = f"{network.there}:0"
    metrics = ("--metrics-listen", free)
    started: list[Program] = []

    async def start(name: str, command: list[str], listeners: dict[str, str]) -> Program:
        started.append(await Program.start(name, command, listeners, tmp_path))
        return started[-1]

    try:
        target = await start(
            "http-target",
            network.command("http-target", "--listen", free, "--server-first-listen", free, *metrics),
            {"http": "--listen"},
        )
        own = ("--dev-certificate", str(certificates), "--egress-allow", "own", "--engine", pairing.server)
        server = await start(
            "proxy-server", network.command("proxy-server", "--listen", free, *metrics, *own), {"quic": "--listen"}
        )
        trust = ("--ca-file", str(certificates / "ca.pem"), "--token-file", str(certificates / "token"))
        client = await start(
            "proxy-client",
            [
                *(find_program("proxy-client"), "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"),
                *("--server", str(server.addresses["quic"]), "--server-name", "proxy-server", *trust),
                *("--engine", pairing.client),
            ],
            {"socks": "--listen"},
        )
        sizes: Counter[int] = Counter()
        with sniffer(network.card) as seen:
            asyncio.get_running_loop().add_reader(seen, note, seen, sizes)
            yield Stack(client, target, sizes)
            asyncio.get_running_loop().remove_reader(seen)
    finally:
        ends = [await program.stop() for program in reversed(started)]
    assert ends == [0] * len(started)


def sniffer(card: str) -> socket.socket:
    """What arrives at a network card: IPv4 packets."""
    seen = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
    seen.setblocking(False)
    seen.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 * SIZE_BYTES)
    seen.bind((card, _ETH_P_IP))
    return seen


def note(seen: socket.socket, sizes: Counter[int]) -> None:
    """Counts what is there, by the size of its payload."""
    try:
        while True:
            length, protocol = _IPV4_HEADER.unpack(seen.recv(_IPV4_HEADER.size))
            if protocol == socket.IPPROTO_UDP:
                sizes[length - IP_UDP_BYTES] += 1
    except BlockingIOError:
        pass


@pytest.mark.parametrize(("mtu", "large_bytes"), [(1500, 1400), (9000, 8000)], indirect=["mtu"])
@pytest.mark.parametrize("pairing", [each for each in PAIRINGS if each != FIXED], indirect=True, ids=str)
async def test_the_datagrams_grow_to_what_the_network_carries(stack: Stack, mtu: int, large_bytes: int) -> None:
    share = 0.0
    async with asyncio.timeout(PATIENCE_S):
        while share < 0.9:  # finding out takes a while, in which data flow
            stack.sizes.clear()
            assert await stack.download() > SIZE_BYTES
            share = stack.share_above(large_bytes)

    assert max(stack.sizes) <= mtu - IP_UDP_BYTES


@pytest.mark.parametrize("mtu", [9000], indirect=True)
@pytest.mark.parametrize("pairing", [FIXED], indirect=True, ids=str)
async def test_a_server_on_aioquic_takes_the_size_of_the_clients_first_datagram(stack: Stack, mtu: int) -> None:
    """Its size is fixed by the handshake, and quinn begins each connection with the smallest."""
    async with asyncio.timeout(PATIENCE_S):
        assert await stack.download() > SIZE_BYTES

    assert max(stack.sizes) == 1200

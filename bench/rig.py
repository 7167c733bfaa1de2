"""One contender, running: (link between its proxies,) target and load. Made anew for each sample.

Rules
- Server first, then the link, then the client, each on a free port of loopback; ready is whoever has carried a request.
- TLS is verified, with a certificate made for the run. The target and the load are the same for everybody.
- A contender without a client is a SOCKS server; one without either is the way without a proxy.
"""

import json
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from urllib.request import urlopen

import trustme

from bench.install import Peer
from bench.processes import LOCALHOST, Process, SampleError, free_port, wait_for_tcp
from loadgen.stacks.process import find_program

READY_TIMEOUT_S = 20.0
SERVER_NAME = "proxy.test"
SECRET = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
"""A token, a password, a user's id: it opens nothing but what runs for this sample."""


@dataclass(frozen=True)
class Pki:
    """PEM files."""

    authority: Path
    certificate: Path
    private_key: Path


def make_pki(directory: Path) -> Pki:
    """An authority and a certificate for `SERVER_NAME` and loopback."""
    made = Pki(directory / "ca.pem", directory / "certificate.pem", directory / "key.pem")
    authority = trustme.CA()
    certificate = authority.issue_cert(SERVER_NAME, LOCALHOST)
    authority.cert_pem.write_to_path(made.authority)
    certificate.private_key_pem.write_to_path(made.private_key)
    made.certificate.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    return made


@dataclass
class Place:
    """Where a contender starts its programs."""

    directory: Path
    pki: Pki
    peer: Peer
    started: list[Process]

    def start(self, program: str, *flags: str) -> Process:
        """A program of the contender's peer."""
        command = [str(self.peer.paths[program]), *flags]
        process = Process(command, self.directory / f"{program}-{len(self.started)}.log")
        self.started.append(process)
        return process

    def end(self) -> None:
        """Ends what was started, clients first."""
        for process in reversed(self.started):
            process.end()

    def write(self, name: str, settings: Mapping[str, object]) -> str:
        """A settings file as JSON; returns its path."""
        path = self.directory / name
        path.write_text(json.dumps(settings, indent=2))
        return str(path)


Starter = Callable[[Place, int], Process]
"""Starts a server that listens on a port."""
ClientStarter = Callable[[Place, int, int], Process]
"""Starts a client that listens for SOCKS5 on the first port, and whose server is at the second."""


@dataclass(frozen=True)
class Contender:
    """Who is measured. `tells` goes into the document: how it is configured, and why so."""

    name: str
    peer: str
    tells: str
    server: Starter | None = None
    client: ClientStarter | None = None
    udp: bool = True
    """Whether its proxies speak UDP to each other: only that goes through the link."""


@dataclass
class Rig:
    """A contender that is ready for load."""

    load_program: Path
    target: str
    socks: str
    proxies: Sequence[Process]
    """Server and client; the server alone; or nobody."""
    link: "Link | None"
    directory: Path

    def load(self, command: str, timeout_s: float, **flags: float) -> dict[str, float]:
        """Runs a load to its end. Raises SampleError with what went wrong."""
        arguments = self.load_command(command, **flags)
        try:
            done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as reason:
            raise SampleError(f"no end after {timeout_s:g} s") from reason
        for proxy in self.proxies:
            proxy.must_run()
        if done.returncode:
            raise SampleError((done.stderr.strip().splitlines() or ["the load failed"])[-1])
        found: dict[str, float] = json.loads(done.stdout)
        return found

    def load_command(self, command: str, **flags: float) -> list[str]:
        further = [f"--{name}={value}" for name, value in flags.items()]
        return [str(self.load_program), command, f"--target={self.target}", f"--socks={self.socks}", *further]

    @contextmanager
    def held(self, command: str, **flags: float) -> Iterator[None]:
        """A load that is there while the block runs. Raises SampleError."""
        process = Process(self.load_command(command, **flags), self.directory / "held.log", answers=True)
        try:
            process.answer()
            yield
            process.must_run()
        finally:
            process.end()

    def cpu_s(self) -> float:
        """Of the proxies, together."""
        return sum(proxy.cpu_s for proxy in self.proxies)


@dataclass
class Link:
    """`loadgen link` between the proxies."""

    process: Process
    metrics_port: int

    def segments(self) -> dict[str, float]:
        """Datagrams so far by what became of them, both directions."""
        found: dict[str, float] = {}
        with urlopen(f"http://{LOCALHOST}:{self.metrics_port}/metrics", timeout=5) as response:
            for line in response.read().decode().splitlines():
                if line.startswith("link_datagrams_total{"):
                    event = line.partition('event="')[2].partition('"')[0]
                    found[event] = found.get(event, 0.0) + float(line.rpartition(" ")[2])
        return found


@contextmanager
def running(contender: Contender, peers: Mapping[str, Peer], pki: Pki, link: Sequence[str] = ()) -> Iterator[Rig]:
    """The contender, ready; `link` are the flags of `loadgen link`, nothing for no link. Raises SampleError."""
    peer = peers[contender.peer]
    if peer.missing:
        raise SampleError(f"not available: {peer.missing}")
    with ExitStack() as exits:
        directory = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        place = Place(directory, pki, peer, [])
        exits.callback(place.end)
        load = peers["load"].paths["load"]
        target = Process([str(load), "target"], directory / "target.log", answers=True)
        exits.callback(target.end)
        address = str(target.answer()["listening"])
        socks, between = _start(contender, place, link, exits)
        rig = Rig(load, address, socks, list(reversed(place.started)), between, directory)
        _wait_until_it_carries(rig)
        yield rig


def _start(contender: Contender, place: Place, link: Sequence[str], exits: ExitStack) -> tuple[str, Link | None]:
    """(where SOCKS5 is spoken, the link)."""
    if contender.server is None:
        return "", None
    way_in = free_port(socket.SOCK_DGRAM if contender.udp else socket.SOCK_STREAM)
    server = contender.server(place, way_in)
    if not contender.udp:
        wait_for_tcp(server, way_in, READY_TIMEOUT_S)
    if contender.client is None:
        return f"{LOCALHOST}:{way_in}", None
    between = None
    if link:
        between, way_in = _start_link(place, way_in, link, exits)
    socks_port = free_port(socket.SOCK_STREAM)
    wait_for_tcp(contender.client(place, socks_port, way_in), socks_port, READY_TIMEOUT_S)
    return f"{LOCALHOST}:{socks_port}", between


def _start_link(place: Place, server_port: int, plan: Sequence[str], exits: ExitStack) -> tuple[Link, int]:
    """(the link, the port at which it listens)."""
    port, metrics_port = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
    command = [find_program("loadgen"), "link", "--upstream", f"{LOCALHOST}:{server_port}", *plan]
    flags = ["--listen", f"{LOCALHOST}:{port}", "--metrics-listen", f"{LOCALHOST}:{metrics_port}"]
    process = Process([*command, *flags], place.directory / "link.log")
    exits.callback(process.end)
    wait_for_tcp(process, metrics_port, READY_TIMEOUT_S)
    return Link(process, metrics_port), port


def _wait_until_it_carries(rig: Rig) -> None:
    end_s = monotonic() + READY_TIMEOUT_S
    while True:
        try:
            rig.load("download", 10, bytes=1000, seconds=3)
            return
        except SampleError as reason:
            if monotonic() > end_s:
                said = "; ".join(proxy.last_line() for proxy in rig.proxies)
                raise SampleError(f"carried nothing within {READY_TIMEOUT_S:g} s: {reason}; {said}") from reason
            sleep(0.1)

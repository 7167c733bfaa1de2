"""Where the time of a bulk download goes: SOCKS5 -> proxy-client -> QUIC -> proxy-server -> target, on loopback.

    python -m bench.bulk [--engine aioquic] [--megabytes 200] [--rounds 3] [--upload] [--native] [--no-profile]

Alternates, in one run, between sizes of datagram: 1,200 and 1,452 bytes are what a path with an Ethernet MTU gets,
16,384 what loopback's allows. Prints the median Mbit/s with its spread and CPU seconds a gigabyte of each proxy; then
where the time goes, by layer and by function, from a sampling profiler. Peers and other work: `python -m bench`.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, Popen

from bench.contenders.finback import LOOPBACK_BYTES, finback
from bench.install import Peer, install
from bench.rig import Rig, make_pki, running
from bench.work.bulk import BULK_TIMEOUT_S
from loadgen.stacks.process import find_program
from tunnel.engine.choice import ENGINES, choose

DATAGRAM_BYTES = (1200, 1452, LOOPBACK_BYTES)
PROFILED_BYTES = 1200
"""Where packets cost the most."""
PROFILE_S = 6

LAYERS = (
    (
        "aioquic: recovery, acknowledgements",
        ("aioquic/quic/recovery", "aioquic/quic/congestion", "aioquic/quic/rangeset"),
    ),
    ("aioquic: building packets", ("aioquic/quic/packet_builder",)),
    ("aioquic: packet protection", ("aioquic/quic/crypto", "aioquic/_crypto")),
    ("aioquic: streams", ("aioquic/quic/stream",)),
    ("aioquic: connection, the rest", ("aioquic/",)),
    ("quinn: the extension", ("quinn_engine",)),
    ("engine adapter", ("tunnel/engine",)),
    ("session", ("tunnel/session", "tunnel/wire")),
    ("UDP socket", ("tunnel/net/udp",)),
    ("TCP sockets", ("tunnel/net/tcp", "tunnel/net/poller")),
    ("relay, driver", ("tunnel/net",)),
    ("C library, kernel", ("libc", "libpthread", "ld-linux")),
)
THREADS_THAT_WAIT = ("serve_forever", "concurrent/futures")
"""Of the metrics port and of the resolver."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engine", choices=ENGINES, default="auto")
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--upload", action="store_true", help="the other way")
    parser.add_argument("--native", action="store_true", help="the profile looks into C and Rust, too")
    parser.add_argument("--profile", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    arguments.engine = choose(arguments.engine)
    peers = {name: install(name) for name in ("load", "finback")}
    print(f"engine {arguments.engine}, {arguments.megabytes} MB {'up' if arguments.upload else 'down'}\n")
    print(f"{'datagrams':<12}{'Mbit/s':>10}{'min':>10}{'max':>10}   CPU s/GB client, server")
    samples: dict[int, list[tuple[float, ...]]] = {size: [] for size in DATAGRAM_BYTES}
    for _ in range(arguments.rounds):
        for datagram_bytes, rows in samples.items():
            rows.append(transfer(peers, arguments, datagram_bytes))
    for datagram_bytes, rows in samples.items():
        speeds, client, server = zip(*rows, strict=True)
        print(f"{datagram_bytes:<12}{median(speeds):>10.0f}{min(speeds):>10.0f}{max(speeds):>10.0f}   ", end="")
        print(f"{median(client):8.1f}{median(server):8.1f}")
    if arguments.profile:
        transfer(peers, arguments, PROFILED_BYTES, profile=True)


def transfer(
    peers: dict[str, Peer], arguments: argparse.Namespace, datagram_bytes: int, *, profile: bool = False
) -> tuple[float, ...]:
    """(Mbit/s, CPU seconds a gigabyte of the client, of the server) of one transfer."""
    contender = finback(arguments.engine, datagram_bytes=datagram_bytes)
    size = arguments.megabytes * 1_000_000
    with tempfile.TemporaryDirectory() as directory, running(contender, peers, make_pki(Path(directory))) as rig:
        before = [proxy.cpu_s for proxy in rig.proxies]
        samplers = [Sampler(rig, index, arguments.native) for index in range(2)] if profile else []
        command = "upload" if arguments.upload else "download"
        moved = rig.load(command, BULK_TIMEOUT_S + 10, bytes=size, seconds=BULK_TIMEOUT_S)
        costs = ((proxy.cpu_s - was) / moved["bytes"] * 1e9 for proxy, was in zip(rig.proxies, before, strict=True))
        for name, sampler in zip(("proxy-client", "proxy-server"), samplers, strict=False):
            print(f"\n{name}, datagrams of {datagram_bytes:,} bytes: share of the samples by layer, then by function")
            print_shares(sampler.end())
        return (moved["bytes"] * 8e-6 / moved["seconds"], *costs)


class Sampler:
    """py-spy at one of the proxies, for as long as it takes at most."""

    def __init__(self, rig: Rig, index: int, native: bool) -> None:
        self._folded = rig.directory / f"{index}.folded"
        flags = ["-p", str(rig.proxies[index].pid), "-d", str(PROFILE_S), "-f", "raw", "-o", str(self._folded)]
        command = [find_program("py-spy"), "record", *flags, *(["--native"] if native else [])]
        self._process = Popen(command, stdout=DEVNULL, stderr=DEVNULL)

    def end(self) -> str:
        """What it saw: a line is a stack, outermost first, and how often."""
        self._process.wait()
        return self._folded.read_text()


def print_shares(folded: str) -> None:
    layers: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        if any(part in stack for part in THREADS_THAT_WAIT):
            continue
        leaf = stack.rpartition(";")[2]
        layer = next((name for name, parts in LAYERS if any(part in leaf for part in parts)), "event loop, the rest")
        layers[layer] += int(count)
        functions[leaf.rpartition(":")[0] or leaf] += int(count)
    total = sum(layers.values()) or 1
    for name, seen in layers.most_common():
        print(f"  {100 * seen / total:5.1f} %  {name}")
    for name, seen in functions.most_common(12):
        print(f"          {100 * seen / total:5.1f} %  {name}")


if __name__ == "__main__":
    main()

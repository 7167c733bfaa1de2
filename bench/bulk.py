"""Bulk download through the whole path: SOCKS5 -> proxy-client -> QUIC -> proxy-server -> http-target, on loopback.

    python bench/bulk.py [--megabytes 200] [--rounds 3] [--no-profile]

Alternates, in one run: without a tunnel, and through it with each size of datagram. Prints the median Mbit/s with its
spread, and CPU seconds a gigabyte of each proxy; then where the time goes, by layer, from a sampling profiler.
1,200 and 1,452 bytes are what a path with an Ethernet MTU gets; "path" is what loopback's MTU allows (16 KiB at most).
"""

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median

from loadgen.stack_api import Stack, StackSettings
from loadgen.stacks.local import local_stack

DATAGRAMS = {"1200": 1200, "1452": 1452, "path": 16384}
TIMEOUT_S = 300
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
    ("engine adapter", ("tunnel/engine",)),
    ("session", ("tunnel/session", "tunnel/wire")),
    ("UDP socket", ("tunnel/net/udp",)),
    ("TCP sockets", ("tunnel/net/tcp", "tunnel/net/poller")),
    ("relay, driver", ("tunnel/net",)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    asyncio.run(bench(arguments.megabytes * 1_000_000, arguments.rounds, arguments.profile))


async def bench(size: int, rounds: int, profile: bool) -> None:
    """Prints everything."""
    cpus = os.cpu_count()
    print(
        f"Python {platform.python_version()}, Linux {platform.release()}, {cpus} cores; {size / 1e6:.0f} MB a download"
    )
    speeds: dict[str, list[float]] = {name: [] for name in ("direct", *DATAGRAMS)}
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in DATAGRAMS}
    for _ in range(rounds):
        for name, datagram_bytes in DATAGRAMS.items():
            async with local_stack(stack_settings(datagram_bytes)) as stack:
                if name == "path":
                    speeds["direct"].append(await download(stack, size, tunnelled=False))
                before = cpu_seconds(stack)
                speeds[name].append(await download(stack, size, tunnelled=True))
                after = cpu_seconds(stack)
                costs[name].append(tuple((b - a) / size * 1e9 for a, b in zip(before, after, strict=True)))  # type: ignore[arg-type]
    print(f"\n{'datagrams':<12}{'Mbit/s':>10}{'min':>10}{'max':>10}   CPU s/GB client, server")
    for name, runs in speeds.items():
        cost = "".join(f"{median(run[side] for run in costs[name]):8.1f}" for side in (0, 1)) if name in costs else ""
        print(f"{name:<12}{median(runs):>10.0f}{min(runs):>10.0f}{max(runs):>10.0f}   {cost}")
    if profile:
        await print_profile(size)


def stack_settings(datagram_bytes: int) -> StackSettings:
    flag = ("--max-datagram-bytes", str(datagram_bytes))
    return StackSettings(arguments={"proxy-client": flag, "proxy-server": flag})


async def download(stack: Stack, size: int, *, tunnelled: bool) -> float:
    """Mbit/s of one download by curl."""
    url = f"http://{stack.target}/bytes?seed=1&size={size}&framing=length"
    proxy = ["-x", f"socks5h://{stack.proxy}"] if tunnelled else []
    command = ["curl", "-sS", "-o", "/dev/null", "-m", str(TIMEOUT_S), "-w", "%{speed_download} %{size_download}"]
    curl = await asyncio.create_subprocess_exec(*command, *proxy, url, stdout=subprocess.PIPE)
    output, _ = await curl.communicate()
    speed, got = output.split()
    if curl.returncode or int(got) != size:
        sys.exit(f"the download failed: curl ended with {curl.returncode} after {got.decode()} bytes")
    return float(speed) * 8 / 1e6


def cpu_seconds(stack: Stack) -> list[float]:
    """Of proxy-client and proxy-server, user and system together."""
    used = []
    for name in ("proxy-client", "proxy-server"):
        fields = Path(f"/proc/{stack.pids[name]}/stat").read_text().rpartition(")")[2].split()
        used.append((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
    return used


async def print_profile(size: int) -> None:
    """Samples both proxies during a download with datagrams of 1,200 bytes, where packets cost the most."""
    async with local_stack(stack_settings(1200)) as stack:
        downloading = asyncio.ensure_future(download(stack, size, tunnelled=True))
        for name in ("proxy-client", "proxy-server"):
            with tempfile.NamedTemporaryFile(suffix=".folded") as folded:
                sampler = await asyncio.create_subprocess_exec(
                    str(Path(sys.executable).parent / "py-spy"),
                    *("record", "-p", str(stack.pids[name]), "-d", str(PROFILE_S), "-f", "raw", "-o", folded.name),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                await sampler.wait()
                print(f"\n{name}, datagrams of 1,200 bytes: share of the samples by layer, then by function")
                print_shares(Path(folded.name).read_text())  # noqa: ASYNC240 -- it is a small local file.
        await downloading


def print_shares(folded: str) -> None:
    """A line of `folded` is a stack, outermost first, and how often it was seen."""
    layers: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        if "serve_forever" in stack or "concurrent/futures" in stack:
            continue  # Threads of the metrics port and of the resolver, which wait.
        leaf = stack.rpartition(";")[2]
        layer = next((name for name, parts in LAYERS if any(part in leaf for part in parts)), "event loop, the rest")
        layers[layer] += int(count)
        functions[leaf.rpartition(":")[0] or leaf] += int(count)
    total = sum(layers.values()) or 1
    for name, count in layers.most_common():
        print(f"  {100 * count / total:5.1f} %  {name}")
    for name, count in functions.most_common(8):
        print(f"          {100 * count / total:5.1f} %  {name}")


if __name__ == "__main__":
    main()

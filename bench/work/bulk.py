"""Bulk: one transfer, eight at once, and one over a path with delay, loss or a narrow place."""

from pathlib import Path
from time import monotonic

from bench.processes import SampleError
from bench.rig import Rig
from bench.work.sizes import Figures, Sizes

AT_ONCE = 8
BULK_TIMEOUT_S = 120.0
"""A transfer that is not whole by then counts with what arrived."""
GRACE_S = 15.0


def download(rig: Rig, sizes: Sizes) -> Figures:
    return _bulk(rig, "download", sizes.bulk_bytes, 1)


def upload(rig: Rig, sizes: Sizes) -> Figures:
    return _bulk(rig, "upload", sizes.bulk_bytes, 1)


def download_8(rig: Rig, sizes: Sizes) -> Figures:
    """All of them together are as much as the one of `download`."""
    return _bulk(rig, "download", sizes.bulk_bytes // AT_ONCE, AT_ONCE)


def _bulk(rig: Rig, command: str, size: int, streams: int) -> Figures:
    rig.load(command, GRACE_S, bytes=sizes_warm_up(size), seconds=GRACE_S)
    before_s = rig.cpu_s()
    moved = rig.load(command, BULK_TIMEOUT_S + GRACE_S, bytes=size, streams=streams, seconds=BULK_TIMEOUT_S)
    figures = {"mbit_per_s": _mbit_per_s(moved)}
    if rig.proxies:
        figures["cpu_s_per_gb"] = (rig.cpu_s() - before_s) / moved["bytes"] * 1e9
    return figures


def sizes_warm_up(size: int) -> int:
    """What is moved before: windows have grown then, as in any connection that is not new."""
    return min(size // 10, 5_000_000)


def path_download(rig: Rig, sizes: Sizes) -> Figures:
    """From a cold connection, cut off after a time: what arrived until then counts."""
    if rig.link is None:
        raise SampleError("there is no link on the way")
    before, before_s, link_before_s = rig.link.segments(), monotonic(), rig.link.process.cpu_s
    full_before = full_sockets()
    moved = rig.load("download", sizes.path_s + GRACE_S, bytes=sizes.bulk_bytes, seconds=sizes.path_s)
    took_s, after = monotonic() - before_s, rig.link.segments()
    received = after["received"] - before["received"]
    return {
        "mbit_per_s": _mbit_per_s(moved),
        "dropped_percent": 100 * (after["dropped"] - before["dropped"]) / max(received, 1),
        "link_core_percent": 100 * (rig.link.process.cpu_s - link_before_s) / took_s,
        "full_sockets": full_sockets() - full_before,
    }


def full_sockets() -> int:
    """Buffers of datagrams that the kernel threw away because a receiver's socket was full, in this namespace."""
    names, figures = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Udp:")
    )
    return int(figures[names.index("RcvbufErrors")])


def _mbit_per_s(moved: Figures) -> float:
    if not moved["bytes"]:
        raise SampleError("nothing arrived")
    return moved["bytes"] * 8e-6 / moved["seconds"]

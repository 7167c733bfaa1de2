"""What is done: one table of works, in the order in which they run."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.rig import Rig
from bench.work.bulk import download, download_8, path_download, upload
from bench.work.latency import keep_alive, new_connections
from bench.work.memory import idle, idle_connections, slow_reader
from bench.work.sizes import Figures, Sizes

LOOPBACK = (
    *("finback-quinn", "finback-aioquic", "v2ray-quic", "tuic", "hysteria2"),
    *("shadowsocks", "microsocks", "direct"),
)
FURTHER = ("finback-quinn-bbr", "tuic-bbr", "finback-quinn-jumbo", "finback-aioquic-jumbo")
"""Of the plain download only: the other congestion control, and datagrams as large as loopback's MTU allows."""
SHORT = (*LOOPBACK, "v2ray-quic-no-linger")
"""Of what ends often: V2Ray also without its wait at the end of each connection."""
PROXIES = LOOPBACK[:-1]
PATH = (
    *("finback-quinn", "finback-quinn-bbr", "finback-quinn-reno", "finback-aioquic", "v2ray-quic"),
    *("tuic", "tuic-bbr", "hysteria2"),
)
BOTTLENECK = tuple(name for name in PATH if name != "finback-quinn-reno")


@dataclass(frozen=True)
class Work:
    """One kind of work, and whom it is given to. `link`: flags of `loadgen link`; none where there is no link."""

    name: str
    contenders: tuple[str, ...]
    measure: Callable[[Rig, Sizes], Figures]
    link: tuple[str, ...] = ()
    rounds_max: int = 100
    """Where little varies: memory is not faster on a quiet machine."""


def path(rtt_ms: float, loss_percent: float) -> Work:
    """The download over a path with delay and loss, each direction alike."""
    flags = ("--delay-ms", f"{rtt_ms / 2:g}", "--loss", f"{loss_percent / 100:g}")
    return Work(f"download-rtt{rtt_ms:g}-loss{loss_percent:g}", PATH, path_download, flags)


def bottleneck(mbit_per_s: float, rtt_ms: float, queue_ms: float) -> Work:
    """The download through a narrow place with a queue of so many milliseconds in front of it."""
    flags = ("--delay-ms", f"{rtt_ms / 2:g}", "--rate-mbit-s", f"{mbit_per_s:g}", "--queue-ms", f"{queue_ms:g}")
    return Work(f"download-rtt{rtt_ms:g}-{mbit_per_s:g}mbit-queue{queue_ms:g}", BOTTLENECK, path_download, flags)


WORK: dict[str, Work] = {
    work.name: work
    for work in (
        Work("download", (*LOOPBACK, *FURTHER), download),
        Work("upload", LOOPBACK, upload),
        Work("download-8", LOOPBACK, download_8),
        Work("new-connections-16", SHORT, new_connections(16)),
        Work("new-connections-64", SHORT, new_connections(64)),
        Work("keep-alive", LOOPBACK, keep_alive),
        *(path(rtt_ms, loss_percent) for rtt_ms in (20, 100) for loss_percent in (0, 0.1, 1)),
        bottleneck(100, 20, 5),
        bottleneck(100, 20, 20),
        Work("memory-idle", PROXIES, idle, rounds_max=1),
        Work("memory-1000-idle", PROXIES, idle_connections, rounds_max=1),
        Work("memory-slow-reader", PROXIES, slow_reader, rounds_max=1),
    )
}

"""A slow reader, and a target that does not read: neither proxy grows by more than 8 MB in 20 s."""

import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from serving import Serving, report, serve

RECEIVE_BUFFER_BYTES = 65536
SECONDS = 20.0
RATE_BYTES_PER_S = 200_000
GROWTH_BYTES_MAX = 8 * 1024 * 1024
PROGRAMS = ("proxy-client", "proxy-server")
Load = Callable[[Serving, threading.Event], int]
"""Moves bytes until the event is set; returns how many."""


def main() -> None:
    with serve() as serving:
        warm_up(serving)
        grown, read = growth_during(serving, slow_download)
        slow = 0.8 * SECONDS * RATE_BYTES_PER_S <= read <= 1.1 * SECONDS * RATE_BYTES_PER_S
        figure = f"{read / 1e6:.1f} MB read; {text(grown)}"
        report("500 MB read at 200 kB/s for 20 s", figure, slow and max(grown.values()) <= GROWTH_BYTES_MAX)
        grown, sent = growth_during(serving, unread_upload)
        figure = f"{sent / 1e6:.1f} MB taken; {text(grown)}"
        held = 0 < sent < 100_000_000
        report("500 MB sent to a target that does not read", figure, held and max(grown.values()) <= GROWTH_BYTES_MAX)


def warm_up(serving: Serving) -> None:
    """What Python and the libraries take once is no growth."""
    url = serving.url("/bytes?seed=1&size=20000000&framing=length")
    subprocess.run(serving.curl("-o", "/dev/null", url), check=True)


def growth_during(serving: Serving, load: Load) -> tuple[dict[str, int], int]:
    """The highest resident memory of each proxy while `load` runs, above what it was before; and the bytes moved."""
    before = {name: serving.memory_bytes(name) for name in PROGRAMS}
    highest = dict(before)
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, serving, over)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and not loading.done():
            over.wait(0.1)
            highest = {name: max(highest[name], serving.memory_bytes(name)) for name in PROGRAMS}
        over.set()
        moved = loading.result()
    return {name: highest[name] - before[name] for name in PROGRAMS}, moved


def slow_download(serving: Serving, over: threading.Event) -> int:
    moved = 0
    with serving.open_tunnel(RECEIVE_BUFFER_BYTES) as connection:
        connection.sendall(b"GET /bytes?seed=1&size=500000000&framing=length HTTP/1.1\r\nHost: x\r\n\r\n")
        while not over.is_set():
            data = connection.recv(RATE_BYTES_PER_S // 10)
            assert data, "the download ended"
            moved += len(data)
            over.wait(0.1)
    return moved


def unread_upload(serving: Serving, over: threading.Event) -> int:
    moved = 0
    with serving.open_tunnel(RECEIVE_BUFFER_BYTES) as connection:
        connection.sendall(b"POST /never-reads HTTP/1.1\r\nHost: x\r\nContent-Length: 500000000\r\n\r\n")
        connection.settimeout(0.2)
        while not over.is_set():
            try:
                moved += connection.send(bytes(65536))
            except TimeoutError:
                continue
    return moved


def text(grown: dict[str, int]) -> str:
    return ", ".join(f"{name} grew by {count / 1e6:.1f} MB" for name, count in grown.items())


if __name__ == "__main__":
    main()

"""A slow reader, and a target that does not read: neither proxy grows by more than 8 MB in 20 s."""

import socket
import subprocess
import threading
import time

from serving import Serving, report, serve

SECONDS = 20.0
RATE_BYTES_PER_S = 200_000
GROWTH_BYTES_MAX = 8 * 1024 * 1024
PROGRAMS = ("proxy-client", "proxy-server")


def main() -> None:
    with serve() as serving:
        warm_up(serving)
        grown = growth_during(serving, slow_download)
        report("500 MB read at 200 kB/s for 20 s", text(grown), max(grown.values()) <= GROWTH_BYTES_MAX)
        grown = growth_during(serving, unread_upload)
        report("500 MB sent to a target that does not read", text(grown), max(grown.values()) <= GROWTH_BYTES_MAX)


def warm_up(serving: Serving) -> None:
    """What Python and the libraries take once is no growth."""
    url = serving.url("/bytes?seed=1&size=20000000&framing=length")
    subprocess.run(serving.curl("-o", "/dev/null", url), check=True)


def growth_during(serving: Serving, load: "callable[[Serving, threading.Event], None]") -> dict[str, int]:  # type: ignore[valid-type]
    """The highest resident memory of each proxy while `load` runs, above what it was before."""
    before = {name: serving.memory_bytes(name) for name in PROGRAMS}
    highest = dict(before)
    over = threading.Event()
    loading = threading.Thread(target=load, args=(serving, over))
    loading.start()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        over.wait(0.1)
        highest = {name: max(highest[name], serving.memory_bytes(name)) for name in PROGRAMS}
    over.set()
    loading.join()
    return {name: highest[name] - before[name] for name in PROGRAMS}


def slow_download(serving: Serving, over: threading.Event) -> None:
    with open_tunnel(serving) as connection:
        connection.sendall(b"GET /bytes?seed=1&size=500000000&framing=length HTTP/1.1\r\nHost: x\r\n\r\n")
        while not over.is_set():
            connection.recv(RATE_BYTES_PER_S // 10)
            over.wait(0.1)


def unread_upload(serving: Serving, over: threading.Event) -> None:
    with open_tunnel(serving) as connection:
        connection.sendall(b"POST /never-reads HTTP/1.1\r\nHost: x\r\nContent-Length: 500000000\r\n\r\n")
        connection.settimeout(0.2)
        while not over.is_set():
            try:
                connection.send(bytes(65536))
            except TimeoutError:
                continue


def open_tunnel(serving: Serving) -> socket.socket:
    """A connection to http-target through SOCKS5; its receive buffer small, so that the proxies have to hold back."""
    host, port = serving.proxy.rsplit(":", 1)
    target_host, target_port = serving.target.rsplit(":", 1)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.settimeout(20)
    connection.connect((host, int(port)))
    request = b"\x05\x01\x00\x01" + socket.inet_aton(target_host) + int(target_port).to_bytes(2, "big")
    connection.sendall(b"\x05\x01\x00" + request)
    answer = b""
    while len(answer) < 12:
        answer += connection.recv(12 - len(answer))
    assert answer[3] == 0, f"SOCKS reply {answer[3]}"
    return connection


def text(grown: dict[str, int]) -> str:
    return ", ".join(f"{name} grew by {count / 1e6:.1f} MB" for name, count in grown.items())


if __name__ == "__main__":
    main()

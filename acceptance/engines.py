"""Every pairing of engines passes a soak; a client with quinn hears of a restarted server with its next packet."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from itertools import product
from pathlib import Path

from kill import command_line
from serving import BIN, ROOT, Serving, report, serve

ENGINES = ("aioquic", "quinn")
SECONDS = 30
HEARD_S = 1.0


def main() -> None:
    for client, server in product(ENGINES, ENGINES):
        soak(client, server, SECONDS)
    with serve("--engine", "quinn") as serving:
        hears_of_the_restart(serving)


def soak(client: str, server: str, seconds: int, *further: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        flags = ["--stack", "local", "--duration", f"{seconds}s", "--engine", f"client={client},server={server}"]
        command = [BIN / "loadgen", "soak", *flags, *further, "--report", directory, "--metrics-listen", "127.0.0.1:0"]
        code = subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode
        verdict = json.loads((Path(directory) / "verdict.json").read_text())
    used = verdict["run"]["engine"]
    report(
        f"soak, client {client}, server {server}",
        f"verdict {verdict['verdict']}, {verdict['outcomes']}",
        (code, verdict["verdict"]) == (0, "pass") and used == {"client": client, "server": server},
    )


def hears_of_the_restart(serving: Serving) -> None:
    """The connection is at rest while the server is killed and started again; then the application sends."""
    command = command_line(serving)
    with closing(kept_alive(serving)) as sock:
        os.kill(serving.pids["proxy-server"], signal.SIGKILL)
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            wait_until_ready(server)
            assert lost(serving) == 0, "something was lost before the next packet"
            sent_at = time.monotonic()
            sock.sendall(b"x")
            heard_s = until_reset(sock) - sent_at
        finally:
            server.terminate()
            server.wait(30)
        assert lost(serving) == 1, "it ended in another way than by the server's word"
    report("a restarted server, after the next packet", f"{heard_s * 1000:.0f} ms", heard_s <= HEARD_S)


def wait_until_ready(server: "subprocess.Popen[str]") -> None:
    """By its own word."""
    assert server.stderr is not None
    for line in server.stderr:
        if json.loads(line)["event"] == "ready":
            return
    raise AssertionError("the server does not come back")


def lost(serving: Serving) -> float:
    """Connections that ended because the peer restarted."""
    return serving.metric("proxy-client", 'tunnel_connections_total{cause="peer_restarted"')


def kept_alive(serving: Serving) -> socket.socket:
    """A connection through the tunnel on which one request was answered."""
    sock = serving.open_tunnel()
    sock.sendall(b"GET /bytes?seed=1&size=1&framing=length HTTP/1.1\r\nHost: target\r\n\r\n")
    received = b""
    while b"\r\n\r\n" not in received[:-1]:
        received += sock.recv(4096)
    return sock


def until_reset(sock: socket.socket) -> float:
    """When the application sees it."""
    try:
        while sock.recv(4096):
            pass
    except ConnectionResetError:
        return time.monotonic()
    raise AssertionError("an end in place of a reset")


if __name__ == "__main__":
    main()

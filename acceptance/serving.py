"""`make serve` for the acceptance scripts: the local stack in the background, on free ports, ended at the end."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
BIN = ROOT / ".venv" / "bin"
START_S = 60.0


@dataclass
class Serving:
    """What `make serve` printed: addresses, process ids and metrics URLs by program."""

    proxy: str
    target: str
    server_first: str
    pids: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)

    def url(self, path: str, host: str | None = None) -> str:
        """Of http-target; `host` in place of the address that it printed."""
        address = self.target if host is None else f"{host}:{self.target.rpartition(':')[2]}"
        return f"http://{address}{path}"

    def curl(self, *arguments: str) -> list[str]:
        """A curl command through the tunnel."""
        return ["curl", "-sS", "-x", f"socks5h://{self.proxy}", *arguments]

    def open_tunnel(self, receive_buffer_bytes: int | None = None) -> socket.socket:
        """A connection to http-target through SOCKS5. With a small receive buffer the proxies have to hold back."""
        host, port = self.proxy.rsplit(":", 1)
        target_host, target_port = self.target.rsplit(":", 1)
        connection = socket.socket()
        if receive_buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        connection.settimeout(20)
        connection.connect((host, int(port)))
        request = b"\x05\x01\x00\x01" + socket.inet_aton(target_host) + int(target_port).to_bytes(2, "big")
        connection.sendall(b"\x05\x01\x00" + request)
        answer = b""
        while len(answer) < 12:
            answer += connection.recv(12 - len(answer))
        assert answer[3] == 0, f"SOCKS reply {answer[3]}"
        return connection

    def memory_bytes(self, program: str) -> int:
        """Resident memory of a program."""
        status = Path(f"/proc/{self.pids[program]}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]

    def udp_port(self, program: str) -> int:
        """The port that a program got instead of port 0."""
        links = (os.readlink(entry) for entry in Path(f"/proc/{self.pids[program]}/fd").iterdir())
        sockets = {link[8:-1] for link in links if link.startswith("socket:")}
        lines = map(str.split, Path("/proc/net/udp").read_text().splitlines()[1:])
        return next(int(line[1].rpartition(":")[2], 16) for line in lines if line[9] in sockets)

    def metric(self, program: str, name: str) -> float:
        """The sum of a metric's series whose name and labels start with `name`. KeyError for a metric that is none."""
        with urllib.request.urlopen(self.metrics[program], timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        if not any(line.startswith(name.partition("{")[0]) for line in lines):
            raise KeyError(f"{program} has no metric {name}")
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@contextmanager
def serve(*flags: str) -> Iterator[Serving]:
    """Runs the stack as `make serve` does, with `flags`; yields once it is ready."""
    command = ["make", "--no-print-directory", "serve", f"ARGUMENTS=--socks-port 0 --target-port 0 {' '.join(flags)}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield _read(process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)  # The group that Popen made: make, and loadgen under it.
            process.wait(60)


def _read(process: "subprocess.Popen[str]") -> Serving:
    assert process.stdout is not None
    serving = Serving("", "", "")
    deadline = time.monotonic() + START_S
    for line in process.stdout:
        name, _, value = line.strip().partition("  ")
        value = value.strip()
        if name == "SOCKS5":
            serving.proxy = value
        elif name == "http-target":
            serving.target = value.removeprefix("http://")
        elif name == "server first":
            serving.server_first = value
        elif program := re.fullmatch(r"(\S+) \(pid (\d+)\)", name):
            serving.pids[program[1]] = int(program[2])
            serving.metrics[program[1]] = value
        elif name == "try":
            return serving
        if time.monotonic() > deadline:
            break
    sys.exit("the stack did not start")


def report(name: str, figure: object, holds: bool) -> None:
    """One line a promise; leaves with 1 where it does not hold."""
    print(f"{'ok  ' if holds else 'FAIL'} {name}: {figure}", flush=True)
    if not holds:
        sys.exit(1)

"""SOCKS5 servers that no one here wrote, and http-target behind them: processes on loopback, ended at the end.

Rules
- Neither microsocks nor dante can be given port 0: a free port is found by binding one. Ready means: it accepts.
- A process is ended by its own id, and with it the ones that it has made (dante has several). The id is its own until
  its end is collected, so that comes last.
- A process gets a SIGTERM when the one that started it dies.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadgen.stacks.process import ending_with_us

START_S = 20.0
STOP_S = 15.0

_DANTE = """\
logoutput: {directory}/danted.log
internal: 127.0.0.1 port = {port}
external: lo
clientmethod: none
socksmethod: none
client pass {{ from: 127.0.0.0/8 to: 127.0.0.0/8 }}
socks pass {{ from: 127.0.0.0/8 to: 127.0.0.0/8 }}
"""


@dataclass(frozen=True)
class Target:
    """http-target: where it listens, each HOST:PORT."""

    http: str
    first: str

    def flags(self, proxy: str) -> list[str]:
        """`loadgen soak` through `proxy` to here."""
        where = [f"--proxy=socks5://{proxy}", f"--target=http://{self.http}", f"--server-first={self.first}"]
        return ["--stack=external", *where, "--metrics-listen=127.0.0.1:0"]


@contextmanager
def http_target(directory: Path) -> Iterator[Target]:
    """A running http-target, on free ports. Its log is in `directory`."""
    anywhere = [f"--{name}=127.0.0.1:0" for name in ("listen", "server-first-listen", "metrics-listen")]
    command = [str(Path(sys.executable).parent / "http-target"), *anywhere]
    log = directory / "http-target.log"
    with _running(command, log, lambda: '"ready"' in log.read_text()):
        events = map(json.loads, log.read_text().splitlines())
        listens = {event["listener"]: event["address"] for event in events if event["event"] == "listening"}
        yield Target(listens["http"], listens["server_first"])


@contextmanager
def microsocks(directory: Path) -> Iterator[str]:
    """A running microsocks: HOST:PORT. Its log is in `directory`."""
    port = _free_port()
    command = ["microsocks", "-i", "127.0.0.1", "-p", str(port)]
    with _running(command, directory / "microsocks.log", lambda: _accepts(port)):
        yield f"127.0.0.1:{port}"


@contextmanager
def dante(directory: Path) -> Iterator[str]:
    """A running dante: HOST:PORT. Its configuration and log are in `directory`."""
    port = _free_port()
    configuration = directory / "danted.conf"
    configuration.write_text(_DANTE.format(directory=directory, port=port))
    command = ["danted", "-f", str(configuration), "-p", str(directory / "danted.pid")]
    with _running(command, directory / "danted.out", lambda: _accepts(port)):
        yield f"127.0.0.1:{port}"


PROXIES: dict[str, Callable[[Path], AbstractContextManager[str]]] = {"microsocks": microsocks, "danted": dante}
"""By the name of the command."""


def find(command: str) -> str | None:
    """The path of a command; Debian has servers where a user's PATH does not look."""
    return shutil.which(command) or shutil.which(command, path="/usr/sbin:/usr/local/sbin")


def must_be_installed(command: str) -> None:
    """Ends the script, with what would help, where it is not."""
    if find(command) is None:
        sys.exit(f"{command} is not installed; on Debian: apt-get install microsocks dante-server")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


@contextmanager
def _running(command: Sequence[str], log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    program = find(command[0])
    if program is None:
        raise FileNotFoundError(f"{command[0]} is not installed")
    whole = ending_with_us([program, *command[1:]])
    with log.open("wb") as output:
        process = subprocess.Popen(whole, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + START_S
        while not ready():
            if _has_ended(process) or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.02)
        yield
    finally:
        _end(process)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to the session that it was started as, and SIGKILL to what is left of it."""
    os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while not _has_ended(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_S)


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Looks without collecting: its id, and its session's, is nobody else's yet."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

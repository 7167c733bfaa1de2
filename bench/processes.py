"""Programs as processes, and what the kernel says about each: processor time and memory. Ended by pid, always.

Rules
- A program ends with us, however we end.
- What a program says goes to a file; its last line is the reason where something fails.
- A free port is one that was free a moment ago: whoever takes it in between makes one sample fail, not a run.
"""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep

from bench.install import without_addresses
from loadgen.stacks.process import ending_with_us

LOCALHOST = "127.0.0.1"
END_TIMEOUT_S = 5.0
_SETTINGS_OF_OURS = ("PROXY_CLIENT_", "PROXY_SERVER_", "LOADGEN_")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class SampleError(Exception):
    """A sample cannot be taken; the message is the reason that stands in the results."""


class Process:
    """A running program."""

    def __init__(self, command: Sequence[str], log: Path, *, answers: bool = False) -> None:
        """`answers`: its output is read with `answer`, and its input is open until `end`."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS_OF_OURS)}
        self.log = log
        self._program = Path(command[0]).name
        with log.open("w") as file:
            self._process = subprocess.Popen(
                ending_with_us(command),
                stdin=subprocess.PIPE if answers else subprocess.DEVNULL,
                stdout=subprocess.PIPE if answers else file,
                stderr=file,
                env=environment,
                text=True,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    @property
    def cpu_s(self) -> float:
        """User and system time so far."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss_bytes(self) -> int:
        """Resident memory."""
        found = re.search(r"VmRSS:\s+(\d+) kB", self._proc("status"))
        return int(found[1]) * 1024 if found else 0

    def _proc(self, name: str) -> str:
        self.must_run()
        return Path(f"/proc/{self.pid}/{name}").read_text()

    def must_run(self) -> None:
        """Raises SampleError with what it said last."""
        if not self.runs:
            raise SampleError(f"{self._program} ended with {self._process.returncode}: {self.last_line()}")

    def answer(self) -> Mapping[str, float | str]:
        """The next line of JSON that it prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(END_TIMEOUT_S)
            self.must_run()
        answer: Mapping[str, float | str] = json.loads(line)
        return answer

    def last_line(self) -> str:
        """Of its log, without what is only there for a terminal; a line of JSON as its words."""
        lines = _ESCAPES.sub("", self.log.read_text(errors="replace")).strip().splitlines()
        if not lines:
            return "it said nothing"
        return without_addresses(_words(lines[-1]))[:200]

    def end(self) -> None:
        """SIGTERM, a while, SIGKILL."""
        if self._process.stdin:
            self._process.stdin.close()
        if self.runs:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


def _words(line: str) -> str:
    """Of a line of a log, which may be JSON."""
    try:
        said = json.loads(line)
    except ValueError:
        return line
    told = said if isinstance(said, dict) else {}
    return " ".join(str(told[name]) for name in ("event", "error", "reason", "message") if name in told) or line


def free_port(kind: socket.SocketKind) -> int:
    """A port of loopback that nobody has."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((LOCALHOST, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_tcp(process: Process, port: int, timeout_s: float) -> None:
    """Until somebody listens there. Raises SampleError."""
    end_s = monotonic() + timeout_s
    while monotonic() < end_s:
        process.must_run()
        with socket.socket() as probe:
            if probe.connect_ex((LOCALHOST, port)) == 0:
                return
        sleep(0.02)
    raise SampleError(f"nothing listened within {timeout_s:g} s; {process.last_line()}")

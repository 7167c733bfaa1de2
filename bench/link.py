"""What `loadgen link` carries: datagrams at a rising rate, through a link with delay and loss, into a sink.

    python bench/link.py [--delay-ms 10] [--loss 0 0.001 0.01] [--work gso-1452 single-1200 ...] [--seconds 0.7]

Rules
- Open loop: the sender keeps its rate whatever becomes of the datagrams. The rate rises by 0.4 of it until the link
  loses more than `OVERFLOW_MAX` on top of its plan in each of `TRIES` (somebody else may have had the processor), or
  until the sender cannot offer more. The table shows the best rate before that, and whose limit it was.
- `gso-N` sends buffers of equal segments of N bytes, as quinn and quic-go do (UDP_SEGMENT); `single-N` datagrams of N
  bytes, many a system call (sendmmsg), as fast as the kernel takes them.
- Overflow is what the sockets or the link's queue had no room for; what the plan loses is not part of it. What the sink
  had no room for is the bench's fault, and shown.
- CPU is that of the link's process, user and system; "waited" is for which part of the time it was ready to run and
  somebody else had the processor. Where that is much, the limit is the machine's. "A core" is what a whole one carries
  at that cost, and hardly depends on who else is there.
"""

import argparse
import ctypes
import multiprocessing
import os
import platform
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic, sleep
from urllib.request import urlopen

from loadgen.link.udp import UdpSocket

WORK = ("gso-1200", "gso-1452", "gso-9000", "gso-16384", "single-1200", "single-1452")
RATES_MBIT_S = tuple(round(250 * 1.4**step) for step in range(12))  # 250 to 10,000
TRIES = 3
OFFERED_MIN = 0.9
WAITED_MAX = 0.1
OVERFLOW_MAX = 0.001
SINGLES_A_CALL = 32
PAUSE_S = 0.000_1
SETTLE_S = 0.1


@dataclass(frozen=True)
class Step:
    """One rate, one run of a few tenths of a second."""

    seconds: float
    sent: int
    received: int
    lost: int
    dropped: int
    forwarded: int
    arrived: int
    arrived_bytes: int
    sent_bytes: int
    cpu_s: float
    waited_s: float

    @property
    def overflow(self) -> float:
        return 1 - (self.received - self.dropped) / self.sent

    @property
    def kept_up(self) -> bool:
        return self.overflow <= OVERFLOW_MAX

    @property
    def link_waited(self) -> bool:
        return self.waited_s > WAITED_MAX * self.seconds

    @property
    def core_mbit_s(self) -> float:
        """What the link would carry with a core of its own."""
        return self.received / self.sent * self.sent_bytes * 8e-6 / self.cpu_s if self.cpu_s else 0.0

    @property
    def offered_mbit_s(self) -> float:
        return self.sent_bytes * 8e-6 / self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--delay-ms", type=float, default=10)
    parser.add_argument("--loss", type=float, nargs="+", default=[0, 0.001, 0.01])
    parser.add_argument("--work", nargs="+", default=WORK, metavar="KIND-BYTES")
    parser.add_argument("--seconds", type=float, default=0.7)
    arguments = parser.parse_args()
    print(f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores;", end=" ")
    print(f"{arguments.delay_ms:g} ms one way; overflow up to {100 * OVERFLOW_MAX:g} %\n")
    print(f"{'work':<12}{'loss':>7}{'Mbit/s':>9}{'arrived':>9}{'per s':>9}{'overflow':>10}{'plan':>8}", end="")
    print(f"{'sink':>8}{'CPU s/GB':>10}{'core':>6}{'waited':>8}{'a core':>8}  limit")
    for work in arguments.work:
        kind, _, size = work.partition("-")
        for loss in arguments.loss:
            show(work, loss, *best(kind == "gso", int(size), loss, arguments.delay_ms, arguments.seconds))


def show(work: str, loss: float, step: Step, limit: str = "") -> None:
    print(
        f"{work:<12}{loss:>7.1%}{step.offered_mbit_s:>9.0f}"
        f"{step.arrived_bytes * 8e-6 / step.seconds:>9.0f}{step.arrived / step.seconds:>9.0f}{step.overflow:>10.3%}"
        f"{step.lost / max(step.received, 1):>8.2%}{1 - step.arrived / max(step.forwarded, 1):>8.2%}"
        f"{step.cpu_s / step.sent_bytes * 1e9:>10.2f}{step.cpu_s / step.seconds:>6.0%}"
        f"{step.waited_s / step.seconds:>8.0%}{step.core_mbit_s:>8.0f}  {limit}",
        flush=True,
    )


def best(gso: bool, size: int, loss: float, delay_ms: float, seconds: float) -> tuple[Step, str]:
    """The fastest step that the link kept up with (the slowest of all where there is none), and whose limit that is."""
    with Rig(loss, delay_ms) as rig:
        rig.run(gso, size, RATES_MBIT_S[0], 0.1)  # whatever is done once
        kept: Step | None = None
        for rate_mbit_s in RATES_MBIT_S:
            limit = "link"
            for _ in range(TRIES):
                step = rig.run(gso, size, rate_mbit_s, seconds)
                offered = step.offered_mbit_s >= OFFERED_MIN * rate_mbit_s
                if step.kept_up and (kept is None or step.offered_mbit_s > kept.offered_mbit_s):
                    kept = step
                if step.kept_up and offered:
                    break
                limit = "sender" if not offered else "machine" if step.link_waited else limit
            else:
                return kept or step, limit
        assert kept is not None
        return kept, "sender"


class Rig:
    """A link as a process, a sender in this one, a sink in a third."""

    def __init__(self, loss: float, delay_ms: float) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        self._sink = multiprocessing.Process(target=sink, args=(theirs,), daemon=True)
        self._sink.start()
        upstream = self._ours.recv()
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- closed when the link has ended
        self._link = subprocess.Popen(
            [
                *(sys.executable, "-m", "loadgen", "link", "--upstream", f"127.0.0.1:{upstream}"),
                *("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log-format", "text"),
                *("--loss", f"{loss}", "--delay-ms", f"{delay_ms}"),
            ],
            stdout=self._log,
            stderr=self._log,
        )
        self._sender = UdpSocket(socket.AF_INET)
        self._metrics_url = f"http://{self._address('metrics')}/metrics"
        host, _, port = self._address("link").rpartition(":")
        self._sender.raw.setblocking(True)
        self._sender.raw.connect((host, int(port)))
        sleep(0.3)  # until it has resolved its upstream

    def __enter__(self) -> "Rig":
        return self

    def __exit__(self, *_: object) -> None:
        self._sender.close()
        self._link.terminate()
        self._link.wait()
        self._sink.terminate()
        self._sink.join()
        self._log.close()

    def run(self, gso: bool, size: int, rate_mbit_s: float, seconds: float) -> Step:
        """Sends at `rate_mbit_s` for so long, and waits until everything has come to its end."""
        before, arrived_before, cpu_before, waited_before = (
            self._counts(),
            self._arrived(),
            self._cpu_s(),
            self._waited_s(),
        )
        send, burst = batches(self._sender, size) if gso else (Singles(self._sender, size), SINGLES_A_CALL)
        sent, took_s = offer(send, burst, burst * size * 8 / (rate_mbit_s * 1e6), seconds)
        while (counts := self._counts())["queued"]:
            sleep(SETTLE_S)
        sleep(SETTLE_S)
        cpu_s, waited_s = self._cpu_s() - cpu_before, self._waited_s() - waited_before
        counts = self._counts()
        arrived, arrived_bytes = (now - then for now, then in zip(self._arrived(), arrived_before, strict=True))
        received, lost, dropped, forwarded = (
            counts[event] - before[event] for event in ("received", "lost", "dropped", "forwarded")
        )
        return Step(
            seconds=took_s,
            sent=sent,
            received=received,
            lost=lost,
            dropped=dropped,
            forwarded=forwarded,
            arrived=arrived,
            arrived_bytes=arrived_bytes,
            sent_bytes=sent * size,
            cpu_s=cpu_s,
            waited_s=waited_s,
        )

    def _arrived(self) -> tuple[int, int]:
        self._ours.send(None)
        datagrams, size = self._ours.recv()
        return datagrams, size

    def _address(self, listener: str) -> str:
        """Where the link says that it listens."""
        end_s = monotonic() + 10
        while monotonic() < end_s:
            self._log.seek(0)
            for line in self._log.read().splitlines():
                fields = dict(part.partition("=")[::2] for part in line.split())
                if "listening" in line and fields.get("listener") == listener:
                    return fields["address"]
            sleep(0.05)
        raise SystemExit(f"the link does not say where it listens ({listener})")

    def _counts(self) -> dict[str, int]:
        with urlopen(self._metrics_url) as response:
            lines = response.read().decode().splitlines()
        found = {}
        for line in lines:
            name, _, value = line.rpartition(" ")
            if 'direction="client_to_server"' not in name:
                continue
            if name.startswith("link_datagrams_total"):
                found[name.partition('event="')[2].partition('"')[0]] = int(float(value))
            elif name.startswith("link_queued_bytes"):
                found["queued"] = int(float(value))
        return found

    def _waited_s(self) -> float:
        """For how long its main thread was ready, and did not run."""
        return int(Path(f"/proc/{self._link.pid}/schedstat").read_text().split()[1]) / 1e9

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self._link.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def offer(send: Callable[[], None], burst: int, pause_s: float, seconds: float) -> tuple[int, float]:
    """Calls `send` every `pause_s`, each time for `burst` datagrams: (datagrams, seconds that it really took)."""
    started_s = now_s = monotonic()
    calls = 0
    while now_s - started_s < seconds:
        if calls * pause_s <= now_s - started_s:
            send()
            calls += 1
        else:
            sleep(PAUSE_S)
        now_s = monotonic()
    return calls * burst, now_s - started_s


def batches(sender: UdpSocket, size: int) -> tuple[Callable[[], None], int]:
    """(sends one buffer of segments, how many)."""
    segments = min(65_000 // size, 44)  # quinn's is 44 at 1,452 bytes
    data = bytes(segments * size)

    def send() -> None:
        sender.send(data, size)

    return send, segments


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", _Header), ("sent_bytes", ctypes.c_uint))


class Singles:
    """Sends a burst of datagrams of `size` bytes, without UDP_SEGMENT. (An object, so that the memory stays.)"""

    def __init__(self, sender: UdpSocket, size: int) -> None:
        self._data = ctypes.create_string_buffer(size)
        self._vector = _Vector(ctypes.addressof(self._data), size)
        self._messages = (_Message * SINGLES_A_CALL)()
        for message in self._messages:
            message.header.vectors, message.header.vector_count = ctypes.addressof(self._vector), 1
        self._libc, self._descriptor = ctypes.CDLL(None, use_errno=True), sender.raw.fileno()

    def __call__(self) -> None:
        sent = 0
        while sent < SINGLES_A_CALL:  # they are all the same: it does not matter which are left
            more = self._libc.sendmmsg(self._descriptor, self._messages, SINGLES_A_CALL - sent, 0)
            if more < 0:
                raise SystemExit(f"the bench cannot send: {os.strerror(ctypes.get_errno())}")
            sent += more


def sink(pipe: Connection) -> None:
    """Counts what arrives, and says (datagrams, bytes) when asked; says its port first."""
    receiver = UdpSocket(socket.AF_INET)
    receiver.raw.setblocking(True)
    receiver.raw.settimeout(0.02)
    receiver.raw.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    receiver.raw.bind(("127.0.0.1", 0))
    pipe.send(receiver.raw.getsockname()[1])
    datagrams = size = 0
    while True:
        try:
            received = receiver.receive()
        except TimeoutError:
            received = None
        if received:
            data, segment_bytes, _ = received
            datagrams += -(-len(data) // segment_bytes)
            size += len(data)
        elif pipe.poll():
            pipe.recv()
            pipe.send((datagrams, size))


if __name__ == "__main__":
    main()

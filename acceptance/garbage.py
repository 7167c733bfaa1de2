"""Garbage, truncated and replayed datagrams at proxy-server's port for 30 s beside a soak: nobody notices.

python acceptance/garbage.py [ENGINE]...      (default: aioquic and quinn)

Rules
- A third of the datagrams is noise: most look like a new connection's first one, which costs a server the most. A
  third is real ones, cut short; a third real ones as they were. The real ones are of a handshake, and, for which
  it listens to loopback (root may), of the very connection that the soak uses.
- The baseline is measured around it, in the same stack: soak, soak with garbage, soak.
- Whoever sends is another process, and has to reach its rate, or it proves nothing.
"""

import asyncio
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration
from serving import BIN, Serving, report, serve

RATES_PER_S = {"aioquic": 2_000, "quinn": 10_000}
SECONDS = 30
BASELINE_S = 20
P99_RATIO = 2.0
REACHED = 0.98
"""Of its rate, by whoever sends."""

SOURCES = 8
RECORDED_MAX = 500
RECORD_S = 5.0
TURN_S = 0.005
DATAGRAM_BYTES = 1200
DATAGRAM_BYTES_MAX = 1452


def main() -> None:
    for engine in sys.argv[1:] or RATES_PER_S:
        with serve("--engine", engine) as serving:
            survives(engine, serving)


def survives(engine: str, serving: Serving) -> None:
    rate = RATES_PER_S[engine]
    port = serving.udp_port("proxy-server")
    real = record(serving, port)
    before = soak(serving, BASELINE_S)
    rss = serving.memory_bytes("proxy-server")
    ours, theirs = get_context("spawn").Pipe()
    sender = get_context("spawn").Process(target=send, args=(port, rate, SECONDS + 3, real, theirs), daemon=True)
    sender.start()
    ours.recv()  # It has begun.
    beside = soak(serving, SECONDS)
    sent, seconds = ours.recv()
    sender.join()
    after = soak(serving, BASELINE_S)

    reached = sent / seconds
    report(f"{engine}: datagrams", f"{sent:,} in {seconds:.0f} s, {reached:,.0f} a second", reached >= REACHED * rate)
    for name, run in (("before", before), ("beside it", beside), ("after", after)):
        failed = {outcome: count for outcome, count in run["outcomes"].items() if count and outcome != "ok"}
        report(f"{engine}: {name}", f"{run['outcomes']['ok']} ok, {failed or 'none failed'}", not failed)
    baseline = max(p99(before), p99(after))
    figure = f"{p99(beside):.0f} ms, without {p99(before):.0f} and {p99(after):.0f} ms"
    report(f"{engine}: p99", figure, p99(beside) <= P99_RATIO * baseline)
    grown = (serving.memory_bytes("proxy-server") - rss) / 1e6
    connections = serving.metric("proxy-server", "tunnel_connections_active")
    report(f"{engine}: left behind", f"{connections:.0f} connection, {grown:+.1f} MB", connections == 1)


def soak(serving: Serving, seconds: float) -> dict[str, Any]:
    """verdict.json of a soak of mix `small` through the stack that runs."""
    with tempfile.TemporaryDirectory() as directory:
        where = [f"--proxy=socks5://{serving.proxy}", f"--target=http://{serving.target}"]
        where += [f"--server-first={serving.server_first}", "--metrics-listen=127.0.0.1:0", f"--report={directory}"]
        command = [BIN / "loadgen", "soak", "--stack=external", "--mix=small", f"--duration={seconds}s", *where]
        subprocess.run(command, capture_output=True, check=False)
        document: dict[str, Any] = json.loads((Path(directory) / "verdict.json").read_text())
    return document


def p99(document: dict[str, Any]) -> float:
    return float(document["windows"]["quiet"]["latency_ms"]["p99"])


# What is real.


def record(serving: Serving, port: int) -> list[bytes]:
    """Datagrams that proxy-server has taken: of a handshake, and of the connection between the proxies."""
    handshake = asyncio.run(of_a_handshake(port))
    try:
        of_the_tunnel = listen(serving, port)
    except PermissionError:
        of_the_tunnel = []
    figure = f"{len(handshake)} of a handshake, {len(of_the_tunnel)} of the tunnel's own connection"
    report("recorded", figure, holds=bool(of_the_tunnel))
    return handshake + of_the_tunnel


async def of_a_handshake(port: int) -> list[bytes]:
    """What a client sends that then says nothing."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["finback/1"], verify_mode=ssl.CERT_NONE)
    sent: list[bytes] = []
    async with connect("127.0.0.1", port, configuration=configuration) as client:
        transport = client._transport
        sendto = transport.sendto

        def recorded(data: bytes, address: Any = None) -> None:
            sent.append(data)
            sendto(data, address)

        transport.sendto = recorded  # type: ignore[method-assign]
        await client.ping()
        await client.ping()
    return sent


def listen(serving: Serving, port: int) -> list[bytes]:
    """UDP payloads to `port` on loopback, while requests go through the tunnel."""
    found: list[bytes] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as sniffer:
        sniffer.bind(("lo", 0x0800))
        sniffer.settimeout(0.2)
        load = subprocess.Popen(
            serving.curl(
                "-o", os.devnull, "-m", f"{RECORD_S}", serving.url("/bytes?seed=1&size=2000000&framing=close")
            ),
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + RECORD_S
        while len(found) < RECORDED_MAX and time.monotonic() < deadline:
            try:
                packet = sniffer.recv(65535)
            except TimeoutError:
                break
            udp = packet[4 * (packet[0] & 15) :]
            if packet[9] == socket.IPPROTO_UDP and int.from_bytes(udp[2:4], "big") == port:
                found.append(udp[8 : 8 + DATAGRAM_BYTES_MAX])  # Of a batch (UDP_SEGMENT) the first.
        load.terminate()
        load.wait()
    return list(dict.fromkeys(found))


# Who sends.


def send(port: int, rate: float, seconds: float, real: Sequence[bytes], report_to: Connection) -> None:
    """Sends at `rate` for `seconds`, from several addresses; reports when it begins, then (sent, seconds)."""
    rng = random.Random(1)
    prepared = [one(rng, number, real) for number in range(20_000)]
    sockets = []
    for source in range(SOURCES):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((f"127.0.1.{source + 1}", 0))
        sock.connect(("127.0.0.1", port))
        sockets.append(sock)
    report_to.send(None)
    began, sent = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        for number in range(sent, int(now * rate)):
            with suppress(OSError):  # A word of ICMP's about an earlier one.
                sockets[number % SOURCES].send(prepared[number % len(prepared)])
        sent = int(now * rate)
        time.sleep(TURN_S)
    report_to.send((sent, time.monotonic() - began))
    for sock in sockets:
        sock.close()


def one(rng: random.Random, number: int, real: Sequence[bytes]) -> bytes:
    """The datagram of that number."""
    match number % 3:
        case 0:
            return noise(rng)
        case 1:
            whole = rng.choice(real)
            return whole[: rng.randrange(1, len(whole))]
        case _:
            return rng.choice(real)


def noise(rng: random.Random) -> bytes:
    """Any bytes; two of three with the head of an Initial packet of version 1 (RFC 9000 section 17.2.2)."""
    if not rng.randrange(3):
        return rng.randbytes(rng.randrange(1, DATAGRAM_BYTES + 1))
    head = bytes((0xC0 | rng.randrange(4),)) + b"\0\0\0\1\x08" + rng.randbytes(8) + b"\x08" + rng.randbytes(8) + b"\0"
    body = DATAGRAM_BYTES - len(head) - 2
    return head + (0x4000 | body).to_bytes(2, "big") + rng.randbytes(body)


if __name__ == "__main__":
    main()

"""How fast the engine is by itself: a client and a server in one process, no sockets, on virtual time.

    python -m bench.engine_memory [--engine auto] [--megabytes 20] [--datagram-bytes 1200 1452 9000] [--idle-streams 0]

Time only moves when both ends wait for it, so the figure is processor time for both ends together, on one core. Two
processes on two cores share that work; the kernel's part comes on top.
"""

import argparse
import cProfile
import logging
import math
import pstats
import tempfile
import time
from pathlib import Path

import trustme

from tunnel.engine.choice import ENGINES, resolve
from tunnel.engine.port import Address, Connected, Data, Engine, Writable
from tunnel.engine.settings import ClientTls, EngineLimits, ServerTls

CLIENT: Address = ("192.0.2.1", 50_000)
SERVER: Address = ("192.0.2.2", 4433)
IPV4_UDP_HEADERS_BYTES = 28
TIMER_RESOLUTION_S = 0.001
"""That of asyncio and of uvloop: a paced sender wakes up this often, and not for each datagram."""
CHUNK = bytes(64 * 1024)


class Download:
    """One stream from the server to the client, whose reader takes everything at once."""

    def __init__(self, client: Engine, server: Engine) -> None:
        self.now = 1.0
        self.client = client
        self.server = server
        self.from_server = 0
        self.left = 0
        self.received = 0
        self.connection = client.connect(SERVER, self.now)
        while not self.from_server:
            self.turn()
        self.settle()

    def open(self) -> int:
        """A stream that both ends know."""
        stream = self.client.open(self.connection)
        assert stream is not None
        self.client.send(self.connection, stream, b"GET")
        self.settle()
        return stream

    def settle(self) -> None:
        """Lets what is under way arrive and be acknowledged."""
        until = self.now + 0.1
        while self.now < until:
            self.turn(until)

    def run(self, size: int, stream: int) -> None:
        self.left, self.received = size, 0
        self.push(stream)
        while self.received < size:
            self.turn()

    def push(self, stream: int) -> None:
        while self.left:
            taken = self.server.send(self.from_server, stream, CHUNK[: self.left])
            self.left -= taken
            if taken < len(CHUNK):
                break

    def turn(self, until: float = math.inf) -> None:
        moved = self.carry(self.client, self.server, CLIENT) + self.carry(self.server, self.client, SERVER)
        while (happened := self.server.poll_event()) is not None:
            match happened:
                case connection, Connected():
                    self.from_server = connection
                    self.server.accept(connection)
                case connection, Data(stream, data, _):
                    self.server.consumed(connection, stream, len(data))
                case _, Writable(stream):
                    self.push(stream)
        while (happened := self.client.poll_event()) is not None:
            match happened:
                case connection, Data(stream, data, _):
                    self.received += len(data)
                    self.client.consumed(connection, stream, len(data))
        if not moved:
            due = min(filter(None, (self.client.get_timer(), self.server.get_timer(), until)))
            self.now = max(self.now + TIMER_RESOLUTION_S, due)
            self.client.handle_timer(self.now)
            self.server.handle_timer(self.now)

    def carry(self, source: Engine, to: Engine, address: Address) -> int:
        moved = 0
        while (transmit := source.poll_transmit(self.now)) is not None:
            to.receive(memoryview(transmit.data), transmit.segment_size, address, self.now)
            moved += 1
        return moved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, default="auto")
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--datagram-bytes", type=int, nargs="+", default=[1200, 1452, 8972, 16384])
    parser.add_argument("--idle-streams", type=int, default=0)
    parser.add_argument("--profile", action="store_true", help="where the time goes, under cProfile")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        authority = trustme.CA()
        certificate = authority.issue_cert("server.test")
        authority.cert_pem.write_to_path(directory / "ca.pem")
        certificate.cert_chain_pems[0].write_to_path(directory / "certificate.pem")
        certificate.private_key_pem.write_to_path(directory / "key.pem")
        server_tls = ServerTls(directory / "certificate.pem", directory / "key.pem")
        client_tls = ClientTls("server.test", ca_file=directory / "ca.pem")
        for datagram_bytes in options.datagram_bytes:
            measure(client_tls, server_tls, datagram_bytes, options)


def measure(client_tls: ClientTls, server_tls: ServerTls, datagram_bytes: int, options: argparse.Namespace) -> None:
    limits = EngineLimits(datagram_cap_bytes=datagram_bytes)
    mtu = datagram_bytes + IPV4_UDP_HEADERS_BYTES
    engine = resolve(options.engine)
    client = engine.client_engine(client_tls, limits, path_mtu=lambda address: mtu)
    download = Download(client, engine.server_engine(server_tls, limits))
    for _ in range(options.idle_streams):
        download.open()
    stream, size = download.open(), options.megabytes * 1_000_000
    download.run(1_000_000, stream)
    profile = cProfile.Profile()
    started = time.process_time()
    if options.profile:
        profile.runcall(download.run, size, stream)
    else:
        download.run(size, stream)
    elapsed = time.process_time() - started
    packet_us = elapsed * 1e6 / (size / datagram_bytes)
    print(
        f"{datagram_bytes:6} bytes a datagram: {size * 8 / elapsed / 1e6:6.0f} Mbit/s, {packet_us:5.1f} us a datagram"
    )
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()

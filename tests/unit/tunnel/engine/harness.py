"""What the tests of the engines share: certificates made for the run, engines of either kind, and what is left of them.

Rules:
- Nothing here looks inside an engine but `assert_empty`, which is the only way to see that nothing is kept (F20).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from random import Random
from types import ModuleType

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.sim.engines import native_engine
from tests.sim.network import Link, Network
from tests.sim.pair import SERVER, Pair, Side
from tests.sim.world import World

from tunnel.engine.aioquic.endpoint import Endpoint as AioquicEndpoint
from tunnel.engine.port import Address, Connected, Data, Engine, Event, Transmit
from tunnel.engine.settings import KIB, ClientTls, EngineLimits, Qlog, ServerTls
from tunnel.errors import Cause

NAMES = ("proxy.test", "192.0.2.2", "2001:db8::2")
CODE = Cause.TARGET_RESET.code
STRANGER: Address = ("198.51.100.7", 9)
CLEAN = Link()
FAST = Link(delay_s=0.0005)

SMALL = EngineLimits(
    stream_window_floor_bytes=64 * KIB,
    stream_window_cap_bytes=64 * KIB,
    send_cap_bytes=128 * KIB,
    control_window_bytes=16 * KIB,
    max_streams=16,
    greeting_streams=4,
    greeting_credit_bytes=128 * KIB,
)
"""Windows that do not grow, small enough to be filled in no time."""


def with_limits(**changes: object) -> EngineLimits:
    return replace(SMALL, **changes)  # type: ignore[arg-type]


def payload(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


# Certificates.


@dataclass(frozen=True)
class Certificates:
    """What a server shows, and what a client trusts."""

    server: ServerTls
    client: ClientTls


def make_certificates(directory: Path) -> Certificates:
    """One authority, and a server's certificate that it has signed for NAMES."""
    return issued_by(trustme.CA(), directory)


def issued_by(authority: trustme.CA, directory: Path, not_after: datetime | None = None) -> Certificates:
    certificate = authority.issue_cert(*NAMES, not_after=not_after)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(directory / "certificate.pem")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    return Certificates(
        ServerTls(directory / "certificate.pem", directory / "key.pem"),
        ClientTls(NAMES[0], ca_file=directory / "ca.pem"),
    )


def make_self_signed(
    directory: Path,
    valid_from: datetime = datetime(2020, 1, 1, tzinfo=UTC),
    valid_until: datetime = datetime(2120, 1, 1, tzinfo=UTC),
    *,
    authority: bool = True,
) -> Certificates:
    """A certificate that is its own authority, as `openssl req -x509` makes them."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAMES[0])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid_from)
        .not_valid_after(valid_until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAMES[0])]), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(key, None)
    )
    tls = ServerTls(directory / "certificate.pem", directory / "key.pem")
    tls.certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    tls.private_key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Certificates(tls, ClientTls(NAMES[0], ca_file=tls.certificate_file))


# Engines.

ADAPTERS = ("aioquic", "quinn")
PAIRINGS = ("aioquic", "quinn", "aioquic to quinn", "quinn to aioquic")
"""Client and server; one name where they are of one kind. (The model of tests.sim has no TLS and no packets.)"""


def adapter_of(name: str) -> ModuleType:
    """Skips the test where the engine is not installed."""
    return native_engine() if name == "quinn" else import_module(f"tunnel.engine.{name}")


@dataclass(frozen=True)
class MakeRealPair:
    """Engines with TLS of one's choice across a virtual network; not connected yet."""

    certificates: Certificates
    client_adapter: ModuleType
    server_adapter: ModuleType

    @classmethod
    def of(cls, certificates: Certificates, pairing: str) -> "MakeRealPair":
        client, _, server = pairing.partition(" to ")
        return cls(certificates, adapter_of(client), adapter_of(server or client))

    def __call__(
        self,
        limits: EngineLimits = SMALL,
        link: Link = CLEAN,
        seed: int = 1,
        client: ClientTls | None = None,
        path_mtu: Callable[[Address], int | None] = lambda address: None,
        server_limits: EngineLimits | None = None,
    ) -> Pair:
        return Pair.of(self.client(limits, client, path_mtu), self.server(server_limits or limits), link, seed)

    def client(
        self,
        limits: EngineLimits = SMALL,
        tls: ClientTls | None = None,
        path_mtu: Callable[[Address], int | None] = lambda address: None,
        qlog: Qlog | None = None,
    ) -> Engine:
        engine: Engine = self.client_adapter.client_engine(
            tls or self.certificates.client, limits, path_mtu=path_mtu, qlog=qlog
        )
        return engine

    def server(self, limits: EngineLimits = SMALL, qlog: Qlog | None = None) -> Engine:
        engine: Engine = self.server_adapter.server_engine(self.certificates.server, limits, qlog=qlog)
        return engine


class Server:
    """A server's engine that many clients talk to, as a party. It accepts everybody and reads what comes."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.log: list[tuple[int, Event]] = []
        self.receive = engine.receive
        self.get_timer = engine.get_timer
        self.handle_timer = engine.handle_timer
        self.poll_transmit = engine.poll_transmit

    def work(self, now: float) -> None:
        while (happened := self.engine.poll_event()) is not None:
            self.log.append(happened)
            match happened:
                case number, Connected():
                    self.engine.accept(number)
                case number, Data(stream, data, _):
                    self.engine.consumed(number, stream, len(data))

    def events(self, kind: type[Event]) -> list[Event]:
        return [event for _, event in self.log if isinstance(event, kind)]


class Crowd:
    """One server and many clients, each on an address of its own."""

    def __init__(self, make: MakeRealPair, limits: EngineLimits, clients: int, link: Link = CLEAN) -> None:
        self.world = World(Network(Random(1), link))
        self.server = Server(make.server(limits))
        self.world.add(SERVER, self.server)
        self.clients = [Side(make.client()) for _ in range(clients)]
        for number, side in enumerate(self.clients):
            self.world.add(("192.0.2.1", 50_000 + number), side)

    def connect(self) -> None:
        for side in self.clients:
            side.connect(self.world.now)

    def connected(self) -> list[Side]:
        return [side for side in self.clients if side.connected]


def assert_empty(engine: Engine) -> None:
    """Nothing is kept of anything (F20)."""
    assert engine.get_timer() is None
    if isinstance(engine, AioquicEndpoint):
        assert not engine._links
        assert not engine._routes
        assert not engine._unfinished
        assert not engine._touched
        assert len(engine._timers) == 0
    else:
        assert repr(engine) == "Endpoint(connections=0, handles=0, timers=0, queued=0)"


def datagrams(transmit: Transmit) -> Iterator[bytes]:
    for start in range(0, len(transmit.data), transmit.segment_size):
        yield transmit.data[start : start + transmit.segment_size]


def transmits(engine: Engine, now: float) -> list[Transmit]:
    """All that it has to send now."""
    return list(iter(lambda: engine.poll_transmit(now), None))


def first_flight(engine: Engine, now: float) -> bytes:
    """The datagram that begins a client's handshake."""
    engine.connect(SERVER, now)
    transmit = engine.poll_transmit(now)
    assert transmit is not None
    return next(datagrams(transmit))


def listen(world: World) -> list[tuple[Address, bytes]]:
    """Fills with every datagram that is sent from now on, and its sender's own address."""
    heard: list[tuple[Address, bytes]] = []
    send = world.network.send

    def note(transmit: Transmit, own: Address, now: float) -> None:
        heard.extend((own, datagram) for datagram in datagrams(transmit))
        send(transmit, own, now)

    world.network.send = note  # type: ignore[method-assign]
    return heard

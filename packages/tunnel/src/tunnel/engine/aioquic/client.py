"""The client's endpoint: several connections to servers, over one socket.

Rules:
- The handshake itself probes the path: the first Initial is padded to what the kernel says the path carries, and the
  server answers in the same size. Where nothing comes back, the handshake starts over at another size, under the same
  connection number (docs/adr/0001-datagram-size-from-the-handshake.md).
"""

from collections.abc import Callable
from dataclasses import replace

from tunnel.engine.aioquic.connection import Connection, datagram_bytes
from tunnel.engine.aioquic.credit import WindowBudget
from tunnel.engine.aioquic.endpoint import Endpoint, canonical
from tunnel.engine.aioquic.link import Link
from tunnel.engine.aioquic.probe import SizeProbe
from tunnel.engine.aioquic.qlog import Logger
from tunnel.engine.aioquic.tls import client_configuration
from tunnel.engine.port import Address
from tunnel.engine.settings import ClientTls, EngineLimits, Qlog

IPV4_UDP_HEADERS_BYTES = 28
IPV6_UDP_HEADERS_BYTES = 48

PathMtu = Callable[[Address], int | None]
"""Bytes of the largest IP packet that the path to an address carries, as far as is known."""


class ClientEndpoint(Endpoint):
    def __init__(
        self,
        tls: ClientTls,
        limits: EngineLimits,
        budget: WindowBudget,
        path_mtu: PathMtu,
        qlog: Qlog | None = None,
    ) -> None:
        super().__init__()
        self._configuration = client_configuration(tls, limits)
        self._configuration.quic_logger = Logger(qlog) if qlog is not None else None
        self._pin_sha256 = None if tls.insecure else tls.pin_sha256
        self._limits = limits
        self._budget = budget
        self._path_mtu = path_mtu

    def connect(self, address: Address, now: float) -> int:
        self._now = now
        address = canonical(address)
        probe = SizeProbe(self._datagram_bytes(address), self._limits.datagram_floor_bytes, now)
        quic = self._handshake(address, probe.size, now)
        link = Link(
            next(self._numbers),
            address,
            quic,
            self._routes,
            handshake_deadline=now + self._limits.handshake_timeout_s,
            pin_sha256=self._pin_sha256,
            probe=probe,
        )
        self._add(link)
        return link.number

    def _report(self, link: Link) -> None:
        if link.probe is not None and link.probe.start_over(self._now):
            link.start_over(self._handshake(link.address, link.probe.size, self._now))
        super()._report(link)

    def _handshake(self, address: Address, size: int, now: float) -> Connection:
        configuration = replace(self._configuration, max_datagram_size=size)
        quic = Connection(configuration, self._limits, self._budget, self._packets, now)
        quic.connect(address, now)
        return quic

    def _datagram_bytes(self, address: Address) -> int:
        mtu = self._path_mtu(address)
        if mtu is None:
            return self._limits.datagram_floor_bytes
        headers = IPV6_UDP_HEADERS_BYTES if ":" in address[0] else IPV4_UDP_HEADERS_BYTES
        return datagram_bytes(mtu - headers, self._limits)

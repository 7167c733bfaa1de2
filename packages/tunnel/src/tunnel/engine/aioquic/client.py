"""The client's endpoint: several connections to servers, over one socket.

Rules:
- The handshake itself probes the path: the first Initial is padded to what the kernel says the path carries, and the
  server answers in the same size. Where nothing comes back, the handshake starts over at the smallest size, under the
  same connection number (docs/adr/0001-datagram-size-from-the-handshake.md).
"""

from collections.abc import Callable
from dataclasses import replace

from tunnel.engine.aioquic.connection import Connection
from tunnel.engine.aioquic.credit import WindowBudget
from tunnel.engine.aioquic.endpoint import Endpoint, canonical
from tunnel.engine.aioquic.link import Link
from tunnel.engine.aioquic.tls import client_configuration
from tunnel.engine.port import Address
from tunnel.engine.settings import ClientTls, EngineLimits

PROBE_ANSWER_S = 1.0
"""With no packet from the server for so long, large datagrams are taken to be lost on the way.

aioquic has sent its Initial three times by then.
"""

IPV4_UDP_HEADERS_BYTES = 28
IPV6_UDP_HEADERS_BYTES = 48

PathMtu = Callable[[Address], int | None]
"""Bytes of the largest IP packet that the path to an address carries, as far as is known."""


class ClientEndpoint(Endpoint):
    def __init__(self, tls: ClientTls, limits: EngineLimits, budget: WindowBudget, path_mtu: PathMtu) -> None:
        super().__init__()
        self._configuration = client_configuration(tls, limits)
        self._pin_sha256 = None if tls.insecure else tls.pin_sha256
        self._limits = limits
        self._budget = budget
        self._path_mtu = path_mtu

    def connect(self, address: Address, now: float) -> int:
        self._now = now
        address = canonical(address)
        quic = self._handshake(address, self._datagram_bytes(address), now)
        link = Link(
            next(self._numbers),
            address,
            quic,
            self._routes,
            handshake_deadline=now + self._limits.handshake_timeout_s,
            pin_sha256=self._pin_sha256,
        )
        if quic.datagram_bytes > self._limits.datagram_floor_bytes:
            link.probe_deadline = now + PROBE_ANSWER_S
        self._add(link)
        return link.number

    def _handle_timer(self, link: Link, now: float) -> None:
        if link.probe_deadline is not None and now >= link.probe_deadline:
            link.probe_deadline = None
            if link.quic.last_received_at is None:
                link.start_over(self._handshake(link.address, self._limits.datagram_floor_bytes, now))
        super()._handle_timer(link, now)

    def _handshake(self, address: Address, datagram_bytes: int, now: float) -> Connection:
        configuration = replace(self._configuration, max_datagram_size=datagram_bytes)
        quic = Connection(configuration, self._limits, self._budget, now)
        quic.connect(address, now)
        return quic

    def _datagram_bytes(self, address: Address) -> int:
        mtu = self._path_mtu(address)
        if mtu is None:
            return self._limits.datagram_floor_bytes
        headers = IPV6_UDP_HEADERS_BYTES if ":" in address[0] else IPV4_UDP_HEADERS_BYTES
        return max(self._limits.datagram_floor_bytes, min(mtu - headers, self._limits.datagram_cap_bytes))

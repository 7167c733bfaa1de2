"""The server's endpoint: who is let in.

Rules:
- A stranger becomes a connection only with an Initial packet that decrypts. Garbage leaves nothing behind, and has no
  answer.
- With many unfinished handshakes, a stranger first has to prove its address (Retry). With as many connections as are
  allowed, it is refused in words, at once; those who are in are not bothered (F26).
- A connection's datagrams are as large as the client's first one was, so that the server's own handshake flight proves
  the way back.
"""

from dataclasses import replace

from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.retry import QuicRetryTokenHandler

from tunnel.engine.aioquic.connection import Connection, datagram_bytes
from tunnel.engine.aioquic.credit import WindowBudget
from tunnel.engine.aioquic.endpoint import Endpoint
from tunnel.engine.aioquic.link import Link
from tunnel.engine.aioquic.qlog import Logger
from tunnel.engine.aioquic.stateless import decrypts, parse_initial, refusal, retry
from tunnel.engine.aioquic.tls import server_configuration, show_certificate
from tunnel.engine.port import Address
from tunnel.engine.settings import EngineLimits, Qlog, ServerTls
from tunnel.errors import Cause


class ServerEndpoint(Endpoint):
    def __init__(self, tls: ServerTls, limits: EngineLimits, budget: WindowBudget, qlog: Qlog | None = None) -> None:
        super().__init__()
        self._configuration = server_configuration(tls, limits)
        self._configuration.quic_logger = Logger(qlog) if qlog is not None else None
        self._limits = limits
        self._budget = budget
        self._tokens = QuicRetryTokenHandler()

    def use_certificate(self, certificate: bytes, private_key: bytes) -> None:
        show_certificate(self._configuration, certificate, private_key)

    def refuse_strangers(self) -> None:
        self._limits = replace(self._limits, max_connections=0)

    def _stranger(self, datagram: bytes, address: Address, now: float) -> Link | None:
        initial = parse_initial(datagram, self._configuration.supported_versions)
        if initial is None:
            return None
        if isinstance(initial, bytes):
            self._answer(initial, address)
            return None
        if not decrypts(datagram, initial):
            return None
        if len(self._links) >= self._limits.max_connections:
            summary = Cause.SERVER_BUSY.summary
            self._answer(refusal(initial, QuicErrorCode.CONNECTION_REFUSED, summary), address)
            return None
        original_id, retry_id = initial.destination_id, None
        if initial.token:
            try:
                original_id = self._tokens.validate_token(
                    address=address, destination_cid=initial.destination_id, token=initial.token, now=now
                )
            except ValueError as error:
                self._answer(refusal(initial, QuicErrorCode.INVALID_TOKEN, str(error)), address)
                return None
            retry_id = initial.destination_id
        elif len(self._unfinished) >= self._limits.retry_above_handshakes:
            self._packets.retries += self._answer(retry(initial, self._tokens, address, now), address)
            return None
        size = datagram_bytes(len(datagram), self._limits)
        quic = Connection(
            replace(self._configuration, max_datagram_size=size),
            self._limits,
            self._budget,
            self._packets,
            now,
            original_destination_connection_id=original_id,
            retry_source_connection_id=retry_id,
        )
        deadline = now + self._limits.handshake_timeout_s
        link = Link(next(self._numbers), address, quic, self._routes, handshake_deadline=deadline)
        link.add_route(initial.destination_id)
        link.receive(datagram, address, now)
        if quic.last_received_at is None:
            link.drop_routes()
            return None
        self._add(link)
        return link

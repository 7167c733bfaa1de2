"""The program: a QUIC socket, a session, the dials, and what is counted and logged.

Rules:
- SIGTERM: GOAWAY, no new streams, open ones finish within the drain timeout; a second SIGTERM, or the timeout,
  resets what is left.
- SIGHUP reads tokens and certificate again, each by itself: one that cannot be used changes nothing. Who is connected
  stays connected, but for those whose token was taken away.
- Each start has an instance id of its own: by it a client knows that a restarted server has forgotten everything.
"""

import asyncio
import secrets
import socket
from collections.abc import Mapping, Sized
from pathlib import Path
from random import SystemRandom

from proxy_server import dev_certificate
from proxy_server.dialling import Dialling
from proxy_server.metrics import DialMetrics, limits_reached
from proxy_server.settings import ProxyServerSettings
from servicekit.address import Address
from servicekit.errors import CannotStartError, blaming
from servicekit.logs import get_logger
from servicekit.metrics import MetricsServer, registry
from servicekit.run import Stop
from tunnel.engine import choice
from tunnel.engine.credentials import key_pair
from tunnel.engine.port import Engine
from tunnel.engine.settings import EngineLimits, Qlog, ServerTls, TlsFileError
from tunnel.errors import Cause
from tunnel.metrics import SessionCollector, engine_info, handshake_histogram
from tunnel.net.bind import bound_socket
from tunnel.net.credentials import Tokens
from tunnel.net.driver import ConnectionEvent, Driver
from tunnel.net.egress import EgressPolicy
from tunnel.net.poller import Poller
from tunnel.net.udp import UdpEndpoint
from tunnel.net.waiting import first_of
from tunnel.report import Line, Repeats, asked, describe
from tunnel.session import events
from tunnel.session.server import ServerSession
from tunnel.session.settings import ClientLimits, SessionSettings
from tunnel.target import Target
from tunnel.wire.codec import INSTANCE_ID_BYTES

EXIT_CLEAN = 0
EXIT_CUT = 1  # Streams had to be reset for the program to end.

STOPPING_S = 1.0
"""How long resets and a last close may take to get out."""


class ProxyServer:
    """Made inside the running loop; `run` is its whole life."""

    def __init__(self, settings: ProxyServerSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._log = get_logger().bind()  # Once, and not for each line: most of them are below the level.
        self._registry = registry()
        self._metrics = DialMetrics(self._registry)
        self._limits_reached = limits_reached(self._registry)
        self._handshakes = handshake_histogram(self._registry, "server")
        self._quiet = asyncio.Event()
        self._draining = False
        self._repeats = Repeats()
        self._listening = False
        self.address = settings.listen
        """Where QUIC is spoken, with the port that port 0 became."""
        tls, tokens = _tls(settings), _tokens(settings)
        self._warn_of_clear_tokens(tokens)
        self._limits = EngineLimits(
            max_connections=settings.max_connections,
            # Who has proved nothing gets half of the places at most: else a forged flood would fill a small server.
            retry_above_handshakes=min(settings.retry_above_handshakes, settings.max_connections // 2),
            datagram_cap_bytes=settings.max_datagram_bytes,
            congestion_control=settings.congestion_control,
        )
        self._engine = self._make_engine(tls)
        engine_info(self._registry, "server", self._engine.name, settings.congestion_control)
        self._session = self._make_session(tokens)
        self._driver = Driver(
            self._loop,
            self._session,
            on_dial=self._on_dial,
            on_connection_event=self._on_connection_event,
            on_fault=self._on_fault,
        )
        self._poller = Poller(self._loop)
        self._dialling = Dialling(
            self._poller,
            self._driver,
            self._session,
            EgressPolicy.parse(settings.egress_allow),
            timeout_s=settings.dial_timeout_s,
            on_dialled=self._on_dialled,
            on_closed=self._note_quiet,
        )
        self._metrics.active.set_function(lambda: self._dialling.active)
        tables: dict[str, Sized] = {"handlers": self._driver.handlers, "sockets": self._poller}
        self._registry.register(SessionCollector(self._session, "server", tables))

    def _make_engine(self, tls: ServerTls) -> Engine:
        settings = self._settings
        qlog = None
        if settings.qlog is not None:
            with blaming("--qlog", settings.qlog):
                settings.qlog.mkdir(parents=True, exist_ok=True)
            qlog = Qlog(settings.qlog)
        try:
            adapter = choice.resolve(settings.engine, settings.congestion_control)
            return adapter.server_engine(tls, self._limits, qlog=qlog)
        except choice.EngineError as error:
            raise CannotStartError(f"--engine {settings.engine}: {error}") from error
        except TlsFileError as error:
            raise CannotStartError(f"the certificate or its key cannot be used: {error}") from error

    def _make_session(self, tokens: Tokens) -> ServerSession:
        settings = self._settings
        session_settings = SessionSettings(
            half_closed_linger_s=settings.half_closed_linger_s,
            stream_idle_s=settings.idle_timeout_s,
            end_rescue=settings.end_rescue,
        )
        return ServerSession(
            self._engine,
            tokens.owner_of,
            session_settings,
            instance_id=secrets.token_bytes(INSTANCE_ID_BYTES),
            rng=SystemRandom(),
            now=Driver.now(),
            max_streams=self._limits.max_streams,
            limits=ClientLimits(
                max_connections_per_token=settings.max_connections_per_token,
                max_connections_per_address=settings.max_connections_per_address,
                max_streams_per_token=settings.max_streams_per_token,
                max_streams_per_address=settings.max_streams_per_address,
            ),
        )

    async def run(self, stop: Stop) -> int:
        """Serves until `stop`; the exit code."""
        documents = {"/pending": self._pending, "/evidence": self._evidence}
        port = MetricsServer(self._settings.metrics_listen, self._registry, self._why_not_ready, documents=documents)
        with port:
            self._listen()
            self._log.info("ready")
            await stop.draining.wait()
            clean = await self._drain(stop)
            self._dialling.close()
            self._poller.close()
            self._driver.close()
        self._log.info("stopped", clean=clean)
        return EXIT_CLEAN if clean else EXIT_CUT

    def _listen(self) -> None:
        wanted = self._settings.listen
        try:
            sock = bound_socket(wanted.host, wanted.port, socket.SOCK_DGRAM)
        except OSError as error:
            raise CannotStartError(f"--listen {wanted}: {error.strerror or error}") from error
        endpoint = UdpEndpoint(self._loop, sock, self._driver.on_batch, self._driver.on_writable)
        self._driver.start(endpoint)
        self._listening = True
        self.address = Address.of_socket(endpoint.address)
        self._log.info("listening", listener="quic", address=str(self.address), engine=self._engine.name)

    def reload(self) -> None:
        """Reads tokens and certificate again. What cannot be used changes nothing, and is logged.

        One does not wait for the other: a stolen token is taken away whatever has become of the certificate.
        """
        for what, read in (("tokens", self._reload_tokens), ("certificate", self._reload_certificate)):
            try:
                told = read()
            except (CannotStartError, ValueError) as error:
                self._log.warning("reload_refused", what=what, reason=str(error))
            else:
                self._log.info("reloaded", what=what, **told)

    def _reload_tokens(self) -> dict[str, int]:
        tokens = _tokens(self._settings)
        self._warn_of_clear_tokens(tokens)
        ended = self._session.use_tokens(tokens.owner_of, Driver.now())
        self._driver.wake()
        return {"tokens": len(tokens), "connections_ended": ended}

    def _reload_certificate(self) -> dict[str, int]:
        self._engine.use_certificate(*key_pair(_tls(self._settings)))
        return {}

    def _warn_of_clear_tokens(self, tokens: Tokens) -> None:
        if tokens.in_the_clear:
            self._log.warning("tokens_in_the_clear", tokens=tokens.in_the_clear, file=str(self._settings.tokens_file))

    def _pending(self, query: Mapping[str, str]) -> dict[str, object]:
        return self._session.pending(Driver.now()).document()

    def _evidence(self, query: Mapping[str, str]) -> dict[str, object] | None:
        """Whoever asks gets it, and the log too, unless it had enough of them this minute."""
        line = asked(self._session, query, Driver.now())
        if line is None:
            return None
        self._say(line)
        return line[2]

    def _why_not_ready(self) -> str | None:
        if self._draining:
            return "draining"
        return None if self._listening else "not listening yet"

    def _on_dial(self, event: events.Dial) -> None:
        self._dialling.start(event)

    def _on_dialled(self, target: Target, cause: Cause, detail: str, seconds: float) -> None:
        self._metrics.dialled(cause, seconds)
        if cause is Cause.NONE:
            self._log.debug("dialled", target=str(target), ms=round(seconds * 1000, 1))
        elif cause is Cause.CANCELLED:
            self._log.debug("dial_cancelled", target=str(target), detail=detail)
        else:
            self._say(("warning", "dial_failed", {"target": str(target), "cause": cause.label, "detail": detail}))

    def _on_connection_event(self, event: ConnectionEvent) -> None:
        if (line := describe(event)) is not None:
            self._say(line)
        match event:
            case events.ConnectionUp(handshake_s=handshake_s):
                self._handshakes.labels("server").observe(handshake_s)
            case events.ConnectionDown():
                self._note_quiet()
            case events.LimitReached(limit=limit):
                self._limits_reached.labels(limit).inc()
            case _:
                pass

    def _on_fault(self, error: Exception) -> None:
        self._say(("error", "internal_error", {"exc_info": error}))

    def _say(self, line: Line) -> None:
        if (kept := self._repeats.thin_out(line)) is not None:
            level, name, fields = kept
            getattr(self._log, level)(name, **fields)

    # Leaving.

    async def _drain(self, stop: Stop) -> bool:
        """Lets open streams finish; whether they did, or had to be cut."""
        self._draining = True
        self._log.info("draining", connections=self._session.connection_count, streams=self._session.stream_count)
        self._session.drain(Driver.now())
        self._driver.wake()
        self._note_quiet()
        if await first_of(self._settings.drain_timeout_s, self._quiet, stop.now):
            return True
        self._log.warning("drain_cut", streams=self._session.stream_count)
        self._session.close(Cause.SHUTTING_DOWN, Driver.now())
        self._driver.wake()
        await first_of(STOPPING_S, self._quiet)
        return False

    def _note_quiet(self) -> None:
        if self._draining and not self._session.connection_count and not self._driver.handlers:
            self._quiet.set()


def _tls(settings: ProxyServerSettings) -> ServerTls:
    if settings.dev_certificate is not None:
        made = _made(settings.dev_certificate)
        return ServerTls(made.certificate, made.key)
    assert settings.certificate is not None
    assert settings.private_key is not None
    return ServerTls(settings.certificate, settings.private_key)


def _tokens(settings: ProxyServerSettings) -> Tokens:
    """Who may use the server."""
    named = Tokens({})
    if settings.tokens_file is not None:
        with blaming("--tokens-file", settings.tokens_file):
            named = Tokens.read(settings.tokens_file)
    if settings.dev_certificate is None:
        return named
    made = _made(settings.dev_certificate)
    with blaming("--dev-certificate", made.token):
        return named.with_file("dev", made.token)


def _made(directory: Path) -> dev_certificate.DevCertificate:
    with blaming("--dev-certificate", directory):
        return dev_certificate.ensure(directory)

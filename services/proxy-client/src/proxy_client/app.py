"""The program: a SOCKS listener, a session, a socket, and what is counted and logged.

Rules:
- Everything runs on one loop; resolving names is the only thing that waits, and it is bounded. Where the server's name
  does not resolve, the addresses that it had before are as good as any.
- SIGTERM: no new connections, open streams finish within the drain timeout; a second SIGTERM, or the timeout,
  resets what is left.
"""

import asyncio
import socket
import time
from collections.abc import Mapping, Sized
from random import SystemRandom
from typing import Any

from proxy_client.metrics import SocksMetrics
from proxy_client.settings import ProxyClientSettings
from proxy_client.socks import SocksConnection
from servicekit.address import Address
from servicekit.errors import CannotStartError, blaming
from servicekit.logs import get_logger
from servicekit.metrics import MetricsServer, registry
from servicekit.run import Stop
from tunnel.engine import choice
from tunnel.engine.port import Address as SocketAddress
from tunnel.engine.port import Engine
from tunnel.engine.settings import ClientTls, EngineLimits, Qlog, TlsFileError
from tunnel.errors import Cause
from tunnel.metrics import SessionCollector, engine_info, handshake_histogram
from tunnel.net.bind import bound_socket
from tunnel.net.client_socket import path_mtu, resolve, unbound_socket
from tunnel.net.credentials import Users, read_token
from tunnel.net.driver import ConnectionEvent, Driver
from tunnel.net.listener import TcpListener
from tunnel.net.poller import Poller
from tunnel.net.udp import UdpEndpoint
from tunnel.net.waiting import first_of
from tunnel.report import Line, Repeats, asked, describe
from tunnel.session import events
from tunnel.session.client import ClientSession
from tunnel.session.settings import SessionSettings
from tunnel.target import Target

RESOLVE_TIMEOUT_S = 5.0
RESOLVE_AGAIN_TIMEOUT_S = 1.0
"""Where addresses from before are known: requests may be waiting, and a silent resolver is no reason to let them."""

EXIT_CLEAN = 0
EXIT_CUT = 1  # Connections had to be reset for the program to end.

STOPPING_S = 1.0
"""How long resets and a last close may take to get out."""


class ProxyClient:
    """Made inside the running loop; `run` is its whole life."""

    def __init__(self, settings: ProxyClientSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._log = get_logger().bind()  # Once, and not for each line: most of them are below the level.
        self._registry = registry()
        self._metrics = SocksMetrics(self._registry)
        self._handshakes = handshake_histogram(self._registry, "client")
        self._users = None
        if settings.users_file is not None:
            with blaming("--users-file", settings.users_file):
                self._users = Users.read(settings.users_file)
        self._poller = Poller(self._loop)
        self._connections: set[SocksConnection] = set()
        self._quiet = asyncio.Event()
        self._draining = False
        self._resolving: asyncio.Task[None] | None = None
        self._was_ready = False
        self._attempts = 0
        """Since the last connection that came up."""
        self._addresses: list[SocketAddress] = []
        """What the server's name resolved to when it last did."""
        self._problem = ""
        """Why the last attempt failed."""
        self._repeats = Repeats()
        self.address = settings.listen
        """Where SOCKS5 is spoken, with the port that port 0 became."""
        self._udp_socket = unbound_socket()
        self._engine = self._make_engine()
        engine_info(self._registry, "client", self._engine.name, settings.congestion_control)
        self._session = self._make_session()
        self._driver = Driver(
            self._loop,
            self._session,
            on_dial=_no_dials,
            on_connection_event=self._on_connection_event,
            on_fault=self._on_fault,
        )
        tables: dict[str, Sized] = {"handlers": self._driver.handlers, "sockets": self._poller}
        self._registry.register(SessionCollector(self._session, "client", tables))
        self._driver.before_flush = self._poller.run_actions
        self._poller.after_part = self._driver.flush

    def _make_engine(self) -> Engine:
        settings = self._settings
        tls = ClientTls(
            server_name=settings.server_name or settings.server.host,
            ca_file=settings.ca_file,
            pin_sha256=bytes.fromhex(settings.pin_sha256) if settings.pin_sha256 else None,
            insecure=settings.insecure,
        )
        if settings.insecure:
            self._log.warning("insecure", detail="the server is not verified: anybody could be it")
        limits = EngineLimits(
            datagram_cap_bytes=settings.max_datagram_bytes, congestion_control=settings.congestion_control
        )
        qlog = None
        if settings.qlog is not None:
            with blaming("--qlog", settings.qlog):
                settings.qlog.mkdir(parents=True, exist_ok=True)
            qlog = Qlog(settings.qlog)
        try:
            adapter = choice.resolve(settings.engine, settings.congestion_control)
            return adapter.client_engine(tls, limits, path_mtu=path_mtu, qlog=qlog)
        except choice.EngineError as error:
            raise CannotStartError(f"--engine {settings.engine}: {error}") from error
        except TlsFileError as error:
            raise CannotStartError(f"--ca-file {error}") from error
        except ValueError as error:
            raise CannotStartError(f"--server-name: {error}") from error

    def _make_session(self) -> ClientSession:
        settings = self._settings
        session_settings = SessionSettings(
            open_timeout_s=settings.open_timeout_s,
            half_closed_linger_s=settings.half_closed_linger_s,
            stream_idle_s=settings.idle_timeout_s,
        )
        token = b""
        if settings.token_file is not None:
            with blaming("--token-file", settings.token_file):
                token = read_token(settings.token_file)
        return ClientSession(self._engine, session_settings, token=token, rng=SystemRandom(), now=Driver.now())

    async def run(self, stop: Stop) -> int:
        """Serves until `stop`; the exit code."""
        documents = {"/pending": self._pending, "/evidence": self._evidence}
        port = MetricsServer(self._settings.metrics_listen, self._registry, self._why_not_ready, documents=documents)
        with port:
            listener = self._listen()
            endpoint = UdpEndpoint(self._loop, self._udp_socket, self._driver.on_batch, self._driver.on_writable)
            self._driver.start(endpoint)
            await stop.draining.wait()
            listener.close()
            clean = await self._drain(stop)
            self._driver.close()
            self._poller.close()
        self._log.info("stopped", clean=clean)
        return EXIT_CLEAN if clean else EXIT_CUT

    def _listen(self) -> TcpListener:
        wanted = self._settings.listen
        try:
            sock = bound_socket(wanted.host, wanted.port, socket.SOCK_STREAM)
        except OSError as error:
            raise CannotStartError(f"--listen {wanted}: {error.strerror or error}") from error
        listener = TcpListener(self._loop, sock, self._on_accept, self._on_shortage)
        self.address = Address.of_socket(listener.address)
        self._log.info("listening", listener="socks", address=str(self.address), engine=self._engine.name)
        return listener

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
        if self._session.is_up:
            return None
        why = f"; the last attempt: {self._problem}" if self._problem else ""
        return f"there is no connection to {self._settings.server}{why}"

    # SOCKS connections.

    def _on_accept(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        connection = SocksConnection(
            self._poller,
            sock,
            address,
            driver=self._driver,
            session=self._session,
            check_credentials=self._users.check if self._users is not None else None,
            timeout_s=self._settings.socks_timeout_s,
            observer=self,
            clock=time.monotonic,
        )
        self._connections.add(connection)
        self._metrics.active.inc()

    def _on_shortage(self, error: OSError) -> None:
        self._write(("error", "cannot_accept", {"reason": error.strerror, "connections": len(self._connections)}))

    def handshake_over(
        self, peer: str, cause: Cause, detail: str, target: Target | None, seconds: float, *, answered: bool
    ) -> None:
        """See `Observer`."""
        self._metrics.handshake_over(cause, seconds, answered=answered)
        where = {} if target is None else {"target": str(target)}
        if cause is Cause.NONE:
            self._log.debug("request_connected", peer=peer, **where, ms=round(seconds * 1000, 1))
        elif cause is Cause.CANCELLED:
            self._log.debug("request_cancelled", peer=peer, **where, detail=detail)
        else:
            fields: dict[str, object] = {"peer": peer, **where, "cause": cause.label, "detail": detail}
            self._write(("warning", "request_failed", fields))

    def closed(self, connection: SocksConnection) -> None:
        """See `Observer`."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._metrics.active.dec()
            self._note_quiet()

    # The tunnel.

    def _on_connection_event(self, event: ConnectionEvent) -> None:
        if (line := describe(event)) is not None:
            self._say(line)
        match event:
            case events.ConnectWanted():
                self._resolving = self._loop.create_task(self._resolve(), name="resolve")
            case events.ConnectionUp(handshake_s=handshake_s):
                self._handshakes.labels("client").observe(handshake_s)
                self._on_up()
            case events.ConnectionDown(cause=cause, detail=detail):
                self._problem = f"{cause.label}, {detail}"
                self._note_quiet()
            case _:
                pass

    def _on_up(self) -> None:
        self._attempts = 0
        self._problem = ""
        self._repeats.start_over()
        if not self._was_ready:
            self._was_ready = True
            self._log.info("ready")

    def _say(self, line: Line) -> None:
        """About the tunnel."""
        level, name, fields = line
        self._write((level, name, {"server": str(self._settings.server), **fields}))

    def _write(self, line: Line) -> None:
        if (kept := self._repeats.thin_out(line)) is not None:
            level, name, fields = kept
            getattr(self._log, level)(name, **fields)

    async def _resolve(self) -> None:
        """Asks anew at each connect: the server may have moved."""
        server = self._settings.server
        if not self._attempts:
            self._log.info("connecting", server=str(server))
        self._attempts += 1
        timeout_s = RESOLVE_AGAIN_TIMEOUT_S if self._addresses else RESOLVE_TIMEOUT_S
        try:
            self._addresses = await resolve(self._udp_socket, server.host, server.port, timeout_s)
        except (OSError, TimeoutError) as error:
            silent = isinstance(error, TimeoutError)
            self._problem = "the resolver did not answer in time" if silent else error.strerror or str(error)
            known = {"addresses_from_before": len(self._addresses)} if self._addresses else {}
            self._say(("warning", "server_not_found", {"detail": self._problem, **known}))
        except Exception as error:  # Also what nobody foresaw must not end the trying: UnicodeError for an odd name.
            self._on_fault(error)
        if self._addresses:
            self._session.connect(self._addresses, Driver.now())
        else:
            self._session.connect_failed(Driver.now())
        self._driver.wake()

    def _on_fault(self, error: Exception) -> None:
        self._say(("error", "internal_error", {"exc_info": error}))

    # Leaving.

    async def _drain(self, stop: Stop) -> bool:
        """Lets open streams finish; whether they did, or had to be cut."""
        self._draining = True
        self._log.info("draining", connections=len(self._connections), streams=self._session.stream_count)
        self._session.drain(Driver.now())
        self._driver.wake()
        self._note_quiet()
        quiet = await first_of(self._settings.drain_timeout_s, self._quiet, stop.now)
        if not quiet:
            self._log.warning("drain_cut", connections=len(self._connections), streams=self._session.stream_count)
            for connection in list(self._connections):
                connection.abort()
            self._session.close(Cause.SHUTTING_DOWN, Driver.now())
            self._driver.wake()
            await first_of(STOPPING_S, self._quiet)
        if self._resolving is not None:
            self._resolving.cancel()
        return quiet

    def _note_quiet(self) -> None:
        if self._draining and not self._connections and not self._session.connection_count:
            self._quiet.set()


def _no_dials(event: events.Dial) -> None:
    raise AssertionError(f"a client was asked to dial {event.target}")

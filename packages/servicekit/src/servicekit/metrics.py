"""The metrics port: /metrics for Prometheus, /healthz and /readyz for whoever restarts or waits, and documents of the
program's own.

Rules:
- It is served by threads of its own, so that it answers when the event loop does not; that is when it is needed most.
- /healthz is 200 while the event loop beats: 503 once the last beat is 5 s old. /readyz is 200 when the
  program can do its work, else 503 with the reason. A document is JSON; what does not exist is 404.
- A client of this port can hold a thread for 5 s, no longer. While there is no descriptor for it, it waits.
"""

import asyncio
import errno
import json
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from threading import Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    make_wsgi_app,
)

from servicekit.address import Address
from servicekit.listen import listen_tcp
from servicekit.logs import get_logger

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

BEAT_S = 0.25
HEALTHY_BEAT_AGE_S = 5.0
REQUEST_TIMEOUT_S = 5.0
SHORTAGE_PAUSE_S = 0.2
_SHORTAGE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def registry() -> CollectorRegistry:
    """A registry of the program's own, with the process, platform and garbage collector metrics in it.

    For the whole process it switches off the `_created` series, which double the number of series and tell little.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    fresh = CollectorRegistry()
    ProcessCollector(registry=fresh)
    PlatformCollector(registry=fresh)
    GCCollector(registry=fresh)
    return fresh


Document = Callable[[Mapping[str, str]], Mapping[str, Any] | None]
"""What a path of the program's own answers to a query, as JSON will have it; None where there is no such thing."""


class LoopBeat:
    """A timer in the event loop whose lateness is the loop's lag."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._beat_at = clock()
        self._last_lag_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def age_s(self) -> float:
        """How long ago the loop has beaten. Safe from any thread, like `lag_s`."""
        return self._clock() - self._beat_at

    @property
    def lag_s(self) -> float:
        """How late the last beat came, or how late the next one already is."""
        return max(self._last_lag_s, self.age_s - BEAT_S, 0.0)

    def start(self) -> None:
        """Begins to beat in the running event loop."""
        self._beat_at = self._clock()
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._last_lag_s = max(self.age_s - BEAT_S, 0.0)
        self.start()


class MetricsServer:
    """The metrics port of one program. A context manager, entered in the running event loop."""

    def __init__(
        self,
        address: Address,
        registry: CollectorRegistry,
        ready: Callable[[], str | None],
        beat: LoopBeat | None = None,
        documents: Mapping[str, Document] | None = None,
    ) -> None:
        """`ready` gives None, or the reason why the program is not ready; `documents` by path. All are called in other
        threads."""
        self._wanted = address
        self._ready = ready
        self._documents = documents or {}
        self._beat = beat or LoopBeat()
        self._metrics: WSGIApplication = make_wsgi_app(registry)
        self._server: _Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        gauge = Gauge(
            "process_event_loop_lag_seconds",
            "How late the last beat of the event loop was; a beat is due every 0.25 s",
            registry=registry,
        )
        gauge.set_function(lambda: self._beat.lag_s)
        tasks = Gauge("process_event_loop_tasks", "Tasks of the event loop that have not ended", registry=registry)
        tasks.set_function(lambda: 0 if self._loop is None else len(asyncio.all_tasks(self._loop)))

    @property
    def address(self) -> Address:
        """Where it listens, with the port that port 0 became."""
        assert self._server is not None, "not started"
        return Address.of_socket(self._server.server_address)

    def start(self) -> None:
        """Listens and serves from here on. Raises CannotStartError."""
        self._server = _Server(listen_tcp(self._wanted), self._answer)
        self._beat.start()
        self._loop = asyncio.get_running_loop()
        Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        get_logger().info("listening", listener="metrics", address=str(self.address))

    def close(self) -> None:
        """Stops at once; answers under way are cut. Closing twice is nothing."""
        self._beat.stop()
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _answer(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return self._metrics(environ, start_response)
            case "/healthz":
                age_s = self._beat.age_s
                late = age_s > HEALTHY_BEAT_AGE_S
                problem = f"the event loop has not turned for {age_s:.1f} s" if late else None
                return _text(start_response, problem, "healthy")
            case "/readyz":
                return _text(start_response, self._ready(), "ready")
            case path if (document := self._documents.get(path)) is not None:
                return _json(start_response, document, environ["QUERY_STRING"])
            case _:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                paths = ", ".join(("/metrics", "/healthz", "/readyz", *self._documents))
                return [f"there is {paths}\n".encode()]


def _text(start_response: "StartResponse", problem: str | None, well: str) -> list[bytes]:
    status = "200 OK" if problem is None else "503 Service Unavailable"
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{well if problem is None else problem}\n".encode()]


def _json(start_response: "StartResponse", document: Document, query: str) -> list[bytes]:
    try:
        found = document(dict(parse_qsl(query)))
        status = "404 Not Found" if found is None else "200 OK"
    except Exception:  # Whoever may read must not be able to do more than that, to the log neither.
        found, status = None, "500 Internal Server Error"
        get_logger().debug("document_failed", exc_info=True)
    start_response(status, [("Content-Type", "application/json")])
    return [f"{json.dumps(found)}\n".encode()]


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:
        """No access log: probes come every few seconds."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, application: "WSGIApplication") -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        # What HTTPServer.server_bind does, without its look-up of this machine's name, which can take seconds.
        self.server_address = listener.getsockname()
        name: tuple[str, int] = listener.getsockname()[:2]
        self.server_name, self.server_port = name
        self.setup_environ()
        self.set_app(application)

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _SHORTAGE:  # The client still waits: without a pause this thread would spin.
                sleep(SHORTAGE_PAUSE_S)
            raise

    def stop(self) -> None:
        # Ends the selector's wait in serve_forever, which looks for a shutdown only every 0.5 s.
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left, or one that was too slow: nothing to report."""
        get_logger().debug("metrics_request_failed", reason=repr(sys.exception()))

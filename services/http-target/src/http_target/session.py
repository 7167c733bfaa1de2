"""The life of one connection: its requests, and what becomes of bad ones and of clients that leave.

Rules:
- A client can cause no exception in the log: whatever it does is an expected ending here. Anything else is a bug,
  and is logged once.
- A body that is not complete never ends cleanly: where a client stalls, or the drain timeout comes, it is reset.
- After our end of stream the client's is awaited, bounded: so the ledger sees it, and no unread byte turns our close
  into a reset.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

from http_target.connection import Connection, StalledError
from http_target.http import TEXT, Http, Request
from http_target.metrics import ABORTED, Metrics
from http_target.query import RefusedError
from http_target.routes import ROUTES, Digest, Route
from http_target.settings import HttpTargetSettings
from servicekit import payload
from servicekit.logs import get_logger

SERVER_FIRST_BYTES = 64


@dataclass(frozen=True, slots=True)
class Service:
    """What all connections share."""

    settings: HttpTargetSettings
    metrics: Metrics
    draining: asyncio.Event


Speak = Callable[[Connection, Service], Awaitable[None]]


async def serve(connection: Connection, service: Service, speak: Speak) -> None:
    """Speaks to one client until the end, and closes the connection. A cancellation resets it."""
    service.metrics.connections.inc()
    try:
        await speak(connection, service)
    except (OSError, StalledError, RefusedError) as error:
        get_logger().debug("connection_ended", reason=repr(error))
    except Exception:
        get_logger().exception("internal_error")
    else:
        connection.close()
    finally:
        connection.reset()  # nothing where it is closed already
        service.metrics.connections.dec()


async def speak_http(connection: Connection, service: Service) -> None:
    """Requests and answers, one after the other, until one side ends."""
    http = Http(connection, service.settings, service.draining)
    while await _exchange(http, service.metrics):
        pass
    if not connection.closed:
        connection.finish()
        await connection.discard_to_end(service.settings.linger_timeout_s)


async def speak_first(connection: Connection, service: Service) -> None:
    """64 bytes at once; then everything up to the client's end of stream; then its length and digest as a line."""
    bound_s = service.settings.progress_timeout_s
    digest = Digest()
    status = ABORTED
    try:
        await connection.send(payload.body(0, SERVER_FIRST_BYTES), bound_s)
        service.metrics.bytes_sent.inc(SERVER_FIRST_BYTES)
        while data := await connection.receive(bound_s):
            digest.add(data, service.metrics)
        await connection.send(digest.as_json() + b"\n", bound_s)
        connection.finish()
        status = "200"
    finally:
        service.metrics.request("server_first", status)


async def _exchange(http: Http, metrics: Metrics) -> bool:
    """One request and its answer. Returns whether another one may follow."""
    try:
        request = await http.request()
    except RefusedError as error:
        await _counted(metrics, "unknown", _refuse(http, error))
        return False
    if request is None:
        return False
    route = ROUTES.get(request.path)
    await _counted(metrics, route.label if route else "unknown", _answer(http, request, route, metrics))
    return await http.next_may_follow()


async def _counted(metrics: Metrics, label: str, answer: Coroutine[None, None, str]) -> None:
    """Counts the request with the status that its answer returns, or as aborted where it raises."""
    status = ABORTED
    try:
        status = await answer
    finally:
        metrics.request(label, status)


async def _answer(http: Http, request: Request, route: Route | None, metrics: Metrics) -> str:
    try:
        if route is None:
            raise RefusedError(404, f"{request.path[:80]!r} is not here; known are: {', '.join(ROUTES)}")
        if request.method not in route.methods:
            allow = ", ".join(route.methods)
            raise RefusedError(405, f"{request.method[:20]} is not for {request.path}; it takes {allow}", Allow=allow)
        return await route.handle(http, request, metrics)
    except RefusedError as error:
        return await _refuse(http, error)
    except StalledError:
        return await _refuse(http, RefusedError(408, "the body of the request stalled"))


async def _refuse(http: Http, error: RefusedError) -> str:
    """Answers the error and closes, since what is left of the request is not read. Raises it where it is too late."""
    if http.answering:
        raise error
    headers = (*error.headers.items(), ("Connection", "close"))
    await http.answer(error.status, TEXT, f"{error}\n".encode(), *headers)
    return str(error.status)

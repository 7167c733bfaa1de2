"""What http-target does for each path: deterministic bodies, precise endings, chosen misbehaviour.

Rules:
- The body for (seed, size) is `servicekit.payload`'s, so that what is expected is known out of band.
- Each parameter has a bound, and no request can keep a connection for ever.
- A handler returns the status for the metrics; it answers errors by raising RefusedError, before its own answer begins.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from http_target.http import JSON, OCTETS, Http, Request
from http_target.metrics import ASKED_RESET, SILENT, Metrics
from http_target.query import Query, RefusedError
from servicekit import payload

MAX_SEED = 2**64 - 1
MAX_SIZE = 1 << 30
MAX_DELAY_MS = 60_000
MAX_GAPS_S = 600
MISBEHAVIOUR_BOUND_S = 120.0

Handler = Callable[[Http, Request, Metrics], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path: its label in the metrics, the methods it takes, what it does."""

    label: str
    methods: tuple[str, ...]
    handle: Handler


async def get_bytes(http: Http, request: Request, metrics: Metrics) -> str:
    """A body in the framing, with the delays and with the reset that are asked for."""
    wish = BytesWish.parsed(request.query)
    await asyncio.sleep(wish.delay_ms / 1000)
    if wish.framing == "close":
        http.start_close_delimited(OCTETS)
    else:
        http.start(200, OCTETS, wish.size if wish.framing == "length" else None)
    await _send_body(http, wish, metrics)
    if wish.reset_at is None:
        await http.end()
        return "200"
    await http.flush()
    # A reset throws away what is still unsent: it waits, so that the client can see all bytes before it.
    await http.connection.flushed()
    http.connection.reset()
    return ASKED_RESET


async def get_half_close(http: Http, request: Request, metrics: Metrics) -> str:
    """A close-delimited body and our end of stream at once; then it goes on reading up to the client's."""
    query = Query(request.query)
    wish = BytesWish(framing="close", seed=_seed(query), size=_size(query))
    query.done()
    http.start_close_delimited(OCTETS)
    await _send_body(http, wish, metrics)
    await http.end()
    await http.connection.discard_to_end(MISBEHAVIOUR_BOUND_S)
    return "200"


async def post_upload(http: Http, request: Request, metrics: Metrics) -> str:
    """Reads the body and answers its length and digest; with `early=1` it answers before it reads."""
    query = Query(request.query)
    early = query.integer("early", 0, 1, default=0)
    query.done()
    declared = request.headers.get("content-length", "0")
    if int(declared) > MAX_SIZE:
        raise RefusedError(400, f"content-length: {declared} is not valid; it must be 0 to {MAX_SIZE}")
    if early:
        await http.answer(200, JSON, Digest().as_json())
    digest = Digest()
    async for data in http.body():
        digest.add(data, metrics)
    if not early:
        await http.answer(200, JSON, digest.as_json())
    return "200"


async def post_eof_gated(http: Http, request: Request, metrics: Metrics) -> str:
    """Everything up to the client's end of stream is the body; it answers only after it has seen that."""
    Query(request.query).done()
    for name in ("content-length", "transfer-encoding"):
        if name in request.headers:
            raise RefusedError(400, f"{name}: must not be given; the body ends with the client's end of stream")
    digest = Digest()
    async for data in http.raw():
        digest.add(data, metrics)
    await http.answer(200, JSON, digest.as_json(), ("Connection", "close"))
    return "200"


async def post_never_reads(http: Http, request: Request, metrics: Metrics) -> str:
    """Reads nothing behind the head until the client leaves; then resets, since the body was not taken."""
    Query(request.query).done()
    await http.connection.watch_to_end(MISBEHAVIOUR_BOUND_S)
    http.connection.reset()
    return SILENT


async def get_never_answers(http: Http, request: Request, metrics: Metrics) -> str:
    """Says nothing until the client ends; then ends too."""
    Query(request.query).done()
    with suppress(OSError):  # to leave with a reset is as good
        await http.connection.discard_to_end(MISBEHAVIOUR_BOUND_S)
        http.connection.finish()
    return SILENT


ROUTES = {
    "/bytes": Route("bytes", ("GET",), get_bytes),
    "/upload": Route("upload", ("POST", "PUT"), post_upload),
    "/eof-gated": Route("eof_gated", ("POST",), post_eof_gated),
    "/never-reads": Route("never_reads", ("POST",), post_never_reads),
    "/never-answers": Route("never_answers", ("GET",), get_never_answers),
    "/half-close": Route("half_close", ("GET",), get_half_close),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesWish:
    """The parameters of /bytes, checked. Sizes in bytes; `reset_at` is None for no reset."""

    seed: int
    size: int
    framing: str
    delay_ms: int = 0
    gap_ms: int = 0
    gap_every: int = payload.BLOCK_BYTES
    reset_at: int | None = None

    @classmethod
    def parsed(cls, text: str) -> "BytesWish":
        """Raises RefusedError."""
        query = Query(text)
        seed, size = _seed(query), _size(query)
        reset_at = query.integer("reset_at", 0, size, default=-1)
        wish = cls(
            seed=seed,
            size=size,
            framing=query.choice("framing", ("length", "chunked", "close")),
            delay_ms=query.integer("delay_ms", 0, MAX_DELAY_MS, default=0),
            gap_ms=query.integer("gap_ms", 0, MAX_DELAY_MS, default=0),
            gap_every=query.integer("gap_every", 1, MAX_SIZE, default=payload.BLOCK_BYTES),
            reset_at=None if reset_at < 0 else reset_at,
        )
        query.done()
        gaps_s = wish.size // wish.gap_every * wish.gap_ms / 1000
        if gaps_s > MAX_GAPS_S:
            raise RefusedError(400, f"gap_ms: the gaps add up to {gaps_s:.0f} s; at most {MAX_GAPS_S} s is allowed")
        return wish


class Digest:
    """Length and SHA-256 of what was received."""

    def __init__(self) -> None:
        self._received = 0
        self._sha256 = sha256()

    def add(self, data: bytes, metrics: Metrics) -> None:
        """Raises RefusedError beyond the bound of a body."""
        self._received += len(data)
        self._sha256.update(data)
        metrics.bytes_received.inc(len(data))
        if self._received > MAX_SIZE:
            raise RefusedError(400, f"body: is larger than {MAX_SIZE} bytes")

    def as_json(self) -> bytes:
        return json.dumps({"received": self._received, "sha256": self._sha256.hexdigest()}).encode()


async def _send_body(http: Http, wish: BytesWish, metrics: Metrics) -> None:
    async for data in _pieces(wish):
        await http.data(data)
        metrics.bytes_sent.inc(len(data))


async def _pieces(wish: BytesWish) -> AsyncIterator[bytes]:
    """The body up to where it is cut, with the gaps."""
    end = wish.size if wish.reset_at is None else wish.reset_at
    step = wish.gap_every if wish.gap_ms else max(end, 1)
    for start in range(0, end, step):
        if start:
            await asyncio.sleep(wish.gap_ms / 1000)
        for data in payload.chunks(wish.seed, min(start + step, end), start):
            yield data


def _seed(query: Query) -> int:
    return query.integer("seed", 0, MAX_SEED, default=0)


def _size(query: Query) -> int:
    return query.integer("size", 0, MAX_SIZE)

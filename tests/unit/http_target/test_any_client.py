"""A client that sends anything, in any pieces: it is answered or left, the same way however the bytes were cut, and
nothing raises but what the session expects."""

import asyncio
import re
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from http_target.connection import Connection, StalledError
from http_target.metrics import Metrics
from http_target.query import Query, RefusedError
from http_target.routes import ROUTES, BytesWish
from http_target.session import Service, Speak, speak_first, speak_http
from http_target.settings import HttpTargetSettings

EXPECTED = (OSError, StalledError, RefusedError)
"""What `serve` takes for a client's doing."""

H11_WORDS = re.compile(rb"Content-Length: \d+\r\n\r\nthis is not valid HTTP: .*\n")
"""h11 says of a line that cannot be right what is wrong with as much of it as is there."""


class Scripted:
    """A connection whose client says its pieces, and then ends."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.sent = bytearray()
        self.closed = self.finished = False
        self._pieces = [piece for piece in pieces if piece]

    async def receive(self, bound_s: float) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    async def receive_idle(self, bound_s: float) -> bytes:
        return await self.receive(bound_s)

    async def send(self, data: bytes, bound_s: float) -> None:
        assert not self.finished, "bytes behind the end"
        assert not self.closed
        self.sent += data

    def finish(self) -> None:
        self.finished = True

    async def discard_to_end(self, bound_s: float) -> None:
        self._pieces.clear()

    async def watch_to_end(self, bound_s: float) -> None:
        pass

    async def flushed(self) -> None:
        pass

    def reset(self) -> None:
        self.closed = True


def served(speak: Speak, pieces: list[bytes]) -> tuple[bytes, bool, bool, str]:
    """What the client got, whether its connection was ended or reset, and why, if there was something wrong."""
    connection = Scripted(pieces)

    async def serve() -> str:
        service = Service(HttpTargetSettings(), Metrics(CollectorRegistry()), asyncio.Event())
        try:
            await speak(cast(Connection, connection), service)
        except EXPECTED as error:
            return type(error).__name__
        return ""

    why = asyncio.run(serve())
    return H11_WORDS.sub(b"", bytes(connection.sent)), connection.finished, connection.closed, why


names = st.sampled_from(["size", "seed", "framing", "reset_at", "gap_every", "early", "x"])
values = st.one_of(
    st.integers(0, 3000).map(str), st.sampled_from(["length", "chunked", "close", "", "-1", "1e3", "%00", "%ff"])
)
queries = st.lists(st.tuples(names, values).map("=".join), max_size=4).map("&".join)
targets = st.tuples(st.sampled_from([*ROUTES, "/", "*", "//[", "http://a/bytes"]), queries).map("?".join)
headers = st.sampled_from(
    [
        *("Host: t", "Host: t", "Connection: close", "Expect: 100-continue", "Transfer-Encoding: chunked", "X"),
        *("Content-Length: 5", "Content-Length: 0", "Content-Length: 5000000000", "Content-Length: -1", "Upgrade: x"),
    ]
)
methods = st.sampled_from(["GET", "GET", "POST", "PUT", "HEAD", "CONNECT", "{}"])
heads = st.tuples(methods, targets, st.sampled_from(["1.1", "1.1", "1.0", "2"]), st.lists(headers, max_size=4)).map(
    lambda head: "\r\n".join((f"{head[0]} {head[1]} HTTP/{head[2]}", *head[3], "", "")).encode()
)
right = targets.map(lambda target: f"GET {target} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
UPLOADS = [
    b"POST /eof-gated HTTP/1.1\r\nHost: t\r\n\r\nhello",
    b"POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /upload?early=1 HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
]
bodies = st.sampled_from([b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffff\r\n", b"\r\n", b"\0"])
parts = st.one_of(right, st.sampled_from(UPLOADS), heads, bodies, st.binary(max_size=30))
requests = st.lists(parts, max_size=6).map(b"".join)
cuts = st.lists(st.integers(0, 500))


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    return [stream[start:end] for start, end in pairwise([0, *sorted(places), len(stream)])]


@pytest.mark.parametrize("speak", [speak_http, speak_first])
@given(stream=requests, places=cuts)
def test_how_the_bytes_are_cut_changes_nothing(speak: Speak, stream: bytes, places: list[int]) -> None:
    whole = served(speak, [stream])
    assert served(speak, cut(stream, places)) == whole
    sent, finished, closed, why = whole
    assert finished or closed or why, "the client is told that it is over"
    if speak is speak_http and sent:
        assert sent.startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize("upload", UPLOADS)
def test_an_upload_is_the_same_however_it_is_cut_in_two(upload: bytes) -> None:
    whole = served(speak_http, [upload])
    assert b'{"received": 5' in whole[0] or b"early" in upload
    for place in range(1, len(upload)):
        assert served(speak_http, cut(upload, [place])) == whole


@given(st.text(max_size=60) | queries, st.sampled_from([BytesWish.parsed, Query]))
def test_any_query_is_taken_or_refused(text: str, read: Callable[[str], object]) -> None:
    try:
        read(text)
    except RefusedError as refusal:
        answer = f"{refusal.status} {refusal}".encode()
        assert answer.startswith(b"400 ")

"""All scenarios, in the order in which they are listed."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from loadgen.scenarios import (
    chunked,
    close_delimited,
    download,
    eof_gated,
    get,
    keep_alive,
    server_first,
    upload,
)
from loadgen.transaction.route import Route
from loadgen.transaction.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of transaction. `size_bytes` and `requests` hold where a mix says nothing else."""

    name: str
    summary: str
    run: Callable[[Transaction, Route], Awaitable[None]]
    size_bytes: int
    requests: int = 1


_ALL = (
    Scenario("get", get.SUMMARY, get.run, 8_000),
    Scenario("chunked", chunked.SUMMARY, chunked.run, 8_000),
    Scenario("close_delimited", close_delimited.SUMMARY, close_delimited.run, 8_000),
    Scenario("keep_alive", keep_alive.SUMMARY, keep_alive.run, 2_000, requests=4),
    Scenario("download", download.SUMMARY, download.run, 1_000_000),
    Scenario("upload", upload.SUMMARY, upload.run, 1_000_000),
    Scenario("eof_gated", eof_gated.SUMMARY, eof_gated.run, 4_000),
    Scenario("server_first", server_first.SUMMARY, server_first.run, 1_000),
)

SCENARIOS: Mapping[str, Scenario] = {scenario.name: scenario for scenario in _ALL}

"""The native engine. `tunnel.engine.quinn` makes endpoints with it; `tunnel.engine.port` says what the methods do."""

from collections.abc import Callable
from types import ModuleType
from typing import final

from tunnel.engine.port import Address, Closed, Event, Packets, Stats, Transmit
from tunnel.engine.settings import EngineLimits, Qlog

API: int
"""Rises with every change of what is said across this boundary, `tunnel.engine.quinn.API` with it."""

class EngineError(Exception):
    """A fault of the engine itself: (label of the error table's cause, what happened)."""

@final
class Endpoint:
    name: str
    @staticmethod
    def client(
        port: ModuleType,
        closed: Callable[[str, int, str, bool, bool], Closed],
        limits: EngineLimits,
        server_name: str,
        *,
        authorities: list[tuple[bytes, int, int]] | None = None,
        pin_sha256: bytes | None = None,
        path_mtu: Callable[[Address], int | None] | None = None,
        seed: int | None = None,
        qlog: Qlog | None = None,
    ) -> Endpoint:
        """Authorities are (DER, valid from, valid until). Raises ValueError."""

    @staticmethod
    def server(
        port: ModuleType,
        closed: Callable[[str, int, str, bool, bool], Closed],
        limits: EngineLimits,
        certificate: bytes,
        private_key: bytes,
        *,
        seed: int | None = None,
        qlog: Qlog | None = None,
    ) -> Endpoint:
        """Certificate and key are PEM. Raises ValueError."""

    def connect(self, address: Address, now: float) -> int: ...
    def receive(self, data: bytes | memoryview, segment_size: int, address: Address, now: float) -> None: ...
    def poll_transmit(self, now: float) -> Transmit | None: ...
    def poll_event(self) -> tuple[int, Event] | None: ...
    def get_timer(self) -> float | None: ...
    def handle_timer(self, now: float) -> None: ...
    def accept(self, connection: int) -> None: ...
    def refuse_strangers(self) -> None: ...
    def use_certificate(self, certificate: bytes, private_key: bytes) -> None: ...
    def open(self, connection: int) -> int | None: ...
    def send(self, connection: int, stream: int, data: bytes | memoryview) -> int: ...
    def finish(self, connection: int, stream: int) -> None: ...
    def reset(self, connection: int, stream: int, code: int) -> None: ...
    def stop(self, connection: int, stream: int, code: int) -> None: ...
    def consumed(self, connection: int, stream: int, count: int) -> None: ...
    def ping(self, connection: int) -> None: ...
    def close(self, connection: int, code: int, reason: str) -> None: ...
    def stats(self, connection: int) -> Stats | None: ...
    def packets(self) -> Packets: ...

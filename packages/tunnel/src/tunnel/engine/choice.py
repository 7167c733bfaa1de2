"""Which engine a program uses: the one that was asked for, or the first that is there and can do what was asked.

Rules:
- Looking is not loading: an engine is imported when it is used, so that --help and --check-config stay quick.
- What cannot be had is refused before anything is opened, in words that say how to get it. Nobody who asked for one
  engine is given another. That goes for auto as well: who has installed quinn, and has a wheel that an update made too
  old, is told so, and not left with a slow tunnel.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Literal, Protocol, cast, get_args

from tunnel.engine.port import Address, Engine
from tunnel.engine.settings import ClientTls, CongestionControl, EngineLimits, Qlog, ServerTls

EngineName = Literal["auto", "aioquic", "quinn"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)

AUTO_PREFERS_QUINN = True
"""Where both are installed."""

CONGESTION_CONTROLS: dict[str, tuple[CongestionControl, ...]] = {
    "aioquic": ("cubic", "reno"),
    "quinn": ("cubic", "bbr", "reno"),
}

_WHEEL = "quinn_engine"
_HOW_TO_GET_QUINN = "`make native` builds it (that takes Rust) and installs it"


class EngineError(ValueError):
    """The engine that was asked for cannot be used; the message is for people."""


class Adapter(Protocol):
    """What each module `tunnel.engine.NAME` has; `tunnel.engine.aioquic` says what they take and raise."""

    def client_engine(
        self,
        tls: ClientTls,
        limits: EngineLimits,
        *,
        path_mtu: Callable[[Address], int | None] = ...,
        qlog: Qlog | None = ...,
    ) -> Engine: ...

    def server_engine(self, tls: ServerTls, limits: EngineLimits, *, qlog: Qlog | None = ...) -> Engine: ...


def installed() -> list[str]:
    """The engines that are there, the one that `auto` prefers first."""
    if find_spec(_WHEEL) is None:
        return ["aioquic"]
    return ["quinn", "aioquic"] if AUTO_PREFERS_QUINN else ["aioquic", "quinn"]


def choose(name: str, congestion_control: CongestionControl = "cubic") -> str:
    """The engine that one of ENGINES stands for here. Raises EngineError."""
    there = installed()
    if name == "auto":
        able = [engine for engine, controls in CONGESTION_CONTROLS.items() if congestion_control in controls]
        name = next((engine for engine in there if engine in able), able[0])
    if name not in there:
        raise EngineError(f"the engine {name} is not installed; {_HOW_TO_GET_QUINN}")
    if congestion_control not in (can := CONGESTION_CONTROLS[name]):
        raise EngineError(f"the engine {name} has no congestion control {congestion_control}, only {' and '.join(can)}")
    return name


def resolve(name: str, congestion_control: CongestionControl = "cubic") -> Adapter:
    """The module of the engine that `choose` names. Raises EngineError."""
    chosen = choose(name, congestion_control)
    try:
        return cast(Adapter, import_module(f"tunnel.engine.{chosen}"))
    except ImportError as error:
        raise EngineError(f"the engine {chosen} is installed and cannot be loaded: {error}") from error

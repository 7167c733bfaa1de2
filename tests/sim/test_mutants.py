"""The simulation is worth what it finds: each of these faults, planted, must be found within a few seeds."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.sim.engines import model_engines
from tests.sim.plans import random_plan
from tests.sim.run import Run

from tunnel.engine import port
from tunnel.errors import Cause
from tunnel.net.relay import Relay
from tunnel.session.base import Session
from tunnel.session.client import ClientSession
from tunnel.session.connection import Connection
from tunnel.session.events import Ending
from tunnel.session.ledger import Ledger
from tunnel.session.liveness import Liveness, Verdict
from tunnel.session.server import ServerSession
from tunnel.wire.messages import Done, Outcome

SEEDS = 120

Fault = Callable[..., Any]
"""Takes the original and its arguments."""


def ends_as_eof(what: Ending) -> Fault:
    def fault(original: Any, self: Session, stream: Any, ending: Ending, cause: Cause) -> None:
        original(self, stream, Ending.EOF if ending is what else ending, cause)

    return fault


def nothing(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
    pass


def never(original: Any, self: Any, *args: Any) -> bool:
    return False


def drops_events(kind: type[port.Event]) -> Fault:
    def fault(original: Any, self: Session, connection: Connection, event: port.Event) -> None:
        if not isinstance(event, kind):
            original(self, connection, event)

    return fault


def forgets_done(original: Any, self: Session, connection: Connection, message: Any) -> None:
    if not (isinstance(message, Done) and message.outcome is Outcome.EOF):
        original(self, connection, message)


def says_done_twice(original: Any, self: Session, connection: Connection, message: Any) -> None:
    original(self, connection, message)
    if isinstance(message, Done):
        original(self, connection, message)


def loses_a_byte(original: Any, self: Session, stream: Any, data: bytes) -> None:
    original(self, stream, data[:-1] if len(data) > 1000 else data)


def swaps_bytes(original: Any, self: Session, stream: Any, data: bytes) -> None:
    original(self, stream, data[::-1] if len(data) > 1000 else data)


def closes_at_once(original: Any, self: Session, connection: Connection) -> None:
    self._engine.close(connection.number, Cause.NONE.code, "")


def closes_with_streams(original: Any, self: Session, connection: Connection) -> None:
    original(self, connection)
    self._begin_closing(connection)


def forgets_early_bytes(original: Any, self: ClientSession, target: Any, early: bytes, now: float) -> Any:
    return original(self, target, b"", now)


def tries_the_same_connection(original: Any, self: ClientSession, stream: Any) -> None:
    self._replay(stream)
    self._place_waiting()


def eof_waits_for_the_other_half(original: Any, self: Relay) -> None:
    if self._read_over:
        original(self)


def reset_reads_as_eof(original: Any, self: Relay, cause: Cause) -> None:
    self.on_eof()


def all_is_well(original: Any, self: Liveness, *args: Any) -> Verdict:
    return Verdict.FINE


def credits_nothing(original: Any, self: Session, stream: int, count: int, now: float) -> None:
    self.ledger.undelivered_bytes -= count


MUTANTS: dict[str, tuple[type, str, Fault]] = {
    "a FIN is swallowed": (Session, "finish", nothing),
    "LOST becomes EOF": (Session, "_end_receiving", ends_as_eof(Ending.LOST)),
    "RESET becomes EOF": (Session, "_end_receiving", ends_as_eof(Ending.RESET)),
    "an application's reset becomes EOF": (Relay, "on_error", reset_reads_as_eof),
    "DONE is forgotten": (Session, "_tell", forgets_done),
    "DONE is said twice": (Session, "_tell", says_done_twice),
    "DONE ahead of its stream is dropped": (ServerSession, "_apply_early_done", nothing),
    "Writable is dropped": (Session, "_on_engine_event", drops_events(port.Writable)),
    "a stop is not heard": (Session, "_on_stopped", nothing),
    "Reset is dropped": (Session, "_on_engine_event", drops_events(port.Reset)),
    "a byte is lost": (Session, "_give", loses_a_byte),
    "bytes change places": (Session, "_give", swaps_bytes),
    "early bytes are forgotten": (ClientSession, "open", forgets_early_bytes),
    "no credit comes back": (Session, "delivered", credits_nothing),
    "streams are never retired": (Session, "_retire_if_done", nothing),
    "an end that nobody confirms is forgotten": (Ledger, "half_over", nothing),
    "a rescue does nothing": (Session, "_rescue", nothing),
    "EOF waits for the other direction": (Relay, "_finish_socket", eof_waits_for_the_other_half),
    "a stopped socket is not read on": (Relay, "_stop_reading", nothing),
    "closing does not wait for the PONG": (Session, "_begin_closing", closes_at_once),
    "leaving does not wait for streams": (Session, "_begin_leaving", closes_with_streams),
    "replays are forgotten": (ClientSession, "_can_replay", never),
    "a late GOAWAY is not expected": (ClientSession, "_retry", tries_the_same_connection),
    "silence is never noticed": (Liveness, "check", all_is_well),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_fault_is_found(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, fault = MUTANTS[mutant]
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: fault(original, *args, **kwargs))
    assert any(found(seed) for seed in range(SEEDS)), f"nobody noticed in {SEEDS} seeds"


def found(seed: int) -> bool:
    plan = random_plan(seed, transactions=6)
    try:
        Run(plan, model_engines(plan.faults)).check()
    except Exception:
        return True
    return False

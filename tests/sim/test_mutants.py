"""The simulation is worth what it finds: each of these faults, planted, must be found within a few seeds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.sim import model_connection
from tests.sim.applications import Finish, Script
from tests.sim.engines import model_engines
from tests.sim.invariants import INVARIANTS, Broken
from tests.sim.model_engine import ModelEngine
from tests.sim.network import Link
from tests.sim.plans import SETTINGS, Plan, Transaction, random_plan
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
from tunnel.session.stream import Stream
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
    "one dead connection says nothing of the others": (ClientSession, "_doubt_instance", nothing),
    "silence is never noticed": (Liveness, "check", all_is_well),
}


def credits_what_nobody_took(original: Any, self: Session, stream: Stream, data: bytes) -> None:
    original(self, stream, data)
    self._consume(stream, len(data))


def has_room_for_everything(original: Any, self: model_connection.Connection, number: int, half: Any) -> int:
    return max(0, int(min(half.limit - half.end, self._peer.max_data - self._accepted_bytes)))


def knows_no_limit_in_the_greeting(original: Any, self: ClientSession, connection: Connection) -> None:
    original(self, connection)
    connection.max_streams = 15
    self._place_waiting()


def retires_in_one_table_only(original: Any, self: Session, stream: Stream) -> None:
    if stream.retired and stream.number in self._streams:
        self._forget(stream)


def counts_twice(original: Any, self: Ledger, half: Any) -> None:
    original(self, half)
    original(self, half)


def none_at_all(original: Any, self: Any) -> list[Any]:
    return []


def download_to_one_who_reads_nothing(seed: int) -> Plan:
    reads_nothing = Script(eager=True, finish=Finish.VANISH, patience_s=5.0)
    return Plan(seed, (Transaction(reads_nothing, Script(bytes(1_000_000), write_bytes=65_536)),))


def uploads_at_once(seed: int) -> Plan:
    upload = Transaction(Script(bytes(60_000), write_bytes=65_536), Script(read_bytes=65_536))
    return Plan(seed, (upload,) * 24, link=Link(0.06))


def many_for_a_small_pool(seed: int) -> Plan:
    settings = replace(SETTINGS, max_streams_per_connection=6)
    return Plan(seed, (Transaction(Script(b"1"), Script(b"2")),) * 12, settings=settings)


def any_plan(seed: int) -> Plan:
    return random_plan(seed, transactions=6)


BREAKERS: dict[str, tuple[type, str, Fault, Callable[[int], Plan]]] = {
    "F09 unread bytes fit the windows": (
        Session,
        "_give",
        credits_what_nobody_took,
        download_to_one_who_reads_nothing,
    ),
    "F10 unsent bytes fit the send cap": (
        model_connection.Connection,
        "_room",
        has_room_for_everything,
        uploads_at_once,
    ),
    "F12 dead streams give their credit back": (ModelEngine, "stop", nothing, any_plan),
    "F15 streams stay below the limit": (
        ClientSession,
        "_on_connected",
        knows_no_limit_in_the_greeting,
        many_for_a_small_pool,
    ),
    "F15 nobody waits for ever": (Session, "_watch_progress", nothing, any_plan),
    "F20 a stream is in its tables once": (Session, "_retire_if_done", retires_in_one_table_only, any_plan),
    "F23 ends are counted in order": (Ledger, "end_forwarded", counts_twice, any_plan),
    "F25 the pool is bounded": (ClientSession, "_fresh", none_at_all, any_plan),
}
"""For each invariant a fault that it finds while the run goes on, and the plans that it is looked for in."""


@pytest.mark.parametrize("name", INVARIANTS)
def test_an_invariant_bites(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, method, fault, plan_of = BREAKERS[name]
    plant(owner, method, fault, monkeypatch)
    found = (what_is_found(plan_of(seed)) for seed in range(SEEDS))
    assert any(isinstance(error, Broken) and error.name == name for error in found), f"not in {SEEDS} seeds"


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_fault_is_found(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, fault = MUTANTS[mutant]
    plant(owner, name, fault, monkeypatch)
    found = (what_is_found(any_plan(seed)) for seed in range(SEEDS))
    assert any(error is not None for error in found), f"nobody noticed in {SEEDS} seeds"


def plant(owner: type, name: str, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: fault(original, *args, **kwargs))


def what_is_found(plan: Plan) -> Exception | None:
    try:
        Run(plan, model_engines(plan.faults)).check()
    except Exception as error:
        return error
    return None

"""tunnel.report: what operators read, and how often."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.engine.port import Address
from tunnel.errors import Cause
from tunnel.report import (
    EVIDENCE_EVERY_S,
    EVIDENCE_LINES,
    REPEAT_MAX_S,
    REPEAT_MIN_S,
    Line,
    Repeats,
    address_text,
    asked,
    describe,
)
from tunnel.session import events
from tunnel.wire.messages import Direction

HERE: Address = ("192.0.2.1", 50_000)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("192.0.2.1", 80), "192.0.2.1:80"),
        (("2001:db8::1", 80), "[2001:db8::1]:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        (("::ffff:192.0.2.1", 80, 0, 0), "192.0.2.1:80"),
    ],
)
def test_addresses(address: Address, text: str) -> None:
    assert address_text(address) == text


def down(cause: Cause, *, lost: int = 0, was_up: bool = True, address: Address | None = HERE) -> events.ConnectionDown:
    return events.ConnectionDown(7, cause, "in words", lost, was_up, address)


@pytest.mark.parametrize(
    ("event", "level", "name"),
    [
        (down(Cause.NONE), "info", "connection_closed"),
        (down(Cause.SHUTTING_DOWN), "info", "connection_closed"),
        (down(Cause.SHUTTING_DOWN, was_up=False), "info", "connection_closed"),
        (down(Cause.SHUTTING_DOWN, lost=2), "warning", "connection_lost"),
        (down(Cause.PEER_SILENT), "warning", "connection_lost"),
        (down(Cause.TOKEN_REFUSED, was_up=False), "warning", "connection_failed"),
        (down(Cause.HANDSHAKE_FAILED, was_up=False, address=None), "warning", "connection_failed"),
    ],
)
def test_connections_that_end(event: events.ConnectionDown, level: str, name: str) -> None:
    line = describe(event)
    assert line is not None
    assert line[:2] == (level, name)
    fields: dict[str, Any] = {"connection": 7, "cause": event.cause.label, "detail": "in words"}
    fields |= {"peer": "192.0.2.1:50000"} if event.address else {}
    assert line[2] == fields | ({"streams_lost": event.streams_lost} if event.was_up else {})


def test_connections_that_come_up() -> None:
    fields = {"connection": 7, "peer": "192.0.2.1:50000", "session": "aa", "instance": "bb", "handshake_ms": 12.3}
    client = events.ConnectionUp(7, HERE, None, "aa", "bb", 0.01234)
    assert describe(client) == ("info", "connection_up", fields)
    server = events.ConnectionUp(7, HERE, "laptop", "aa", "bb", 0.01234)
    assert describe(server) == ("info", "connection_up", fields | {"name": "laptop"})


def test_everything_else() -> None:
    assert describe(events.ConnectWanted()) is None
    assert describe(events.GoAwayReceived(7)) == ("info", "peer_drains", {"connection": 7})
    suspect = describe(events.ConnectionSuspect(7, 1.5049))
    assert suspect == ("warning", "connection_suspect", {"connection": 7, "silence_s": 1.5})
    rescued = describe(events.Rescued(7, 3, Direction.TARGET_TO_CLIENT, 1163))
    assert rescued is not None
    assert rescued[:2] == ("warning", "end_rescued")
    assert rescued[2].items() >= {"stream": 3, "direction": "target_to_client", "final_offset": 1163}.items()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def failed(cause: str = "token_refused", number: int = 0) -> Line:
    return "warning", "connection_failed", {"cause": cause, "connection": number}


def repeated(line: Line | None) -> int | None:
    """How many were left out in front of it; None where it is left out itself."""
    return None if line is None else int(str(line[2].get("repeated", 0)))


def test_first_line_passes_as_it_is() -> None:
    assert Repeats(Clock()).thin_out(failed(number=5)) == failed(number=5)


def test_once_a_second_for_ten_minutes() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    passed = []
    for second in range(601):
        clock.now = 1000.0 + second
        if (left_out := repeated(repeats.thin_out(failed()))) is not None:
            passed.append((second, left_out))
    assert passed[:7] == [(0, 0), (1, 0), (3, 1), (7, 3), (15, 7), (31, 15), (63, 31)]
    assert {later - earlier for (earlier, _), (later, _) in pairwise(passed[6:])} == {60}
    assert {left_out for _, left_out in passed[7:]} == {59}


def test_what_is_different_passes() -> None:
    repeats = Repeats(Clock())
    assert repeated(repeats.thin_out(failed("token_refused"))) == 0
    assert repeated(repeats.thin_out(failed("certificate_refused"))) == 0
    assert repeated(repeats.thin_out(("warning", "server_not_found", {"detail": "x"}))) == 0
    assert repeats.thin_out(failed("token_refused", number=2)) is None


def test_what_is_each_time_something_else_is_never_left_out() -> None:
    repeats = Repeats(Clock())
    for name in ("connection_lost", "connection_up", "connection_closed", "connection_suspect", "peer_drains"):
        for _ in range(3):
            assert repeats.thin_out(("warning", name, {"cause": "peer_silent"})) is not None


def test_requests_and_dials_that_meet_a_limit_are_thinned_out_and_no_others() -> None:
    repeats = Repeats(Clock())
    for name in ("request_failed", "dial_failed"):
        passed = [repeats.thin_out(("warning", name, {"cause": "limit_reached"})) for _ in range(1000)]
        assert [repeated(line) for line in passed[:2]] == [0, None]
        assert passed.count(None) == 999
        assert None not in [repeats.thin_out(("warning", name, {"cause": "dial_timeout"})) for _ in range(3)]


def test_well_in_between() -> None:
    repeats = Repeats(Clock())
    assert repeats.thin_out(failed()) is not None
    assert repeats.thin_out(failed()) is None
    repeats.start_over()
    assert repeats.thin_out(failed()) == failed()


def test_after_a_long_quiet_time_it_is_news() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    for _ in range(10):
        repeats.thin_out(failed())
        clock.now += 30
    clock.now += 2 * REPEAT_MAX_S
    assert repeats.thin_out(failed()) is not None
    clock.now += REPEAT_MIN_S
    assert repeats.thin_out(failed()) is not None


@given(st.lists(st.floats(0, 200), max_size=200))
def test_nothing_is_forgotten(pauses_s: list[float]) -> None:
    """Every line either passes or is counted in the next that does; and no two pass within the least interval."""
    clock = Clock()
    repeats = Repeats(clock)
    passed_at: list[float] = []
    left_out = 0
    for pause_s in pauses_s:
        clock.now += pause_s
        count = repeated(repeats.thin_out(failed()))
        if count is None:
            left_out += 1
            assert clock.now - passed_at[-1] < REPEAT_MAX_S
        else:
            assert count == left_out
            left_out = 0
            assert not passed_at or clock.now - passed_at[-1] >= REPEAT_MIN_S * 0.999
            passed_at.append(clock.now)


def evidence(why: events.Why = events.Why.STALLED) -> events.Evidence:
    state = events.StreamState(
        3, 8, "192.0.2.9:50001", events.WaitsFor.RECEIPT, 5.00049, "finished", 120, "open", 70, 0
    )
    return events.Evidence(why, Cause.NONE, 7, "aa", 40, (state,), ("-5.000 stream 8 end sent at 120",))


def test_evidence_has_the_ids_that_lead_to_the_other_side() -> None:
    line = describe(evidence())
    assert line is not None
    assert line[:2] == ("warning", "evidence")
    assert {"why": "stalled", "connection": 7, "session": "aa", "count": 40}.items() <= line[2].items()
    assert line[2]["streams"] == [
        {
            "stream": 3,
            "quic_stream": 8,
            "application": "192.0.2.9:50001",
            "waits_for": "receipt",
            "still_s": 5.0,
            "sent": "finished",
            "sent_offset": 120,
            "received": "open",
            "received_offset": 70,
            "undelivered_bytes": 0,
        }
    ]
    assert line[2]["last_events"] == ("-5.000 stream 8 end sent at 120",)


def test_evidence_is_thinned_out_by_its_kind_and_counted() -> None:
    now = 0.0
    repeats = Repeats(lambda: now)
    stalled, lost = describe(evidence()), describe(evidence(events.Why.LOST))
    assert stalled is not None
    assert lost is not None
    passed = [repeats.thin_out(stalled) for _ in range(EVIDENCE_LINES + 5)]
    assert [line is not None for line in passed] == [True] * EVIDENCE_LINES + [False] * 5
    assert repeats.thin_out(lost) == lost
    now = EVIDENCE_EVERY_S
    again = repeats.thin_out(stalled)
    assert again is not None
    assert again[2]["left_out"] == 5


@pytest.mark.parametrize("number", ["9" * 5000, "²", "-4", "4.0", ""])
def test_who_asks_for_no_stream_gets_no_answer(number: str) -> None:
    class Known:
        def evidence_of(self, application: str, session: str, qid: int | None, now: float) -> None:
            assert qid is None

    assert asked(Known(), {"session": "aa", "quic_stream": number}, 0.0) is None  # type: ignore[arg-type]

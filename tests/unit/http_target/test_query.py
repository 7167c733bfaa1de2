"""http_target.query: every refusal names parameter, value and bound."""

from typing import Any

import pytest

from http_target.query import Query, RefusedError
from http_target.routes import BytesWish


def test_values_and_defaults() -> None:
    query = Query("a=0&b=18446744073709551615&c=x")
    assert query.integer("a", 0, 5) == 0
    assert query.integer("b", 0, 2**64 - 1) == 2**64 - 1
    assert query.integer("d", 0, 5, default=3) == 3
    assert query.choice("c", ("y", "x")) == "x"
    assert query.choice("e", ("y", "x")) == "y"
    query.done()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("n=11", "n: '11' is not valid; it must be 1 to 10"),
        ("n=0", "n: '0' is not valid; it must be 1 to 10"),
        ("n=-1", "n: '-1' is not valid; it must be 1 to 10"),
        ("n=+1", "n: ' 1' is not valid; it must be 1 to 10"),
        ("n=1e1", "n: '1e1' is not valid; it must be 1 to 10"),
        ("n=", "n: '' is not valid; it must be 1 to 10"),
        ("n", "n: '' is not valid; it must be 1 to 10"),
        ("n=%D9%A1", "n: '\N{ARABIC-INDIC DIGIT ONE}' is not valid; it must be 1 to 10"),
        ("n=" + "1" * 5000, f"n: '{'1' * 40}' is not valid; it must be 1 to 10"),
        ("", "n: is missing; it must be 1 to 10"),
        ("n=1&n=2", "n: is given twice"),
        ("n=1&c=z", "c: 'z' is not valid; it must be x, y"),
        ("n=1&m=2", "'m' is not a parameter here; known are: n, c"),
    ],
)
def test_refusals(text: str, problem: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        _take(Query(text))
    assert str(refusal.value) == problem
    assert refusal.value.status == 400


def _take(query: Query) -> None:
    query.integer("n", 1, 10)
    query.choice("c", ("x", "y"))
    query.done()


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("size=0", {"seed": 0, "size": 0, "framing": "length", "gap_ms": 0, "reset_at": None}),
        ("size=1073741824&seed=7&framing=close", {"seed": 7, "size": 1 << 30, "framing": "close"}),
        ("size=9&reset_at=0", {"reset_at": 0}),
        ("size=9&reset_at=9&framing=chunked", {"reset_at": 9, "framing": "chunked"}),
        ("size=9&delay_ms=60000&gap_ms=5&gap_every=3", {"delay_ms": 60_000, "gap_ms": 5, "gap_every": 3}),
    ],
)
def test_what_bytes_can_be_asked(text: str, wish: dict[str, Any]) -> None:
    parsed = BytesWish.parsed(text)
    assert {name: getattr(parsed, name) for name in wish} == wish


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed=1", "size: is missing; it must be 0 to 1073741824"),
        ("size=1073741825", "size: '1073741825' is not valid; it must be 0 to 1073741824"),
        ("size=1&seed=18446744073709551616", "must be 0 to 18446744073709551615"),
        ("size=1&framing=none", "framing: 'none' is not valid; it must be length, chunked, close"),
        ("size=5&reset_at=6", "reset_at: '6' is not valid; it must be 0 to 5"),
        ("size=5&delay_ms=60001", "delay_ms: '60001' is not valid; it must be 0 to 60000"),
        ("size=5&gap_every=0", "gap_every: '0' is not valid; it must be 1 to 1073741824"),
        ("size=1000000&gap_every=1&gap_ms=1", "gap_ms: the gaps add up to 1000 s; at most 600 s is allowed"),
    ],
)
def test_what_bytes_cannot_be_asked(text: str, problem: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        BytesWish.parsed(text)
    assert problem in str(refusal.value)

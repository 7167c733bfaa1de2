"""Numbers as people read them. None is what is not known: a dash.

Rules
- Three digits say enough; a count keeps all of its digits, with commas.
- A time carries its unit, and the unit follows the size: 850 µs, 12.4 ms, 3.2 s, 4 min 10 s, 2 h 5 min.
- A number and what it counts stay on one line: the space between them does not break.
"""

from collections.abc import Mapping

NOTHING = "–"
NBSP = "\u00a0"


def count(number: float | None) -> str:
    """A number of things."""
    if number is None:
        return NOTHING
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"


def counts(numbers: Mapping[str, int]) -> str:
    """Those that are not zero, with their names; empty where all are."""
    return ", ".join(f"{count(number)}{NBSP}{name}" for name, number in numbers.items() if number)


def seconds(value: float | None) -> str:
    """A length of time."""
    if value is None:
        return NOTHING
    if value < 60:
        return milliseconds(value * 1000)
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min {rest}{NBSP}s" if rest else f"{minutes}{NBSP}min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NBSP}h {minutes}{NBSP}min" if minutes else f"{hours}{NBSP}h"


def milliseconds(value: float | None) -> str:
    """A length of time that is given in milliseconds."""
    if value is None:
        return NOTHING
    if value >= 60_000:
        return seconds(value / 1000)
    if value >= 1000:
        return f"{_three(value / 1000)}{NBSP}s"
    if value >= 1 or value == 0:
        return f"{_three(value)}{NBSP}ms"
    return f"{_three(value * 1000)}{NBSP}µs"


def moment(at_s: float | None) -> str:
    """A point on the run's clock, to a tenth of a second."""
    if at_s is None:
        return NOTHING
    if at_s < 120:
        return f"{at_s:.1f}{NBSP}s"
    whole, tenth = divmod(round(at_s * 10), 10)
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    clock = f"{minutes:02}:{second:02}.{tenth}"
    return f"{hours}:{clock}" if hours else clock.removeprefix("0")


def size(value: float | None) -> str:
    """A number of bytes."""
    if value is None:
        return NOTHING
    sign, value = ("−" if value < 0 else ""), abs(value)
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{sign}{_three(value / factor)}{NBSP}{unit}"
    return f"{sign}{value:.0f}{NBSP}B"


def change(before: float | None, after: float | None, write: object = count) -> str:
    """`after` less `before`, with its sign; empty where one of them is not known."""
    if before is None or after is None:
        return ""
    if after == before:
        return "±0"
    assert callable(write)
    return f"{'+' if after > before else '−'}{write(abs(after - before))}"


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"

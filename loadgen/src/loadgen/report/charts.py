"""Charts as inline SVG: small pure functions from numbers to markup.

Rules
- A chart is as wide as its frame and of a fixed height. Shapes live in a nested picture that is stretched to the width
  (`preserveAspectRatio="none"`, lines keep theirs); text does not stretch, it stands at a percentage. So one chart
  fits a wall screen, a telephone and a page of paper.
- What is drawn of the numbers has the class `shape`, and is the only thing that has it: a test looks for it.
- Colours are CSS classes; each series also has its own place, dash or text. What a bucket holds is in its `<title>`.
- Nothing to draw gives an empty string; whoever asked says so in words.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from loadgen.report.scale import Linear, Logarithmic, Scale, clock, number, time_ticks

WIDTH = 1000
"""Of the nested picture. What is seen is a part of it in a thousand."""
_BELOW = 22  # room for the labels of the time axis
_ABOVE = 8
_LANE = 20
_RUG = 7
_LABELLED_LANES = 12
_TITLED_BANDS = 60
_NARROWEST = 2.5
_SMALL = 100  # lower than this, a chart is narrow too

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Band:
    """A fault on the time axis, with its recovery behind it. `to_s` None: it never healed."""

    name: str
    from_s: float
    to_s: float | None
    recovered_s: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Time:
    """The axis that all charts of a run share. `load_s`: where the load ended."""

    span_s: float
    load_s: float | None = None
    bands: tuple[Band, ...] = field(default=())

    def x(self, at_s: float) -> float:
        """The place in the nested picture."""
        return round(min(max(at_s / self.span_s, 0.0), 1.0) * WIDTH, 2)


@dataclass(frozen=True, slots=True)
class Layer:
    """One part of a stack, or one line. `style` is its CSS class."""

    label: str
    style: str
    values: Values


def stacked(
    label: str, time: Time, bucket_s: float, layers: Sequence[Layer], y: Linear, told: Sequence[str], height: int = 190
) -> Markup:
    """Layers on top of each other, the first at the bottom. `told` is what each bucket says when it is pointed at.

    The last layer is what went well: the faults are drawn over it. A rug under the axis marks every bucket in which
    any other layer has something: one failure among thousands is less than a pixel of the stack.
    """
    buckets = max((len(layer.values) for layer in layers), default=0)
    edges = [time.x(index * bucket_s) for index in range(buckets + 1)]
    below = [0.0] * buckets
    drawn, rug = [], []
    for layer in layers:
        above = [low + (value or 0) for low, value in zip(below, layer.values, strict=True)]
        tops, bottoms = ([_down(y, value, height) for value in row] for row in (above, below))
        there = any(layer.values)
        drawn.append(_tag("path", f"shape {layer.style}", d=_steps(edges, tops, bottoms)) if there else "")
        rug.append(_tag("path", layer.style, d=_ticks(edges, layer.values, height)) if there else "")
        below = above
    if not any(drawn):
        return Markup()
    shapes = _join(drawn[:-1]) + _join(reversed(rug[:-1]))
    return _frame(label, time, y, number, shapes, _hits(edges, told, height), height, under=drawn[-1], room=_RUG)


def lines(
    label: str,
    time: Time,
    at_s: Sequence[float],
    layers: Sequence[Layer],
    y: Scale,
    write: Callable[[float], str],
    told: Sequence[str] = (),
    height: int = 170,
    area: bool = False,
) -> Markup:
    """A line a layer through (at_s, value), broken where nothing is known; `area` fills what is under it."""
    x = [time.x(at) for at in at_s]
    half = (x[1] - x[0]) / 2 if len(x) > 1 else WIDTH / 100
    shapes = []
    for layer in layers:
        points = [
            None if value is None else (place, _down(y, value, height))
            for place, value in zip(x, layer.values, strict=True)
        ]
        runs = _runs(points)
        if area and runs:
            shapes.append(
                _tag("path", f"shape {layer.style} area", d=_join(_filled(run, half, height) for run in runs))
            )
        if runs:
            shapes.append(_tag("path", f"shape {layer.style} line", d=_join(_path(run, half) for run in runs)))
    if not shapes:
        return Markup()
    edges = [max(place - half, 0) for place in x] + [min(x[-1] + half, WIDTH)]
    return _frame(label, time, y, write, _join(shapes), _hits(edges, told, height), height)


def fault_lanes(time: Time) -> Markup:
    """A lane a fault: a bar while it lasts, a lighter one while the run recovers, and its name beside it."""
    shown = time.bands[:_LABELLED_LANES]
    rows = []
    for index, band in enumerate(shown):
        top = index * _LANE
        from_x, to_x = time.x(band.from_s), time.x(time.span_s if band.to_s is None else band.to_s)
        end_x = to_x if band.recovered_s is None else time.x(band.recovered_s)
        bars = [
            _tag("rect", "shape recovery-bar", x=_percent(to_x), y=top + 7, width=_percent(end_x - to_x), height=6)
            if end_x > to_x
            else "",
            _tag("rect", "shape fault-bar", x=_percent(from_x), y=top + 4, rx=2, height=12,
                 width=_percent(max(to_x - from_x, _NARROWEST))),
        ]  # fmt: skip
        rows.append(
            _tag("g", "", _join([_tag("title", "", escape(told_of(band))), *bars, _beside(band, from_x, end_x, top)]))
        )
    if not rows:
        return Markup()
    picture = _tag("svg", "chart lanes", _join(rows), role="img", height=len(rows) * _LANE, width="100%",
                   aria_label="Faults and recoveries over the time of the run")  # fmt: skip
    return Markup(picture)


def told_of(band: Band) -> str:
    """A fault in a sentence."""
    until = "never healed" if band.to_s is None else f"to {band.to_s:.1f} s"
    recovery = "" if band.recovered_s is None else f", recovery to {band.recovered_s:.1f} s"
    return f"{band.name}: from {band.from_s:.1f} s {until}{recovery}{'; ' + band.note if band.note else ''}"


def spread(percentiles: Mapping[str, float | None], scale: Logarithmic, label: str) -> Markup:
    """A row's percentiles on one line: p50 to p90 thick, to p99 thin, the maximum a dot."""
    p50, p90, p99, high = (percentiles.get(name) for name in ("p50", "p90", "p99", "max"))
    if p50 is None or high is None:
        return Markup()
    places = [scale.place(value) * WIDTH for value in (p50, p90 or p50, p99 or high, high)]
    grid = [_tag("line", "grid", x1=_percent(scale.place(tick) * WIDTH), x2=_percent(scale.place(tick) * WIDTH),
                 y1=0, y2=22) for tick in scale.ticks]  # fmt: skip
    begin, to_p90, to_p99 = (_percent(at) for at in (places[0], *(max(at - places[0], 4) for at in places[1:3])))
    marks = [
        _tag("line", "shape spread-thin", x1=begin, x2=_percent(places[3]), y1=11, y2=11),
        _tag("rect", "shape spread-mid", x=begin, width=to_p99, y=8, height=6),
        _tag("rect", "shape spread-thick", x=begin, width=to_p90, y=5, height=12),
        _tag("circle", "shape spread-max", cx=_percent(places[3]), cy=11, r=3),
    ]
    return Markup(
        _tag("svg", "chart spread", _join(grid + marks), role="img", width="100%", height=22, aria_label=escape(label))
    )


def spread_axis(scale: Logarithmic, write: Callable[[float], str]) -> Markup:
    """The head of a column of spreads: every second label where there are many."""
    every = 1 if len(scale.ticks) <= 4 else 2
    labels = [
        _text(tick_label, _percent(scale.place(tick) * WIDTH), 11, _anchor(scale.place(tick)))
        for tick, tick_label in ((tick, write(tick)) for tick in scale.ticks[::every])
    ]
    return Markup(_tag("svg", "axis", _join(labels), width="100%", height=14, aria_hidden="true"))


def onsets(time: Time, bucket_s: float, values: Sequence[float], label: str) -> Markup:
    """A row's events on the time of the run: a tick for each bucket that has any, taller where it has more."""
    highest = max(values, default=0)
    if not highest:
        return Markup()
    edges = [time.x(index * bucket_s) for index in range(len(values) + 1)]
    ticks = "".join(
        f"M{left:g} 22v{-6 - 14 * value / highest:.1f}h{max(right - left, 3):g}V22z"
        for left, right, value in zip(edges, edges[1:], values, strict=False)
        if value
    )
    inner = _bands(time, 22) + _tag("path", "track", d=f"M0 22H{WIDTH}") + _tag("path", "shape onset", d=ticks)
    return Markup(
        _tag("svg", "chart onsets", inner, role="img", width="100%", height=22, aria_label=escape(label),
             viewBox=f"0 0 {WIDTH} 22", preserveAspectRatio="none")
    )  # fmt: skip


# ---- parts


def _frame(
    label: str,
    time: Time,
    y: Scale,
    write: Callable[[float], str],
    shapes: str,
    hits: str,
    height: int,
    under: str = "",
    room: int = 0,
) -> Markup:
    """Grid, bands, shapes, labels, in the order in which they cover each other; `room` is left below the shapes."""
    drawn = height + room
    inner = under + _bands(time, height) + shapes + _end_of_load(time, height) + hits
    plot = _tag("svg", "plot", inner, x=0, y=_ABOVE, width="100%", height=drawn,
                viewBox=f"0 0 {WIDTH} {drawn}", preserveAspectRatio="none")  # fmt: skip
    grid, labels = [], []
    for tick in y.ticks:
        at = round(_ABOVE + _down(y, tick, height), 1)
        grid.append(_tag("line", "grid", x1=0, x2="100%", y1=at, y2=at))
        labels.append(_text(write(tick), -8, at + 3.5, "end"))
    for tick in time_ticks(time.span_s, 6 if height > _SMALL else 4):
        place = tick / time.span_s
        labels.append(_text(clock(tick, time.span_s), _percent(place * WIDTH), _ABOVE + drawn + 15, _anchor(place)))
    whole = _ABOVE + drawn + _BELOW
    return Markup(
        _tag("svg", "chart timed", _join([*grid, plot, *labels]), role="img", width="100%", height=whole,
             aria_label=escape(label))
    )  # fmt: skip


def _bands(time: Time, height: int) -> str:
    titled = len(time.bands) <= _TITLED_BANDS
    drawn = []
    for band in time.bands:
        from_x, to_x = time.x(band.from_s), time.x(time.span_s if band.to_s is None else band.to_s)
        title = _tag("title", "", escape(told_of(band))) if titled else ""
        if band.recovered_s is not None and (end_x := time.x(band.recovered_s)) > to_x:
            drawn.append(_tag("rect", "recovery", title, x=to_x, y=0, width=round(end_x - to_x, 2), height=height))
        width = round(max(to_x - from_x, _NARROWEST), 2)
        drawn.append(_tag("rect", "fault", title, x=from_x, y=0, width=width, height=height))
        drawn.append(_tag("path", "fault-edge", d=f"M{from_x:g} 0v{height}"))
    return _join(drawn)


def _end_of_load(time: Time, height: int) -> str:
    if time.load_s is None or time.load_s >= time.span_s * 0.995:
        return ""
    return _tag("path", "load-end", _tag("title", "", "the load ends"), d=f"M{time.x(time.load_s):g} 0v{height}")


def _hits(edges: Sequence[float], told: Sequence[str], height: int) -> str:
    drawn = [
        _tag("rect", "", _tag("title", "", escape(text)), x=left, width=round(max(right - left, 0.5), 2), height=height)
        for left, right, text in zip(edges, edges[1:], told, strict=False)
    ]
    return _tag("g", "hits", _join(drawn)) if drawn else ""


def _beside(band: Band, from_x: float, end_x: float, top: int) -> str:
    """The name of a fault where there is room for it."""
    name = band.name if len(band.name) <= 30 else band.name[:29] + "…"
    if end_x <= WIDTH * 0.55:
        return _text(name, _percent(end_x), top + 14, "start", dx=6)
    if from_x >= WIDTH * 0.45:
        return _text(name, _percent(from_x), top + 14, "end", dx=-6)
    return _text(name, _percent(from_x), top + 14, "start", dx=6)


def _steps(edges: Sequence[float], tops: Sequence[float], bottoms: Sequence[float]) -> str:
    """The outline of a stepped area: along the tops to the right, and back along the bottoms."""
    path = [f"M{edges[0]:g} {bottoms[0]:g}"]
    path += [f"V{top:g}H{right:g}" for top, right in zip(tops, edges[1:], strict=True)]
    path += [f"V{bottom:g}H{left:g}" for bottom, left in zip(reversed(bottoms), reversed(edges[:-1]), strict=True)]
    return "".join(path) + "z"


def _ticks(edges: Sequence[float], values: Values, height: int) -> str:
    return "".join(
        f"M{left:g} {height + 2}h{max(right - left, _NARROWEST):g}v{_RUG - 2}H{left:g}z"
        for left, right, value in zip(edges, edges[1:], values, strict=False)
        if value
    )


def _runs(points: Iterable[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    """Stretches without a gap."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _path(run: Sequence[tuple[float, float]], half: float) -> str:
    if len(run) == 1:  # a point has no length: it is drawn as wide as its bucket
        (x, y) = run[0]
        return f"M{max(x - half, 0):g} {y:g}H{min(x + half, WIDTH):g}"
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in run)


def _filled(run: Sequence[tuple[float, float]], half: float, height: int) -> str:
    first, last = run[0], run[-1]
    if len(run) == 1:
        first, last = (max(first[0] - half, 0), first[1]), (min(first[0] + half, WIDTH), first[1])
        run = [first, last]
    return f"M{first[0]:g} {height}L" + "L".join(f"{x:g} {y:g}" for x, y in run) + f"L{last[0]:g} {height}z"


def _down(y: Scale, value: float, height: int) -> float:
    return round(height * (1 - y.place(value)), 1)


def _percent(x: float) -> str:
    return f"{x / WIDTH * 100:.2f}%"


def _anchor(place: float) -> str:
    return "start" if place < 0.02 else "end" if place > 0.96 else "middle"


def _text(text: str, x: object, y: float, anchor: str, dx: int = 0) -> str:
    return _tag("text", "", escape(text), x=x, y=f"{y:g}", text_anchor=anchor, **({"dx": dx} if dx else {}))


def _tag(element: str, style: str, inside: str = "", **attributes: object) -> str:
    """An element; `_` in an attribute's name is `-` there. `inside` and values are markup already."""
    given = {"class": style, **attributes} if style else attributes
    written = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in given.items())
    return f"<{element}{written}>{inside}</{element}>" if inside else f"<{element}{written}/>"


def _join(parts: Iterable[str]) -> str:
    return "".join(parts)

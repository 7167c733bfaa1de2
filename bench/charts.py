"""Bar charts as plain SVG files (docs/adr/0004 says why no library): pure, from bars to markup.

Rules
- One bar a row, from zero; a line over its end goes from the lowest to the highest round, and the figure stands behind.
- A row without a figure says why. Rows with the same heading stand together.
- The file looks right on light and dark pages: its colours follow the reader's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from loadgen.report.scale import linear, number

WIDTH = 860
LABELS = 190  # room for names, on the left
FIGURES = 90  # room for figures, on the right
ROW = 22
HEADING = 26
TOP = 34
BOTTOM = 26

STYLE = """
text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:14px}.heading{font-weight:600}
.axis,.why{fill:#6e7781}.grid{stroke:#d0d7de}.spread{stroke:#24292f;stroke-width:1.5}
.ours{fill:#0969da}.peer{fill:#8c959f}.ceiling{fill:#d4a72c}.page{fill:#fff}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.axis,.why{fill:#8b949e}.grid{stroke:#30363d}
.spread{stroke:#e6edf3}.ours{fill:#2f81f7}.peer{fill:#6e7681}.ceiling{fill:#bb8009}.page{fill:#0d1117}}
"""


@dataclass(frozen=True)
class Bar:
    """A row; `kind` is ours, peer or ceiling. Without figures, `why` says why there are none."""

    name: str
    kind: str = "peer"
    median: float | None = None
    low: float = 0.0
    high: float = 0.0
    why: str = ""
    heading: str = ""


def bars(title: str, rows: Sequence[Bar]) -> str:
    """A whole SVG file."""
    scale = linear(max((row.high for row in rows if row.median is not None), default=1.0), ticks=5)
    span = WIDTH - LABELS - FIGURES

    def x(value: float) -> str:
        return f"{LABELS + scale.place(value) * span:.1f}"

    drawn: list[str] = []
    y = TOP
    heading = ""
    for row in rows:
        if row.heading != heading:
            heading = row.heading
            y += HEADING
            drawn.append(text(8, y - 8, heading, "heading"))
        drawn += draw(row, y, x)
        y += ROW
    grid = [
        f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="{TOP}" y2="{y}"/>'
        + text(x(tick), y + 16, number(tick), "axis", "middle")
        for tick in scale.ticks
    ]
    height = y + BOTTOM
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'{head} role="img" aria-label="{escape(title)}"><style>{STYLE}</style>',
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        text(8, 20, title, "title"),
        *grid,
        *drawn,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def draw(row: Bar, y: int, x: Callable[[float], str]) -> list[str]:
    middle = y + ROW // 2
    name = text(LABELS - 8, middle + 4, row.name, "name", "end")
    if row.median is None:
        return [name, text(LABELS + 6, middle + 4, row.why, "why")]
    width = float(x(row.median)) - LABELS
    return [
        name,
        f'<rect class="{row.kind}" x="{LABELS}" y="{y + 4}" width="{width:.1f}" height="{ROW - 8}"/>',
        f'<line class="spread" x1="{x(row.low)}" x2="{x(row.high)}" y1="{middle}" y2="{middle}"/>',
        text(float(x(max(row.high, row.median))) + 6, middle + 4, figure(row.median), "figure"),
    ]


def figure(value: float) -> str:
    """Three digits say enough."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def text(x: float | str, y: float, words: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'

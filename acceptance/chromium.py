"""A page looked at in a headless Chromium: what it complains of, what it fetches, and whether its charts can be seen.

Rules
- Chromium is the one that is installed (Debian's); none is ever downloaded.
- The page is opened from its file, offline: whatever it asks for besides itself is a problem.
- A chart is an `svg.chart`, what is drawn in it has the class `shape`. A shape has an extent and lies within its chart;
  no text leaves the window, and none covers another text of its chart.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")

_LOOK = """
() => {
  const problems = [];
  const say = (what, element) => problems.push(
    `${what}: ${(element.getAttribute?.("aria-label") || element.textContent || element.tagName).trim().slice(0, 80)}`);
  const covers = (one, other) => one.left < other.right - 1 && other.left < one.right - 1
    && one.top < other.bottom - 3 && other.top < one.bottom - 3;
  if (document.documentElement.scrollWidth > innerWidth) problems.push("the page is wider than the window");
  const charts = [...document.querySelectorAll("svg.chart")].filter(chart => chart.getClientRects().length);
  for (const chart of charts) {
    const frame = chart.getBoundingClientRect();
    const shapes = [...chart.querySelectorAll(".shape")];
    const seen = shapes.filter(shape => {
      const box = shape.getBoundingClientRect();
      const beside = box.left < frame.left - 4 || box.right > frame.right + 4;
      if (beside || box.top < frame.top - 2 || box.bottom > frame.bottom + 2)
        say(`a shape leaves its chart (${shape.getAttribute("class")})`, chart);
      return box.width > 0 && box.height > 0;
    });
    if (!seen.length && !shapes.some(shape => shape.getBoundingClientRect().width > 0)) say("nothing is drawn", chart);
    const texts = [...chart.querySelectorAll("text")].map(text => [text, text.getBoundingClientRect()]);
    texts.forEach(([text, box], index) => {
      for (const [, other] of texts.slice(index + 1))
        if (covers(box, other)) say("a text covers another one", text);
    });
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.closest(".scroll, title")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects())
      if (box.left < -0.5 || box.right > innerWidth + 0.5) { say("a text leaves the window", parent); break; }
  }
  return {problems: [...new Set(problems)], charts: charts.length,
          shapes: document.querySelectorAll("svg.chart .shape").length};
}
"""


@dataclass(frozen=True)
class Look:
    """What was seen. `problems` is empty where all is well."""

    problems: tuple[str, ...]
    charts: int
    shapes: int


def find() -> str | None:
    """The path of the Chromium that is installed; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Runs it. Raises LookupError where there is none."""
    path = find()
    if path is None:
        raise LookupError(f"none of {', '.join(NAMES)} is installed")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # it has no sandbox for root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def look(
    browser: Browser,
    page_file: Path,
    *,
    width: int,
    dark: bool = False,
    picture: Path | None = None,
    height: int = 1600,
    whole: bool = False,
) -> Look:
    """Opens a page and looks at it; `picture` takes a PNG of the window, or of the `whole` page."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", offline=True
    )
    try:
        page = context.new_page()
        complaints: list[str] = []
        address = page_file.resolve().as_uri()
        page.on("console", lambda message: complaints.append(f"console {message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
        page.on(
            "request",
            lambda request: (
                complaints.append(f"it asks for {request.url[:100]}")
                if request.url != address and not request.url.startswith("data:")
                else None
            ),
        )
        page.goto(address, wait_until="load")
        seen = page.evaluate(_LOOK)
        if picture is not None:
            page.screenshot(path=str(picture), full_page=whole)
        return Look((*complaints, *seen["problems"]), seen["charts"], seen["shapes"])
    finally:
        context.close()

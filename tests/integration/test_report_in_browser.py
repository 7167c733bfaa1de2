"""report.html in a real Chromium: no complaint, nothing fetched, every chart drawn, and no text out of place.

It is skipped where no Chromium is installed, unless FINBACK_REQUIRE_BROWSER=1 says that it has to be there.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptance.chromium import chromium, find, look
from playwright.sync_api import Browser
from tests.unit.loadgen.report import sample

from loadgen.report import html

SMALL = '<svg class="chart" width="9" height="9">'
REQUIRE = "FINBACK_REQUIRE_BROWSER"
CHARTS_OF_A_RUN_WITH_FAULTS = 25

pytestmark = pytest.mark.skipif(
    find() is None and os.environ.get(REQUIRE) != "1", reason=f"no Chromium is installed ({REQUIRE}=1 requires it)"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def _rich(directory: Path) -> None:
    sample.rich().write(directory)


def _calm(directory: Path) -> None:
    sample.calm().write(directory)


def _bare(directory: Path) -> None:
    (directory / "verdict.json").write_text(json.dumps(sample.bare()), encoding="utf-8")


def _crowded(directory: Path) -> None:
    """Many faults, long names, large numbers, a day of time."""
    run = sample.rich()
    run.document["run"] |= {"duration_s": 86_400.0, "mix": "a/very/long/path/" * 8 + "mix.toml"}
    run.timeline["bucket_s"] = 86_400 / len(run.timeline["in_flight"])
    run.timeline["outcomes"] = {name: [n * 1_234_567 for n in row] for name, row in run.timeline["outcomes"].items()}
    run.document["faults"] = [
        run.document["faults"][0]
        | {"name": f"a fault with quite a long name {number}", "from_s": number * 800.0, "to_s": number * 800.0 + 300}
        for number in range(100)
    ]
    run.document["reasons"] = ["x" * 300, "long " * 50]
    run.write(directory)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize(
    ("write", "at_least"),
    [(_rich, CHARTS_OF_A_RUN_WITH_FAULTS), (_calm, 15), (_bare, 8), (_crowded, CHARTS_OF_A_RUN_WITH_FAULTS)],
)
def test_it_is_drawn(
    write: Callable[[Path], None], at_least: int, width: int, dark: bool, browser: Browser, tmp_path: Path
) -> None:
    write(tmp_path)
    picture = tmp_path / "picture.png"
    seen = look(browser, html.write(tmp_path), width=width, dark=dark, picture=picture, whole=True)
    assert seen.problems == ()
    assert seen.charts >= at_least
    assert seen.shapes >= seen.charts
    assert picture.stat().st_size > 20_000


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        ('<script>throw new Error("no")</script>', "console error"),
        ('<img src="http://192.0.2.1/x.png">', "it asks for"),
        (f"{SMALL}</svg>", "nothing is drawn"),
        (f'{SMALL}<rect class="shape" x="40" width="9" height="9"/></svg>', "leaves its chart"),
        (f'{SMALL}<text y="9">one</text><text x="3" y="9">two</text></svg>', "covers another"),
        ('<p style="white-space: nowrap">' + "wide " * 500 + "</p>", "leaves the window"),
    ],
)  # fmt: skip
def test_looking_sees_what_is_wrong(harm: str, problem: str, browser: Browser, tmp_path: Path) -> None:
    """Otherwise the tests above would prove nothing."""
    sample.calm().write(tmp_path)
    page = html.write(tmp_path)
    written = page.read_text(encoding="utf-8").replace("</main>", f"{harm}</main>")
    if problem in ("it asks for",):
        written = written.replace("Content-Security-Policy", "x-no-policy")
    page.write_text(written, encoding="utf-8")
    assert any(problem in found for found in look(browser, page, width=1280).problems)

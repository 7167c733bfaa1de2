"""`report.html` of a run in a real browser: nothing complains, nothing is fetched, every chart is drawn.

    acceptance/report.py [DIR]      the directory of a report (default: of acceptance/faults.py, else reports/latest)

Leaves a picture beside the page, report.png; copied to docs/report.png it is the one in the README.
"""

import sys
from pathlib import Path

from chromium import chromium, look
from serving import ROOT, report

WIDTHS = (1280, 400)
LIMIT_BYTES = 2_000_000
PICTURE_BYTES = 400_000


def main(directory: Path) -> None:
    page = directory / "report.html"
    report("report.html", page, page.is_file())
    report("size", f"{page.stat().st_size:,} bytes", page.stat().st_size < LIMIT_BYTES)
    picture = directory / "report.png"
    with chromium() as browser:
        for width in WIDTHS:
            for dark in (False, True):
                shot = picture if (width, dark) == (WIDTHS[0], False) else None
                seen = look(browser, page, width=width, dark=dark, picture=shot)
                colours = "dark" if dark else "light"
                report(f"{width} px, {colours}", f"{seen.charts} charts, {seen.shapes} shapes", seen.charts > 0)
                report(f"{width} px, {colours}: problems", "; ".join(seen.problems) or "none", not seen.problems)
    size = picture.stat().st_size
    report("picture", f"{picture}, {size:,} bytes", size < PICTURE_BYTES)


def usual() -> Path:
    """The report of a run in which everything broke, where there is one."""
    under_faults = ROOT / "reports" / "faults-local"
    return under_faults if under_faults.is_dir() else ROOT / "reports" / "latest"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else usual())

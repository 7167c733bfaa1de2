"""The README publishes the bounds that acceptance/recovery.py holds, and no others."""

from pathlib import Path

from breaking import ROWS

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_has_the_table_that_is_measured() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    begins = lines.index("| what | applications see | works again within |") + 2
    published = lines[begins : lines.index("", begins)]
    assert published == [f"| {row.what} | {row.sees} | {row.recovery_s:g} s |" for row in ROWS]

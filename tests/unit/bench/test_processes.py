"""Reasons, as they stand in the results."""

import sys
from pathlib import Path

import pytest
from bench.install import without_addresses
from bench.processes import Process, SampleError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux has them")

SHELL = "/bin/sh"


def process(log: Path, script: str, *, answers: bool = False) -> Process:
    return Process([SHELL, "-c", script], log, answers=answers)


def test_a_program_that_ended_is_told_with_its_last_line(tmp_path: Path) -> None:
    made = process(
        tmp_path / "log", "echo first >&2; printf '\\033[31mno such file\\033[0m\\n' >&2; exit 3", answers=True
    )
    try:
        with pytest.raises(SampleError, match=r"^sh ended with 3: no such file$"):
            made.answer()
    finally:
        made.end()


@pytest.mark.parametrize(
    ("logged", "told"),
    [
        ('{"event": "refused", "error": "no wheel", "level": "error"}', "refused no wheel"),
        ("[1, 2]", "[1, 2]"),
        ("", "it said nothing"),
        ("one\ntwo\n\n", "two"),
    ],
)
def test_the_last_line_is_words(tmp_path: Path, logged: str, told: str) -> None:
    log = tmp_path / "log"
    made = process(log, "exec cat", answers=True)
    try:
        log.write_text(logged)
        assert made.last_line() == told
    finally:
        made.end()


def test_a_program_ends_when_it_is_told(tmp_path: Path) -> None:
    made = process(tmp_path / "log", "exec sleep 60")
    assert made.runs
    assert made.rss_bytes > 0

    made.end()

    assert not made.runs


def test_reasons_have_no_addresses_and_no_paths_of_this_machine() -> None:
    said = "open /home/someone/x.pem: reading https://host.test/a/b: 403 Forbidden"

    assert without_addresses(said) == "open …x.pem: reading … 403 Forbidden"

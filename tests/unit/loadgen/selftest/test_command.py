"""What can be said to `loadgen selftest`."""

import pytest

from loadgen.selftest import command
from loadgen.selftest.cases import NAMES
from loadgen.selftest.command import main, row_of
from loadgen.selftest.matrix import Row
from loadgen.stack_api import StackError


def test_help_names_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    shown = "".join(capsys.readouterr().out.split())
    assert all(name in shown for name in NAMES)


def test_a_name_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["--only", "nope"])
    assert refused.value.code == 2
    assert "nope" in capsys.readouterr().err


def test_without_the_other_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As in the image of loadgen."""

    def find(name: str) -> str:
        if name == "http-target":
            raise StackError("http-target is not installed")
        return name

    monkeypatch.setattr(command, "find_program", find)
    assert main(["--only", "none"]) == 2
    said = capsys.readouterr().err
    assert "http-target is not installed" in said
    assert "run it from a checkout, after `make setup`" in said


async def test_a_row_that_cannot_be_run_is_a_miss() -> None:
    async def fails() -> Row:
        raise ConnectionError("nobody there")

    row = await row_of(fails(), "silence", "get", is_control=False)
    assert row.misses == ("it could not be run: ConnectionError: nobody there",)
    assert (row.name, row.scenario, row.is_control, row.ok, row.is_busy) == ("silence", "get", False, False, False)

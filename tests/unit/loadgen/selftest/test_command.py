"""What can be said to `loadgen selftest`."""

import pytest

from loadgen.selftest.cases import NAMES
from loadgen.selftest.command import main


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

"""`loadgen report DIR`."""

from pathlib import Path

import pytest
from tests.unit.loadgen.report import sample

from loadgen.__main__ import main


def test_it_renders_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample.calm().write(tmp_path)
    (tmp_path / "report.html").write_text("old")
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "report.html"), str(tmp_path / "junit.xml")]
    assert "every one of them ok" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "junit.xml").read_bytes().startswith(b"<?xml")


def test_a_directory_without_a_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "verdict.json" in capsys.readouterr().err

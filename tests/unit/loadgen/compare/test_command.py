"""`loadgen compare` from the command line to the exit code."""

import json
from pathlib import Path

import pytest
from tests.unit.loadgen.compare.documents import document, write

from loadgen.__main__ import main


@pytest.fixture
def before(tmp_path: Path) -> Path:
    for number, p50 in enumerate((50, 52, 60), 1):
        write(tmp_path / "before" / str(number), document(p50=p50))
    return tmp_path / "before"


@pytest.fixture
def after(tmp_path: Path) -> Path:
    for number, p50 in enumerate((90, 91, 99), 1):
        write(tmp_path / "after" / str(number), document(p50=p50, outcomes={"eof_missing": number}))
    return tmp_path / "after"


def run(*arguments: object) -> int:
    return main(["compare", *map(str, arguments)])


def test_pass(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(before, before) == 0
    out = capsys.readouterr().out
    assert "verdict: pass" in out
    assert "52 (50..60)" in out
    assert "outcome." not in out, "nothing failed: no rows of zeros"


def test_fail(before: Path, after: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(before, after) == 1
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("latency.get.p50"))
    assert row.split() == ["latency.get.p50", "52", "(50..60)", "91", "(90..99)", "1.75", "(1.5..1.98)", "ms", "worse"]
    row = next(line for line in lines if line.startswith("outcome.eof_missing"))
    assert row.split() == ["outcome.eof_missing", "0", "2", "(1..3)", "-", "per", "1,000", "worse"]
    assert "verdict: fail" in lines
    assert "  latency.p50: 52 -> 91 ms, 1.75 times" in lines


def test_inconclusive(before: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(before, write(tmp_path / "other", document(run={"mix": "default"}))) == 3
    assert "another mix: A small, B default" in capsys.readouterr().out


def test_tolerance(before: Path, tmp_path: Path) -> None:
    slower = write(tmp_path / "slower", document(p50=75))
    assert run(before, slower) == 1
    assert run(before, slower, "--tolerance", "1.5") == 0


def test_json(before: Path, after: Path, tmp_path: Path) -> None:
    assert run(before, after, "--json", tmp_path / "compared.json") == 1
    compared = json.loads((tmp_path / "compared.json").read_text())
    assert list(compared) == ["schema", "verdict", "reasons", "notes", "tolerance", "a", "b", "measures"]
    assert (compared["schema"], compared["verdict"], compared["tolerance"]) == (1, "fail", 1.25)
    assert compared["a"]["path"] == str(before)
    assert compared["b"]["runs"][0] == {"id": "r", "revision": "abc", "verdict": "pass"}
    assert compared["measures"][0] == {
        "name": "latency.p50",
        "unit": "ms",
        "a": {"median": 52, "least": 50, "most": 60},
        "b": {"median": 91, "least": 90, "most": 99},
        "ratio": {"median": 1.75, "least": 1.5, "most": 1.98},
        "mark": "worse",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{before}"], "required: B"),
        (["{before}", "nope"], "nope: there is no such file or directory"),
        (["{before}", "{before}", "--tolerance", "0.9"], "'0.9' is not valid: must be a ratio from 1 to 1000"),
        (["{before}", "{before}", "--tolerance", "nan"], "'nan' is not valid"),
        (["{before}", "{before}", "--json", "{before}"], "--json: cannot write"),
        (["{before}", "{before}", "--tolerate", "2"], "--tolerate"),
    ],
)
def test_usage(before: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = run(*(argument.format(before=before) for argument in arguments))
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert said in capsys.readouterr().err

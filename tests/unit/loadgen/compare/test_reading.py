"""What a side is: one report, or the repeated runs in a directory."""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.anything import changed, json_values
from tests.unit.loadgen.compare.documents import document, older, under_faults, write

from loadgen.compare import table
from loadgen.compare.judgement import compare
from loadgen.compare.reading import ReadError, read


def test_a_report_directory_or_its_verdict(tmp_path: Path) -> None:
    directory = write(tmp_path / "one", document())
    assert read(directory).runs == read(directory / "verdict.json").runs
    assert len(read(directory).runs) == 1


def test_repeated_runs(tmp_path: Path) -> None:
    """Each once, whatever else is there and whatever points at it."""
    for number in (2, 1, 3):
        write(tmp_path / str(number), document(run={"id": f"run {number}"}))
    (tmp_path / "latest").symlink_to("3")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.txt").touch()
    side = read(tmp_path)
    assert [report.run.id for report in side.runs] == ["run 1", "run 2", "run 3"]
    assert side.unfinished == ()


def test_a_run_that_died_is_not_skipped(tmp_path: Path) -> None:
    write(tmp_path / "1", document())
    (tmp_path / "2").mkdir()
    (tmp_path / "2/anomalies.jsonl").touch()
    assert [path.name for path in read(tmp_path).unfinished] == ["2"]


def test_a_document_of_the_first_release(tmp_path: Path) -> None:
    (report,) = read(write(tmp_path, older(document()))).runs
    assert (report.run.mix, report.run.rate_per_s, report.windows) == (None, None, None)


def test_what_is_not_compared_is_not_read(tmp_path: Path) -> None:
    later = document(run={"colour": "red"}, invented={"later": 1}, thresholds="changed")
    assert len(read(write(tmp_path, later)).runs) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is no verdict.json of a soak: document"),
        ("{}", "is no verdict.json of a soak: schema: Field required"),
        (json.dumps(document(schema=2)), "schema: Input should be 1"),
        (json.dumps(document(verdict="perhaps")), "verdict: "),
        (json.dumps(document() | {"outcomes": {"ok": "many"}}), "outcomes.ok: "),
        ("\xff", "is not JSON"),
    ],
)
def test_refusals(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(ReadError, match=re.escape(said)) as refused:
        read(write(tmp_path, content))
    assert str(tmp_path / "verdict.json") in str(refused.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no such file or directory"):
        read(tmp_path / "nope")
    with pytest.raises(ReadError, match=r"no verdict\.json in it"):
        read(tmp_path)


documents = st.one_of(changed(document()), changed(document(**under_faults())), json_values).map(json.dumps)


@given(documents | st.text(max_size=40) | st.just("[" * 100_000))
def test_any_document_is_refused_or_can_be_compared(text: str) -> None:
    with TemporaryDirectory() as directory:
        sound, other = write(Path(directory) / "a", document()), write(Path(directory) / "b", text)
        try:
            side = read(other)
        except ReadError:
            return
        json.dumps(table.document(compare(read(sound), side)))

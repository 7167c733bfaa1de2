"""Marks travel through a file as they were told."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.anything import changed, json_values

from loadgen.faults import marks as marks_module
from loadgen.faults.marks import MarksError, MarksFile, follow, pass_on
from loadgen.faults.plan import Fault, FaultPlan

PLAN = FaultPlan.model_validate(
    {"fault": [{"kind": "loss", "loss": 0.05, "at_s": 1, "for_s": 4, "direction": "server_to_client"}]}
)
PLAN_AS_JSON = PLAN.fault[0].model_dump(mode="json", exclude_none=True)


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.all: list[object] = []
        self.last = asyncio.Event()

    def planned(self, faults: Sequence[Fault]) -> None:
        self.all.append(tuple(faults))

    def began(self, name: str) -> None:
        self.all.append(("began", name))

    def healed(self, name: str) -> None:
        self.all.append(("healed", name))

    def failed(self, name: str, reason: str) -> None:
        self.all.append(("failed", name, reason))

    def misbehaved(self, name: str, reason: str) -> None:
        self.all.append(("misbehaved", name, reason))
        self.last.set()


async def test_through_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks_module, "LOOK_EVERY_S", 0.001)
    told, heard = MarksFile(tmp_path), Heard()
    told.planned(PLAN.faults)
    following = asyncio.create_task(follow(tmp_path, heard))
    told.began("loss")
    told.healed("loss")
    told.failed("loss", "as it were")
    told.misbehaved("loss", "its program")
    await asyncio.wait_for(heard.last.wait(), 10)
    following.cancel()
    assert heard.all == [
        PLAN.faults, ("began", "loss"), ("healed", "loss"), ("failed", "loss", "as it were"),
        ("misbehaved", "loss", "its program"),
    ]  # fmt: skip


def test_another_user_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        MarksFile(tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "marks.jsonl").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("text", ["{", '{"began": 1}', '"began"'])
async def test_what_cannot_be_followed_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "marks.jsonl").write_text(text + "\n")
    with pytest.raises(MarksError, match=r"marks\.jsonl: .* is not a mark"):
        await follow(tmp_path, Heard())
    with pytest.raises(MarksError, match="No such file"):
        await follow(tmp_path / "none", Heard())


def test_a_new_file_is_empty(tmp_path: Path) -> None:
    MarksFile(tmp_path).began("of an earlier run")
    MarksFile(tmp_path)
    assert (tmp_path / "marks.jsonl").read_text() == ""


def test_what_is_no_mark() -> None:
    with pytest.raises(ValueError, match="not a mark"):
        pass_on({"began": 1}, Heard())


@given(st.one_of(json_values, changed({"failed": "loss", "reason": "x"}), changed({"planned": [PLAN_AS_JSON]}, 1)))
def test_what_is_no_mark_is_refused_as_a_value(mark: object) -> None:
    heard = Heard()
    try:
        pass_on(cast(dict[str, object], mark), heard)  # A line may be any JSON.
    except (ValueError, LookupError):
        assert not heard.all
    else:
        assert len(heard.all) == 1

"""loadgen.toml_file: whatever a file holds, it is a description, or refused in a sentence."""

import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from tests.anything import changed, json_values, toml

from loadgen import toml_file
from loadgen.faults.plan import FaultPlan
from loadgen.link.plan import Direction, Plan, Timeline
from loadgen.load import mix as mixes
from loadgen.load.mix import Mix
from loadgen.toml_file import UnusableFileError

EXAMPLES = Path(__file__).parents[3] / "examples"
MODELS: list[type[BaseModel]] = [Mix, FaultPlan, Plan]
LINK = {
    "delay_ms": 10,
    "rebind_at_s": [1.5],
    "at": [
        {"from_s": 5, "to_s": 8, "loss": 0.05, "rate_mbit_s": 2},
        {"from_s": 1, "direction": "server_to_client", "blackhole": True},
    ],
}
GOOD = {
    Mix: tomllib.loads((EXAMPLES / "mixes" / "endings.toml").read_text()),
    FaultPlan: tomllib.loads((EXAMPLES / "faults" / "rough-minute.toml").read_text()),
    Plan: LINK,
}


@pytest.mark.parametrize("model", MODELS)
@given(text=st.text(max_size=60) | st.dictionaries(st.text(max_size=8), json_values, max_size=4).map(toml))
def test_any_text_is_a_description_or_refused(model: type[BaseModel], text: str) -> None:
    with suppress(UnusableFileError):
        toml_file.parse(text, "here", model)


@pytest.mark.parametrize("model", MODELS)
@given(data=st.data())
def test_a_description_with_something_changed_is_one_or_refused(model: type[BaseModel], data: st.DataObject) -> None:
    text = toml(data.draw(changed(GOOD[model])))
    try:
        found = toml_file.parse(text, "here", model)
    except UnusableFileError as refusal:
        why = str(refusal)
        assert why.startswith("here: ")
        return
    again = model.model_validate(found.model_dump(mode="json", exclude_none=True))
    assert again == found
    match found:
        case Mix():
            assert sum(mixes.Mix.rates_per_s(found).values()) == pytest.approx(found.rate_per_s)
        case FaultPlan():
            assert len({fault.name for fault in found.faults}) == len(found.fault)
        case Plan():
            for direction in Direction:
                _, until_s = Timeline(found, direction).at(3)
                assert until_s > 3


@pytest.mark.parametrize("text", ["a = " + "1" * 5000, "a = " + "[" * 5000, "a = 1979-02-31", "a = \x00", "a"])
def test_what_no_parser_reads_is_refused_too(text: str) -> None:
    with pytest.raises(UnusableFileError, match=r"^here: "):
        toml_file.parse(text, "here", Plan)

"""verdict.json against its schema, and the schema against docs/VERDICT.md."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.unit.loadgen.report import sample

from loadgen.load.mix import Spacing
from loadgen.measure.observe import EVENTS
from loadgen.report import files
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import Phase
from loadgen.verdict.document import SCHEMA
from loadgen.verdict.verdict import Verdict

ROOT = Path(__file__).parents[4]
SCHEMA_FILE = Path(files.__file__).with_name("verdict.schema.json")
THE_SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(THE_SCHEMA)
RICH = sample.rich()


def _errors(document: dict[str, Any]) -> list[str]:
    as_read = json.loads(json.dumps(document))
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(as_read)]


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from _objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _objects(part)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(THE_SCHEMA)


def test_real_documents_are_valid() -> None:
    assert _errors(RICH.document) == []
    assert _errors(sample.calm().document) == []


def test_every_field_is_asked_for_and_no_other_is_let_in() -> None:
    assert _errors(RICH.document | {"verdit": "pass"})
    for name in RICH.document:
        assert _errors({key: value for key, value in RICH.document.items() if key != name}), name
    document = deepcopy(RICH.document)
    document["run"]["sed"] = 1
    document["outcomes"]["okay"] = 1
    document["faults"][0]["from"] = 1
    assert len(_errors(document)) == 3
    for found in _objects(THE_SCHEMA):
        assert found.get("additionalProperties") is not None, found


def test_it_knows_what_the_code_knows() -> None:
    assert THE_SCHEMA["properties"]["schema"] == {"const": SCHEMA}
    assert THE_SCHEMA["properties"]["verdict"]["enum"] == list(Verdict)
    assert list(THE_SCHEMA["$defs"]["outcomes"]["properties"]) == list(Outcome)
    assert THE_SCHEMA["$defs"]["phase"]["enum"] == list(Phase)
    ends = THE_SCHEMA["properties"]["ends"]["additionalProperties"]["additionalProperties"]
    assert tuple(ends["properties"]) == EVENTS
    patterns = THE_SCHEMA["properties"]["run"]["properties"]["arrivals"]["enum"]
    assert set(Spacing) < set(patterns)


@pytest.mark.parametrize(
    "name", sorted({name for found in _objects(THE_SCHEMA) for name in found.get("properties", ())})
)
def test_every_field_is_documented(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "VERDICT.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted({*RICH.timeline, *RICH.timeline["latency_ms"], *RICH.anomalies[0], "dropped"}))
def test_the_other_files_are_documented(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "VERDICT.md").read_text(encoding="utf-8")

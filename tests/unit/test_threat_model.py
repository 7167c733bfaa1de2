"""docs/THREAT-MODEL.md names tests that exist."""

import re
from pathlib import Path

import pytest
from tests.unit.deploy.promtool import ROOT

TEXT = (ROOT / "docs" / "THREAT-MODEL.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([a-z0-9_/]+\.py)::(\w+)`", TEXT)))


@pytest.mark.parametrize(("file", "test"), NAMED, ids="::".join)
def test_each_proof_exists(file: str, test: str) -> None:
    source = (ROOT / "tests" / Path(file)).read_text(encoding="utf-8")
    assert re.search(rf"^ *(async )?def {test}\(", source, re.MULTILINE)


def test_each_threat_has_a_proof() -> None:
    threats = TEXT[TEXT.index("## Threats") : TEXT.index("## What is not defended")]
    rows = [line for line in threats.splitlines() if line.startswith("| ") and not line.startswith("| threat |")]
    assert len(rows) > 25
    for row in rows:
        assert len(row.split(" | ")) == 3, row
        assert ".py::" in row, row


def test_readers_are_led_to_it() -> None:
    assert "(docs/THREAT-MODEL.md)" in (ROOT / "README.md").read_text(encoding="utf-8")

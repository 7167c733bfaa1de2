"""The map of `make test-failures`: what it takes for a row to be proved."""

import re
import subprocess
import sys

import pytest
from tests.failures import PAGE, ROOT, Proof, faults, lines, rows

CATALOGUE = {"F01": "a row"}


def proof(name: str = "test_f01_it_holds", place: str = "sim", row: str = "F01", *engines: str) -> Proof:
    return Proof(place, f"tests/{place}/test_it.py", name, set(engines or ("aioquic", "quinn", "model")), {row}, 3)


def test_the_catalogue_is_complete_and_in_order() -> None:
    assert list(rows()) == [f"F{number:02}" for number in range(1, 29)]
    assert len(re.findall(r"^\| F", PAGE.read_text(), re.MULTILINE)) == 28


def test_each_row_has_its_proofs() -> None:
    command = [sys.executable, "-m", "tests.failures", "--collect-only"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("place", ["sim", "integration", "e2e"])
def test_a_test_of_the_whole_is_enough(place: str) -> None:
    assert not list(faults(CATALOGUE, [proof(place=place), proof(place="unit")]))


def test_both_engines_may_have_a_test_of_their_own() -> None:
    each = [proof("test_f01_one", "sim", "F01", "aioquic"), proof("test_f01_other", "sim", "F01", "quinn")]
    assert not list(faults(CATALOGUE, each))


@pytest.mark.parametrize(
    ("proofs", "fault"),
    [
        ([], "F01 has no test in simulation or against the real programs"),
        ([proof(place="unit")], "F01 has no test in simulation or against the real programs"),
        ([proof("test_f01_x", "sim", "F01", "model", "quinn")], "named after it on aioquic"),
        ([proof("test_f01_x", "sim", "F01", "quinn"), proof("test_x")], "named after it on aioquic"),
        ([proof("test_it_holds")], "F01 has no test that is named after it"),
        ([proof(), proof(row="F99")], "test_it.py: test_f01_it_holds is for F99, which is no row of FAILURES.md"),
    ],
)
def test_what_is_missing_is_told(proofs: list[Proof], fault: str) -> None:
    [told] = faults(CATALOGUE, proofs)
    assert told.endswith(fault)


def test_the_map_names_each_test_with_its_place_and_engines() -> None:
    assert list(lines(CATALOGUE, [proof(place="unit"), proof()])) == [
        "F01  a row",
        "     simulation: test_f01_it_holds (tests/sim/test_it.py; aioquic, model, quinn, 3 cases)",
        "     unit: test_f01_it_holds (tests/unit/test_it.py; aioquic, model, quinn, 3 cases)",
    ]

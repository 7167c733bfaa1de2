"""The workflow of CI's soak: valid, and nothing in it that `make ci-soak` does not do on any machine."""

import os
import re
import subprocess
from pathlib import Path
from shutil import which

import pytest
from tests.unit.deploy.promtool import ROOT

WORKFLOW = ROOT / ".github/workflows/soak.yml"
REQUIRE = "FINBACK_REQUIRE_ACTIONLINT"


def test_actionlint_finds_nothing() -> None:
    found = which("actionlint", path=f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"actionlint is not installed ({REQUIRE}=1)", pytrace=False)
        pytest.skip("actionlint is not installed; `make actionlint` builds it with Go")
    done = subprocess.run([found, "-no-color", str(WORKFLOW)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_it_names_is_there() -> None:
    text = WORKFLOW.read_text(encoding="utf-8")
    plans = set(re.findall(r"examples/faults/[\w-]+\.toml", text))
    assert len(plans) == 2
    assert all((ROOT / plan).is_file() for plan in plans)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([\w-]+)", re.sub("#.*", "", text)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    (promises,) = re.findall(r'ONLY="([^"]+)"', text)
    assert all((ROOT / "acceptance" / f"{name}.py").is_file() for name in promises.split())
    for name in ("SOAK_FAULTS", "SOAK_DURATION"):
        assert f"{name}:" in text
        assert f"{name} ?=" in makefile


def test_what_is_uploaded_is_where_the_soak_puts_it() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    report = re.search(r"SOAK_REPORT \?= (\S+)", makefile)
    baseline = re.search(r"SOAK_BASELINE \?= (\S+)", makefile)
    assert report is not None
    assert baseline is not None
    text = WORKFLOW.read_text(encoding="utf-8")
    assert f"path: {report[1]}\n" in text
    assert f"--dir {baseline[1]} " in text
    assert not Path(baseline[1]).is_absolute()

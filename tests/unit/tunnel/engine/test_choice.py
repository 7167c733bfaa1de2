"""tunnel.engine.choice: what each name stands for, with and without the wheel."""

import sys
from pathlib import Path
from typing import get_args

import pytest

from tunnel.engine import choice
from tunnel.engine.aioquic import client_engine
from tunnel.engine.choice import CONGESTION_CONTROLS, ENGINES, EngineError, choose, installed, resolve
from tunnel.engine.settings import ClientTls, CongestionControl, EngineLimits


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)


@pytest.fixture
def a_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: object())


def test_every_engine_has_its_congestion_controls() -> None:
    assert ("auto", *sorted(CONGESTION_CONTROLS)) == ENGINES
    assert set(CONGESTION_CONTROLS["quinn"]) == set(get_args(CongestionControl))


@pytest.mark.usefixtures("no_wheel")
class TestWithoutTheWheel:
    def test_there_is_aioquic(self) -> None:
        assert installed() == ["aioquic"]
        assert choose("auto") == choose("aioquic") == "aioquic"
        assert choose("auto", "reno") == "aioquic"
        assert resolve("auto").client_engine is client_engine

    @pytest.mark.parametrize(("name", "control"), [("quinn", "cubic"), ("quinn", "bbr"), ("auto", "bbr")])
    def test_what_needs_quinn_is_refused_with_the_way_to_it(self, name: str, control: CongestionControl) -> None:
        with pytest.raises(EngineError, match="the engine quinn is not installed; `make native`"):
            choose(name, control)


@pytest.mark.usefixtures("a_wheel")
class TestWithTheWheel:
    def test_auto_is_the_preferred_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for prefers, expected in ((True, "quinn"), (False, "aioquic")):
            monkeypatch.setattr(choice, "AUTO_PREFERS_QUINN", prefers)
            assert installed()[0] == choose("auto") == choose("auto", "reno") == expected
            assert set(installed()) == {"aioquic", "quinn"}

    @pytest.mark.parametrize("prefers", [True, False])
    def test_auto_is_one_that_can_do_what_is_asked(self, monkeypatch: pytest.MonkeyPatch, prefers: bool) -> None:
        monkeypatch.setattr(choice, "AUTO_PREFERS_QUINN", prefers)
        assert choose("auto", "bbr") == "quinn"

    @pytest.mark.parametrize("prefers", [True, False])
    @pytest.mark.parametrize("name", ["aioquic", "quinn"])
    def test_who_asks_for_one_gets_that_one(self, monkeypatch: pytest.MonkeyPatch, prefers: bool, name: str) -> None:
        monkeypatch.setattr(choice, "AUTO_PREFERS_QUINN", prefers)
        assert choose(name) == name

    def test_a_wheel_that_cannot_be_loaded_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tunnel.engine.quinn", None)
        with pytest.raises(EngineError, match=r"the engine quinn is installed and cannot be loaded: .*tunnel"):
            resolve("quinn")


def test_aioquic_has_no_bbr() -> None:
    """Neither where the choice is made, nor where it is not asked."""
    with pytest.raises(EngineError, match="aioquic has no congestion control bbr, only cubic and reno"):
        choose("aioquic", "bbr")
    with pytest.raises(ValueError, match="aioquic has no congestion control bbr, only cubic and reno"):
        client_engine(ClientTls("localhost", ca_file=Path("nowhere")), EngineLimits(congestion_control="bbr"))
    for control in CONGESTION_CONTROLS["aioquic"]:
        client_engine(ClientTls("localhost", insecure=True), EngineLimits(congestion_control=control))

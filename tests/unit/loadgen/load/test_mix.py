"""Mixes: what comes with the package loads and offers what it promises; what is wrong is refused in words."""

from pathlib import Path

import pytest

from loadgen.load.mix import MixError, names, read
from loadgen.scenarios import SCENARIOS


def test_there_are_two() -> None:
    assert names() == ["default", "small"]


@pytest.mark.parametrize("name", names())
def test_each_holds_every_scenario_often_enough(name: str) -> None:
    """In 30 s each is expected 20 times or more, so that none is missed by chance."""
    mix = read(name)
    assert mix.scenarios.keys() == SCENARIOS.keys()
    weights = sum(share.weight for share in mix.scenarios.values())
    for share in mix.scenarios.values():
        assert 30 * mix.rate_per_s * share.weight / weights >= 20


def test_default_offers_20_mbit_per_s() -> None:
    mix = read("default")
    assert mix.rate_per_s == 60
    assert mix.offered_bits_per_s == pytest.approx(20e6, rel=0.05)
    assert mix.scenarios["download"].sizes_bytes == mix.scenarios["upload"].sizes_bytes == (1_000_000,)


def test_small_is_small() -> None:
    mix = read("small")
    assert mix.rate_per_s == 20
    assert max(size for share in mix.scenarios.values() for size in share.sizes_bytes) <= 4000
    assert mix.offered_bits_per_s < 1e6


def test_only_some_scenarios() -> None:
    """One that the mix does not have comes with its defaults."""
    mix = read("default").only(["get", "upload"])
    assert mix.scenarios.keys() == {"get", "upload"}
    assert mix.scenarios["get"] == read("default").scenarios["get"]


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("rate_per_s = 5\n[scenarios.get]\nweight = 1\nsizes_bytes = [10]\nthink_ms = 250\n")
    mix = read(str(path))
    assert mix.scenarios["get"].think_ms == 250
    assert mix.only(["keep_alive"]).scenarios["keep_alive"].requests == SCENARIOS["keep_alive"].requests


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rate_per_s = 0\n[scenarios.get]\nweight = 1\nsizes_bytes = [1]", "rate_per_s: 0: Input should be greater"),
        ("rate_per_s = 1\n[scenarios.nope]\nweight = 1\nsizes_bytes = [1]", "no scenario nope"),
        ("rate_per_s = 1\n[scenarios.get]\nweight = 1\nsizes_bytes = []", "scenarios.get.sizes_bytes"),
        ("rate_per_s = 1\n[scenarios.get]\nweight = 1\nsizes_bytes = [1073741825]", "1073741824"),
        ("rate_per_s = 1\n[scenarios.get]\nweigth = 1\nsizes_bytes = [1]", "weigth"),
        ("rate_per_s = 1\n[scenarios]", "scenarios"),
        ("rate_per_s = ", "not valid TOML"),
    ],
)
def test_refusals(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(MixError, match=r"bad\.toml") as refused:
        read(str(path))
    assert said in str(refused.value)


def test_no_such_mix() -> None:
    with pytest.raises(MixError, match=r"neither a mix \(default, small\) nor a readable file"):
        read("nope")

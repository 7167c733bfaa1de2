"""Mixes: what comes with the package loads and offers what it promises; what is wrong is refused in words."""

from pathlib import Path

import pytest

from loadgen.load.mix import Mix, Spacing, Span, names, read
from loadgen.load.rate import Stretch
from loadgen.scenarios import SCENARIOS
from loadgen.toml_file import UnusableFileError

GET = "[scenarios.get]\nsizes_bytes = [1]\n"


def test_there_are_two() -> None:
    assert names() == ["default", "small"]


@pytest.mark.parametrize("name", names())
def test_each_holds_every_scenario_often_enough(name: str) -> None:
    """In 30 s each is expected 20 times or more, so that none is missed by chance."""
    mix = read(name)
    assert mix.scenarios.keys() == SCENARIOS.keys()
    assert all(30 * rate_per_s >= 20 for rate_per_s in mix.rates_per_s().values())


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
    assert mix.scenarios["get"].think_ms == (250,)
    assert mix.only(["keep_alive"]).scenarios["keep_alive"].requests == SCENARIOS["keep_alive"].requests
    assert (mix.arrivals, mix.ramp, mix.pattern) == ("constant", (), "constant")


FULL = """
rate_per_s = 10
arrivals = "poisson"
ramp = [{ from_per_s = 0, to_per_s = 10, over_s = 5 }]
[scenarios.get]
rate_per_s = 4
sizes_bytes = [10]
think_ms = [1, 20]
[scenarios.chunked]
weight = 1
sizes_bytes = [10]
think_ms = { from_ms = 5, to_ms = 6 }
[scenarios.upload]
weight = 2
sizes_bytes = [10]
"""


@pytest.fixture
def full(tmp_path: Path) -> Mix:
    path = tmp_path / "full.toml"
    path.write_text(FULL)
    return read(str(path))


def test_everything_that_can_be_written(full: Mix) -> None:
    assert full.rates_per_s() == {"get": 4, "chunked": 2, "upload": 4}
    assert [(stream.name, stream.part, list(stream.scenarios)) for stream in full.streams()] == [
        ("", 0.6, ["chunked", "upload"]),
        ("get", 0.4, ["get"]),
    ]
    assert full.offered_bits_per_s == 800
    assert full.scenarios["get"].think_ms == (1, 20)
    assert full.scenarios["chunked"].think_ms == Span(from_ms=5, to_ms=6)
    assert full.ramp == (Stretch(from_per_s=0, to_per_s=10, over_s=5),)


def test_only_some_of_those_with_a_rate_of_their_own(full: Mix) -> None:
    """The total stays while there are weights; alone, the others keep their rates, and their part of the ramp."""
    assert full.only(["get", "upload"]).rates_per_s() == {"get": 4, "upload": 6}
    alone = full.only(["get"])
    assert alone.rates_per_s() == {"get": 4}
    assert alone.ramp == (Stretch(from_per_s=0, to_per_s=4, over_s=5),)
    with pytest.raises(ValueError, match="nothing is left"):
        alone.only(["get", "download"])


def test_other_arrivals(full: Mix) -> None:
    assert full.arriving() == full
    assert full.arriving(Spacing.CONSTANT).pattern == "ramp"
    assert full.pattern == full.arriving(warm_up_s=0).pattern == "poisson"
    assert full.arriving(warm_up_s=3).ramp == (Stretch(from_per_s=0, to_per_s=10, over_s=3),)
    assert full.arriving(Spacing.CONSTANT, warm_up_s=0).pattern == "constant"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rate_per_s = 0\n[scenarios.get]\nweight = 1\nsizes_bytes = [1]", "rate_per_s: must be greater than 0, not 0"),
        ("rate_per_s = 1\n[scenarios.nope]\nweight = 1\nsizes_bytes = [1]", "no scenario nope"),
        ("rate_per_s = 1\n[scenarios.get]\nweight = 1\nsizes_bytes = []", "scenarios.get.sizes_bytes"),
        ("rate_per_s = 1\n[scenarios.get]\nweight = 1\nsizes_bytes = [1073741825]", "1073741824"),
        ("rate_per_s = 1\n[scenarios.get]\nweigth = 1\nsizes_bytes = [1]", "weigth"),
        ("rate_per_s = 1\n[scenarios]", "scenarios"),
        ("rate_per_s = ", "Invalid value"),
        (f"rate_per_s = 1\narrivals = 'bursts'\n{GET}weight = 1", "'constant' or 'poisson'"),
        (
            f"rate_per_s = 1\n[[ramp]]\nfrom_per_s = -1\nto_per_s = 1\nover_s = 1\n{GET}weight = 1",
            "ramp.0.from_per_s: must be greater than or equal to 0, not -1",
        ),
        (
            f"rate_per_s = 1\n[[ramp]]\nfrom_per_s = 1\nto_per_s = 1\nover_s = 0\n{GET}weight = 1",
            "over_s: must be greater than 0",
        ),
        (f"rate_per_s = 1\n{GET}", "needs a weight or a rate_per_s"),
        (f"rate_per_s = 1\n{GET}weight = 0", "scenarios.get.weight: must be greater than 0, not 0"),
        (f"rate_per_s = 1\n{GET}weight = 1\nrate_per_s = 1", "and not both"),
        (f"rate_per_s = 2\n{GET}rate_per_s = 1", "the scenarios' rates are 1 together"),
        (
            f"rate_per_s = 2\n{GET}rate_per_s = 2\n[scenarios.upload]\nweight = 1\nsizes_bytes = [1]",
            "nothing is left for those with a weight",
        ),
        (f"rate_per_s = 1\n{GET}weight = 1\nthink_ms = -1", "think_ms.list.0: must be greater than or"),
        (f"rate_per_s = 1\n{GET}weight = 1\nthink_ms = []", "at least 1 item"),
        (f"rate_per_s = 1\n{GET}weight = 1\nthink_ms = [60001]", "60000"),
        (f"rate_per_s = 1\n{GET}weight = 1\nthink_ms = {{ from_ms = 2, to_ms = 1 }}", "less than from_ms (2)"),
    ],
)
def test_refusals(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(UnusableFileError, match=r"bad\.toml") as refused:
        read(str(path))
    assert said in str(refused.value)


def test_no_such_mix() -> None:
    with pytest.raises(UnusableFileError, match=r"neither a mix \(default, small\) nor a file"):
        read("nope")

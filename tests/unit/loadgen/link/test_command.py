"""What the flags of `loadgen link` make of a plan."""

from pathlib import Path

import pytest

from loadgen.link.command import LinkSettings
from loadgen.link.plan import Window
from servicekit.settings import load


def settings(*flags: str) -> LinkSettings:
    return load(LinkSettings, ["--upstream", "server.example:4433", *flags], {}, prog="loadgen link")


def test_each_blackhole_has_its_length() -> None:
    plan = settings(
        *("--blackhole-at", "5", "--blackhole-for", "1", "--blackhole-at", "20", "--blackhole-for", "2")
    ).whole_plan()

    assert plan.at == (Window(from_s=5, to_s=6, blackhole=True), Window(from_s=20, to_s=22, blackhole=True))


def test_one_length_is_for_all_blackholes() -> None:
    plan = settings("--blackhole-at", "5", "--blackhole-at", "20", "--blackhole-for", "2").whole_plan()

    assert plan.at == (Window(from_s=5, to_s=7, blackhole=True), Window(from_s=20, to_s=22, blackhole=True))


def test_flags_go_before_the_base_of_the_plan_and_its_windows_stay(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text("delay_ms = 10\nloss = 0.1\n[[at]]\nfrom_s = 1\nto_s = 2\nloss = 0.5\n")

    plan = settings(
        "--plan", str(file), "--delay-ms", "3", "--rate-mbit-s", "5", "--blackhole-at", "5", "--blackhole-for", "1"
    ).whole_plan()

    assert (plan.delay_ms, plan.loss, plan.rate_mbit_s) == (3, 0.1, 5)
    assert plan.at == (Window(from_s=1, to_s=2, loss=0.5), Window(from_s=5, to_s=6, blackhole=True))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--blackhole-at", "5"], "each start needs a length"),
        (["--blackhole-for", "5"], "each start needs a length"),
        (["--blackhole-at", "1", "--blackhole-for", "0"], "must be greater than 0"),
        (["--loss", "1.1"], "must be less than or equal to 1"),
        (["--rate-mbit-s", "0"], "must be greater than or equal to 0.01"),
        (["--plan", "nowhere.toml"], "nowhere.toml: No such file"),
    ],
)
def test_what_does_not_fit_together_is_refused(flags: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        settings(*flags)

    assert refused.value.code == 2
    assert says in capsys.readouterr().err

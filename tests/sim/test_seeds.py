"""`make sim`: what it says and returns."""

import re

import pytest
from tests.sim import __main__ as command
from tests.sim import seeds
from tests.sim.run import Run


def sim(*arguments: str) -> int:
    return command.main(["--jobs=1", *arguments])


def fails_in(seed: int) -> object:
    check = Run.check

    def fail(self: Run) -> Run:
        if self.plan.seed == seed:
            raise AssertionError("planted")
        return check(self)

    return fail


def test_seeds_that_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert sim("--seeds=20", "--engines=model,aioquic") == 0
    assert "22 of 22 runs" in capsys.readouterr().out


def test_one_that_fails_is_told_with_its_plan_and_how_to_see_it_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "check", fails_in(7))
    assert sim("--seeds=20", "--engines=model") == 1
    told = capsys.readouterr().out
    assert "FAILED model, seed 7" in told
    assert "AssertionError: planted" in told
    assert "Plan(seed=7" in told
    assert seeds.replay("model", 7) == "make sim SEED=7 ENGINES='model'"
    assert f"see it again: {seeds.replay('model', 7)}" in told
    assert re.search(r"20 of 20 runs in .* 1 failed", told)
    assert sim("--seed=7", "--engines=model") == 1
    assert sim("--seed=8", "--engines=model") == 0


def test_one_that_never_ends_has_failed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def for_ever(self: Run) -> Run:
        while True:
            pass

    monkeypatch.setattr(Run, "check", for_ever)
    monkeypatch.setattr(command, "LIMIT_S", 1)
    assert sim("--seed=1", "--engines=model") == 1
    assert "not over after 1 s" in capsys.readouterr().out


def test_a_million_are_spread_over_all_engines_from_the_start() -> None:
    pairings = [seeds.MODEL, *seeds.REAL]
    work = list(command.chunks(1_000_000, pairings))
    assert [pairing for pairing, _ in work[:5]] == pairings
    for pairing in pairings:
        played = [seed for name, chunk in work if name == pairing for seed in (chunk[0], chunk[-1])]
        assert played == sorted(played)
        assert played[-1] + 1 == (1_000_000 if pairing == seeds.MODEL else 100_000)


def test_an_engine_that_there_is_not_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as ended:
        sim("--engines=quiche")
    assert ended.value.code == 2

"""tunnel.engine.aioquic.probe: what silence, small answers and large answers lead to."""

import pytest

from tunnel.engine.aioquic.probe import AGAIN_S, LARGE_S, Phase, SizeProbe

LARGE, SMALL, START = 1472, 1200, 10.0
LATE = START + LARGE_S


@pytest.fixture
def probe() -> SizeProbe:
    return SizeProbe(LARGE, SMALL, START)


def test_nothing_to_find_out_where_the_path_carries_no_more(probe: SizeProbe) -> None:
    probe = SizeProbe(SMALL, SMALL, START)
    assert (probe.phase, probe.deadline, probe.size) == (Phase.SMALL, None, SMALL)
    assert not probe.start_over(START + 100)


def test_a_large_answer_ends_it(probe: SizeProbe) -> None:
    probe.answered(SMALL)
    probe.answered(LARGE)
    assert not probe.start_over(LATE)
    assert not probe.start_over(LATE + 100)
    assert (probe.phase, probe.deadline, probe.size) == (Phase.LARGE, None, LARGE)


def test_before_its_time_nothing_happens(probe: SizeProbe) -> None:
    assert not probe.start_over(LATE - 0.001)
    assert (probe.deadline, probe.size) == (LATE, LARGE)


def test_small_answers_only_mean_that_large_ones_get_lost(probe: SizeProbe) -> None:
    probe.answered(LARGE - 1)
    assert probe.start_over(LATE)
    assert (probe.phase, probe.deadline, probe.size) == (Phase.SMALL, None, SMALL)
    probe.answered(SMALL)
    assert not probe.start_over(LATE + 100)


class TestSilence:
    @pytest.fixture
    def asking(self, probe: SizeProbe) -> SizeProbe:
        assert probe.start_over(LATE)
        assert (probe.phase, probe.deadline, probe.size) == (Phase.ASKING, None, SMALL)
        return probe

    def test_goes_on_asking_for_as_long_as_it_takes(self, asking: SizeProbe) -> None:
        assert not asking.start_over(LATE + 100)

    @pytest.mark.parametrize(("answer_after_s", "patience_s"), [(0.02, AGAIN_S), (0.5, 1.5)])
    def test_an_answer_means_another_try_and_three_round_trips(
        self, asking: SizeProbe, answer_after_s: float, patience_s: float
    ) -> None:
        asking.answered(SMALL)
        answered_at = LATE + answer_after_s
        assert asking.start_over(answered_at)
        assert (asking.phase, asking.size) == (Phase.AGAIN, LARGE)
        assert asking.deadline == pytest.approx(answered_at + patience_s)

    def test_large_ones_that_now_come_back_stay(self, asking: SizeProbe) -> None:
        asking.answered(SMALL)
        asking.start_over(LATE)
        asking.answered(LARGE)
        assert not asking.start_over(LATE + 100)
        assert asking.size == LARGE

    @pytest.mark.parametrize("answer", [0, SMALL])
    def test_large_ones_that_still_do_not_are_given_up(self, asking: SizeProbe, answer: int) -> None:
        asking.answered(SMALL)
        asking.start_over(LATE)
        asking.answered(answer)
        assert not asking.start_over(LATE + AGAIN_S - 0.001)
        assert asking.start_over(LATE + AGAIN_S)
        assert (asking.phase, asking.deadline, asking.size) == (Phase.SMALL, None, SMALL)
        assert not asking.start_over(LATE + 100)

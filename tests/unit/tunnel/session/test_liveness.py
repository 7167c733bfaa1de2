"""When silence means something: probe, suspect, dead, and the cases where it means nothing."""

from hypothesis import given
from hypothesis import strategies as st

from tunnel.session.liveness import Liveness, Verdict
from tunnel.session.settings import SessionSettings

SETTINGS = SessionSettings()
START_S = 100.0


def run(liveness: Liveness, heard_at: float, until: float) -> list[tuple[float, Verdict]]:
    """Checks whenever the machine asks for it; what it said, and when (in seconds since the start)."""
    said: list[tuple[float, Verdict]] = []
    now = START_S
    while now < until:
        verdict = liveness.check(heard_at, now)
        if verdict is not Verdict.FINE:
            said.append((round(now - START_S, 2), verdict))
        if verdict is Verdict.DEAD:
            break
        later = liveness.next_check(heard_at, now)
        assert later > now
        now = later
    return said


def test_silence_with_something_pending() -> None:
    liveness = Liveness(SETTINGS, START_S)
    liveness.pending(True, START_S)
    said = run(liveness, START_S, START_S + 60)
    assert said[:2] == [(1.0, Verdict.PROBE), (2.0, Verdict.PROBE)]
    assert (2.5, Verdict.SUSPECT) in said
    assert said[-1] == (10.0, Verdict.DEAD)


def test_silence_with_nothing_pending_is_never_death() -> None:
    said = run(Liveness(SETTINGS, START_S), START_S, START_S + 60)
    assert said[0] == (10.0, Verdict.PROBE)
    assert (11.5, Verdict.SUSPECT) in said
    assert Verdict.DEAD not in [verdict for _, verdict in said]


def test_pending_after_a_long_silence_has_its_own_patience() -> None:
    """An idle connection was silent for 9 s when a stream was opened: that is no second from death."""
    liveness = Liveness(SETTINGS, START_S)
    now = START_S + 9
    liveness.pending(True, now)
    assert liveness.check(START_S, now) is Verdict.PROBE
    assert liveness.check(START_S, now + 1.6) is Verdict.SUSPECT
    assert liveness.check(START_S, now + 9.9) is not Verdict.DEAD
    assert liveness.check(START_S, now + 10) is Verdict.DEAD


def test_answer_clears_suspicion() -> None:
    liveness = Liveness(SETTINGS, START_S)
    liveness.pending(True, START_S)
    liveness.check(START_S, START_S + 1)
    assert liveness.check(START_S, START_S + 3) is Verdict.SUSPECT
    liveness.answered()
    assert not liveness.suspect
    assert liveness.check(START_S + 3, START_S + 3.5) is Verdict.FINE


def test_doubt_probes_at_once_and_an_answer_clears_it() -> None:
    liveness = Liveness(SETTINGS, START_S)
    assert liveness.doubt()
    assert not liveness.trusted
    assert not liveness.doubt(), "what is doubted already is not probed again and again"
    assert liveness.check(START_S, START_S + 0.1) is Verdict.PROBE
    assert liveness.next_check(START_S, START_S + 0.1) == START_S + 0.1 + SETTINGS.suspect_after_s
    liveness.answered()
    assert liveness.trusted
    assert liveness.check(START_S + 0.2, START_S + 0.3) is Verdict.FINE


def test_doubt_that_is_not_answered_is_suspicion() -> None:
    liveness = Liveness(SETTINGS, START_S)
    liveness.doubt()
    assert run(liveness, START_S, START_S + 3) == [(0.0, Verdict.PROBE), (1.5, Verdict.SUSPECT)]


def test_doubt_gives_a_probe_that_is_out_no_more_time() -> None:
    liveness = Liveness(SETTINGS, START_S)
    liveness.pending(True, START_S)
    assert liveness.check(START_S, START_S + 1) is Verdict.PROBE
    liveness.doubt()
    assert liveness.check(START_S, START_S + 1 + SETTINGS.suspect_after_s) is Verdict.SUSPECT


def test_doubt_outlives_a_pause_of_our_own() -> None:
    """Its probe is sent again: the silence since the first one proves nothing."""
    liveness = Liveness(SETTINGS, START_S)
    liveness.doubt()
    liveness.check(START_S, START_S)
    liveness.measure_anew(START_S + 30)
    assert liveness.check(START_S, START_S + 30) is Verdict.PROBE
    assert not liveness.trusted


def test_having_stood_still_proves_nothing() -> None:
    liveness = Liveness(SETTINGS, START_S)
    liveness.pending(True, START_S)
    liveness.check(START_S, START_S + 1)
    liveness.measure_anew(START_S + 30)
    assert liveness.check(START_S, START_S + 30) is Verdict.FINE
    assert liveness.check(START_S, START_S + 31) is Verdict.PROBE


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["pending", "idle", "heard", "answered", "doubt", "stood still", "check", "check", "check"]),
        st.floats(0, 12, allow_nan=False),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_each_verdict_has_its_reason(steps: list[tuple[str, float]]) -> None:
    """Against a plain record of what happened: when it was heard, asked, answered and waited for last."""
    liveness = Liveness(SETTINGS, START_S)
    now = heard_at = measured_from = START_S
    pending_since: float | None = None
    asked_at: float | None = None
    for step, wait_s in steps:
        now += wait_s
        match step:
            case "pending" | "idle":
                liveness.pending(step == "pending", now)
                pending_since = (pending_since or now) if step == "pending" else None
            case "heard":
                heard_at = now
            case "answered":
                heard_at, asked_at = now, None
                liveness.answered()
                assert liveness.trusted
            case "doubt":
                liveness.doubt()
                assert not liveness.trusted
            case "stood still":
                measured_from, asked_at = now, None
                liveness.measure_anew(now)
            case _:
                was_suspect, was_doubted = liveness.suspect, liveness.doubted
                silence_s = now - max(heard_at, measured_from)
                waits_s = SETTINGS.keep_alive_s if pending_since is None else SETTINGS.ping_after_s
                match liveness.check(heard_at, now):
                    case Verdict.PROBE:
                        assert asked_at is not None or silence_s >= waits_s or was_doubted
                        asked_at = now if asked_at is None else asked_at
                    case Verdict.SUSPECT:
                        assert not was_suspect, "it is said once"
                        assert asked_at is not None
                        assert now - asked_at >= SETTINGS.suspect_after_s
                    case Verdict.DEAD:
                        assert pending_since is not None
                        assert min(silence_s, now - pending_since) >= SETTINGS.dead_after_s
                    case Verdict.FINE:
                        assert asked_at is not None or silence_s < waits_s
                assert liveness.next_check(heard_at, now) > now


@given(st.floats(0, 9, allow_nan=False), st.booleans())
def test_a_peer_that_is_gone_is_always_found_out(opened_after_s: float, doubted: bool) -> None:
    """However it began: within `dead_after_s` of the stream that waits for it, and suspect long before."""
    liveness = Liveness(SETTINGS, START_S)
    opened_at = START_S + opened_after_s
    if doubted:
        liveness.doubt()
    run(liveness, START_S, opened_at)
    liveness.pending(True, opened_at)
    liveness.check(START_S, opened_at)
    now, verdict = opened_at, Verdict.FINE
    while verdict is not Verdict.DEAD:
        now = liveness.next_check(START_S, now)
        verdict = liveness.check(START_S, now)
        assert liveness.suspect or now - opened_at < SETTINGS.ping_after_s + SETTINGS.suspect_after_s + 0.02
        assert now - opened_at < SETTINGS.dead_after_s + 0.02

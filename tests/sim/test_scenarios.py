"""Rows of the failure catalogue as plans: small, on purpose, on each pairing of engines. test_sessions mixes them."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, cast

import pytest
from tests.sim.applications import Finish, Script
from tests.sim.engines import PAIRINGS, engines_of, seeded
from tests.sim.kernel import VirtualSocket
from tests.sim.network import Link
from tests.sim.plans import LIMITS, SETTINGS, SURVIVABLE_S, MtuChange, Plan, Span, Transaction
from tests.sim.run import OTHER_SERVER, Run

from tunnel.engine.port import Engine
from tunnel.engine.settings import ServerTls
from tunnel.errors import Cause
from tunnel.session import events
from tunnel.wire.messages import Direction

Play = Callable[..., Run]
"""Runs transactions under a plan, and checks all that `Run.check` checks."""

BODY = Random(1).randbytes(300_000)
REQUEST = Script(b"GET / HTTP/1.1\r\n\r\n")
LOSSY = Link(0.02, jitter_s=0.02, loss=0.05, reorder=0.1)


@pytest.fixture(params=PAIRINGS)
def pairing(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def play(pairing: str, server_tls: ServerTls) -> Play:
    def run(*transactions: Transaction, **plan: Any) -> Run:
        made = Plan(1, transactions, **plan)
        engines = engines_of(pairing, server_tls, made.faults)
        with seeded(Random(1)):
            return Run(made, engines).check()

    return run


def send(payload: bytes, **rest: Any) -> Script:
    return Script(payload, write_bytes=65_536, read_bytes=65_536, **rest)


@pytest.mark.failure("F03")
@pytest.mark.failure("F04")
@pytest.mark.parametrize("application_first", [True, False])
def test_f03_f04_each_direction_ends_by_itself(play: Play, application_first: bool) -> None:
    """One side ends only when it has read the other's end: that must get through while its own is still open."""
    first, second = send(BODY), send(BODY[::-1], finish=Finish.AFTER_PEER)
    run = play(Transaction(*((first, second) if application_first else (second, first))))
    assert run[0].happy


@pytest.mark.failure("F03")
def test_f03_eof_gated(play: Play) -> None:
    """The target answers only when it has seen the end of the upload."""
    assert play(Transaction(send(BODY), send(b"digest", starts_after=None)))[0].happy


@pytest.mark.failure("F17")
def test_f17_the_server_speaks_first(play: Play) -> None:
    greeting = send(b"220 ready", finish=Finish.AFTER_PEER)
    assert play(Transaction(send(b"EHLO", starts_after=9), greeting))[0].happy


@pytest.mark.failure("F22")
def test_f22_an_application_that_waits_for_no_answer(play: Play) -> None:
    """Greeting, request, bytes and half-close in one go, before the proxy has said a word."""
    eager = send(BODY[:20_000], eager=True)
    run = play(*[Transaction(eager, send(b"answer", starts_after=None), dial_s=0.5) for _ in range(5)])
    assert all(one.happy for one in run.pending.values())


@pytest.mark.failure("F16")
def test_f16_many_at_once_do_not_mix(play: Play) -> None:
    rng = Random(2)
    run = play(*[Transaction(send(rng.randbytes(5_000)), send(rng.randbytes(5_000))) for _ in range(60)])
    assert all(one.happy for one in run.pending.values())


@pytest.mark.failure("F15")
@pytest.mark.failure("F20")
def test_f15_f20_requests_in_plenty_on_few_streams(play: Play) -> None:
    limits, settings = (
        replace(LIMITS, max_streams=9),
        replace(SETTINGS, max_streams_per_connection=6, max_connections=2),
    )
    some = [Transaction(REQUEST, send(b"x" * 100), starts_s=0.01 * count) for count in range(150)]
    run = play(*some, limits=limits, settings=settings)
    assert all(one.happy for one in run.pending.values())


@pytest.mark.failure("F05")
@pytest.mark.failure("F07")
def test_f05_f07_a_target_that_resets_is_no_end(play: Play) -> None:
    one = play(Transaction(REQUEST, send(BODY[:50_000], finish=Finish.RESET)))[0]
    assert one.application.broken
    assert not one.application.eof


@pytest.mark.failure("F05")
def test_f05_an_application_that_resets_is_no_end(play: Play) -> None:
    one = play(Transaction(send(BODY[:50_000], finish=Finish.RESET), send(b"", finish=Finish.AFTER_PEER)))[0]
    assert one.target.broken
    assert not one.target.eof


@pytest.mark.failure("F08")
def test_f08_an_application_that_leaves_in_the_middle(play: Play) -> None:
    """Its target is told, and the next request does not suffer."""
    quits = Script(b"GET", read_bytes=1_000, finish=Finish.CLOSE, leave_after=2_000)
    run = play(Transaction(quits, send(BODY)), Transaction(REQUEST, send(BODY), starts_s=1))
    assert run.seconds(run[0].target.over_at) < 3
    assert run[1].happy


@pytest.mark.failure("F09")
@pytest.mark.failure("F10")
@pytest.mark.parametrize("download", [True, False])
def test_f09_f10_who_does_not_read_is_not_sent_much(play: Play, download: bool) -> None:
    reads_nothing = send(b"", finish=Finish.VANISH, patience_s=8.0, eager=True)
    sends = send(b"x" * 3_000_000)
    run = play(Transaction(reads_nothing, sends) if download else Transaction(sends, reads_nothing))
    sender = run[0].target if download else run[0].application
    # Four kernel buffers of up to 64,000 bytes, one read in each relay, one window, one send cap.
    assert 50_000 < sender.written < 700_000


@pytest.mark.failure("F13")
def test_f13_a_pause_longer_than_the_idle_timeout(play: Play) -> None:
    patient = send(b"GET", reads_after_s=LIMITS.idle_timeout_s + 8)
    assert play(Transaction(patient, send(BODY)))[0].happy


@pytest.mark.failure("F01")
def test_f01_draining_loses_nothing(play: Play) -> None:
    slow = Script(b"GET", read_bytes=20_000, read_pause_s=0.3)
    run = play(*[Transaction(slow, send(BODY)) for _ in range(3)], client_drains_s=2.0, server_drains_s=2.1)
    assert all(one.happy for one in run.pending.values())


def test_a_draining_server_hands_over(play: Play) -> None:
    some = [Transaction(REQUEST, send(b"x" * 1_000), starts_s=0.02 * count) for count in range(50)]
    run = play(*some, server_drains_s=0.5, link=LOSSY)
    assert all(one.happy for one in run.pending.values())
    assert len(run.servers[1].connection_events) > 0


@pytest.mark.failure("F02")
@pytest.mark.failure("F06")
@pytest.mark.failure("F18")
@pytest.mark.parametrize(("away_s", "bound_s"), [(0.2, 5.0), (3.0, 5.0), (30.0, -15.0)])
def test_f02_f06_f18_a_server_that_is_killed(play: Play, away_s: float, bound_s: float) -> None:
    """What was under way is reset, within 5 s of the restart or, where there is none, 15 s; what is new works."""
    slow = Script(b"GET", read_bytes=2_000, read_pause_s=0.02)
    killed_s, back_s = 1.0, 1.0 + away_s
    later = Transaction(REQUEST, send(BODY), starts_s=back_s + 3)
    run = play(Transaction(slow, send(BODY * 3)), later, restart=Span(killed_s, away_s))
    assert run[0].application.broken
    assert run.seconds(run[0].application.over_at) < (back_s + bound_s if bound_s > 0 else killed_s - bound_s)
    assert run[1].happy


@pytest.mark.failure("F02")
@pytest.mark.failure("F18")
def test_f02_f18_a_request_does_not_go_from_one_dead_connection_to_the_next(play: Play) -> None:
    """Nothing is on them when their server is killed, so that nobody has noticed."""
    brief = Transaction(REQUEST, send(b"x", starts_after=1), dial_s=0.3)
    later = Transaction(REQUEST, send(BODY), starts_s=2.5)
    settings = replace(SETTINGS, max_streams_per_connection=2)
    run = play(*[brief] * 6, later, settings=settings, restart=Span(2.0, 0.2))
    assert run[6].happy
    assert run.seconds(run[6].application.over_at) < 2.5 + 5


@pytest.mark.failure("F18")
def test_f18_a_request_that_cannot_be_made_again_waits_for_a_connection_that_lives(play: Play) -> None:
    """It brings bytes with it, so that it has one chance: the killed server's connection, suspect by then, is none."""
    slow = Script(b"GET", read_bytes=2_000, read_pause_s=0.02)
    eager = Transaction(Script(b"GET / HTTP/1.1\r\n\r\n", eager=True), send(BODY), starts_s=5.0)
    run = play(Transaction(slow, send(BODY * 3)), eager, restart=Span(1.0, 6.0))
    assert run[0].application.broken
    assert run[1].happy
    assert run[1].dials == 1


@pytest.mark.failure("F19")
def test_f19_a_client_that_vanishes(play: Play) -> None:
    """Nothing says that it is gone: its targets are let go all the same."""
    run = play(Transaction(REQUEST, send(BODY, finish=Finish.AFTER_PEER), starts_s=0), client_dies_s=0.1)
    assert run.seconds(run[0].target.over_at) < 15


@pytest.mark.parametrize("wrong", [{"hole": Span(0.5, SURVIVABLE_S)}, {"freeze": Span(0.5, SURVIVABLE_S)}])
def test_standing_still_for_eight_seconds_loses_nothing(play: Play, wrong: dict[str, Span]) -> None:
    slow = Script(b"GET", read_bytes=2_000, read_pause_s=0.02)
    run = play(Transaction(slow, send(BODY)), Transaction(send(BODY), slow), **wrong)
    assert run[0].happy
    assert run[1].happy


def test_a_client_that_moves_is_believed_where_the_path_has_become_narrower(play: Play) -> None:
    """By a byte. Its answer to the server's question is filled up, but to no more than every path carries."""
    narrower = MtuChange(0.7, 1471)
    download = Transaction(
        Script(b"1", starts_after=30_000, read_bytes=1_000, read_pause_s=0.01), send(BODY), dial_s=2.0
    )
    assert play(download, mtu_changes=(narrower,), rebinds_s=(3.8,))[0].happy


def test_a_client_that_moves_keeps_its_streams(play: Play) -> None:
    slow = Script(b"GET", read_bytes=2_000, read_pause_s=0.02)
    assert play(Transaction(slow, send(BODY)), rebinds_s=(0.3, 0.6))[0].happy


@pytest.mark.failure("F24")
def test_f24_a_half_closed_stream_that_stands_still_ends(play: Play) -> None:
    silent = Script(finish=Finish.VANISH, patience_s=25.0)
    run = play(Transaction(REQUEST, silent), settings=replace(SETTINGS, half_closed_linger_s=5.0))
    assert run[0].application.broken
    assert 5 < run.seconds(run[0].application.over_at) < 8


@pytest.mark.failure("F24")
@pytest.mark.parametrize("download", [True, False])
def test_f24_a_half_closed_stream_that_is_read_slowly_goes_on(play: Play, download: bool) -> None:
    """Slower than its sender can see: all bytes and the end have left it for longer than the linger."""
    slow = Script(b"GET", read_bytes=4_000, read_pause_s=0.1)
    settings = replace(SETTINGS, half_closed_linger_s=1.0, tell_taken_every_s=0.2)
    run = play(Transaction(slow, send(BODY)) if download else Transaction(send(BODY), slow), settings=settings)
    assert run[0].happy
    assert run.seconds((run[0].application if download else run[0].target).over_at) > 5


class LosesEnds:
    """An engine that takes each end of a stream, and never sends it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def finish(self, connection: int, stream: int) -> None: ...


@pytest.mark.failure("F23")
def test_f23_ends_that_the_library_loses_are_rescued(pairing: str, server_tls: ServerTls) -> None:
    """Each end of the server's, whatever its library is: the application has it a little later."""
    plan = Plan(1, tuple(Transaction(REQUEST, send(BODY), starts_s=count) for count in range(3)))
    engines = engines_of(pairing, server_tls, plan.faults)
    faulty = replace(engines, server=lambda *made: cast("Engine", LosesEnds(engines.server(*made))))
    with seeded(Random(1)):
        run = Run(plan, faulty).check()
    assert all(one.happy for one in run.pending.values())
    assert run.client.session.ledger.ends[Direction.TARGET_TO_CLIENT, "rescued"] == len(run.pending)


@pytest.mark.failure("F12")
@pytest.mark.parametrize("download", [True, False])
def test_f12_bytes_of_aborted_streams_are_credited_back(play: Play, download: bool) -> None:
    """What they leave unread is many times the window of their connection, which others then have for themselves."""
    leaves, sends = Script(finish=Finish.CLOSE, read_bytes=1_000, leave_after=1_000), send(BODY)
    if download:
        leaves = replace(leaves, payload=REQUEST.payload)
    pair = (leaves, sends) if download else (sends, leaves)
    aborted = [Transaction(*pair, starts_s=0.1 * count) for count in range(60)]
    whole = Transaction(send(BODY), send(BODY), starts_s=7)
    limits = replace(LIMITS, max_streams=9)
    settings = replace(SETTINGS, max_streams_per_connection=6, max_connections=1)
    run = play(*aborted, whole, limits=limits, settings=settings)
    ends = [(run[number].application, run[number].target) for number in range(len(aborted))]
    unread = sum(one.written - other.received for pair in ends for one, other in (pair, pair[::-1]))
    assert unread > 10 * limits.max_streams * limits.stream_window_floor_bytes
    assert run[len(aborted)].happy


@pytest.mark.failure("F25")
def test_f25_attempts_to_reconnect_do_not_pile_up(play: Play) -> None:
    """A minute without a server, and somebody asks all the time: one attempt at a time, and one connection then."""
    away_s = 60.0
    asking = [Transaction(REQUEST, send(b"x"), starts_s=count) for count in range(1, 60)]
    later = Transaction(REQUEST, send(BODY), starts_s=away_s + 5)
    run = play(*asking, later, restart=Span(0.5, away_s))
    under_way, attempts, ups = 0, 0, 0
    for event in run.client.connection_events:
        match event:
            case events.ConnectWanted():
                under_way, attempts = under_way + 1, attempts + 1
                assert under_way == 1, "two attempts at a time"
            case events.ConnectionUp():
                under_way, ups = under_way - 1, ups + 1
            case events.ConnectionDown(was_up=False):
                under_way -= 1
    assert 5 <= attempts <= 4 + away_s / LIMITS.handshake_timeout_s
    assert ups == 2
    assert run[len(asking)].happy


@pytest.mark.failure("F25")
def test_f25_a_server_that_refuses_at_once_is_not_asked_without_pause(pairing: str, server_tls: ServerTls) -> None:
    """It drains for 20 s and nobody is in its place: each attempt is over in a round trip, and the next one waits."""
    drains_s, back_s = 1.0, 21.0
    plan = Plan(1, (Transaction(REQUEST, send(BODY)), Transaction(REQUEST, send(BODY), starts_s=back_s + 2)))
    with seeded(Random(1)):
        run = Run(plan, engines_of(pairing, server_tls, plan.faults))
        run.world.after(drains_s, run.servers[0].drain)
        run.world.after(back_s, lambda: run._add_server(OTHER_SERVER))
        run.check()
    attempts = sum(isinstance(event, events.ConnectWanted) for event in run.client.connection_events)
    assert 20 <= attempts <= 3 * (back_s - drains_s) / (SETTINGS.reconnect_cap_s / 2)
    assert run[0].happy
    assert run[1].happy


@pytest.mark.failure("F28")
@pytest.mark.parametrize("said", [b"", b"\x05", b"\x05\x01\x00\x05\x01\x00\x03"])
def test_f28_who_says_little_and_waits_is_sent_away(pairing: str, server_tls: ServerTls, said: bytes) -> None:
    """Nobody else notices, and nothing is left of it."""
    plan = Plan(1, (Transaction(REQUEST, send(BODY)), Transaction(REQUEST, send(BODY), starts_s=12)))
    with seeded(Random(1)):
        run = Run(plan, engines_of(pairing, server_tls, plan.faults))
        for _ in range(50):
            near, far = VirtualSocket.pair(Random(1))
            run.client.accept(near)
            far.send(said)
        run.check()
    assert run[0].happy
    assert run[1].happy
    assert run.client.connections == 0


@pytest.mark.parametrize(
    "cause", [Cause.CONNECTION_REFUSED, Cause.NAME_NOT_FOUND, Cause.POLICY_DENIED, Cause.DIAL_TIMEOUT]
)
def test_a_dial_that_fails_says_why(play: Play, cause: Cause) -> None:
    run = play(Transaction(send(BODY, eager=True), Script(), dial_cause=cause, dial_s=0.5))
    assert run[0].application.reply == cause.reply

"""What a simulated run consists of, and how a seed makes one up.

Rules:
- A plan is a value: everything that happens from outside stands in it. Times are seconds from the start.
- Scripts that wait for each other for ever are not made: at most one side of a transaction waits for the other.
- By itself no transaction takes longer than `NATURAL_S`.
"""

from dataclasses import dataclass, replace
from random import Random

from tests.sim.applications import Finish, Script
from tests.sim.model_connection import Faults
from tests.sim.network import Link

from tunnel.engine.settings import KIB, EngineLimits
from tunnel.errors import Cause
from tunnel.session.settings import SessionSettings

NATURAL_S = 20.0
PATIENCE_S = 4.0
"""What the pauses of one program sum up to, about."""
SURVIVABLE_S = 8.0
"""A path or a peer that is dead for so long costs nothing (DESIGN section 3)."""

LIMITS = EngineLimits(
    stream_window_floor_bytes=32 * KIB,
    stream_window_cap_bytes=64 * KIB,
    send_cap_bytes=64 * KIB,
    control_window_bytes=16 * KIB,
    max_streams=32,
)
MTUS_BYTES = (1200, 1201, 1300, 1471, 1472, 65_535)
"""From the least that QUIC works on to the kernel's word and beyond it (PATH_MTU_BYTES in engines.py, less headers)."""
CLEAN = Link()
FLAWLESS = Faults()
SETTINGS = SessionSettings(max_streams_per_connection=24)


@dataclass(frozen=True, slots=True)
class Span:
    """A time during which something is wrong."""

    starts_s: float
    lasts_s: float

    @property
    def ends_s(self) -> float:
        return self.starts_s + self.lasts_s


@dataclass(frozen=True, slots=True)
class MtuChange:
    """From then on the path carries datagrams of this size, and drops longer ones."""

    at_s: float
    mtu_bytes: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """One SOCKS connection: who says what, and what becomes of the dial."""

    application: Script
    target: Script
    starts_s: float = 0.0
    dial_s: float = 0.01
    dial_cause: Cause = Cause.NONE

    @property
    def polite(self) -> bool:
        return self.application.polite and self.target.polite


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. `faults` are the model engine's."""

    seed: int
    transactions: tuple[Transaction, ...]
    link: Link = CLEAN
    faults: Faults = FLAWLESS
    limits: EngineLimits = LIMITS
    settings: SessionSettings = SETTINGS
    heals_s: float = 4.0
    """When the path is flawless again."""
    hole: Span | None = None
    """Nothing arrives; `hole_towards` says at whom."""
    hole_towards: frozenset[str] = frozenset({"client", "server"})
    rebinds_s: tuple[float, ...] = ()
    mtu_changes: tuple[MtuChange, ...] = ()
    freeze: Span | None = None
    """The server stands still."""
    restart: Span | None = None
    """The server's machine dies, and after that time another has its address."""
    server_drains_s: float | None = None
    """The server drains; new connections find another one."""
    client_drains_s: float | None = None
    client_dies_s: float | None = None
    client_restart: Span | None = None
    """The client's machine dies, and after that time another has its address."""
    last_after_s: float = 0.0
    """How long all rests before the last request, which finds everything well again."""

    @property
    def deadly(self) -> bool:
        """Whether a connection may die of it: then even a polite program may be let down, if it is told so."""
        hole_s = self.hole.lasts_s if self.hole else 0.0
        # Behind a hole both libraries wait for their own probes, seconds apart. Where the path is another one by then,
        # nothing else can wake them: the peer does not know the new address, or long datagrams do not arrive.
        another_path_behind_a_hole = self.hole is not None and bool(self.mtu_changes or self.rebinds_s)
        # The same while the server stands still: quinn has no word of what got lost, and goes on with long datagrams.
        narrower_behind_a_freeze = self.freeze is not None and bool(self.mtu_changes)
        deaths = (self.restart, self.client_dies_s, self.client_restart)
        silent_s = max(hole_s, self._hole_with_freeze_s)
        died = any(death is not None for death in deaths) or silent_s > SURVIVABLE_S
        return died or another_path_behind_a_hole or narrower_behind_a_freeze

    @property
    def _hole_with_freeze_s(self) -> float:
        """One may begin before the other ends: to the peer that is one silence."""
        if self.hole is None or self.freeze is None:
            return 0.0
        return max(self.hole.ends_s, self.freeze.ends_s) - min(self.hole.starts_s, self.freeze.starts_s)

    @property
    def quiet_at_s(self) -> float:
        """When nothing is wrong any more and nothing new begins."""
        spans = [
            span.ends_s for span in (self.hole, self.freeze, self.restart, self.client_restart) if span is not None
        ]
        changes = [*self.rebinds_s, *(change.at_s for change in self.mtu_changes)]
        return max([self.heals_s, *spans, *changes, *(one.starts_s for one in self.transactions)])


def random_plan(seed: int, transactions: int) -> Plan:
    """The plan of a seed, with up to so many transactions."""
    rng = Random(seed)
    kind = rng.random()
    if kind < 0.04:
        return idle_plan(seed, transactions, rng)
    plan = hasty_plan(seed, transactions, rng) if kind < 0.24 else troubled_plan(seed, transactions, rng)
    plan = with_a_small_pool(plan, rng) if rng.random() < 0.25 else plan
    return replace(plan, last_after_s=rng.choice([0, 0, 3, 12]))


def idle_plan(seed: int, transactions: int, rng: Random) -> Plan:
    """Several connections with nothing on them any more: who notices that their server is not there?"""
    brief = Transaction(Script(b"ping"), Script(b"pong", starts_after=4), dial_s=0.3)
    plan = Plan(seed, (brief,) * transactions, link=random_link(rng), faults=random_faults(rng), heals_s=1.0)
    killed = Span(rng.uniform(1.5, 8), rng.choice([0.01, 0.1, 1.0]))
    return with_a_small_pool(replace(plan, restart=killed), rng)


def troubled_plan(seed: int, transactions: int, rng: Random) -> Plan:
    """Programs of all kinds, and something goes wrong around them."""
    plan = Plan(
        seed,
        tuple(random_transaction(rng) for _ in range(rng.randint(1, transactions))),
        link=random_link(rng),
        faults=random_faults(rng),
        heals_s=rng.uniform(1, 6),
    )
    plan = with_a_fault(plan, rng)
    plan = with_a_fault(plan, rng) if rng.random() < 0.25 else plan
    return with_a_detour(plan, rng) if rng.random() < 0.2 else plan


def with_a_fault(plan: Plan, rng: Random) -> Plan:
    """One thing goes wrong with a program or with the whole path, or nothing does."""
    start = rng.uniform(0.1, 2)
    match rng.randrange(12):
        case 0:
            towards = rng.choice([("client", "server"), ("client",), ("server",)])
            return replace(plan, hole=Span(start, rng.uniform(1, SURVIVABLE_S)), hole_towards=frozenset(towards))
        case 1:
            return replace(plan, hole=Span(start, rng.uniform(11, 14)))
        case 2:
            return replace(plan, rebinds_s=tuple(start + 0.5 * count for count in range(rng.randint(1, 3))))
        case 3:
            return replace(plan, freeze=Span(start, rng.uniform(1, SURVIVABLE_S)))
        case 4:
            return replace(plan, restart=Span(start, rng.choice([0.1, 1.0, 4.0, 12.0])))
        case 5:
            return replace(plan, server_drains_s=_while_one_asks(plan, rng))
        case 6:
            return replace(plan, client_drains_s=start)
        case 7:
            return replace(plan, client_dies_s=start)
        case 8:
            return replace(plan, client_restart=Span(start, rng.choice([0.01, 1.0, 12.0])))
        case 9:
            return with_changes_of_mtu(plan, rng)
        case _:
            return plan


def with_a_small_pool(plan: Plan, rng: Random) -> Plan:
    """Few streams on a connection, so that there are several connections; there is room for everybody."""
    return replace(plan, settings=replace(plan.settings, max_streams_per_connection=rng.randint(1, 4)))


def with_a_detour(plan: Plan, rng: Random) -> Plan:
    """The path changes too, while the rest happens."""
    if rng.random() < 0.5:
        return replace(plan, rebinds_s=(*plan.rebinds_s, rng.uniform(2, 8)))
    return with_changes_of_mtu(plan, rng)


def with_changes_of_mtu(plan: Plan, rng: Random) -> Plan:
    times = sorted(rng.uniform(0, 4) for _ in range(rng.randint(1, 3)))
    changes = tuple(MtuChange(at_s, rng.choice(MTUS_BYTES)) for at_s in times)
    return replace(plan, mtu_changes=changes)


def hasty_plan(seed: int, transactions: int, rng: Random) -> Plan:
    """Applications that come and go while packets overtake each other: what is said last may arrive first."""
    plan = Plan(
        seed,
        tuple(hasty_transaction(rng) for _ in range(transactions)),
        link=Link(0.02, jitter_s=0.03, loss=rng.choice([0, 0.15]), reorder=0.3, reorder_by_s=0.1),
        faults=random_faults(rng),
        heals_s=rng.uniform(3, 6),
    )
    return replace(plan, server_drains_s=_while_one_asks(plan, rng)) if rng.random() < 0.6 else plan


def hasty_transaction(rng: Random) -> Transaction:
    application = Script(
        rng.randbytes(rng.choice([0, 10, 3_000])),
        eager=rng.random() < 0.5,
        finish=rng.choice([Finish.WHEN_WRITTEN, Finish.WHEN_WRITTEN, Finish.RESET, Finish.CLOSE, Finish.VANISH]),
        patience_s=rng.uniform(0, 0.3),
    )
    target = Script(rng.randbytes(rng.choice([0, 10, 30_000])), finish=_random_finish(rng), patience_s=1.0)
    return Transaction(application, target, starts_s=rng.uniform(0, 2), dial_s=rng.choice([0, 0.05, 0.3]))


def _while_one_asks(plan: Plan, rng: Random) -> float:
    """A time at which a request may be on its way."""
    return rng.choice(plan.transactions).starts_s + plan.link.delay_s * rng.uniform(0, 4)


def random_link(rng: Random) -> Link:
    delay_s = rng.choice([0.001, 0.01, 0.03, 0.06])
    if rng.random() < 0.3:
        return Link(delay_s)
    return Link(
        delay_s,
        jitter_s=delay_s * rng.choice([0, 0.5, 1]),
        loss=rng.choice([0, 0.01, 0.05]),
        reorder=rng.choice([0, 0.1]),
        duplicate=rng.choice([0, 0.1]),
        corrupt=rng.choice([0, 0.02]),
        mtu_bytes=rng.choice([65_535, 65_535, rng.choice(MTUS_BYTES)]),
    )


def random_faults(rng: Random) -> Faults:
    return Faults(
        lose_bare_fin=rng.choice([0, 0, 0, 0, 0.5]),
        lose_close=rng.choice([0, 0, 0, 0.5]),
        shuffle_streams=rng.random() < 0.4,
    )


def random_transaction(rng: Random) -> Transaction:
    application, target = (replace(random_script(rng), finish=_random_finish(rng)) for _ in range(2))
    application = replace(application, eager=rng.random() < 0.3)
    if rng.random() < 0.5:
        application = _waiting_for(application, target, rng)
    else:
        target = _waiting_for(target, application, rng)
    application = replace(application, leave_after=_leave_after(application, target, rng))
    target = replace(target, leave_after=_leave_after(target, application, rng))
    causes = [Cause.NONE] * 8 + [Cause.CONNECTION_REFUSED, Cause.NAME_NOT_FOUND]
    return Transaction(
        application,
        target,
        starts_s=rng.choice([0, 0, 2]) * rng.random(),
        dial_s=rng.choice([0, 0.01, 0.1, 2.0]),
        dial_cause=rng.choice(causes),
    )


def random_script(rng: Random) -> Script:
    """Some bytes at some pace; what the other one does is not known here."""
    size = rng.choice([0, 1, rng.randrange(2_000), rng.randrange(20_000), rng.randrange(100_000)])
    write_bytes = rng.choice([100, 4_096, 65_536]) if size < 20_000 else 65_536
    read_bytes = rng.choice([1_000, 16_384, 65_536])
    return Script(
        payload=rng.randbytes(size),
        write_bytes=write_bytes,
        write_pause_s=_pause(rng, -(-size // write_bytes)),
        read_bytes=read_bytes,
        read_pause_s=_pause(rng, 100_000 // read_bytes),
        patience_s=rng.uniform(0.5, PATIENCE_S),
    )


def _pause(rng: Random, times: int) -> float:
    return rng.choice([0, 0, 0.5, 1]) * PATIENCE_S / 2 / max(times, 4)


def _random_finish(rng: Random) -> Finish:
    polite, rude = Finish.WHEN_WRITTEN, [Finish.RESET, Finish.CLOSE, Finish.VANISH]
    return polite if rng.random() < 0.8 else rng.choice(rude)


def _waiting_for(one: Script, other: Script, rng: Random) -> Script:
    """`one` may wait for `other`, which waits for nobody."""
    if rng.random() < 0.3 and one.polite:
        one = replace(one, finish=Finish.AFTER_PEER)
    if rng.random() < 0.5 and other.finish is not Finish.VANISH:
        until_end = rng.random() < 0.5 and other.polite
        one = replace(one, starts_after=None if until_end else rng.randint(0, len(other.payload)))
    return one


def _leave_after(one: Script, other: Script, rng: Random) -> int:
    """How much of `other`'s bytes a `one` that closes early reads, where that is sure to come."""
    return rng.randint(0, len(other.payload)) if other.starts_after == 0 else 0

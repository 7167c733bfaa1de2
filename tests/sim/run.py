"""Runs a plan, and checks what must hold.

Rules:
- The plan decides everything: the same plan on the same code gives the same run.
- Safety is checked while it runs, where it could break: in the programs (bytes and ends), by the witnesses (DONE once,
  events in order), in the drivers (no exception), and at every step by the invariants (invariants.py).
- Liveness is checked at the end. Once faults have healed every transaction is over within `SETTLE_S` of the time that
  its scripts take; where nothing could kill a connection the polite ones have got everything. Whatever has happened, a
  last request is served then. After that no stream is left at either proxy, no socket is open, and the ledgers balance:
  each end that was received is confirmed or abandoned, at each hop. Then both drain, and nothing is left at all.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import cast

from tests.sim.applications import Application, Program, Script
from tests.sim.engines import Engines
from tests.sim.invariants import SeesCredit, Sight, check_all
from tests.sim.kernel import Host
from tests.sim.network import Link, Network
from tests.sim.plans import NATURAL_S, Plan, Transaction
from tests.sim.stack import CLIENT, SERVER, ProxyClient, ProxyServer, connect_application
from tests.sim.witnesses import Receipts
from tests.sim.world import START_S, World

from tunnel.engine.port import Address
from tunnel.errors import Cause
from tunnel.session import events
from tunnel.session.ledger import END_EVENTS
from tunnel.wire.messages import Direction

SETTLE_S = 30.0
"""A dead connection is known after 10 s; a transport's own probe may be 8 s away when a hole of 8 s ends."""
RETIRE_S = 20.0
"""From the last program's end to empty tables: farewells take 5 s, rescues 3 s, death 10 s, a missing REPLY 15 s."""
DRAIN_S = 10.0
FORGET_S = 60.0
"""Until no timer is left: an idle timeout, where a close was lost."""
LAST_S = 6.0
"""F02 and a little: a connection that died unnoticed is suspect after 2.5 s, and its replacement may wait for 1 s."""
RESCUE_S = 4.0
"""More, where ends are lost (F23): END comes after 1 s, and is believed after 2 s."""
NARROWER_S = 10.0
"""More, where the path changes: a library takes some probes, seconds apart, to see that it is narrower."""
GIVEN_UP_S = 12.0
"""After a hole that a connection may die of nobody asks before this: where the server has given it up, its close got
lost, and an idle client suspects nothing before its keep-alive (10 s) has had no answer for 1.5 s."""
LAST = Transaction(Script(b"are you there?"), Script(bytes(range(256)) * 80, write_bytes=4096, starts_after=14))
ADDRESSES = {"client": CLIENT, "server": SERVER}
OTHER_SERVER: Address = ("192.0.2.3", 4433)
NEW_ADDRESSES: list[Address] = [("203.0.113.1", 1000 + count) for count in range(10)]


class Pending:
    """A transaction under way."""

    def __init__(self, plan: Transaction, application: Application, target: Program) -> None:
        self.plan = plan
        self.application = application
        self.dials = 0
        self.meet(target)

    def meet(self, target: Program) -> None:
        """Whom the application talks with; another one where its request had to be made again."""
        self.target = target
        self.application.peer, target.peer = target, self.application

    @property
    def over(self) -> bool:
        return self.application.over and (self.target.sock is None or self.target.over)

    @property
    def happy(self) -> bool:
        """Everything arrived, both ways, and ended cleanly; or the dial's failure was told as what it was."""
        cause = self.plan.dial_cause
        if cause is not Cause.NONE:
            return self.application.reply == cause.reply
        return self.application.happy and self.target.happy

    def __str__(self) -> str:
        return f"{self.application} | {self.target}, dialled {self.dials} times, {self.plan.dial_cause.label}"


class Run:
    """The world of one plan. `check` does everything; what it found can be looked at afterwards."""

    def __init__(self, plan: Plan, engines: Engines) -> None:
        self.plan = plan
        self.world = World(Network(Random(plan.seed), plan.link))
        self.servers: list[ProxyServer] = []
        self.server_receipts: list[Receipts] = []
        self.client_died = False
        self._rng = Random(plan.seed)
        self._engines = engines
        self._sights: dict[ProxyClient | ProxyServer, Sight] = {}
        self._quiet_at = self.world.now + plan.quiet_at_s
        self._server_addresses: list[Address] = []
        self._killed_at = SERVER
        self._add_server(SERVER)
        self._add_client()
        self.pending = {
            f"t{number}.test": self._pending(f"t{number}.test", one) for number, one in enumerate(plan.transactions)
        }
        for one in self.pending.values():
            self._at(one.plan.starts_s, self._start(one))
        self._plan_faults()

    # The run.

    def check(self) -> "Run":
        """Runs to the end. AssertionError where something that must hold does not."""
        limit_s = self.plan.quiet_at_s + NATURAL_S + SETTLE_S
        over = self._run(limit_s, self._is_over)
        assert over, f"not over after {limit_s:.0f} s: {[str(one) for one in self.pending.values() if not one.over]}"
        self._check_outcomes()
        self._check_recovery()
        empty = self._run(RETIRE_S, lambda: not self._left())
        assert empty, f"{RETIRE_S:.0f} s after the last program's end: {self._left()}"
        self._check_at_rest()
        self._check_drain()
        return self

    def _run(self, within_s: float, until: Callable[[], bool] = lambda: False) -> bool:
        """See `World.run`. At every step all invariants hold."""

        def step() -> bool:
            self._check_step()
            return until()

        return self.world.run(within_s, step)

    def _check_step(self) -> None:
        for proxy in self._proxies:
            if proxy.faults:
                raise proxy.faults[0]
            sight = self._sights.get(proxy) or self._sight(proxy)
            if sight.turns != proxy.host.turns:  # Where nothing has run, nothing is new.
                sight.turns = proxy.host.turns
                check_all(sight)

    def _sight(self, proxy: ProxyClient | ProxyServer) -> Sight:
        engine = proxy.session._engine
        counts = cast("SeesCredit", engine) if hasattr(engine, "credit_kept") else None
        self._sights[proxy] = sight = Sight(proxy.session, self.plan.limits, counts)
        return sight

    def _is_over(self) -> bool:
        return self.world.now >= self._quiet_at and all(one.over for one in self.pending.values())

    # What is there.

    def __getitem__(self, number: int) -> Pending:
        """The transaction with this number in the plan."""
        return self.pending[f"t{number}.test"]

    def seconds(self, at: float | None) -> float:
        """A time of the world as the plan has it."""
        assert at is not None, "it never happened"
        return at - START_S

    @property
    def _proxies(self) -> list[ProxyClient | ProxyServer]:
        """Those whose machine lives."""
        return [*([] if self.client_died else [self.client]), *self.servers]

    @property
    def untroubled(self) -> bool:
        """Nothing that may let a polite transaction down was planned, and there is no other."""
        plain = all(one.polite and one.dial_cause is Cause.NONE for one in self.plan.transactions)
        spared = self.plan.client_drains_s is None and not self._a_handshake_failed
        return plain and spared and not self.plan.deadly

    def _seeded(self) -> Random:
        return Random(self._rng.random())

    def _pending(self, name: str, plan: Transaction) -> Pending:
        application = Application(name, self.world, self._seeded(), plan.application)
        return Pending(plan, application, self._target(name, plan))

    def _target(self, name: str, plan: Transaction) -> Program:
        return Program(f"target of {name}", self.world, self._seeded(), plan.target)

    def _start(self, one: Pending) -> Callable[[], None]:
        def start() -> None:
            if self.client_died:
                one.application.never_start()
            else:
                connect_application(self.client, one.application, self._seeded())

        return start

    def _dial(self, host: str) -> tuple[float, Cause, Program | None]:
        one = self.pending[host]
        one.dials += 1
        if one.dials > 1:
            self._check_again(one)
            one.meet(self._target(host, one.plan))
        return one.plan.dial_s, one.plan.dial_cause, None if one.plan.dial_cause is not Cause.NONE else one.target

    def _check_again(self, one: Pending) -> None:
        """Only where its connection was lost, and only if no target has heard a byte of it."""
        assert one.dials == 2, f"{one}: a request was processed again and again"
        assert self.plan.deadly or self._a_handshake_failed, f"{one}: a request was processed twice for no reason"
        assert not one.target.received, f"{one}: what was said is said again"
        assert one.application.reply is None, f"{one}: it had its answer"

    def _resolve(self) -> list[Address]:
        return self._server_addresses

    def _add_server(self, address: Address) -> None:
        if address not in self._server_addresses:
            self._server_addresses.append(address)  # One that drains is still there, and the resolver's first.
        self.server_receipts.append(Receipts(self._engines.server(self.plan.limits, self._rng)))
        engine = self.server_receipts[-1].engine
        host = Host(self.world, self._seeded(), address)
        self.servers.append(ProxyServer(self.world, host, engine, self.plan.settings, self._seeded(), self._dial))

    def _add_client(self) -> None:
        self.client_died = False
        self.client_receipts = Receipts(self._engines.client(self.plan.limits, self._rng))
        engine, settings = self.client_receipts.engine, self.plan.settings
        host = Host(self.world, self._seeded(), CLIENT)
        self.client = ProxyClient(self.world, host, engine, settings, self._seeded(), self._resolve)

    # What goes wrong.

    def _plan_faults(self) -> None:
        plan, network = self.plan, self.world.network
        self._at(plan.heals_s, self._heal)
        if plan.hole is not None:
            towards = {
                address for name, address in (("client", CLIENT), ("server", SERVER)) if name in plan.hole_towards
            }
            self._at(plan.hole.starts_s, lambda: network.unreachable.update(towards))
            self._at(plan.hole.ends_s, network.unreachable.clear)
        for at_s, address in zip(plan.rebinds_s, NEW_ADDRESSES, strict=False):
            self._at(at_s, lambda address=address: network.rebind(CLIENT, address))  # type: ignore[misc]
        if plan.freeze is not None:
            self._at(plan.freeze.starts_s, self.servers[0].host.freeze)
            self._at(plan.freeze.ends_s, self.servers[0].host.thaw)
        if plan.restart is not None:
            self._at(plan.restart.starts_s, self._kill_server)
            self._at(plan.restart.ends_s, lambda: self._add_server(self._killed_at))
        if plan.server_drains_s is not None:
            self._at(plan.server_drains_s, self._replace_server)
        if plan.client_drains_s is not None:
            self._at(plan.client_drains_s, lambda: self.client.drain())
        if plan.client_dies_s is not None:
            self._at(plan.client_dies_s, self._kill_client)
        if plan.client_restart is not None:
            self._at(plan.client_restart.starts_s, self._kill_client)
            self._at(plan.client_restart.ends_s, self._add_client)
        for change in plan.mtu_changes:
            self._at(change.at_s, lambda to_bytes=change.mtu_bytes: self._change_mtu(to_bytes))  # type: ignore[misc]

    def _at(self, at_s: float, action: Callable[[], None]) -> None:
        self.world.after(at_s, action)

    def _heal(self) -> None:
        """All is well but the size of datagrams: that is no fault."""
        network = self.world.network
        network.link = Link(self.plan.link.delay_s, mtu_bytes=network.link.mtu_bytes)

    def _change_mtu(self, to_bytes: int) -> None:
        network = self.world.network
        network.link = replace(network.link, mtu_bytes=to_bytes)

    def _kill_server(self) -> None:
        """The newest one's, if there are two."""
        self.server_receipts.pop()
        killed = self.servers.pop().host
        self._killed_at = killed.address
        killed.die()

    def _kill_client(self) -> None:
        self.client_died = True
        self.client.host.die()

    def _replace_server(self) -> None:
        for server in self.servers:  # There is none while its machine is dead.
            server.drain()
        self._add_server(OTHER_SERVER)

    # What must hold.

    def _check_outcomes(self) -> None:
        if self.plan.deadly or self._a_handshake_failed:
            return
        for one in self.pending.values():
            refused = self.plan.client_drains_s is not None and bool(one.application.reply)
            if one.plan.polite and not refused:
                assert one.happy, f"let down for no reason: {one}"

    def _check_recovery(self) -> None:
        """All is well again: whoever asks now is served, whatever has happened before."""
        self._run(self.plan.last_after_s + (GIVEN_UP_S if self.plan.hole is not None and self.plan.deadly else 0))
        if self.plan.client_dies_s is not None or self.plan.client_drains_s is not None:
            return
        bound_s = LAST_S + (RESCUE_S if self.plan.faults.lose_bare_fin else 0)
        bound_s += NARROWER_S if self.plan.mtu_changes else 0
        one = self.pending["last.test"] = self._pending("last.test", LAST)
        self._start(one)()
        assert self._run(bound_s, lambda: one.over), f"not over after {bound_s:.0f} s, and all is well: {one}"
        assert one.happy, f"let down, and all is well: {one}"

    @property
    def _a_handshake_failed(self) -> bool:
        """What was on that connection may have been processed, so it had nowhere else to go."""
        downs = [event for event in self.client.connection_events if isinstance(event, events.ConnectionDown)]
        return any(not down.was_up and down.cause is not Cause.SERVER_BUSY for down in downs)

    def _left(self) -> list[str]:
        return [
            f"{type(proxy).__name__}: {proxy.session.stream_count} streams, {len(proxy.driver.handlers)} relays, "
            f"{proxy.host.open_sockets} sockets"
            for proxy in self._proxies
            if proxy.session.stream_count or proxy.driver.handlers or proxy.host.open_sockets
        ]

    def _check_at_rest(self) -> None:
        for proxy in self._proxies:
            ledger = proxy.session.ledger
            assert ledger.undelivered_bytes == 0
            assert set(ledger.half_closed.values()) == {0}
            assert proxy.session.oldest_unconfirmed_end_at() is None
            assert sum(ledger.streams.values()) >= 0
            if isinstance(proxy, ProxyServer):
                assert all(share.streams == 0 for share in proxy.session._shares), "a stream that is gone still counts"
            for direction in Direction:
                _check_ends({event: ledger.ends[direction, event] for event in END_EVENTS}, direction.label)
        if self.untroubled:
            self._check_balance()
        if not (self.plan.deadly or self._a_handshake_failed):
            self._check_receipts()

    def _check_balance(self) -> None:
        """Each clean end was received, forwarded and confirmed once, at both hops."""
        count = len(self.pending)
        for direction in Direction:
            for event in ("received", "forwarded", "confirmed", "abandoned"):
                expected = 0 if event == "abandoned" else count
                at_client = self.client.session.ledger.ends[direction, event]
                at_servers = sum(server.session.ledger.ends[direction, event] for server in self.servers)
                assert (at_client, at_servers) == (expected, expected), f"{event} {direction.label}"

    def _check_receipts(self) -> None:
        """Where no connection died, each stream has one DONE in each direction.

        A draining server may never have seen a stream that it does not process.
        """
        at_client = len(self.client_receipts.done)
        at_servers = sum(len(receipts.done) for receipts in self.server_receipts)
        balanced = at_client >= at_servers if self.plan.server_drains_s is not None else at_client == at_servers
        assert balanced, f"{at_client} DONE of the client's, {at_servers} of the server's"
        assert at_client >= sum(one.dials for one in self.pending.values())

    def _check_drain(self) -> None:
        for proxy in self._proxies:
            proxy.drain()
        drained = self._run(DRAIN_S, lambda: all(not proxy.session.connection_count for proxy in self._proxies))
        assert drained or self.plan.deadly, "a connection is left after the drain"
        self._run(FORGET_S)
        for proxy in self._proxies:
            assert proxy.session.connection_count == 0
            assert proxy.session.get_timer() is None, f"a timer is left at {type(proxy).__name__}"
            assert not proxy.faults
            if isinstance(proxy, ProxyServer):
                assert len(proxy.session._shares) == 0, "who has left still counts"


def _check_ends(ends: dict[str, int], where: str) -> None:
    """One hop and direction at rest, whatever went wrong: no end was forgotten, and none was made up."""
    said = f"{where}: {ends}"
    assert ends["received"] == ends["confirmed"] + ends["abandoned"], said
    assert ends["confirmed"] <= ends["forwarded"] <= ends["received"], said
    assert ends["rescued"] <= ends["received"], said

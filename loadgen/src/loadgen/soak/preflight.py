"""Before a load through a proxy that somebody else wrote: what does it not support, and can it be used at all?

Rules
- Each scenario of the mix runs alone, in small, until it succeeds or has failed in the same way ATTEMPTS times.
- A scenario is unsupported only where every attempt failed promptly, in a way that is a missing feature and no lost
  end: SOCKS reply 7 or 8, or the connection closed or reset within PROMPT_S of our half-close, before the answer
  (half-close taken for a full close). And only where an ordinary exchange through the same proxy succeeds.
- Silence, wrong bytes and whatever comes and goes are never unsupported: the load is there to find them.
- A proxy that cannot be reached, does not want us, or cannot reach the target ends the run before it begins. Silence
  inside the handshake does not: that is a stall, for the load to report.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from loadgen.load.mix import Mix
from loadgen.scenarios import SCENARIOS
from loadgen.transaction.outcomes import Failed, Outcome
from loadgen.transaction.phases import Limits, Phase
from loadgen.transaction.raw import dial
from loadgen.transaction.route import Route
from loadgen.transaction.transaction import Arrival, Direction, Transaction
from servicekit.address import Address

ATTEMPTS = 3
PAUSE_S = 0.1
"""Between two attempts, so that they do not all fall into the same bad moment."""
ATTEMPT_S = 5.0
"""An attempt that takes longer is given up: it can tell nothing any more."""
PROMPT_S = 1.0
"""Half of the stall limit of upload_eof. What closes later may be a lost end that a time limit swept up."""

_SIZE_BYTES = 1000
_HALF_CLOSE = "half-close is treated as a full close"
_MISSING_REPLIES = ("command not supported", "address type not supported")
"""RFC 1928 in the words of `socks5`, and of httpx but for its capitals."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt went, in which phase it ended, and how old that was. The outcome timeout: it was given up."""

    outcome: Outcome
    phase: Phase | None = None
    in_phase_s: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Preflight:
    """`unsupported`: reason by scenario. `fatal`: why there is no use in a load, in a sentence."""

    unsupported: Mapping[str, str] = field(default_factory=dict)
    fatal: str | None = None


async def preflight(mix: Mix, route: Route, limits: Limits, attempt_s: float = ATTEMPT_S) -> Preflight:
    """Tries what `mix` holds through the proxy of `route`; a few round trips where everything is supported.

    A cancellation leaves nothing behind.
    """
    fleet = _Fleet(route, limits, attempt_s)
    spoken_to = (route.server_first if name == "server_first" else route.target for name in mix.scenarios)
    for destination in dict.fromkeys(spoken_to):
        dialled = await _until_clear(partial(fleet.dials, destination))
        if reason := unusable(dialled, route.proxy, destination):
            return Preflight(fatal=reason)
        if dialled[-1].outcome is Outcome.TIMEOUT:
            return Preflight()
    unsupported: dict[str, str] = {}
    for name in mix.scenarios:
        attempts = await _until_clear(partial(fleet.runs, name))
        if reason := missing_feature(attempts):
            unsupported[name] = reason
    if _HALF_CLOSE in unsupported.values() and (await fleet.runs("close_delimited")).outcome is not Outcome.OK:
        unsupported = {name: reason for name, reason in unsupported.items() if reason != _HALF_CLOSE}
    if len(unsupported) == len(mix.scenarios):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in unsupported.items())
        return Preflight(unsupported, f"the proxy {route.proxy} supports nothing of what was asked for: {reasons}")
    return Preflight(unsupported)


def missing_feature(attempts: Sequence[Attempt]) -> str | None:
    """The feature that is missing, as every one of ATTEMPTS attempts says; None where they do not."""
    reasons = {_missing(attempt) for attempt in attempts}
    return reasons.pop() if len(attempts) >= ATTEMPTS and len(reasons) == 1 else None


def unusable(dialled: Sequence[Attempt], proxy: Address, destination: Address) -> str | None:
    """Why there is no way to `destination`, as every one of ATTEMPTS handshakes says; None where they do not."""
    phases = {attempt.phase for attempt in dialled}
    clear = all(_settles(attempt) for attempt in dialled)
    if len(dialled) < ATTEMPTS or not clear or len(phases) > 1 or missing_feature(dialled):
        return None
    detail = dialled[-1].detail
    match dialled[-1].phase:
        case Phase.TCP_CONNECT:
            return f"the proxy {proxy} cannot be reached: {detail}"
        case Phase.SOCKS_GREETING if dialled[-1].outcome is Outcome.SOCKS_REJECTED:
            return f"the proxy {proxy} does not let us in: {detail} (--credentials-file says who we are)"
        case Phase.SOCKS_GREETING:
            return f"what answers at {proxy} is no SOCKS5 proxy for us: {detail}"
        case _:
            return f"the target {destination} cannot be reached through the proxy {proxy}: {detail}"


def _missing(attempt: Attempt) -> str | None:
    if attempt.outcome is Outcome.SOCKS_REJECTED:
        return next((words for words in _MISSING_REPLIES if words in attempt.detail.lower()), None)
    # Whoever half-closes enters upload_eof at that moment, and leaves it with the first byte of the answer.
    cut_off = attempt.outcome in (Outcome.EOF_PREMATURE, Outcome.RESET) and attempt.phase is Phase.UPLOAD_EOF
    return _HALF_CLOSE if cut_off and attempt.in_phase_s <= PROMPT_S else None


def _settles(attempt: Attempt) -> bool:
    """Whether a failed handshake says anything: silence does so only before the connection is there."""
    silent = attempt.outcome is Outcome.TIMEOUT and attempt.phase is not Phase.TCP_CONNECT
    return attempt.outcome is not Outcome.OK and not silent


async def _until_clear(attempt: Callable[[], Awaitable[Attempt]]) -> list[Attempt]:
    """Attempts until one succeeds or is given up, at most ATTEMPTS."""
    attempts: list[Attempt] = []
    while len(attempts) < ATTEMPTS:
        if attempts:
            await asyncio.sleep(PAUSE_S)
        attempts.append(await attempt())
        if attempts[-1].outcome in (Outcome.OK, Outcome.TIMEOUT) and attempts[-1].phase is not Phase.TCP_CONNECT:
            break
    return attempts


class _Fleet:
    """Makes attempts, one after the other, that nobody watches or counts."""

    def __init__(self, route: Route, limits: Limits, attempt_s: float) -> None:
        self._route = route
        self._limits = limits
        self._attempt_s = attempt_s
        self._number = 0

    async def dials(self, destination: Address) -> Attempt:
        """Connects through the proxy, and gives that up."""

        async def dial_and_close(transaction: Transaction) -> None:
            (await dial(transaction, self._route, destination)).close()
            transaction.finish()

        return await self._attempt("close_delimited", dial_and_close)

    async def runs(self, scenario: str) -> Attempt:
        """A whole transaction of the scenario, in small."""
        return await self._attempt(scenario, lambda transaction: SCENARIOS[scenario].run(transaction, self._route))

    async def _attempt(self, scenario: str, carry_out: Callable[[Transaction], Awaitable[None]]) -> Attempt:
        self._number += 1
        requests = min(SCENARIOS[scenario].requests, 2)
        arrival = Arrival(self._number, 0.0, scenario, self._number, _SIZE_BYTES, requests)
        transaction = Transaction(arrival, self._limits, _Nobody(), scheduled_at_s=monotonic())
        outcome, detail = Outcome.OK, ""
        try:
            async with asyncio.timeout(self._attempt_s):
                await carry_out(transaction)
        except Failed as failure:
            outcome, detail = failure.outcome, failure.detail
        except TimeoutError:
            outcome, detail = Outcome.TIMEOUT, f"no answer within {self._attempt_s:g} s"
        in_phase_s = monotonic() - transaction.phase_since_s if transaction.phase else 0.0
        return Attempt(outcome, transaction.phase, in_phase_s, detail)


class _Nobody:
    """An observer that does not look."""

    def phase_ended(self, phase: Phase, duration_s: float) -> None: ...
    def stalled(self, transaction: Transaction, phase: Phase) -> None: ...
    def stall_ended(self, transaction: Transaction, phase: Phase, duration_s: float, recovered: bool) -> None: ...
    def generator_lagged(self, transaction: Transaction, phase: Phase, lag_s: float) -> None: ...
    def timed_out(self, transaction: Transaction, phase: Phase) -> None: ...
    def moved(self, direction: Direction, payload_bytes: int) -> None: ...

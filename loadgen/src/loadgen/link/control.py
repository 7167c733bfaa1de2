"""What can be done to a link while it runs: another plan, and a NAT rebind.

Rules
- SIGHUP reads the plan's file again. It holds from the next datagram on; its times count from when the link began to
  listen, and what of it has passed is over. Flags go before its base, as at the start.
- A plan that cannot be used changes nothing. Neither it nor a SIGHUP without a plan's file ends the link: both are
  logged, with the reason.
- SIGUSR1 rebinds; so does each moment of the plan's `rebind_at_s`.
- Everything done has a number, from 1 on, in its log line, and is counted: who has sent a signal can wait for either.
  A rebind says whether it was `planned`.
  Signals that come faster than they are handled become one, as signals do.
"""

import asyncio
import signal
from collections.abc import Callable

from loadgen.link.plan import Plan
from loadgen.link.relay import Relay
from servicekit.logs import get_logger

log = get_logger()


class Control:
    """Changes a relay on a signal, and at the moments of its plan. `read` gives the plan anew, or raises ValueError."""

    def __init__(self, relay: Relay, read: Callable[[], Plan] | None) -> None:
        self.plan_reads = 0
        """How often another plan has come into force."""
        self.rebinds = 0
        self._relay = relay
        self._read = read
        self._rebind_at_s: list[float] = []
        self._timer: asyncio.TimerHandle | None = None

    def obey_signals(self) -> None:
        """From here on signals do what the rules say. Before that, SIGHUP and SIGUSR1 end the process."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.reread)
        loop.add_signal_handler(signal.SIGUSR1, self.rebind)

    def expect(self, plan: Plan) -> None:
        """Rebinds at the moments of `plan` that are still to come, and no longer at those of the plan before."""
        self._rebind_when_due()
        now_s = self._relay.now_s
        self._rebind_at_s = sorted(at_s for at_s in plan.rebind_at_s if at_s > now_s)
        self._wait()

    def reread(self) -> None:
        """Puts the plan into force as its file says it now."""
        if self._read is None:
            log.warning("plan_not_reread", reason="there is no --plan")
            return
        try:
            plan = self._read()
        except ValueError as error:
            log.warning("plan_refused", reason=str(error))
            return
        self._relay.follow(plan)
        self.expect(plan)
        self.plan_reads += 1
        log.info("plan_reread", number=self.plan_reads)

    def rebind(self, *, planned: bool = False) -> None:
        """A new source port towards the upstream for each flow."""
        flows = self._relay.rebind()
        self.rebinds += 1
        log.info("rebound", number=self.rebinds, flows=flows, planned=planned)

    def close(self) -> None:
        """Nothing is done any more at a planned moment."""
        self._rebind_at_s = []
        self._wait()

    def _wait(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._rebind_at_s:
            pause_s = max(self._rebind_at_s[0] - self._relay.now_s, 0.0)
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._rung)

    def _rung(self) -> None:
        self._rebind_when_due()
        self._wait()

    def _rebind_when_due(self) -> None:
        while self._rebind_at_s and self._rebind_at_s[0] <= self._relay.now_s:
            self._rebind_at_s.pop(0)
            self.rebind(planned=True)

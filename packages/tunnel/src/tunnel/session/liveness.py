"""When silence means something.

Rules:
- A connection with something pending is probed after `ping_after_s` without a packet, and again as often while it
  stays silent, because the transport's own probes back off; with nothing pending, after `keep_alive_s`.
- A probe unanswered for `suspect_after_s` makes it suspect; an answer clears that.
- `dead_after_s` without a packet, with something pending all that time, is death.
- A connection whose server fell silent or was lost on another one is doubted: it is probed at once, and not trusted
  with new streams before it has answered. An idle one would be noticed only when somebody waits on it.
- If we stood still ourselves (SIGSTOP, a frozen machine), silence proves nothing: it is measured anew.
"""

from enum import Enum, unique

from tunnel.session.settings import SessionSettings


@unique
class Verdict(Enum):
    """What a check says has to be done."""

    FINE = "fine"
    PROBE = "probe"
    SUSPECT = "suspect"
    DEAD = "dead"


class Liveness:
    """Of one connection. Times are seconds on the caller's clock."""

    def __init__(self, settings: SessionSettings, now: float) -> None:
        self._settings = settings
        self._measured_from = now
        self._pending_since: float | None = None
        self._unanswered_since: float | None = None
        self._probed_at = now
        self.suspect = False
        self.doubted = False

    @property
    def trusted(self) -> bool:
        """Whether it may get new streams."""
        return not (self.suspect or self.doubted)

    def doubt(self) -> bool:
        """Others to the same server are no good. True where that is news; `check` asks for a probe, if none is out."""
        if not self.trusted:
            return False
        self.doubted = True
        return True

    def silence_s(self, last_received_at: float, now: float) -> float:
        return now - max(last_received_at, self._measured_from)

    def measure_anew(self, now: float) -> None:
        """We stood still: whatever came meanwhile has not been read yet."""
        self._measured_from = now
        self._unanswered_since = None

    def pending(self, pending: bool, now: float) -> None:
        """Says whether something waits for the peer."""
        if not pending:
            self._pending_since = None
        elif self._pending_since is None:
            self._pending_since = now

    def answered(self) -> None:
        """A probe was acknowledged."""
        self._unanswered_since = None
        self.suspect = self.doubted = False

    def check(self, last_received_at: float, now: float) -> Verdict:
        """Call it at `next_check`. The caller sends a PING for PROBE and for SUSPECT, which is said once."""
        settings, silence_s = self._settings, self.silence_s(last_received_at, now)
        if self._unanswered_since is None:
            if silence_s < self._probe_interval_s and not self.doubted:
                return Verdict.FINE
            self._unanswered_since = self._probed_at = now
            return Verdict.PROBE
        if self._pending_since is not None and min(silence_s, now - self._pending_since) >= settings.dead_after_s:
            return Verdict.DEAD
        if not self.suspect and now - self._unanswered_since >= settings.suspect_after_s:
            self.suspect = True
            self._probed_at = now
            return Verdict.SUSPECT
        if now - self._probed_at >= self._probe_interval_s:
            self._probed_at = now
            return Verdict.PROBE
        return Verdict.FINE

    def next_check(self, last_received_at: float, now: float) -> float:
        """When `check` can say something new; always later than now."""
        settings, heard_at = self._settings, max(last_received_at, self._measured_from)
        if self._unanswered_since is None:
            return now + 0.01 if self.doubted else max(heard_at + self._probe_interval_s, now + 0.01)
        at = self._probed_at + self._probe_interval_s
        if not self.suspect:
            at = min(at, self._unanswered_since + settings.suspect_after_s)
        if self._pending_since is not None:
            at = min(at, max(heard_at, self._pending_since) + settings.dead_after_s)
        return max(at, now + 0.01)

    @property
    def _probe_interval_s(self) -> float:
        return self._settings.keep_alive_s if self._pending_since is None else self._settings.ping_after_s

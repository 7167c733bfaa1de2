"""The table: what is planted, and what exactly it must come to.

Rules
- Each row runs once for each of its scenarios, one transaction each: raw sockets with every framing, half-closes, and a
  real HTTP client (`get`, `keep_alive`), wherever the fault can be seen from there.
- A row says everything: an outcome, stall, recovery, timeout or blame of the generator that it does not name must not
  be reported.
- The stall limits S are the defaults. The timeouts T are S + 4 s, so that nobody waits for long.
"""

from dataclasses import dataclass

from loadgen.faulty.faults.body_stall import PAUSE_S
from loadgen.faulty.faults.reply_delayed import DELAY_S
from loadgen.transaction.outcomes import Outcome
from loadgen.transaction.phases import DEFAULTS, Limits, Phase

BEYOND_STALL_S = 4.0
"""From S to T."""

WITHIN_S = 1.0
"""Whatever goes wrong must be reported within S and this."""

LIMITS = Limits.default(
    timeout_s={phase: limit.stall_s + BEYOND_STALL_S for phase, limit in DEFAULTS.items() if phase is not Phase.DRAIN}
)


@dataclass(frozen=True, slots=True)
class Case:
    """One row. `phase` is where it happens: the one that fails, the one that stalls."""

    name: str
    scenarios: tuple[str, ...]
    outcome: Outcome
    phase: Phase | None = None
    stalls: bool = False
    recovers_after_s: float | None = None
    think_s: float = 0.0
    is_control: bool = False
    fault: str = ""
    """Of `loadgen faulty`; where it is not said, the one of this name."""

    @property
    def planted(self) -> str:
        return self.fault or self.name

    @property
    def times_out(self) -> bool:
        return self.outcome in (Outcome.TIMEOUT, Outcome.EOF_MISSING)


RAW = ("close_delimited", "chunked", "download")
HTTPX = ("get", "keep_alive")
UPLOADS = ("upload", "eof_gated", "server_first")
HALF_CLOSING = ("eof_gated", "server_first")

FAULTS = (
    Case("eof_swallowed", (*RAW, *UPLOADS), Outcome.EOF_MISSING, Phase.EOF_WAIT, stalls=True),
    Case("eof_early", (*RAW, *HTTPX), Outcome.EOF_PREMATURE, Phase.BODY),
    Case("body_stall", (*RAW, *HTTPX), Outcome.OK, Phase.BODY, stalls=True, recovers_after_s=PAUSE_S),
    Case("body_stall_forever", (*RAW, *HTTPX), Outcome.TIMEOUT, Phase.BODY, stalls=True),
    Case("reply_delayed", ("close_delimited", "get", "eof_gated", "server_first"), Outcome.OK, Phase.SOCKS_CONNECT,
         stalls=True, recovers_after_s=DELAY_S),
    Case("reply_never", ("close_delimited", "get", "server_first"), Outcome.TIMEOUT, Phase.SOCKS_CONNECT, stalls=True),
    Case("reset_mid_body", (*RAW, *HTTPX), Outcome.RESET, Phase.BODY),
    Case("byte_flipped", (*RAW, *HTTPX), Outcome.CORRUPT, Phase.BODY),
    Case("bytes_added", (*RAW, *UPLOADS), Outcome.EXCESS, Phase.EOF_WAIT),
    Case("upload_eof_swallowed", HALF_CLOSING, Outcome.TIMEOUT, Phase.UPLOAD_EOF, stalls=True),
    Case("half_close_as_close", HALF_CLOSING, Outcome.EOF_PREMATURE, Phase.UPLOAD_EOF),
    Case("silence", ("close_delimited", "get", "upload", "server_first"), Outcome.TIMEOUT, Phase.TTFB, stalls=True),
    Case("silence", ("eof_gated",), Outcome.TIMEOUT, Phase.UPLOAD_EOF, stalls=True),
)  # fmt: skip

CONTROLS = (
    Case("none", (*RAW, *HTTPX, *UPLOADS), Outcome.OK, is_control=True),
    Case("trickle", ("close_delimited", "chunked", *HTTPX), Outcome.OK, is_control=True),
    Case("think", ("close_delimited", "chunked", "get"), Outcome.OK, think_s=4.5, fault="none", is_control=True),
)

LOSS, SATURATED = "loss", "saturated"
"""The controls that are loads; see controls.py."""

NAMES = tuple(dict.fromkeys([*(case.name for case in (*FAULTS, *CONTROLS)), LOSS, SATURATED]))

"""The phases of a transaction, each with a stall limit and a timeout.

Rules
- One phase of a transaction is open at a time.
- A phase stalls when nothing moves at the socket for `stall_s`; it times out, and with it the transaction, at
  `timeout_s`.
- `body` is measured in gaps: the time that counts begins anew with each byte. Every other phase is measured as a whole.
- `drain` is no phase of a transaction but of the run: from the end of load until every gauge of the proxies is at zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Self


@unique
class Phase(StrEnum):
    """What a transaction waits for. The value is the metric label."""

    TCP_CONNECT = "tcp_connect"
    """connect -> established"""
    SOCKS_GREETING = "socks_greeting"
    """greeting sent -> method reply, and the reply to name and password where they are asked for"""
    SOCKS_CONNECT = "socks_connect"
    """CONNECT sent -> whole reply"""
    REQUEST_WRITE = "request_write"
    """first -> last byte accepted by the kernel"""
    TTFB = "ttfb"
    """last request byte -> first response byte; the scenario's think time comes on top of both limits"""
    BODY = "body"
    """longest gap between reads, first -> last expected byte"""
    EOF_WAIT = "eof_wait"
    """last expected byte -> end of stream"""
    UPLOAD_EOF = "upload_eof"
    """our SHUT_WR -> the target confirms that it saw the end"""
    DRAIN = "drain"
    """end of load -> every gauge of the proxies back at zero"""


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a phase may be without progress, and how long it may take. Seconds."""

    stall_s: float
    timeout_s: float


DEFAULTS: Mapping[Phase, Limit] = MappingProxyType(
    {
        Phase.TCP_CONNECT: Limit(1, 5),
        Phase.SOCKS_GREETING: Limit(1, 5),
        Phase.SOCKS_CONNECT: Limit(3, 15),
        Phase.REQUEST_WRITE: Limit(3, 15),
        Phase.TTFB: Limit(3, 15),
        Phase.BODY: Limit(5, 30),
        Phase.EOF_WAIT: Limit(2, 10),
        Phase.UPLOAD_EOF: Limit(2, 10),
        Phase.DRAIN: Limit(float("inf"), 30),
    }
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of every phase."""

    by_phase: Mapping[Phase, Limit]

    @classmethod
    def default(
        cls, stall_s: Mapping[Phase, float] | None = None, timeout_s: Mapping[Phase, float] | None = None
    ) -> Self:
        """The defaults, with some stall limits and timeouts replaced."""
        stalls, timeouts = stall_s or {}, timeout_s or {}
        return cls(
            {
                phase: Limit(stalls.get(phase, limit.stall_s), timeouts.get(phase, limit.timeout_s))
                for phase, limit in DEFAULTS.items()
            }
        )

    def __getitem__(self, phase: Phase) -> Limit:
        return self.by_phase[phase]

    @property
    def longest_transaction_s(self) -> float:
        """Every timeout of a transaction one after the other."""
        return sum(limit.timeout_s for phase, limit in self.by_phase.items() if phase is not Phase.DRAIN)

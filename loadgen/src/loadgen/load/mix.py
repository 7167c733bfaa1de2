"""Mixes: which scenarios, how often, how large, and when, as a TOML file.

    rate_per_s = 60                    # of the whole mix
    arrivals = "constant"              # or "poisson": as many, but at random times

    [[ramp]]                           # before that rate holds: any number of stretches, one behind the other
    from_per_s = 5                     # the rate goes from here, linearly,
    to_per_s = 60                      # to there (the same: a step of a staircase)
    over_s = 10

    [scenarios.close_delimited]
    weight = 24                        # relative to the other weights
    sizes_bytes = [1, 500, 32_000]     # one of them is chosen, each as likely as the others
    think_ms = 0                       # the target waits that long before it answers; or a list, as for sizes; or
                                       # { from_ms = 50, to_ms = 500 }: anything between, each as likely
    [scenarios.keep_alive]
    rate_per_s = 2                     # instead of a weight: evenly spaced arrivals of its own
    sizes_bytes = [500]
    requests = 4                       # on one connection; keep_alive only

Rules
- `rate_per_s` is the total. Scenarios with a rate of their own take theirs from it, and the weights divide what is
  left; where no scenario has a weight, the total is the sum of their rates.
- A ramp is one of the total, and every scenario takes its part in it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from importlib.resources import files
from math import fsum, isclose
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from loadgen import toml_file
from loadgen.load.rate import MAX_RATE_PER_S, Stretch
from loadgen.scenarios import SCENARIOS

MAX_SIZE_BYTES = 1 << 30
"""What http-target serves at most."""

MAX_THINK_MS = 60_000
"""How long http-target waits at most."""


@unique
class Spacing(StrEnum):
    """How the arrivals lie in time."""

    CONSTANT = "constant"
    POISSON = "poisson"


_ThinkMs = Annotated[float, Field(ge=0, le=MAX_THINK_MS)]


class Span(BaseModel):
    """Anything between, each as likely."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    from_ms: _ThinkMs
    to_ms: _ThinkMs

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if self.to_ms < self.from_ms:
            raise ValueError(f"to_ms is {self.to_ms:g}; it cannot be less than from_ms ({self.from_ms:g})")
        return self


_ThinkTime = Annotated[
    Annotated[tuple[_ThinkMs, ...], Field(min_length=1), Tag("list")] | Annotated[Span, Tag("range")],
    Discriminator(lambda value: "range" if isinstance(value, Mapping | Span) else "list"),
    BeforeValidator(lambda value: (value,) if isinstance(value, int | float) else value),
]


class Share(BaseModel):
    """One scenario of a mix: with a weight (0: it has none), or with a rate of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weight: float = Field(0.0, gt=0)
    rate_per_s: float | None = Field(None, gt=0, le=MAX_RATE_PER_S)
    sizes_bytes: tuple[Annotated[int, Field(ge=1, le=MAX_SIZE_BYTES)], ...] = Field(min_length=1)
    think_ms: _ThinkTime = (0.0,)
    requests: int = Field(1, ge=1, le=1000)

    @model_validator(mode="after")
    def _has_weight_or_rate(self) -> Self:
        if (self.weight > 0) == (self.rate_per_s is not None):
            raise ValueError("needs a weight or a rate_per_s, and not both")
        return self

    @property
    def mean_payload_bytes(self) -> float:
        """Payload of one transaction, on average."""
        return self.requests * sum(self.sizes_bytes) / len(self.sizes_bytes)


@dataclass(frozen=True, slots=True)
class Stream:
    """Scenarios whose arrivals are spaced together. `part` of the mix's rate is theirs."""

    name: str
    """The scenario with a rate of its own; empty: those with a weight."""
    part: float
    scenarios: Mapping[str, Share]


class Mix(BaseModel):
    """What a load consists of."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rate_per_s: float = Field(gt=0, le=MAX_RATE_PER_S)
    arrivals: Spacing = Spacing.CONSTANT
    ramp: tuple[Stretch, ...] = ()
    scenarios: Mapping[str, Share] = Field(min_length=1)

    @field_validator("scenarios")
    @classmethod
    def _exist(cls, scenarios: Mapping[str, Share]) -> Mapping[str, Share]:
        for name in scenarios:
            if name not in SCENARIOS:
                raise ValueError(f"there is no scenario {name}; there are {', '.join(SCENARIOS)}")
        return scenarios

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        own_per_s = _own_per_s(self.scenarios)
        if _weights(self.scenarios) and self.rate_per_s <= own_per_s:
            raise ValueError(
                f"rate_per_s is {self.rate_per_s:g}, of which {own_per_s:g} are of scenarios with a rate of their own:"
                " nothing is left for those with a weight"
            )
        if not _weights(self.scenarios) and not isclose(self.rate_per_s, own_per_s):
            raise ValueError(f"rate_per_s is {self.rate_per_s:g}; the scenarios' rates are {own_per_s:g} together")
        return self

    def streams(self) -> list[Stream]:
        """Those with a weight together, and each of the others alone."""
        weighted = {name: share for name, share in self.scenarios.items() if share.rate_per_s is None}
        left_per_s = self.rate_per_s - _own_per_s(self.scenarios)
        together = [Stream("", left_per_s / self.rate_per_s, weighted)] if weighted else []
        return together + [
            Stream(name, share.rate_per_s / self.rate_per_s, {name: share})
            for name, share in self.scenarios.items()
            if share.rate_per_s is not None
        ]

    def rates_per_s(self) -> dict[str, float]:
        """The rate of each scenario, at the mix's own rate."""
        left_per_s, weights = self.rate_per_s - _own_per_s(self.scenarios), _weights(self.scenarios)
        return {
            name: left_per_s * share.weight / weights if share.rate_per_s is None else share.rate_per_s
            for name, share in self.scenarios.items()
        }

    @property
    def offered_bits_per_s(self) -> float:
        """Payload in both directions together, at the mix's own rate."""
        return fsum(rate * self.scenarios[name].mean_payload_bytes * 8 for name, rate in self.rates_per_s().items())

    @property
    def longest_think_s(self) -> float:
        """What the target may wait during one transaction, at most."""
        return max(_longest_ms(share.think_ms) * share.requests for share in self.scenarios.values()) / 1000

    @property
    def pattern(self) -> str:
        """The arrivals in a word, for reports: constant, ramp or poisson."""
        return "ramp" if self.ramp and self.arrivals is Spacing.CONSTANT else self.arrivals

    def only(self, names: Collection[str]) -> "Mix":
        """The same mix with these scenarios only; one that it does not have comes with its defaults and weight 1.

        The total stays, and the weights divide what is left of it; where no weight is left, the ramp shrinks with it.
        """
        chosen = {name: self.scenarios.get(name) or _default_share(name) for name in names}
        rate_per_s = self.rate_per_s if _weights(chosen) else _own_per_s(chosen)
        ramp = tuple(stretch.times(rate_per_s / self.rate_per_s) for stretch in self.ramp)
        return Mix(rate_per_s=rate_per_s, arrivals=self.arrivals, ramp=ramp, scenarios=chosen)

    def arriving(self, arrivals: Spacing | None = None, warm_up_s: float | None = None) -> "Mix":
        """The same mix with other arrivals, and with a ramp from 0 to its rate instead of its own."""
        ramp = self.ramp
        if warm_up_s is not None:
            ramp = (Stretch(from_per_s=0, to_per_s=self.rate_per_s, over_s=warm_up_s),) if warm_up_s else ()
        return self.model_copy(update={"arrivals": arrivals or self.arrivals, "ramp": ramp})


def names() -> list[str]:
    """The mixes that come with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in files("loadgen.mixes").iterdir() if _is_mix(entry.name))


def read(name_or_file: str) -> Mix:
    """A mix by name, or from a file. Raises UnusableFileError."""
    if name_or_file in names():
        text = files("loadgen.mixes").joinpath(f"{name_or_file}.toml").read_text(encoding="utf-8")
        return toml_file.parse(text, name_or_file, Mix)
    path = Path(name_or_file)
    if not path.is_file():
        raise toml_file.UnusableFileError(f"{name_or_file} is neither a mix ({', '.join(names())}) nor a file")
    return toml_file.read(path, Mix)


def _longest_ms(think: "Span | tuple[float, ...]") -> float:
    return think.to_ms if isinstance(think, Span) else max(think)


def _weights(scenarios: Mapping[str, Share]) -> float:
    return fsum(share.weight for share in scenarios.values())


def _own_per_s(scenarios: Mapping[str, Share]) -> float:
    return fsum(share.rate_per_s or 0.0 for share in scenarios.values())


def _default_share(name: str) -> Share:
    scenario = SCENARIOS[name]
    return Share(weight=1, sizes_bytes=(scenario.size_bytes,), requests=scenario.requests)


def _is_mix(file: str) -> bool:
    return file.endswith(".toml")

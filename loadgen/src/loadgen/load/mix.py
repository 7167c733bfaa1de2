"""Mixes: which scenarios, how often, how large, as a TOML file.

rate_per_s = 60

[scenarios.close_delimited]
weight = 24                        # relative to the other weights
sizes_bytes = [1, 500, 32_000]     # one of them is chosen, each as likely as the others
think_ms = 0                       # the target waits that long before it answers
requests = 4                       # on one connection; keep_alive only
"""

import tomllib
from collections.abc import Collection, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from loadgen.scenarios import SCENARIOS

MAX_SIZE_BYTES = 1 << 30
"""What http-target serves at most."""


class MixError(Exception):
    """The mix cannot be used; the message says why, with field, value and bound."""


class Share(BaseModel):
    """One scenario of a mix."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weight: float = Field(gt=0)
    sizes_bytes: tuple[Annotated[int, Field(ge=1, le=MAX_SIZE_BYTES)], ...] = Field(min_length=1)
    think_ms: float = Field(0.0, ge=0, le=60_000)
    requests: int = Field(1, ge=1, le=1000)

    @property
    def mean_payload_bytes(self) -> float:
        """Payload of one transaction, on average."""
        return self.requests * sum(self.sizes_bytes) / len(self.sizes_bytes)


class Mix(BaseModel):
    """What a load consists of."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rate_per_s: float = Field(gt=0, le=100_000)
    scenarios: Mapping[str, Share] = Field(min_length=1)

    @field_validator("scenarios")
    @classmethod
    def _exist(cls, scenarios: Mapping[str, Share]) -> Mapping[str, Share]:
        for name in scenarios:
            if name not in SCENARIOS:
                raise ValueError(f"there is no scenario {name}; there are {', '.join(SCENARIOS)}")
        return scenarios

    @property
    def offered_bits_per_s(self) -> float:
        """Payload in both directions together, at the mix's own rate."""
        weights = sum(share.weight for share in self.scenarios.values())
        mean_bytes = sum(share.weight * share.mean_payload_bytes for share in self.scenarios.values()) / weights
        return mean_bytes * 8 * self.rate_per_s

    def only(self, names: Collection[str]) -> "Mix":
        """The same mix with these scenarios only; one that it does not have comes with its defaults and weight 1."""
        chosen = {name: self.scenarios.get(name) or _default_share(name) for name in names}
        return Mix(rate_per_s=self.rate_per_s, scenarios=chosen)


def names() -> list[str]:
    """The mixes that come with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in files("loadgen.mixes").iterdir() if _is_mix(entry.name))


def read(name_or_file: str) -> Mix:
    """A mix by name, or from a file. Raises MixError."""
    if name_or_file in names():
        text = files("loadgen.mixes").joinpath(f"{name_or_file}.toml").read_text(encoding="utf-8")
    else:
        try:
            text = Path(name_or_file).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            known = ", ".join(names())
            raise MixError(f"{name_or_file} is neither a mix ({known}) nor a readable file: {error}") from error
    try:
        return Mix.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise MixError(f"{name_or_file} is not valid TOML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, details['loc']))}: {details['input']!r}: {details['msg']}"
            for details in error.errors()
        )
        raise MixError(f"{name_or_file}: {problems}") from error


def _default_share(name: str) -> Share:
    scenario = SCENARIOS[name]
    return Share(weight=1, sizes_bytes=(scenario.size_bytes,), requests=scenario.requests)


def _is_mix(file: str) -> bool:
    return file.endswith(".toml")

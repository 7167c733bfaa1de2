"""What can be said to `loadgen soak`, and what follows from it."""

import math
import re
import socket
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import SettingsConfigDict

from loadgen.faults import plan as fault_plans
from loadgen.faults.plan import FaultPlan, Kind
from loadgen.load import mix as mixes
from loadgen.scenarios import SCENARIOS
from loadgen.stack_api import RTT_20_MS
from loadgen.stacks.choices import ProgramChoices
from loadgen.toml_file import UnusableFileError
from loadgen.transaction.phases import Limits, Phase
from loadgen.transaction.socks5 import Credentials
from loadgen.verdict import thresholds
from servicekit.address import Address
from servicekit.settings import MetricsListen, Settings

NO_LINK = "none"

DURATION_S = 30.0
QUIET_AFTERWARDS_S = 10.0

_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ms|s|m|h|)", re.ASCII)
_UNIT_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(value: object) -> float:
    """Reads `30`, `30s`, `5m`, `1h`, `250ms`. Raises ValueError."""
    match = _DURATION.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("must be a number of seconds, or have a unit: 250ms, 30s, 5m, 1h")
    return float(match[1]) * _UNIT_S[match[2]]


def _url(*schemes: str, default_port: int) -> BeforeValidator:
    def read(value: object) -> object:
        if not isinstance(value, str) or "://" not in value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in schemes or parts.path not in ("", "/") or parts.query or parts.username:
            raise ValueError(f"must be {schemes[0]}://HOST:PORT")
        return Address(parts.hostname or "", parts.port or default_port)

    return BeforeValidator(read)


def _here(path: Path) -> Path:
    return Path(str(path).replace("{hostname}", socket.gethostname()))


ProxyUrl = Annotated[Address, _url("socks5", "socks5h", default_port=1080)]
TargetUrl = Annotated[Address, _url("http", default_port=80)]
Duration = Annotated[float, BeforeValidator(seconds)]
ReportDirectory = Annotated[Path, AfterValidator(_here)]


class SoakSettings(Settings, ProgramChoices):
    """Sends HTTP through a SOCKS5 proxy, on a schedule, tells where a transaction stalled, and ends with a verdict:
    exit code 0 for pass, 1 for fail, 3 for inconclusive."""

    model_config = SettingsConfigDict(env_prefix="LOADGEN_SOAK_")

    stack: Literal["local", "compose", "external"] = Field(
        "local", description="local processes, containers, or any SOCKS5 proxy that runs already"
    )
    proxy: ProxyUrl | None = Field(None, description="stack external: socks5://HOST:PORT of the proxy")
    target: TargetUrl | None = Field(
        None, description="stack external: http://HOST:PORT of http-target, as the proxy reaches it"
    )
    server_first: Address | None = Field(
        None, description="stack external: http-target's port that speaks first (default: target's host, port + 1)"
    )
    credentials_file: Path | None = Field(None, description="stack external: a file with one line, NAME:PASSWORD")
    metrics_of: tuple[str, ...] = Field((), description="stack external: PROGRAM=URL of a /metrics to watch")
    stack_label: str | None = Field(None, description="stack external: what verdict.json shall call the stack")
    link_label: str | None = Field(None, description="stack external: what verdict.json shall say of the link")
    asked: str | None = Field(None, description="the command line that verdict.json shall name instead of this one")
    link: str | None = Field(
        None,
        description="stacks local and compose: file with a plan of the link, or none (default: 20 ms round trip)",
    )

    duration: Duration | None = Field(
        None, gt=0, description="how long the load lasts: 30s, 5m, 1h (default: 30s, or as long as the faults take)"
    )
    continuous: bool = Field(False, description="go on until SIGTERM, whatever the duration")
    rate: float | None = Field(None, gt=0, le=100_000, description="transactions a second (default: the mix's)")
    mix: str = Field("default", description="name or file of a mix")
    scenario: tuple[str, ...] = Field((), description="only this scenario of the mix")
    arrivals: mixes.Spacing | None = Field(None, description="how arrivals lie in time (default: as the mix says)")
    warm_up: Duration | None = Field(None, ge=0, description="ramp the rate up from 0 in this time (0: no ramp)")
    seed: int = Field(1, ge=0, lt=1 << 64, description="seed of the schedule and of the payloads")
    max_in_flight: int = Field(1000, ge=1, le=100_000, description="transactions under way at most; more are dropped")

    faults: Path | None = Field(
        None, description="stacks local and compose: file with a plan of faults; each window is judged on its own"
    )
    marks: Path | None = Field(
        None, description="stack external: directory in which somebody else tells of faults (marks.jsonl)"
    )
    preflight: bool = Field(True, description="stack external: try first which scenarios the proxy supports")

    threshold: tuple[str, ...] = Field((), description="what has to hold, such as 'latency.p99 < 250ms'")
    stall: tuple[str, ...] = Field((), description="PHASE=TIME: without progress for so long, a phase is stalled")
    timeout: tuple[str, ...] = Field((), description="PHASE=TIME: after so long, a phase ends the transaction")
    report: ReportDirectory | None = Field(
        None, description="directory of the report; {hostname} is this machine's name (default: reports/<start time>)"
    )
    revision: str | None = Field(None, description="revision of the code under test (default: what git says here)")

    metrics_listen: MetricsListen = Address("127.0.0.1", 9104)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        of_external = (
            "proxy", "target", "server_first", "credentials_file", "metrics_of", "stack_label", "marks",
            "link_label", "asked",
        )  # fmt: skip
        if self.stack == "external":
            if self.proxy is None or self.target is None:
                raise ValueError("--stack external needs --proxy and --target")
            if self.server_first is None and self.target.port == 65535:
                raise ValueError("--target has the last port there is: --server-first says which one speaks first")
            if self.link is not None or self.faults is not None:
                raise ValueError("--link and --faults are for the stacks local and compose")
        elif given := [name for name in of_external if getattr(self, name)]:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ValueError(f"{flags}: only with --stack external")
        if self.link not in (None, NO_LINK) and not Path(str(self.link)).is_file():
            raise ValueError(f"--link {self.link}: must be {NO_LINK}, or the file of a plan")
        if unknown := [name for name in self.scenario if name not in SCENARIOS]:
            raise ValueError(f"--scenario {unknown[0]}: there is no such scenario; there are {', '.join(SCENARIOS)}")
        self._faults_fit()
        self.limits()
        self.thresholds()
        self.the_mix()
        self.credentials()
        self.check_programs(self.stack, link=self.link != NO_LINK)
        _pairs("--metrics-of", self.metrics_of)
        return self

    def _faults_fit(self) -> None:
        plan = self.fault_plan()
        if plan is None:
            return
        if self.continuous:
            raise ValueError("--faults: a plan has an end, and --continuous has none")
        if plan.needs_link and self.link == NO_LINK:
            raise ValueError("--faults: the plan has faults of the link, and --link none leaves it out")
        if self.stack == "local" and any(fault.kind is Kind.DISCONNECT for fault in plan.faults):
            raise ValueError(
                "--faults: disconnect is only for the stack compose; processes have no network of their own"
            )
        if self.duration is not None and self.duration < plan.lasts_s:
            raise ValueError(
                f"--duration {self.duration:g}: the load must last as long as the faults and their recovery,"
                f" {plan.lasts_s:g} s"
            )

    def limits(self) -> Limits:
        """Stall limits and timeouts of every phase."""
        return Limits.default(_by_phase("--stall", self.stall), _by_phase("--timeout", self.timeout))

    def thresholds(self) -> tuple[thresholds.Threshold, ...]:
        """What has to hold, defaults included."""
        faults = self.faults is not None or self.marks is not None
        return thresholds.with_defaults(map(thresholds.parse, self.threshold), faults)

    def duration_s(self) -> float:
        """How long the load lasts: as asked for, else as long as the faults take, and a quiet time behind them."""
        if self.duration is not None:
            return self.duration
        plan = self.fault_plan()
        return DURATION_S if plan is None else math.ceil(plan.lasts_s) + QUIET_AFTERWARDS_S

    def fault_plan(self) -> FaultPlan | None:
        """What is broken when. Raises ValueError."""
        return None if self.faults is None else fault_plans.read(self.faults)

    def link_said(self) -> str | None:
        """What the link between the proxies is; None: there is none, or nobody knows."""
        if self.stack == "external":
            return self.link_label
        if self.link == NO_LINK:
            return None
        return " ".join(RTT_20_MS) if self.link is None else f"--plan {Path(self.link).name}"

    def mix_name(self) -> str:
        """What the mix is called: its name, or that of its file."""
        return Path(self.mix).stem

    def mix_file(self) -> Path | None:
        """The mix's file; None for one that comes with the package."""
        return None if self.mix in mixes.names() else Path(self.mix)

    @property
    def looks_ahead(self) -> bool:
        """Whether the proxy is somebody else's, who may not support everything."""
        return self.stack == "external" and self.preflight and not self.continuous

    def the_mix(self) -> mixes.Mix:
        """The mix, reduced to the scenarios that were asked for."""
        try:
            mix = mixes.read(self.mix)
        except UnusableFileError as error:
            raise ValueError(f"--mix: {error}") from error
        chosen = mix.only(self.scenario) if self.scenario else mix
        return chosen.arriving(self.arrivals, self.warm_up)

    def credentials(self) -> Credentials | None:
        """Who we are to the proxy."""
        if self.credentials_file is None:
            return None
        try:
            name, colon, password = self.credentials_file.read_text(encoding="utf-8").rstrip("\r\n").partition(":")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"--credentials-file: cannot read {self.credentials_file}: {error}") from error
        if not colon:
            raise ValueError("--credentials-file: must hold one line, NAME:PASSWORD")
        return Credentials(name, password)

    def metrics_urls(self) -> dict[str, str]:
        """URL by program, of --metrics-of."""
        return _pairs("--metrics-of", self.metrics_of)


def _pairs(flag: str, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for (name, equals, value), text in zip(pairs, texts, strict=True):
        if not (name and equals and value):
            raise ValueError(f"{flag} {text}: must be NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _by_phase(flag: str, texts: tuple[str, ...]) -> dict[Phase, float]:
    limits: dict[Phase, float] = {}
    for name, value in _pairs(flag, texts).items():
        if name not in tuple(Phase):
            raise ValueError(f"{flag} {name}: there is no such phase; there are {', '.join(Phase)}")
        try:
            limits[Phase(name)] = seconds(value)
        except ValueError as error:
            raise ValueError(f"{flag} {name}={value}: {error}") from error
        if limits[Phase(name)] <= 0:
            raise ValueError(f"{flag} {name}={value}: must be more than 0")
    return limits

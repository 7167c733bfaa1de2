"""The settings of proxy-server."""

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from servicekit.address import Address
from servicekit.settings import MetricsListen, Settings
from tunnel.engine.choice import EngineName, choose
from tunnel.engine.settings import CongestionControl
from tunnel.net.egress import EgressPolicy


class ProxyServerSettings(Settings):
    """Takes QUIC connections of proxy-client and dials what they ask for. SIGHUP reads tokens and certificate again.
    `proxy-server token NAME FILE` makes a token and its line for the tokens file."""

    model_config = SettingsConfigDict(env_prefix="PROXY_SERVER_")

    listen: Address = Field(Address("0.0.0.0", 4433), description="where QUIC is spoken (UDP); port 0 takes a free one")
    certificate: Path | None = Field(None, description="PEM file of the certificate and its chain")
    private_key: Path | None = Field(None, description="PEM file of its private key")
    dev_certificate: Path | None = Field(
        None, description="directory for a CA, a certificate and a token of our own, made once: to try things out"
    )
    tokens_file: Path | None = Field(
        None,
        description="file with lines name:token or name:sha256:HASH; only these clients are served",
    )
    egress_allow: tuple[str, ...] = Field(
        (),
        description="a network (CIDR) that targets may be in though it is not public, or own: this machine's addresses",
    )
    end_rescue: bool = Field(True, description="announce ends that were not confirmed in time a second way")
    metrics_listen: MetricsListen = Address("127.0.0.1", 9102)
    engine: EngineName = Field("auto", description="the QUIC library; auto: the fastest that is installed")
    congestion_control: CongestionControl = Field(
        "cubic", description="how what is sent adapts to the path; bbr only with the engine quinn"
    )
    qlog: Path | None = Field(
        None, description="directory for a qlog file of each connection, packet by packet, until it holds 64"
    )
    dial_timeout_s: float = Field(10.0, gt=0, le=60, description="how long a target may take to resolve and connect")
    half_closed_linger_s: float = Field(
        300.0, gt=0, le=86400, description="how long a stream with one direction ended may stand still"
    )
    idle_timeout_s: float = Field(3600.0, gt=0, le=86400, description="how long an open stream may stand still")
    drain_timeout_s: float = Field(20.0, ge=0, le=3600, description="how long SIGTERM waits for open streams")
    max_connections: int = Field(1024, ge=1, le=100_000, description="connections at a time")
    max_connections_per_token: int = Field(256, ge=1, le=100_000, description="of them, with one token")
    max_connections_per_address: int = Field(
        256, ge=1, le=100_000, description="of them, from one IPv4 address or IPv6 /64"
    )
    max_streams_per_token: int = Field(4096, ge=1, le=1_000_000, description="requests at a time with one token")
    max_streams_per_address: int = Field(
        8192, ge=1, le=1_000_000, description="requests at a time from one IPv4 address or IPv6 /64"
    )
    retry_above_handshakes: int = Field(
        64, ge=0, le=100_000, description="with so many unfinished handshakes clients prove their address first (Retry)"
    )
    max_datagram_bytes: int = Field(16384, ge=1200, le=65000, description="no datagram is larger, whatever the path")

    @field_validator("egress_allow")
    @classmethod
    def _networks(cls, items: tuple[str, ...]) -> tuple[str, ...]:
        EgressPolicy.parse(items)
        return items

    @model_validator(mode="after")
    def _a_certificate(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("--certificate and --private-key go together")
        if (self.certificate is None) == (self.dev_certificate is None):
            raise ValueError("give --certificate and --private-key, or --dev-certificate")
        if self.certificate is not None and self.tokens_file is None:
            raise ValueError("--tokens-file is required: without it anybody could use this server")
        return self

    @model_validator(mode="after")
    def _an_engine(self) -> Self:
        try:
            choose(self.engine, self.congestion_control)
        except ValueError as error:
            asked = f"--engine {self.engine} --congestion-control {self.congestion_control}"
            raise ValueError(f"{asked}: {error}") from error
        return self

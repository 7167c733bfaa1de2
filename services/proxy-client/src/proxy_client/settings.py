"""The settings of proxy-client."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_settings import SettingsConfigDict

from servicekit.address import Address
from servicekit.settings import MetricsListen, Settings
from tunnel.engine.choice import EngineName, choose
from tunnel.engine.settings import CongestionControl

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")]


def _is_loopback(host: str) -> bool:
    """Of names, only the one that cannot be anything else: what another resolves to may change."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ProxyClientSettings(Settings):
    """Listens for SOCKS5 and carries each connection as one QUIC stream to a proxy-server."""

    model_config = SettingsConfigDict(env_prefix="PROXY_CLIENT_")

    listen: Address = Field(Address("127.0.0.1", 1080), description="where SOCKS5 is spoken; port 0 takes a free one")
    server: Address = Field(description="the proxy-server")
    server_name: str | None = Field(
        None, min_length=1, description="the name its certificate must show; its host unless given"
    )
    ca_file: Path | None = Field(None, description="PEM file of the authority that signed its certificate")
    pin_sha256: Sha256 | None = Field(
        None, description="SHA-256 of its certificate (DER, hex); then names do not count"
    )
    insecure: bool = Field(False, description="do not verify the server at all: anybody could be it")
    token_file: Path | None = Field(None, description="file with the token that the server knows us by")
    users_file: Path | None = Field(None, description="file with name:password lines; only these users are served")
    allow_open_listener: bool = Field(False, description="serve other machines without users: an open proxy")
    metrics_listen: MetricsListen = Address("127.0.0.1", 9101)
    engine: EngineName = Field("auto", description="the QUIC library; auto: the fastest that is installed")
    congestion_control: CongestionControl = Field(
        "cubic", description="how what is sent adapts to the path; bbr only with the engine quinn"
    )
    qlog: Path | None = Field(
        None, description="directory for a qlog file of each connection, packet by packet, until it holds 64"
    )
    socks_timeout_s: float = Field(10.0, gt=0, le=300, description="how long a SOCKS handshake may take")
    open_timeout_s: float = Field(10.0, gt=0, le=300, description="how long a request waits for a connection")
    half_closed_linger_s: float = Field(
        300.0, gt=0, le=86400, description="how long a stream with one direction ended may stand still"
    )
    idle_timeout_s: float = Field(3600.0, gt=0, le=86400, description="how long an open stream may stand still")
    drain_timeout_s: float = Field(20.0, ge=0, le=3600, description="how long SIGTERM waits for open streams")
    max_datagram_bytes: int = Field(16384, ge=1200, le=65000, description="no datagram is larger, whatever the path")

    @model_validator(mode="after")
    def _one_way_to_verify(self) -> Self:
        ways = [self.ca_file is not None, self.pin_sha256 is not None, self.insecure]
        if sum(ways) > 1:
            raise ValueError("choose one of --ca-file, --pin-sha256 and --insecure")
        return self

    @model_validator(mode="after")
    def _no_open_proxy_by_accident(self) -> Self:
        if not (_is_loopback(self.listen.host) or self.users_file or self.allow_open_listener):
            raise ValueError(
                f"--listen {self.listen} is not loopback: give --users-file, or --allow-open-listener to serve anybody"
            )
        return self

    @model_validator(mode="after")
    def _an_engine(self) -> Self:
        try:
            choose(self.engine, self.congestion_control)
        except ValueError as error:
            asked = f"--engine {self.engine} --congestion-control {self.congestion_control}"
            raise ValueError(f"{asked}: {error}") from error
        return self

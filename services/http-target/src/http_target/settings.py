"""What can be set of http-target. Bounds of requests are no settings: they are part of its HTTP contract."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from servicekit.address import Address
from servicekit.settings import MetricsListen, Settings


class HttpTargetSettings(Settings):
    """HTTP origin with deterministic bodies and precise endings, for soak tests."""

    model_config = SettingsConfigDict(env_prefix="HTTP_TARGET_")

    listen: Address = Field(Address("0.0.0.0", 8080), description="where HTTP is served")
    server_first_listen: Address = Field(
        Address("0.0.0.0", 8081), description="where the server speaks first, without HTTP"
    )
    metrics_listen: MetricsListen = Address("0.0.0.0", 9103)
    max_connections: int = Field(
        8192, ge=1, le=1_000_000, description="connections at once; further ones wait to be accepted"
    )
    head_timeout_s: float = Field(
        10, gt=0, le=3600, description="from the first byte of a request to the end of its head"
    )
    idle_timeout_s: float = Field(75, gt=0, le=3600, description="between two requests of a connection")
    progress_timeout_s: float = Field(
        60, gt=0, le=3600, description="for the next bytes of a request, and for 64 KiB of an answer to leave"
    )
    linger_timeout_s: float = Field(60, gt=0, le=3600, description="for the client's end of stream, after ours")
    drain_timeout_s: float = Field(
        10, ge=0, le=3600, description="for requests under way to finish after SIGTERM; then they are reset"
    )

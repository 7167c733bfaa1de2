"""proxy_client.metrics: what one handshake counts."""

import pytest
from prometheus_client import CollectorRegistry

from proxy_client.metrics import SocksMetrics
from tunnel.errors import Cause, Reply


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def counted(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    """Everything that is not zero, buckets apart."""
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.value and not sample.name.endswith(("_bucket", "_sum", "_created"))
    }


def test_everything_is_there_at_zero(registry: CollectorRegistry) -> None:
    SocksMetrics(registry)
    assert counted(registry) == {}
    for reply in Reply:
        assert registry.get_sample_value("socks_replies_total", {"reply": reply.name.lower()}) == 0
    for cause in Cause:
        value = registry.get_sample_value("socks_failures_total", {"cause": cause.label})
        assert value == (None if cause is Cause.NONE else 0)


def test_success(registry: CollectorRegistry) -> None:
    SocksMetrics(registry).handshake_over(Cause.NONE, 0.02, answered=True)
    assert counted(registry) == {("socks_replies_total", "succeeded"): 1, ("socks_handshake_seconds_count", ""): 1}
    assert registry.get_sample_value("socks_handshake_seconds_bucket", {"le": "0.01"}) == 0
    assert registry.get_sample_value("socks_handshake_seconds_bucket", {"le": "0.025"}) == 1


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause is not Cause.NONE])
def test_failure_with_a_reply(registry: CollectorRegistry, cause: Cause) -> None:
    SocksMetrics(registry).handshake_over(cause, 0.02, answered=True)
    assert counted(registry) == {
        ("socks_failures_total", cause.label): 1,
        ("socks_replies_total", cause.reply.name.lower()): 1,
        ("socks_handshake_seconds_count", ""): 1,
    }


def test_failure_before_there_was_a_request(registry: CollectorRegistry) -> None:
    """No reply was sent, so none is counted, and there is no handshake to time."""
    SocksMetrics(registry).handshake_over(Cause.SOCKS_VERSION, 0.02, answered=False)
    assert counted(registry) == {("socks_failures_total", "socks_version"): 1}

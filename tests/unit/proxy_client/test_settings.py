"""proxy_client.settings: what the fields by themselves do not say."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from proxy_client.settings import ProxyClientSettings
from servicekit.address import Address

SERVER = Address("proxy.example.org", 4433)


def settings(**given: Any) -> ProxyClientSettings:
    return ProxyClientSettings(server=SERVER, **given)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_loopback_may_be_open(host: str) -> None:
    assert settings(listen=Address(host, 1080)).users_file is None


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.1", "proxy-client", "128.0.0.1", "localhost.example.org", "127.example.org"]
)
def test_an_open_proxy_takes_a_word(host: str) -> None:
    listen = Address(host, 1080)
    with pytest.raises(ValidationError, match=r"is not loopback: give --users-file, or --allow-open-listener"):
        settings(listen=listen)
    assert settings(listen=listen, users_file=Path("users")).listen == listen
    assert settings(listen=listen, allow_open_listener=True).listen == listen


@pytest.mark.parametrize(
    "given",
    [
        {"ca_file": Path("ca.pem"), "insecure": True},
        {"ca_file": Path("ca.pem"), "pin_sha256": "ab" * 32},
        {"pin_sha256": "ab" * 32, "insecure": True},
    ],
)
def test_one_way_to_verify(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="choose one of --ca-file, --pin-sha256 and --insecure"):
        settings(**given)


def test_verified_by_default() -> None:
    assert not settings().insecure

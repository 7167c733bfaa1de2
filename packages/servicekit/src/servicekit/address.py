"""`Address`: a host and a port as people write them, for flags, environment and TOML.

Rules:
- Every `Address` there is is valid: the constructor refuses the rest with ValueError, the bound in words.
- Text and value convert without loss: `Address.parse(str(address)) == address`.
- A host is an IPv4 address, an IPv6 address (in brackets when written with a port) or a name. Port 0 is
  valid: a listener then takes a free port, and logs which one.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}", re.ASCII)
_PORT = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A host (text, without brackets) and a port (0 to 65535). Raises ValueError for anything else."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError("port must be 0 to 65535")
        if ":" in self.host:
            _check_ipv6(self.host)
        elif not self.host:
            raise ValueError("host is missing; 0.0.0.0 stands for every address of this machine")
        elif not _NAME.fullmatch(self.host):
            raise ValueError("host must be an address or a name of letters, digits, hyphens and dots")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `HOST:PORT` or `[IPV6]:PORT`. Raises ValueError, with the reason in words."""
        host, colon, port = text.strip().rpartition(":")
        if not colon:
            raise ValueError("must be HOST:PORT")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            _check_ipv6(host)
        elif ":" in host:
            raise ValueError("an IPv6 address goes in brackets, as in [::1]:1080")
        if not _PORT.fullmatch(port):
            raise ValueError("port must be 0 to 65535")
        return cls(host, int(port))

    @classmethod
    def of_socket(cls, name: tuple[Any, ...]) -> Self:
        """The address in what `getsockname` and `getpeername` give for IPv4 and IPv6."""
        return cls(name[0], name[1])

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def _validated(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError("must be HOST:PORT")
        return cls.parse(value)


def _check_ipv6(host: str) -> None:
    try:
        IPv6Address(host)
    except ValueError:
        raise ValueError(f'"{host}" is not an IPv6 address') from None

"""Which engine each side has in a test: every pairing, or what `auto` stands for.

Without its wheel, what takes quinn is skipped, with the reason; FINBACK_REQUIRE_QUINN=1 makes that a failure.
"""

import os
from importlib.util import find_spec
from typing import NamedTuple

import pytest

REQUIRE = "FINBACK_REQUIRE_QUINN"
ENGINES = ("aioquic", "quinn")


class Pairing(NamedTuple):
    """The engine of each side, as `--engine` has it."""

    client: str
    server: str

    def __str__(self) -> str:
        return f"{self.client}-{self.server}"


PAIRINGS = tuple(Pairing(client, server) for client in ENGINES for server in ENGINES)
AUTO = Pairing("auto", "auto")

every_pairing = pytest.mark.parametrize("pairing", PAIRINGS, indirect=True, ids=str)
"""For tests whose fixtures stand on `pairing`."""


def need_quinn(*, there: bool | None = None) -> None:
    """Where quinn is missing, the test is skipped, or has failed. `there`: whether it is, if not as an import."""
    if find_spec("quinn_engine") is not None if there is None else there:
        return
    missing = "the wheel of the native engine is missing; `make native` builds and installs it"
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{missing} ({REQUIRE}=1)", pytrace=False)
    pytest.skip(missing)

"""What programs say of themselves, read from their metrics."""

from collections.abc import Mapping

import pytest

from loadgen.measure import observe
from loadgen.measure.observe import Snapshot
from loadgen.measure.sampler import Sampler
from loadgen.measure.scrape import Scrape
from loadgen.soak.stacks import ExternalStack
from servicekit.address import Address

NOWHERE = Address("192.0.2.1", 1080)
CLIENT = """\
# TYPE tunnel_engine_info gauge
tunnel_engine_info{congestion_control="bbr",engine="quinn",role="client"} 1.0
process_start_time_seconds 5.0
process_open_fds 12.0
"""
SERVER = CLIENT.replace("client", "server").replace("quinn", "aioquic")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Scrape | None]:
    """What each program says."""
    said: dict[str, Scrape | None] = {}

    async def scrape_all(urls: Mapping[str, str], only: tuple[str, ...] = ()) -> dict[str, Scrape | None]:
        assert "tunnel_engine_info".startswith(only)
        return said

    monkeypatch.setattr(observe, "scrape_all", scrape_all)
    return said


async def look() -> Snapshot:
    return await observe.snapshot({}, {})


async def test_each_side_tells_its_engine(told: dict[str, Scrape | None]) -> None:
    told |= {"proxy-client": Scrape(CLIENT), "proxy-server": Scrape(SERVER), "http-target": Scrape("up 1\n")}
    seen = await look()
    assert seen.engines == {"client": "quinn", "server": "aioquic"}
    assert seen.instances == {"proxy-client": 5.0, "proxy-server": 5.0}
    assert seen.resources["proxy-client"].fds == 12


async def test_who_does_not_answer_tells_nothing(told: dict[str, Scrape | None]) -> None:
    told |= {"proxy-client": Scrape(CLIENT), "proxy-server": None}
    assert (await look()).engines == {"client": "quinn"}


async def test_what_was_told_once_is_known(told: dict[str, Scrape | None]) -> None:
    """A program that is down at the last look has run before."""
    sampler = Sampler(ExternalStack(NOWHERE, NOWHERE, NOWHERE))
    for answer in (Scrape(SERVER), None):
        told["proxy-server"] = answer
        sampler.take(0, await look())
    assert sampler.engines == {"server": "aioquic"}

"""What is used up is refused in so many words, and given out again: connections, descriptors, slow clients (F28).

The scenarios are those of `acceptance/exhaustion.py`, with smaller numbers and the real programs.
"""

from typing import get_args

import pytest
from acceptance import shortages
from tests.pairings import ENGINES, need_quinn

from servicekit.run import raise_descriptor_limit

AT_ONCE = 3000
"""More than proxy-client has streams for and lets wait, with either engine."""
SLOW = 500
FREE = 20
LINES_MAX = 5
NOT_STARVED = 20.0
"""Times fewer transactions than beside as many ordinary clients."""

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "quinn":
        need_quinn()
    raise_descriptor_limit()
    return name


async def test_more_connections_at_once_than_there_is_room_for(engine: str) -> None:
    async with shortages.stack_of(engine) as stack:
        replies = await shortages.many_at_once(stack, AT_ONCE)
        assert replies.total() == AT_ONCE
        assert replies[0] > 1000
        assert replies[shortages.GENERAL_FAILURE] > 0


async def test_no_descriptors_left_at_proxy_client(engine: str) -> None:
    async with shortages.stack_of(engine) as stack:
        waited, lines = await shortages.no_descriptors_at_the_client(stack, FREE)
        assert waited > 0
        assert 0 < lines <= LINES_MAX


async def test_no_descriptors_left_at_proxy_server(engine: str) -> None:
    async with shortages.stack_of(engine) as stack:
        refused, lines = await shortages.no_descriptors_at_the_server(stack, FREE)
        assert refused >= 2 * FREE
        assert 0 < lines <= LINES_MAX


@pytest.mark.failure("F26")
@pytest.mark.parametrize("through", get_args(shortages.Through))
async def test_f26_streams_opened_and_reset_as_fast_as_it_goes(engine: str, through: shortages.Through) -> None:
    """Who does it has the time that is left; `acceptance/exhaustion.py` says how much slower the others are."""
    async with shortages.stack_of(engine) as stack:
        _, ordinary, flood = await shortages.flooded(stack, 2.0, through)
        assert ordinary.transactions < NOT_STARVED * flood.transactions
        assert "internal_error" not in [
            *shortages.names(stack, "proxy-client"),
            *shortages.names(stack, "proxy-server"),
        ]


@pytest.mark.failure("F28")
async def test_f28_half_greetings_keep_nobody_out(engine: str) -> None:
    async with shortages.stack_of(engine, "--socks-timeout-s", "5") as stack:
        slowest_s, over_s = await shortages.slow_clients(stack, SLOW)
        assert slowest_s < 3.0
        assert over_s < 20.0

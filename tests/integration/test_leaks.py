"""What is left of streams that have come and gone, whole and cut: nothing, in processes (F20). `acceptance/leaks.py` is
the long one, with memory."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from acceptance.churn import Kind, churn, expected
from tests.pairings import ENGINES, need_quinn

from loadgen.measure.scrape import scrape
from loadgen.stack_api import Stack, StackSettings
from loadgen.stacks.local import local_stack

PROXIES = ("proxy-client", "proxy-server")
EARLY, LATE = 400, 1600
AT_ONCE = 8  # Room for them is on one connection of the tunnel.
REST_S = 30.0
ENDINGS = {
    "eof": (Kind.WHOLE,),
    "reset": (Kind.APPLICATION_RESETS, Kind.TARGET_RESETS),
    "closed": (Kind.STOPPED,),
    "lost": (),
    "refused": (),
}
"""What each kind of transaction is counted as, at both proxies."""
RESTING = {
    "connections": 1,
    "streams": 0,
    "stream_ids": 0,
    "stream_ids_unseen": 0,
    "timers": 1,
    "handlers": 0,
    "sockets": 0,
    "tasks": 1,
}
"""With one connection that is idle."""


@pytest.mark.failure("F20")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("engine", ENGINES)
async def test_f20_nothing_is_left_of_streams_whole_and_cut(engine: str) -> None:
    if engine == "quinn":
        need_quinn()
    flags = dict.fromkeys(PROXIES, ("--engine", engine))
    async with local_stack(StackSettings(arguments=flags)) as stack:
        await churn(stack.proxy, stack.target, EARLY, AT_ONCE)
        early = {program: await at_rest(stack, program) for program in PROXIES}
        await churn(stack.proxy, stack.target, LATE, AT_ONCE)
        for program in PROXIES:
            assert await at_rest(stack, program) == early[program], f"descriptors of {program}"
            assert await endings(stack, program) == {
                ending: sum(expected(EARLY)[kind] + expected(LATE)[kind] for kind in kinds)
                for ending, kinds in ENDINGS.items()
            }


async def at_rest(stack: Stack, program: str) -> int:
    """Waits until only the idle connection is left of everything; the descriptors then open."""
    give_up_at = asyncio.get_running_loop().time() + REST_S
    while (held := await entries(stack, program)) != RESTING:
        assert asyncio.get_running_loop().time() < give_up_at, f"{program} still holds {held}"
        await asyncio.sleep(0.1)
    before = -1
    # Twice the same: the looks at the metrics port take a descriptor too.
    while (now := descriptors(stack.pids[program])) != before:
        before = now
        await asyncio.sleep(0.2)
    return now


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def entries(stack: Stack, program: str) -> Mapping[str, float]:
    found = await scrape(stack.metrics[program], ("tunnel_table_entries", "process_event_loop_tasks"))
    assert found is not None
    tables = {dict(labels)["table"]: value for labels, value in found.series("tunnel_table_entries").items()}
    return tables | {"tasks": found.value("process_event_loop_tasks") or 0}


async def endings(stack: Stack, program: str) -> Mapping[str, float]:
    found = await scrape(stack.metrics[program], ("tunnel_streams_total",))
    assert found is not None
    return {dict(labels)["ending"]: value for labels, value in found.series("tunnel_streams_total").items()}

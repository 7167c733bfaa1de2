"""The alarm of a link, on the real clock."""

import asyncio
from time import monotonic

from loadgen.link.alarm import Alarm


async def test_it_rings_once_not_before_its_moment_and_soon_after() -> None:
    rung_s: list[float] = []
    rang = asyncio.Event()

    def ring() -> None:
        rung_s.append(monotonic())
        rang.set()

    alarm = Alarm(ring)
    at_s = monotonic() + 0.0432

    alarm.set(at_s)
    await asyncio.wait_for(rang.wait(), 5)
    await asyncio.sleep(0.01)
    alarm.close()

    assert len(rung_s) == 1
    assert rung_s[0] >= at_s
    assert rung_s[0] < at_s + 0.5  # a busy machine is late; a whole second would be a mistake


async def test_setting_again_moves_it_and_the_past_rings_at_once() -> None:
    rang = asyncio.Event()
    alarm = Alarm(rang.set)

    alarm.set(monotonic() + 3600)
    alarm.set(monotonic() - 1)

    await asyncio.wait_for(rang.wait(), 5)
    alarm.close()


async def test_it_never_rings_after_it_was_closed() -> None:
    rang = asyncio.Event()
    alarm = Alarm(rang.set)
    alarm.set(monotonic())

    alarm.close()
    await asyncio.sleep(0.02)

    assert not rang.is_set()

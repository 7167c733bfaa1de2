"""A CONNECT that takes long and then succeeds."""

import asyncio

from loadgen.faulty.fault import Fault

DELAY_S = 4.5
"""Longer than the stall limit of socks_connect (3 s), shorter than its timeout."""

SUMMARY = f"the reply to CONNECT comes {DELAY_S:g} s late"


class ReplyDelayed(Fault):
    def __init__(self, delay_s: float = DELAY_S) -> None:
        self._delay_s = delay_s

    async def on_connect_reply(self) -> None:
        self.on_strike()
        await asyncio.sleep(self._delay_s)

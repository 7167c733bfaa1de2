"""A CONNECT that is never answered."""

import asyncio

from loadgen.faulty.fault import KEPT_S, Fault

SUMMARY = "the reply to CONNECT never comes"


class ReplyNever(Fault):
    async def on_connect_reply(self) -> None:
        self.on_strike()
        await asyncio.sleep(KEPT_S)
        raise ConnectionResetError("kept for long enough")

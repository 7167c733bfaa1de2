"""Sockets share turns: what some have asked for begins before all were looked at."""

import asyncio
import socket
from contextlib import ExitStack

from tunnel.net.poller import READABLE, Poller


async def test_after_each_part_of_a_turn_somebody_is_told() -> None:
    happened: list[str] = []
    poller = Poller(asyncio.get_running_loop())
    poller.after_part = lambda: happened.append("part")
    done = asyncio.Event()

    def ready(events: int) -> None:
        happened.append("ready")
        if happened.count("ready") == 20:
            done.set()

    with ExitStack() as exits:
        exits.callback(poller.close)
        for _ in range(20):
            ours, theirs = socket.socketpair()
            exits.enter_context(ours)
            exits.enter_context(theirs)
            theirs.send(b"x")
            poller.add(ours.fileno(), ready, READABLE)
        async with asyncio.timeout(10):
            await done.wait()
    assert "".join(word[0] for word in happened).startswith("rrrrrrr" + "p" + "rrrrrrrr" + "p" + "rrrrr")

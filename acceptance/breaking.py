"""What can break, one small function each, and the table of what must come of it: its bounds are the README's.

Rules:
- A fault tells the lab when it begins and when it ends, and leaves everything as it was.
- A program's fault ends when the program says in its log that it is ready, not when somebody notices.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from application import CUT, NO_LISTENER, RESET, SERVED, ask, greeting_and_connect, held, path_of, refused
from lab import BLACKHOLE, DESCRIPTORS, PROXIES, Lab, until_ready

from servicekit.address import Address

GENERAL = refused(1)
UNREACHABLE = refused(4)
REFUSED = refused(5)
TIMED_OUT = refused(6)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that breaks. Bounds in seconds."""

    what: str
    sees: str
    """What applications do, in the README's words."""
    fault: Callable[[Lab], Awaitable[None]]
    """Tells `lab` when it begins and ends; returns when all is as before."""
    recovery_s: float
    """From the end of the fault until new requests are served."""
    under_way: frozenset[str]
    """What becomes of a transfer that is under way when it begins."""
    meanwhile: frozenset[str]
    """What a request that is made during the fault may hear."""
    answer_s: float
    """Within which it hears it."""
    under_way_s: float = math.inf
    """From the fault until a transfer that does not survive has ended."""
    transfer_s: float = 3.0
    """How long the transfer takes by itself; one that shall survive outlasts the fault."""
    repetitions: int = 3
    by_address: bool = False
    """Whether requests name the target by its address: then no resolver is asked."""


# The faults.


async def server_killed(lab: Lab) -> None:
    lab.begins()
    await lab.faults.kill("proxy-server")
    await asyncio.sleep(1)
    await lab.faults.start("proxy-server")
    lab.ends(await lab.ready_s("proxy-server"))


async def server_killed_and_away(lab: Lab) -> None:
    lab.begins()
    await lab.faults.kill("proxy-server")
    await asyncio.sleep(16)
    await lab.faults.start("proxy-server")
    lab.ends(await lab.ready_s("proxy-server"))


async def server_restarted(lab: Lab) -> None:
    lab.begins()
    await lab.faults.stop("proxy-server", at_once=False)
    await lab.faults.start("proxy-server")
    lab.ends(await lab.ready_s("proxy-server"))


async def server_paused(lab: Lab) -> None:
    lab.begins()
    await lab.faults.pause("proxy-server")
    await asyncio.sleep(8)
    await lab.faults.resume("proxy-server")
    lab.ends()


async def server_drained(lab: Lab) -> None:
    """Another one has its name and takes over; then the first one comes back, and the other one leaves."""
    old = lab.container("proxy-server")
    new = await lab.another_server()
    lab.begins()
    lab.ends()
    await asyncio.to_thread(old.stop, timeout=25)
    await asyncio.to_thread(old.start)
    await until_ready(old)
    await asyncio.to_thread(new.stop, timeout=25)
    await asyncio.to_thread(new.remove)


def blackhole(seconds: float) -> Callable[[Lab], Awaitable[None]]:
    async def fault(lab: Lab) -> None:
        await lab.faults.impair(BLACKHOLE)
        lab.begins()
        await asyncio.sleep(seconds)
        await lab.faults.impair([])
        lab.ends()

    return fault


async def address_changed(lab: Lab) -> None:
    await lab.faults.rebind()
    lab.begins()
    lab.ends()


async def target_killed(lab: Lab) -> None:
    lab.begins()
    await lab.faults.kill("http-target")
    await asyncio.sleep(1)
    await lab.faults.start("http-target")
    lab.ends(await lab.listens_s("http-target"))


async def target_gone(lab: Lab) -> None:
    """Nobody answers for its address, and nobody says so; it comes back when the transfer has been given up."""
    assert lab.transfer is not None
    await lab.faults.disconnect("http-target")
    lab.begins()
    await asyncio.wait([lab.transfer])
    await lab.faults.connect("http-target")
    lab.ends()


async def names_silent(lab: Lab) -> None:
    """As many names are asked for as to keep all look-ups of proxy-server busy when it ends."""
    await lab.names_silent(True)
    lab.begins()
    asking = [asyncio.create_task(lab.ask(30)) for _ in range(100)]
    await asyncio.sleep(8)
    asking += [asyncio.create_task(lab.ask(30)) for _ in range(100)]
    await asyncio.sleep(4)
    await lab.names_silent(False)
    lab.ends()
    endings = {asked.ending for asked in await asyncio.gather(*asking)}
    assert endings <= {SERVED, UNREACHABLE}, endings


async def server_killed_while_names_are_silent(lab: Lab) -> None:
    """Requests name their target by address, so it is the client's own resolving that is in question."""
    await lab.names_silent(True)
    try:
        await server_killed(lab)
        await asyncio.wait([asyncio.ensure_future(served_again(lab))], timeout=30)
    finally:
        await lab.names_silent(False)


async def client_restarted(lab: Lab) -> None:
    lab.begins()
    await lab.faults.stop("proxy-client", at_once=False)
    await lab.faults.start("proxy-client")
    lab.ends(await lab.listens_s("proxy-client"))


async def disks_full(lab: Lab) -> None:
    """Logs and qlog of both proxies cannot be written; what is logged afterwards is there again."""
    fill = "cat /dev/zero >/logs/filler; cat /dev/zero >/qlog/filler"
    lab.begins()
    for program in PROXIES:
        said = await lab.execute(program, "sh", "-c", f"({fill}) 2>&1")
        assert said.count("No space left") == 2, said
    await asyncio.gather(*(refused_request(lab) for _ in range(50)))
    await asyncio.sleep(3)
    for program in PROXIES:
        await lab.execute(program, "rm", "-f", "/logs/filler", "/qlog/filler")
    lab.ends()
    before = len(await lab.log("proxy-client"))
    await refused_request(lab)
    assert len(await lab.log("proxy-client")) == before + 1, "the first line with room for it is not in the log"


async def refused_request(lab: Lab) -> None:
    """Something for the log."""
    proxy = await lab.proxy()
    assert (await ask(proxy, Address(lab.target_address.host, 1), path_of(1), 10)).ending == REFUSED


async def client_out_of_descriptors(lab: Lab) -> None:
    """More connections than there are descriptors, all of them silent."""
    proxy = await lab.proxy()
    assert proxy is not None
    lab.begins()
    async with held(proxy, DESCRIPTORS["proxy-client"] + 200, b""):
        await asyncio.sleep(4)
    lab.ends()


async def server_out_of_descriptors(lab: Lab) -> None:
    """More streams than it has descriptors for, each with a target's connection."""
    proxy = await lab.proxy()
    assert proxy is not None
    lab.begins()
    async with held(proxy, DESCRIPTORS["proxy-server"] + 50, greeting_and_connect(lab.target_address)):
        await asyncio.sleep(4)
    lab.ends()


async def served_again(lab: Lab) -> None:
    while True:
        if (await lab.ask(5, lab.target_address)).ending == SERVED:
            return
        await asyncio.sleep(0.1)


# The table.


def words(*those: str) -> frozenset[str]:
    return frozenset(those)


SURVIVES = words(SERVED)


SURVIVES = words(SERVED)

ROWS = (
    Row(
        "proxy-server is killed and started again",
        "a reset within 10 s; new requests wait",
        server_killed,
        recovery_s=5,
        under_way=words(RESET),
        under_way_s=10,
        transfer_s=60,
        meanwhile=words(SERVED, RESET, GENERAL),
        answer_s=10,
    ),
    Row(
        "proxy-server is killed and stays away",
        "a reset within 15 s; new requests are refused after 10 s",
        server_killed_and_away,
        recovery_s=5,
        under_way=words(RESET),
        under_way_s=15,
        transfer_s=60,
        meanwhile=words(SERVED, RESET, GENERAL),
        answer_s=15,
        repetitions=1,
    ),
    Row(
        "proxy-server restarts in its place (SIGTERM)",
        "nothing: open streams finish first (for up to 20 s), new requests wait (for up to 10 s)",
        server_restarted,
        recovery_s=3,
        under_way=SURVIVES,
        meanwhile=words(SERVED),
        answer_s=12,
    ),
    Row(
        "proxy-server stands still for 8 s",
        "nothing: transfers go on, new requests wait",
        server_paused,
        recovery_s=3,
        under_way=SURVIVES,
        transfer_s=11,
        meanwhile=words(SERVED),
        answer_s=12,
        repetitions=2,
    ),
    Row(
        "proxy-server drains, another one is behind its name",
        "nothing: open streams finish, new requests go to the other one",
        server_drained,
        recovery_s=1,
        under_way=SURVIVES,
        transfer_s=10,  # The other one has to start first.
        meanwhile=words(SERVED),
        answer_s=2,
        repetitions=2,
    ),
    Row(
        "the network swallows everything for 1 s",
        "nothing: transfers go on, new requests wait",
        blackhole(1),
        recovery_s=3,
        under_way=SURVIVES,
        transfer_s=4,
        meanwhile=words(SERVED),
        answer_s=5,
    ),
    Row(
        "the network swallows everything for 10 s",
        "transfers go on or are reset within 15 s; new requests wait, or are refused after 10 s",
        blackhole(10),
        recovery_s=6,
        under_way=words(SERVED, RESET),
        under_way_s=15,
        transfer_s=13,
        meanwhile=words(SERVED, RESET, GENERAL),
        answer_s=16,
        repetitions=2,
    ),
    Row(
        "the network swallows everything for 60 s",
        "a reset within 15 s; new requests are refused after 10 s",
        blackhole(60),
        recovery_s=6,
        under_way=words(RESET),
        under_way_s=15,
        transfer_s=70,
        meanwhile=words(SERVED, RESET, GENERAL),
        answer_s=16,
        repetitions=1,
    ),
    Row(
        "the client's address changes in the middle of a transfer",
        "nothing: the transfer goes on",
        address_changed,
        recovery_s=2,
        under_way=SURVIVES,
        meanwhile=words(SERVED),
        answer_s=3,
    ),
    Row(
        "the target is killed",
        "what its kernel says, at once: a reset, or an end before the announced length; new requests are refused",
        target_killed,
        recovery_s=1,
        under_way=words(RESET, CUT),
        under_way_s=2,
        transfer_s=60,
        meanwhile=words(SERVED, UNREACHABLE, REFUSED, CUT, RESET),
        answer_s=5,
    ),
    Row(
        "the target's host is gone without a word",
        "a reset within 70 s (nothing else than keep-alive can tell); new requests are refused within 10 s",
        target_gone,
        recovery_s=3,
        under_way=words(RESET),
        under_way_s=70,
        transfer_s=100,
        meanwhile=words(UNREACHABLE, TIMED_OUT, SERVED),  # Served is who has waited for its return.
        answer_s=12,
        repetitions=1,
        by_address=True,
    ),
    Row(
        "the name server is silent",
        "nothing; new requests for names are refused after 10 s, those for addresses served",
        names_silent,
        recovery_s=6,
        under_way=SURVIVES,
        transfer_s=15,
        meanwhile=words(SERVED, UNREACHABLE),
        answer_s=14,
        repetitions=1,
    ),
    Row(
        "proxy-server is killed and started again while the name server is silent",
        "as with a name server: the client goes to the addresses it had",
        server_killed_while_names_are_silent,
        recovery_s=6,
        under_way=words(RESET),
        under_way_s=10,
        transfer_s=60,
        meanwhile=words(SERVED, RESET, GENERAL),
        answer_s=10,
        repetitions=2,
        by_address=True,
    ),
    Row(
        "proxy-client restarts (SIGTERM)",
        "open streams finish first (for up to 20 s); new connections are refused until it listens again",
        client_restarted,
        recovery_s=2,
        under_way=SURVIVES,
        meanwhile=words(SERVED, NO_LISTENER, CUT, RESET),
        answer_s=5,
    ),
    Row(
        "the disk is full (logs, qlog)",
        "nothing: lines are lost, and come again as soon as there is room",
        disks_full,
        recovery_s=1,
        under_way=SURVIVES,
        transfer_s=6,
        meanwhile=words(SERVED),
        answer_s=2,
        repetitions=2,
    ),
    Row(
        "proxy-client has no descriptors left",
        "nothing: transfers go on, new connections wait in the kernel's queue",
        client_out_of_descriptors,
        recovery_s=2,
        under_way=SURVIVES,
        transfer_s=7,
        meanwhile=words(SERVED),
        answer_s=8,
        repetitions=2,
    ),
    Row(
        "proxy-server has no descriptors left",
        "nothing: transfers go on; new requests are refused at once",
        server_out_of_descriptors,
        recovery_s=1,
        under_way=SURVIVES,
        transfer_s=7,
        meanwhile=words(SERVED, GENERAL, UNREACHABLE),
        answer_s=2,
        repetitions=2,
    ),
)

"""What happens when something is used up: the scenarios of `exhaustion.py` and of the integration tests.

Each is a function of a running stack, and raises where something is not as it should be.
"""

import asyncio
import os
import resource
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal, assert_never, cast

from loadgen.stack_api import StackSettings
from loadgen.stacks.local import LocalStack, local_stack
from loadgen.stacks.process import Program
from loadgen.stacks.program_log import events
from servicekit.address import Address

GENERAL_FAILURE: Final = 1
PATIENCE_S: Final = 30.0
Through = Literal["the same proxy-client", "another proxy-client", "no proxy-client"]
"""How a crowd comes to proxy-server."""
WATCHED_S: Final = 2.0
NEIGHBOURS: Final = 8
IDLE_CPU: Final = 0.1
"""Of a core: what a proxy may take that can do nothing. A loop that spins takes all that it gets."""

_BODY_BYTES: Final = 500
_GET: Final = f"GET /bytes?seed=1&size={_BODY_BYTES}&framing=length HTTP/1.1\r\nHost: target\r\n\r\n".encode()
_RESET: Final = struct.pack("ii", 1, 0)


def stack_of(
    engine: str, *client_flags: str, link: tuple[str, ...] | None = None
) -> AbstractAsyncContextManager[LocalStack]:
    """Real programs on loopback, both proxies with `engine`."""
    flags = ("--engine", engine)
    settings = StackSettings(link, arguments={"proxy-client": (*flags, *client_flags), "proxy-server": flags})
    return cast(AbstractAsyncContextManager[LocalStack], local_stack(settings))


async def many_at_once(stack: LocalStack, number: int) -> Counter[int]:
    """`number` connections ask for the target at once and stay until all have an answer: the SOCKS replies, counted."""
    async with AsyncExitStack() as exits:
        clients = [exits.enter_context(Client()) for _ in range(number)]
        replies = Counter(await asyncio.gather(*(client.ask(stack.proxy, stack.target) for client in clients)))
        assert set(replies) <= {0, GENERAL_FAILURE}, replies
        await asyncio.gather(*(client.get() for client in clients if client.reply == 0))
    await served(stack)  # And those that come after them.
    return replies


async def no_descriptors_at_the_client(stack: LocalStack, free: int) -> tuple[int, int]:
    """How many waited to be accepted, and the lines in the log. What is open goes on; who leaves makes room."""
    program = stack.programs["proxy-client"]
    async with AsyncExitStack() as exits:
        old = exits.enter_context(Client())
        assert await old.ask(stack.proxy, stack.target) == 0
        with descriptors_left(program.pid, free):
            clients = [exits.enter_context(Client()) for _ in range(2 * free)]
            asking = {asyncio.ensure_future(client.ask(stack.proxy, stack.target)): client for client in clients}
            await until(lambda: "cannot_accept" in names(stack, "proxy-client"), "the shortage is told")
            scraper = exits.enter_context(Client())  # The metrics port has no descriptor for it either.
            await scraper.connect(Address.parse(stack.metrics["proxy-client"].split("/")[2]))
            busy = await cpu(program.pid)
            assert busy < IDLE_CPU, f"{busy:.0%} of a core"
            await old.get()
            waiting = {task for task in asking if not task.done()}
            while unserved := {task for task in asking if not task.done()}:
                for task in set(asking) - unserved:
                    asking.pop(task).close()
                await asyncio.wait(unserved, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
        await served(stack)
    return len(waiting), names(stack, "proxy-client").count("cannot_accept")


async def no_descriptors_at_the_server(stack: LocalStack, free: int) -> tuple[int, int]:
    """Who was refused, and the lines in the log: of the server, which cannot dial, and not one for each."""
    program = stack.programs["proxy-server"]
    async with AsyncExitStack() as exits:
        old = exits.enter_context(Client())
        assert await old.ask(stack.proxy, stack.target) == 0
        with descriptors_left(program.pid, free):
            clients = [exits.enter_context(Client()) for _ in range(3 * free)]
            replies = Counter(await asyncio.gather(*(client.ask(stack.proxy, stack.target) for client in clients)))
            assert set(replies) == {0, GENERAL_FAILURE}, replies
            by_name = exits.enter_context(Client())
            assert await by_name.ask(stack.proxy, stack.target, b"localhost") == GENERAL_FAILURE
            busy = await cpu(program.pid)
            assert busy < IDLE_CPU, f"{busy:.0%} of a core"
            await old.get()
            for client in clients:
                client.close()
            await until_served(stack)  # With as few descriptors as before.
    return replies[GENERAL_FAILURE], names(stack, "proxy-server").count("dial_failed")


async def slow_clients(stack: LocalStack, number: int) -> tuple[float, float]:
    """`number` clients send half a greeting. Of 100 transactions beside them the longest; when the last was ended."""
    began = time.monotonic()
    async with AsyncExitStack() as exits:
        clients = [exits.enter_context(Client()) for _ in range(number)]
        await asyncio.gather(*(client.connect(stack.proxy) for client in clients))
        await asyncio.gather(*(client.send(b"\x05") for client in clients))
        took = []
        for _ in range(100):
            before = time.monotonic()
            await served(stack)
            took.append(time.monotonic() - before)
        assert not any(client.is_over() for client in clients), "one was ended already"
        await asyncio.gather(*(client.ended() for client in clients))
    return max(took), time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Seen:
    """Of a client that has one transaction after the other."""

    p99_ms: float
    transactions: int
    crowd: int = 0
    """Streams that others opened meanwhile."""


async def flooded(stack: LocalStack, seconds: float, through: Through) -> tuple[Seen, Seen, Seen]:
    """What a client sees alone, beside ordinary clients, and beside as many that open and reset as fast as it goes.

    Through no proxy-client it is one client that has no restraint of its own, and the ordinary ones use another one.
    """
    async with AsyncExitStack() as exits:
        way_in = stack.proxy if through == "the same proxy-client" else await another_client(stack, exits)
        alone = await transactions_of(stack, seconds)
        async with Crowd("flood.py", str(way_in), str(stack.target), "whole") as ordinary:
            beside_ordinary = await transactions_of(stack, seconds)
        async with flood_through(through, stack, way_in) as flood:
            beside_flood = await transactions_of(stack, seconds)
    assert ordinary.opened > 0
    assert flood.opened > 0
    return alone, replace(beside_ordinary, crowd=ordinary.opened), replace(beside_flood, crowd=flood.opened)


def flood_through(through: Through, stack: LocalStack, way_in: Address) -> "Crowd":
    match through:
        case "the same proxy-client" | "another proxy-client":
            return Crowd("flood.py", str(way_in), str(stack.target), "reset")
        case "no proxy-client":
            words = command_line(stack.programs["proxy-client"].pid)
            server, token = (words[words.index(flag) + 1] for flag in ("--server", "--token-file"))
            return Crowd("rapid.py", server, token, str(stack.target))
    assert_never(through)


async def transactions_of(stack: LocalStack, seconds: float) -> Seen:
    """Transactions for so long, `NEIGHBOURS` at a time."""
    took: list[float] = []
    over_at = time.monotonic() + seconds

    async def one_after_the_other() -> None:
        while (began := time.monotonic()) < over_at:
            await served(stack)
            took.append((time.monotonic() - began) * 1000)

    async with asyncio.TaskGroup() as group:
        for _ in range(NEIGHBOURS):
            group.create_task(one_after_the_other())
    return Seen(sorted(took)[int(len(took) * 0.99)], len(took))


async def another_client(stack: LocalStack, exits: AsyncExitStack) -> Address:
    """Starts a second proxy-client like the first one; where it listens for SOCKS."""
    words = command_line(stack.programs["proxy-client"].pid)
    logs = Path(exits.enter_context(TemporaryDirectory()))
    client = await Program.start("another-client", words, {"socks": "--listen"}, logs)
    exits.push_async_callback(client.stop)
    return client.addresses["socks"]


# What they are made of.


class Client:
    """One SOCKS client. A context manager that closes with a reset."""

    def __init__(self) -> None:
        self.reply: int | None = None
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._socket.close()

    async def connect(self, proxy: Address) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._loop.sock_connect(self._socket, (proxy.host, proxy.port))

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def ask(self, proxy: Address, target: Address, name: bytes = b"") -> int:
        """Asks for the target, by `name` if it is given; the SOCKS reply."""
        await self.connect(proxy)
        host = b"\x03" + bytes([len(name)]) + name if name else b"\x01" + socket.inet_aton(target.host)
        await self.send(b"\x05\x01\x00\x05\x01\x00" + host + target.port.to_bytes(2, "big"))
        self.reply = (await self._exactly(12))[3]
        return self.reply

    async def get(self) -> None:
        """A request of the target's, and its whole answer."""
        await self.send(_GET)
        received = b""
        while len(received.partition(b"\r\n\r\n")[2]) < _BODY_BYTES:
            received += await self._exactly(1)
            received += self._socket.recv(65536)

    async def ended(self) -> None:
        """Until the proxy has ended the connection."""
        async with asyncio.timeout(PATIENCE_S):
            while await self._loop.sock_recv(self._socket, 65536):
                pass

    def is_over(self) -> bool:
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False

    async def _exactly(self, count: int) -> bytes:
        received = b""
        async with asyncio.timeout(PATIENCE_S):
            while len(received) < count:
                data = await self._loop.sock_recv(self._socket, count - len(received))
                assert data, f"ended after {received!r}"
                received += data
        return received


async def served(stack: LocalStack) -> None:
    """One whole transaction of a new client."""
    with Client() as client:
        assert await client.ask(stack.proxy, stack.target) == 0
        await client.get()


async def until_served(stack: LocalStack) -> None:
    """What was closed is seen to be closed a little later."""
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        with Client() as client:
            if await client.ask(stack.proxy, stack.target) == 0:
                return await client.get()
        assert time.monotonic() < give_up_at, "nobody is served again"
        await asyncio.sleep(0.05)


async def until(holds: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up_at, f"not within {PATIENCE_S:g} s: {what}"
        await asyncio.sleep(0.02)


def command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")


class Crowd:
    """A script of this folder that opens streams, running. An async context manager; `opened` is known in the end."""

    def __init__(self, script: str, *arguments: str) -> None:
        self.opened = 0
        self._script, self._arguments = script, arguments

    async def __aenter__(self) -> "Crowd":
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name(self._script)),
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            assert await self._process.stdout.readline(), f"{self._script} has ended"  # The first stream was opened.
        return self

    async def __aexit__(self, *error: object) -> None:
        async with asyncio.timeout(PATIENCE_S):
            told, _ = await self._process.communicate(b"")
        self.opened = int(told)


@contextmanager
def descriptors_left(pid: int, free: int) -> Iterator[None]:
    """Lowers a program's limit so that it can open `free` more."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # The limit is on the number of a descriptor, not on how many there are.
    used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    limit = next(islice((number for number in count() if number not in used), free, None))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


async def cpu(pid: int) -> float:
    """How much of a core a process takes, over `WATCHED_S`."""
    before = _cpu_s(pid)
    await asyncio.sleep(WATCHED_S)
    return (_cpu_s(pid) - before) / WATCHED_S


def _cpu_s(pid: int) -> float:
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def names(stack: LocalStack, program: str) -> list[str]:
    """Of the events in a program's log."""
    return [str(event.get("event")) for event in events(stack.programs[program].log.text())]

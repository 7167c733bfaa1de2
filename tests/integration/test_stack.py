"""The local stack with the real programs: what it promises on entry, and that nothing of it is left."""

import asyncio
import hashlib
import os
import re
import signal
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from loadgen.link.plan import Window
from loadgen.stack_api import RTT_20_MS, StackSettings
from loadgen.stacks.local import local_stack
from loadgen.stacks.process import find_program
from servicekit import payload
from servicekit.address import Address

SIZE_BYTES = 100_000
RECOVERY_S = 15.0


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def fetch(proxy: Address, target: Address) -> str:
    """The SHA-256 of a body that came through the stack."""
    async with httpx.AsyncClient(proxy=f"socks5h://{proxy}", timeout=20) as client:
        response = await client.get(f"http://{target}/bytes?seed=5&size={SIZE_BYTES}&framing=close")
    return hashlib.sha256(response.content).hexdigest()


async def connects(proxy: Address, target: Address) -> bool:
    """Whether a CONNECT succeeds. Not with httpx: it leaves its socket open where SOCKS refuses."""
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        host, port = socket.inet_aton(target.host), target.port.to_bytes(2, "big")
        writer.write(b"\x05\x01\x00\x05\x01\x00\x01" + host + port)
        return (await reader.readexactly(4))[3] == 0
    except (ConnectionError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.transport.abort()


async def recovered(proxy: Address, target: Address) -> None:
    """Until proxy-client has noticed that its server is another one, it refuses."""
    async with asyncio.timeout(RECOVERY_S):
        while not await connects(proxy, target):  # noqa: ASYNC110  # another process knows it
            await asyncio.sleep(0.1)


async def test_a_stack_carries_http_on_entry_and_is_gone_after_exit() -> None:
    async with local_stack(StackSettings(link=RTT_20_MS)) as stack:
        assert set(stack.pids) == {"proxy-client", "proxy-server", "http-target", "link"}
        assert all(map(alive, stack.pids.values()))
        assert await fetch(stack.proxy, stack.target) == payload.sha256(5, SIZE_BYTES)
        async with httpx.AsyncClient() as client:
            link = (await client.get(stack.metrics["link"])).text
        pids = list(stack.pids.values())

    assert re.search(r'link_bytes_total\{direction="server_to_client"\} [1-9]', link)
    assert not any(map(alive, pids))


async def test_a_proxy_server_that_was_killed_and_started_again_carries_http() -> None:
    async with local_stack(StackSettings()) as stack:
        assert stack.faults is not None
        pid = stack.pids["proxy-server"]
        assert await fetch(stack.proxy, stack.target) == payload.sha256(5, SIZE_BYTES)

        await stack.faults.kill("proxy-server")
        assert not alive(pid)
        await stack.faults.start("proxy-server")

        assert stack.pids["proxy-server"] != pid
        await recovered(stack.proxy, stack.target)
        assert await fetch(stack.proxy, stack.target) == payload.sha256(5, SIZE_BYTES)


@pytest.mark.parametrize("at_once", [False, True])
async def test_every_program_can_be_restarted_and_the_stack_works_again(at_once: bool) -> None:
    async with local_stack(StackSettings(link=RTT_20_MS)) as stack:
        assert stack.faults is not None
        for program in stack.pids:
            await stack.faults.stop(program, at_once=at_once)
            await stack.faults.start(program)

        assert await fetch(stack.proxy, stack.target) == payload.sha256(5, SIZE_BYTES)


async def test_a_pause_is_a_wait_and_not_an_error() -> None:
    async with local_stack(StackSettings()) as stack:
        assert stack.faults is not None
        await stack.faults.pause("http-target")
        fetching = asyncio.create_task(fetch(stack.proxy, stack.target))
        done, _ = await asyncio.wait({fetching}, timeout=1)
        assert not done

        await stack.faults.resume("http-target")

        assert await fetching == payload.sha256(5, SIZE_BYTES)


async def test_a_blackhole_lasts_until_it_is_healed_and_a_rebind_is_survived() -> None:
    async with local_stack(StackSettings(link=RTT_20_MS)) as stack:
        assert stack.faults is not None
        assert await fetch(stack.proxy, stack.target) == payload.sha256(5, SIZE_BYTES)
        await stack.faults.impair([Window(from_s=0, blackhole=True)])
        fetching = asyncio.create_task(fetch(stack.proxy, stack.target))
        done, _ = await asyncio.wait({fetching}, timeout=1)
        assert not done

        await stack.faults.impair([])
        assert await fetching == payload.sha256(5, SIZE_BYTES)
        await stack.faults.rebind()
        assert await fetch(stack.proxy, stack.target) == payload.sha256(5, SIZE_BYTES)


@pytest.fixture
async def serving() -> AsyncIterator[asyncio.subprocess.Process]:
    """`loadgen stack` on free ports."""
    process = await asyncio.create_subprocess_exec(
        find_program("loadgen"), *("stack", "--socks-port", "0", "--target-port", "0"), stdout=asyncio.subprocess.PIPE
    )
    yield process
    if process.returncode is None:
        process.terminate()
        await process.wait()


async def test_loadgen_stack_prints_its_addresses_and_an_interrupt_ends_all_of_it(
    serving: asyncio.subprocess.Process,
) -> None:
    assert serving.stdout is not None
    shown: dict[str, str] = {}
    async with asyncio.timeout(30):
        while "try" not in shown:
            line = (await serving.stdout.readline()).decode()
            assert line, f"it has ended after {shown}"
            name, _, value = line.partition("  ")
            shown[name] = value.strip()
    target = Address.parse(shown["http-target"].removeprefix("http://"))
    pids = [int(match[1]) for name in shown if (match := re.search(r"\(pid (\d+)\)", name))]

    assert await fetch(Address.parse(shown["SOCKS5"]), target) == payload.sha256(5, SIZE_BYTES)
    assert len(pids) == 3
    serving.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(serving.wait(), 20) == 0
    assert not any(map(alive, pids))

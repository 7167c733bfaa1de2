"""The local stack, with stand-ins for the programs: order, flags, and nothing left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadgen.stack_api import RTT_20_MS, StackError, StackSettings
from loadgen.stacks import process
from loadgen.stacks.local import local_stack
from servicekit.address import Address

pytestmark = pytest.mark.usefixtures("stand_ins")


async def test_programs_start_in_the_order_of_need_and_end_in_the_reverse(record: Any) -> None:
    async with local_stack(StackSettings(link=RTT_20_MS)) as stack:
        assert record.order() == ["start http-target", "start proxy-server", "start link", "start proxy-client"]
        assert set(stack.pids) == set(stack.metrics) == {"http-target", "proxy-server", "link", "proxy-client"}
        assert (stack.target, stack.server_first) == (Address("127.0.0.1", 1), Address("127.0.0.1", 2))

    assert record.order()[4:] == ["end proxy-client", "end link", "end proxy-server", "end http-target"]


async def test_the_client_goes_through_the_link_and_verifies_the_server(record: Any) -> None:
    async with local_stack(StackSettings(link=RTT_20_MS)):
        pass

    link, client = " ".join(record.flags("link")), " ".join(record.flags("proxy-client"))
    assert "link --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 --upstream 127.0.0.1:1 --delay-ms 10 --plan" in link
    assert "--server 127.0.0.1:1 --server-name proxy-server" in client
    assert "ca.pem" in client
    assert "--insecure" not in client


async def test_without_a_link_there_is_none(record: Any) -> None:
    async with local_stack(StackSettings()) as stack:
        assert "link" not in stack.pids


async def test_further_arguments_replace_the_stacks_own(record: Any) -> None:
    arguments = {
        "proxy-client": ("--listen", "127.0.0.1:1080", "--engine", "quinn"),
        "proxy-server": ("--egress-allow=127.0.0.0/8", "--engine=other"),
    }
    async with local_stack(StackSettings(arguments=arguments)):
        pass

    client, server = record.flags("proxy-client"), record.flags("proxy-server")
    assert client.count("--listen") == 1
    assert client[-4:] == ["--listen", "127.0.0.1:1080", "--engine", "quinn"]
    assert "own" not in server
    assert server[-2:] == ["--egress-allow=127.0.0.0/8", "--engine=other"]


async def test_what_sets_the_programs_in_the_environment_is_not_passed_on(
    record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXY_CLIENT_SERVER", "elsewhere:1")
    seen = []
    start = process.Program.start

    async def start_and_look(*arguments: Any) -> Any:
        seen.append(arguments[-1])
        return await start(*arguments)

    monkeypatch.setattr(process.Program, "start", start_and_look)
    async with local_stack(StackSettings()):
        pass

    assert all("PROXY_CLIENT_SERVER" not in environment for environment in seen)
    assert all("PATH" in environment for environment in seen)


async def test_a_failed_start_ends_what_had_started_and_says_why(record: Any, behave: Callable[..., None]) -> None:
    behave({"proxy-client": "dies"})

    with pytest.raises(StackError, match=r"(?s)proxy-client ended with exit code 3.*no such luck"):
        async with local_stack(StackSettings(link=())):
            pass

    assert record.order()[4:] == ["end link", "end proxy-server", "end http-target"]


async def test_logs_go_where_they_are_wanted(record: Any, tmp_path: Path) -> None:
    async with local_stack(StackSettings(logs_directory=tmp_path / "logs")):
        pass

    assert {path.name for path in (tmp_path / "logs").iterdir()} == {
        "http-target.log",
        "proxy-server.log",
        "proxy-client.log",
    }


async def test_an_error_inside_ends_the_stack(record: Any) -> None:
    with pytest.raises(RuntimeError, match="of the soak"):
        async with local_stack(StackSettings()):
            raise RuntimeError("of the soak")

    assert record.order()[3:] == ["end proxy-client", "end proxy-server", "end http-target"]

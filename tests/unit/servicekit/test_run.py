"""servicekit.run: signals ask, main decides, and the exit code says what happened."""

import asyncio
import gc
import json
import os
import resource
import signal
import socket

import pytest

from servicekit.address import Address
from servicekit.errors import CannotStartError
from servicekit.listen import listen_tcp
from servicekit.logs import configure
from servicekit.run import Stop, run


def test_the_exit_code_is_what_main_returns() -> None:
    async def main(stop: Stop) -> int:
        assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
        assert not stop.draining.is_set()
        return 3

    assert run(main) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_and_the_second_stops(number: signal.Signals) -> None:
    async def main(stop: Stop) -> int:
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.draining.wait(), 10)
        assert not stop.now.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stop.now.wait(), 10)
        return 0

    assert run(main) == 0


def test_an_unexpected_exception_is_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(stop: Stop) -> int:
        raise RuntimeError("broken")

    configure("json", "info", "sample")
    assert run(main) == 70
    [line] = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert event["event"] == "internal_error"
    assert event["exception"].endswith("RuntimeError: broken")


def test_what_the_operator_can_put_right_has_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(stop: Stop) -> int:
        raise CannotStartError("cannot listen on 127.0.0.1:1: Permission denied")

    configure("json", "info", "sample")
    assert run(main) == 1
    [line] = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert (event["event"], event["reason"]) == ("cannot_start", "cannot listen on 127.0.0.1:1: Permission denied")
    assert "exception" not in event


def test_what_was_made_at_the_start_is_out_of_the_collectors_sight() -> None:
    async def main(stop: Stop) -> int:
        made = [[]]  # type: ignore[var-annotated]
        await asyncio.sleep(0)
        assert not any(one is made for one in gc.get_objects())
        later = [[]]  # type: ignore[var-annotated]
        assert any(one is later for one in gc.get_objects())
        return 0

    thresholds = gc.get_threshold()
    assert run(main) == 0
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, thresholds)


def test_the_descriptor_limit_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main(stop: Stop) -> int:
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        return 0

    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        assert run(main) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_listen() -> None:
    with listen_tcp(Address("127.0.0.1", 0)) as listener:
        assert not listener.getblocking()
        address = Address.of_socket(listener.getsockname())
        with socket.create_connection((address.host, address.port), timeout=10):
            pass
        with pytest.raises(CannotStartError, match=f"cannot listen on {address}: Address already in use"):
            listen_tcp(address)


def test_listen_on_an_address_that_is_not_ours() -> None:
    with pytest.raises(CannotStartError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign requested address"):
        listen_tcp(Address("192.0.2.1", 0))


def test_listen_on_a_name_that_does_not_resolve() -> None:
    with pytest.raises(CannotStartError, match=r"cannot listen on nowhere\.invalid:0: "):
        listen_tcp(Address("nowhere.invalid", 0))

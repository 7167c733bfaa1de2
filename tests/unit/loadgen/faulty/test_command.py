"""What can be said to `loadgen faulty`."""

from time import monotonic

import pytest
from structlog.testing import capture_logs

from loadgen.faulty.command import FaultySettings, main, telling
from loadgen.faulty.registry import FAULTS
from servicekit.address import Address
from servicekit.settings import load


def settings(*flags: str) -> FaultySettings:
    return load(FaultySettings, flags, {}, prog="loadgen faulty")


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(FAULTS)


@pytest.mark.parametrize(("listen", "ports"), [("127.0.0.1:1081", [1081, 1082]), ("127.0.0.1:0", [0, 0])])
def test_each_fault_has_its_listener(listen: str, ports: list[int]) -> None:
    asked = settings("--listen", listen, "--fault", "silence", "--fault", "none")
    assert list(asked.listeners()) == [
        (name, name, Address("127.0.0.1", port)) for name, port in zip(("silence", "none"), ports, strict=True)
    ]


def test_a_fault_can_be_asked_for_more_than_once() -> None:
    asked = settings(*(part for name in ("none", "silence", "none", "none") for part in ("--fault", name)))
    assert [(name, fault) for name, fault, _ in asked.listeners()] == [
        ("none", "none"), ("silence", "silence"), ("none.2", "none"), ("none.3", "none"),
    ]  # fmt: skip


def test_a_strike_is_logged_with_its_listener_and_time() -> None:
    fault = telling(FAULTS["silence"].make, "silence.2")()
    before_s = monotonic()
    with capture_logs() as log:
        fault.on_strike()
    (line,) = log
    assert (line["event"], line["listener"]) == ("struck", "silence.2")
    assert before_s <= line["at_s"] <= monotonic()


@pytest.mark.parametrize(
    ("flags", "says"), [(["--fault", "nope"], "there is no such fault"), ([], "--fault is required")]
)
def test_usage(flags: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        settings(*flags)
    assert refused.value.code == 2
    assert says in capsys.readouterr().err

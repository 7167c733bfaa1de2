"""What can be said to `loadgen faulty`."""

import pytest

from loadgen.faulty.command import FaultySettings, main
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
        (name, Address("127.0.0.1", port)) for name, port in zip(("silence", "none"), ports, strict=True)
    ]


@pytest.mark.parametrize(
    ("flags", "says"), [(["--fault", "nope"], "there is no such fault"), ([], "--fault is required")]
)
def test_usage(flags: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        settings(*flags)
    assert refused.value.code == 2
    assert says in capsys.readouterr().err

"""The targets of `make fuzz` over their checked-in inputs, without atheris; and that they see what goes wrong."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.fuzz import __main__ as fuzz
from tests.fuzz.__main__ import CORPUS, TARGETS, one_input_of
from tests.fuzz.make_corpus import INPUTS
from tests.pairings import need_quinn

from tunnel.engine.aioquic.server import ServerEndpoint
from tunnel.errors import Cause
from tunnel.socks5 import Handshake
from tunnel.socks5.messages import Close, Event
from tunnel.wire import codec
from tunnel.wire.messages import Message

FILES = [(target, file) for target in TARGETS for file in sorted((CORPUS / target).iterdir())]


@pytest.mark.parametrize(("target", "file"), FILES, ids=lambda value: value if isinstance(value, str) else value.name)
def test_no_checked_in_input_is_a_finding(target: str, file: Path) -> None:
    if target == "quinn":
        need_quinn()
    one_input_of(target)(file.read_bytes())


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "quinn"])
def test_every_input_means_something(target: str) -> None:
    for data in (b"", b"\0", b"\xff" * 40, bytes(range(256))):
        one_input_of(target)(data)


@pytest.mark.parametrize("target", INPUTS)
def test_the_corpus_is_what_its_script_writes(target: str) -> None:
    for name, data in INPUTS[target].items():
        assert (CORPUS / target / name).read_bytes() == data, "`python -m tests.fuzz.make_corpus` writes it anew"


def test_another_error_of_the_codec_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(body: object) -> Message:
        raise IndexError("planted")

    monkeypatch.setitem(codec._READERS, codec._PING, broken)
    with pytest.raises(IndexError, match="planted"):
        one_input_of("codec")(INPUTS["codec"]["ping"])


def test_a_handshake_that_depends_on_the_cuts_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = Handshake.receive

    def broken(self: Handshake, data: bytes) -> list[Event]:
        return [Close(Cause.BAD_REQUEST, "planted")] if len(data) == 1 else receive(self, data)

    monkeypatch.setattr(Handshake, "receive", broken)
    with pytest.raises(AssertionError):
        one_input_of("socks")(INPUTS["socks"]["ipv4"])


def test_a_fault_that_the_engine_only_logs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise IndexError("planted")

    monkeypatch.setattr(ServerEndpoint, "_stranger", broken)
    with pytest.raises(IndexError, match="planted"):
        one_input_of("aioquic")(INPUTS["aioquic"]["noise"])


def test_an_input_is_replayed_by_command(tmp_path: Path) -> None:
    file = tmp_path / "an input"
    file.write_bytes(INPUTS["codec"]["ping"])
    command = [sys.executable, "-m", "tests.fuzz", "--replay", "codec", str(file)]
    done = subprocess.run(command, cwd=fuzz.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{file}: nothing found\n"


def test_without_atheris_nothing_passes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(fuzz, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["fuzz"])
    assert fuzz.main() != 0
    assert fuzz.NO_ATHERIS in capsys.readouterr().err

"""servicekit.logs: one line an event, whoever logs it and whatever is in it."""

import errno
import json
import logging
import sys
import warnings
from datetime import datetime
from io import StringIO
from typing import Any

import pytest

from servicekit.logs import configure, get_logger


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info", "sample")
    get_logger(listener="http").info("listening", address="127.0.0.1:1")
    [event] = lines(capsys)
    assert list(event) == ["time", "level", "program", "event", "listener", "address"]
    at = datetime.fromisoformat(event.pop("time"))
    assert at.utcoffset() is not None
    assert event == {
        "level": "info",
        "program": "sample",
        "event": "listening",
        "listener": "http",
        "address": "127.0.0.1:1",
    }


def test_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info", "sample")
    get_logger().info("odd", text="a\nb\u2028\ud800", data=b"\xff", thing=object, nested={"a": {1, 2}})
    [event] = lines(capsys)
    assert event["text"] == "a\nb\u2028\ud800"


def test_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "warning", "sample")
    get_logger().info("quiet")
    get_logger().warning("loud")
    assert [event["event"] for event in lines(capsys)] == ["loud"]


def test_a_traceback_is_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info", "sample")
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        get_logger().exception("internal_error")
    [event] = lines(capsys)
    assert event["level"] == "error"
    assert event["exception"].startswith("Traceback")
    assert event["exception"].endswith("RuntimeError: broken")


@pytest.mark.parametrize(("level", "heard"), [("info", ["loud 1"]), ("debug", ["loud 1", "quiet"])])
def test_libraries_are_routed(capsys: pytest.CaptureFixture[str], level: Any, heard: list[str]) -> None:
    configure("json", level, "sample")
    logging.getLogger("library").warning("loud %d", 1)
    logging.getLogger("library").info("quiet")
    events = lines(capsys)
    assert [event["event"] for event in events] == heard
    assert events[0]["logger"] == "library"
    assert events[0]["program"] == "sample"


def test_warnings_are_routed(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info", "sample")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("odd", stacklevel=1)
    [event] = lines(capsys)
    assert "odd" in event["event"]
    assert event["logger"] == "py.warnings"


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "info", "sample")
    get_logger().info("listening", address="127.0.0.1:1")
    assert "listening" in (err := capsys.readouterr().err)
    assert "address=127.0.0.1:1" in err
    assert "\x1b" not in err


def test_a_broken_stderr_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    configure("json", "info", "sample")
    monkeypatch.setattr(sys, "stderr", Broken())
    get_logger().info("lost")


def test_after_a_full_disk_the_first_line_that_has_room_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(StringIO):
        """Takes the beginning of a line, and then nothing."""

        room = 10

        def write(self, text: str) -> int:
            taken, self.room = text[: self.room], self.room - len(text)
            super().write(taken)
            if self.room < 0:
                self.room = 0
                raise OSError(errno.ENOSPC, "No space left on device")
            return len(text)

    stderr = Full()
    configure("json", "info", "sample")
    monkeypatch.setattr(sys, "stderr", stderr)
    for _ in range(2):
        get_logger().info("lost")
    stderr.room = 10_000
    get_logger().info("first")
    get_logger().info("second")
    cut, *whole = stderr.getvalue().splitlines()
    assert len(cut) == 10
    assert [json.loads(line)["event"] for line in whole] == ["first", "second"]


def test_importing_it_leaves_rich_to_others() -> None:
    import rich.text

    assert sys.modules["rich.text"] is rich.text

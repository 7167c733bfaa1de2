"""What can be said on the command line, and what is refused in words."""

import socket
from contextlib import suppress
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.soak.settings import SoakSettings, seconds
from loadgen.transaction.phases import DEFAULTS, Phase
from servicekit.address import Address
from servicekit.settings import load

EXTERNAL = ["--stack", "external", "--proxy", "socks5://proxy:1080", "--target", "http://target:8080"]


def read(*argv: str) -> SoakSettings:
    return load(SoakSettings, argv, {}, prog="loadgen soak")


def test_defaults() -> None:
    settings = read()
    assert (settings.stack, settings.duration_s(), settings.rate, settings.mix) == ("local", 30, None, "default")
    assert settings.metrics_listen == Address("127.0.0.1", 9104)
    assert settings.limits().by_phase == DEFAULTS


def test_external() -> None:
    settings = read(*EXTERNAL, "--metrics-of", "proxy-client=http://proxy:9101/metrics")
    assert settings.proxy == Address("proxy", 1080)
    assert settings.target == Address("target", 8080)
    assert settings.metrics_urls() == {"proxy-client": "http://proxy:9101/metrics"}
    assert read(*EXTERNAL[:4], "--target", "[::1]:81").target == Address("::1", 81)
    assert read(*EXTERNAL[:3], "socks5h://[::1]", "--target", "http://t").proxy == Address("::1", 1080)


@pytest.mark.parametrize(
    ("text", "expected_s"), [("30", 30), ("30s", 30), ("5m", 300), ("1.5h", 5400), ("250ms", 0.25)]
)
def test_durations(text: str, expected_s: float) -> None:
    assert read("--duration", text).duration == expected_s


def test_limits() -> None:
    limits = read("--stall", "body=7s", "--stall", "ttfb=250ms", "--timeout", "body=1m").limits()
    assert (limits[Phase.BODY].stall_s, limits[Phase.BODY].timeout_s) == (7, 60)
    assert (limits[Phase.TTFB].stall_s, limits[Phase.TTFB].timeout_s) == (0.25, 15)


def test_scenarios_and_thresholds() -> None:
    settings = read("--scenario", "get", "--scenario", "upload", "--threshold", "latency.p99 < 250ms")
    assert settings.the_mix().scenarios.keys() == {"get", "upload"}
    assert settings.thresholds()[-1].expression == "latency.p99 < 250ms"


HOLE = """
recovery_s = 4
[[fault]]
kind = "blackhole"
at_s = 5
for_s = 3
"""


def plan(tmp_path: Path, text: str = HOLE) -> str:
    (tmp_path / "plan.toml").write_text(text)
    return str(tmp_path / "plan.toml")


def test_a_load_with_faults_lasts_as_long_as_they_do(tmp_path: Path) -> None:
    settings = read("--faults", plan(tmp_path))
    assert settings.duration_s() == 12 + 10
    assert "quiet.outcome.reset == 0" in {threshold.expression for threshold in settings.thresholds()}
    assert read("--faults", plan(tmp_path), "--duration", "60").duration_s() == 60


@pytest.mark.parametrize(
    ("argv", "text", "said"),
    [
        (["--duration", "11"], HOLE, "the load must last as long as the faults and their recovery, 12 s"),
        (["--continuous"], HOLE, "--continuous has none"),
        (["--link", "none"], HOLE, "--link none leaves it out"),
        ([], HOLE.replace("blackhole", "disconnect") + 'program = "link"', "only for the stack compose"),
        ([], HOLE.replace("blackhole", "earthquake"), "fault.0.kind: must be 'delay'"),
        ([*EXTERNAL], HOLE, "--link and --faults are for the stacks local and compose"),
    ],
)
def test_faults_that_do_not_fit(
    argv: list[str], text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read("--faults", plan(tmp_path, text), *argv)
    assert said in capsys.readouterr().err


def test_the_report_of_each_machine_has_a_directory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box-7")
    assert read("--report", "/reports/{hostname}/now").report == Path("/reports/box-7/now")
    assert read("--report", "/reports/{host}").report == Path("/reports/{host}")
    assert read().report is None


def test_credentials(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text("name:pass:word\n")
    credentials = read(*EXTERNAL, "--credentials-file", str(path)).credentials()
    assert credentials is not None
    assert (credentials.name, credentials.password) == ("name", "pass:word")
    assert "pass:word" not in repr(credentials)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--stack", "external"], "needs --proxy and --target"),
        (["--proxy", "127.0.0.1:1080"], "--proxy: only with --stack external"),
        (["--server-first", "127.0.0.1:1080"], "--server-first: only with --stack external"),
        ([*EXTERNAL, "--link", "none"], "--link and --faults are for the stacks local and compose"),
        (["--stack", "external", "--proxy", "http://a:1", "--target", "a:1"], "must be socks5://HOST:PORT"),
        (["--stack", "external", "--proxy", "a:1", "--target", "http://a:1/x"], "must be http://HOST:PORT"),
        (["--stack", "external", "--proxy", "a:1", "--target", "http://a:65535"], "the last port there is"),
        (["--link", "nope.toml"], "must be none, or the file of a plan"),
        (["--marks", "/nonexistent"], "--marks: only with --stack external"),
        (["--faults", "nope.toml"], "nope.toml: No such file"),
        (["--duration", "soon"], "must be a number of seconds"),
        (["--duration", "0"], "greater than 0"),
        (["--mix", "nope"], "neither a mix"),
        (["--scenario", "nope"], "no such scenario"),
        (["--threshold", "nope < 1"], "no metric nope"),
        (["--stall", "nope=1s"], "no such phase"),
        (["--stall", "body"], "must be NAME=VALUE"),
        (["--timeout", "body=soon"], "must be a number of seconds"),
        (["--timeout", "body=0"], "must be more than 0"),
        (["--max-in-flight", "0"], "greater than or equal to 1"),
        ([*EXTERNAL, "--credentials-file", "/nonexistent"], "cannot read /nonexistent"),
        (["--rate", "-1"], "greater than 0"),
        (["--nope"], "unknown flag --nope"),
    ],
)
def test_refusals(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        read(*argv)
    assert exit.value.code == 2
    assert said in capsys.readouterr().err


durations = st.tuples(st.from_regex(r"[0-9.]{1,20}", fullmatch=True), st.sampled_from(["", "ms", "s", "m", "h", "d"]))


@given(st.text(max_size=20) | durations.map("".join))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert 0 <= seconds(text) < inf


def test_a_duration_beyond_all_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="a number of seconds"):
        seconds("9" * 400)

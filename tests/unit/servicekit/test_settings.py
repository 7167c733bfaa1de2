"""servicekit.settings: precedence, strictness, and messages that say what to change."""

from contextlib import redirect_stderr, redirect_stdout
from enum import StrEnum
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import CliPositionalArg, SettingsConfigDict
from tests.anything import json_values, toml

from servicekit.address import Address
from servicekit.settings import CommandSettings, MetricsListen, Settings, env_names, load


class Pace(StrEnum):
    """A choice."""

    SLOW = "slow"
    QUICK = "quick"


class Sample(Settings):
    """A sample service."""

    model_config = SettingsConfigDict(env_prefix="SAMPLE_")

    listen: Address = Field(Address("127.0.0.1", 1080), description="where it listens")
    metrics_listen: MetricsListen = Address("127.0.0.1", 9100)
    drain_timeout_s: float = Field(10, ge=0, le=3600, description="100% of the time to drain")
    allow: tuple[str, ...] = Field((), description="what is allowed")
    ports: tuple[int, ...] = Field((1, 2), description="which ports")
    token_file: Path | None = Field(None, description="holds the token")
    rescue: bool = Field(True, description="rescues ends")
    pace: Pace | None = Field(None, description="how fast")

    @model_validator(mode="after")
    def _together(self) -> Self:
        if "needs-token" in self.allow and self.token_file is None:
            raise ValueError("--allow needs-token needs --token-file")
        return self


class Compare(CommandSettings):
    """Two runs."""

    model_config = SettingsConfigDict(env_prefix="SAMPLE_")

    first: CliPositionalArg[Path] = Field(description="one run")
    count: CliPositionalArg[int] = Field(description="how many")
    strict: bool = False


def sample(*argv: str, environ: dict[str, str] | None = None, known_env: tuple[str, ...] = ()) -> Sample:
    return load(Sample, argv, environ or {}, prog="sample", known_env=known_env)


def refusal(capsys: pytest.CaptureFixture[str], *argv: str, environ: dict[str, str] | None = None) -> list[str]:
    """The problems that are printed, without the program's name and the line that points to the help."""
    with pytest.raises(SystemExit) as stop:
        sample(*argv, environ=environ)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert all(line.startswith("sample: ") for line in lines)
    assert lines.pop() == "sample: sample --help lists the settings"
    return [line.removeprefix("sample: ") for line in lines]


def test_defaults() -> None:
    settings = sample()
    assert settings == Sample()
    assert settings.listen == Address("127.0.0.1", 1080)
    assert (settings.log_format, settings.log_level, settings.ports) == ("json", "info", (1, 2))


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / "sample.toml"
    file.write_text('listen = "file:1"\nlog_level = "error"\ndrain_timeout_s = 3\nports = [7, 8]\nrescue = false\n')
    environ = {"SAMPLE_LISTEN": "environment:2", "SAMPLE_LOG_LEVEL": "debug", "SAMPLE_CONFIG": str(file)}
    settings = sample("--listen", "flag:3", environ=environ)
    assert str(settings.listen) == "flag:3"
    assert settings.log_level == "debug"
    assert settings.drain_timeout_s == 3
    assert settings.ports == (7, 8)
    assert settings.rescue is False
    assert sample("--config", str(file), "--rescue").rescue is True


def test_lists() -> None:
    assert sample("--allow", "a", "--allow", "b,c").allow == ("a", "b,c")
    assert sample("--ports", "5").ports == (5,)
    assert sample(environ={"SAMPLE_ALLOW": "a, b", "SAMPLE_PORTS": "3,4"}).allow == ("a", "b")


def test_an_empty_variable_is_unset() -> None:
    assert sample(environ={"SAMPLE_LISTEN": "", "SAMPLE_ALLOW": "", "SAMPLE_CONFIG": ""}) == Sample()


def test_the_process_environment_is_read_by_load_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_LOG_LEVEL", "error")
    assert Sample().log_level == "info"
    assert load(Sample, [], prog="sample").log_level == "error"


def test_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        sample().log_level = "debug"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("argv", "environ", "problem"),
    [
        (
            ["--listen", "127.0.0.1:99999"],
            {},
            '--listen (SAMPLE_LISTEN): "127.0.0.1:99999" is not valid: port must be 0 to 65535',
        ),
        (
            [],
            {"SAMPLE_LISTEN": "1080"},
            '--listen (SAMPLE_LISTEN): "1080" is not valid: must be HOST:PORT',
        ),
        (
            ["--drain-timeout-s", "3601"],
            {},
            '--drain-timeout-s (SAMPLE_DRAIN_TIMEOUT_S): "3601" is not valid: must be less than or equal to 3600',
        ),
        (
            ["--drain-timeout-s", "nan"],
            {},
            '--drain-timeout-s (SAMPLE_DRAIN_TIMEOUT_S): "nan" is not valid: must be a finite number',
        ),
        (
            ["--log-format", "xml"],
            {},
            "--log-format (SAMPLE_LOG_FORMAT): \"xml\" is not valid: must be 'json' or 'text'",
        ),
        (["--allow", "needs-token"], {}, "--allow needs-token needs --token-file"),
        (["--lisen", "127.0.0.1:1"], {}, "unknown flag --lisen; did you mean --listen?"),
        (["--lisen=127.0.0.1:1"], {}, "unknown flag --lisen; did you mean --listen?"),
        (["--list", "127.0.0.1:1"], {}, "unknown flag --list; did you mean --listen?"),
        (["--quux"], {}, "unknown flag --quux"),
        (["up"], {}, 'unexpected argument "up"'),
        (["--listen"], {}, "--listen: expected one argument"),
        ([], {"SAMPLE_LISTE": "x"}, "unknown environment variable SAMPLE_LISTE; did you mean SAMPLE_LISTEN?"),
        ([], {"SAMPLE_QUUX": "x"}, "unknown environment variable SAMPLE_QUUX"),
        (["--config", "/nowhere/x.toml"], {}, "--config: cannot read /nowhere/x.toml: No such file or directory"),
    ],
)
def test_one_problem(
    capsys: pytest.CaptureFixture[str], argv: list[str], environ: dict[str, str], problem: str
) -> None:
    assert refusal(capsys, *argv, environ=environ) == [problem]


def test_an_item_of_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    [problem] = refusal(capsys, "--ports", "1", "--ports", "many")
    assert problem.startswith('--ports (SAMPLE_PORTS): "many" is not valid: must be a valid integer')


def test_all_problems_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "sample.toml"
    file.write_text('log-level = "info"\nlog_level = "loud"\nlisten = 1080\n')
    problems = refusal(
        capsys,
        *("--config", str(file), "--quux", "1", "--drain-timeout-s", "-1"),
        environ={"SAMPLE_TOKENFILE": "x"},
    )
    assert problems == [
        "unknown flag --quux",
        "unknown environment variable SAMPLE_TOKENFILE; did you mean SAMPLE_TOKEN_FILE?",
        f"unknown key log-level in {file}; did you mean log_level?",
        f"log_level in {file}: \"loud\" is not valid: must be 'debug', 'info', 'warning' or 'error'",
        f"listen in {file}: 1080 is not valid: must be HOST:PORT",
        '--drain-timeout-s (SAMPLE_DRAIN_TIMEOUT_S): "-1" is not valid: must be greater than or equal to 0',
    ]


@pytest.mark.parametrize("content", [b"listen = ", b"\xff"])
def test_a_file_that_is_not_toml(capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "sample.toml"
    file.write_bytes(content)
    [problem] = refusal(capsys, "--config", str(file))
    assert problem.startswith(f"--config: {file} is not valid TOML: ")


def test_a_required_setting(capsys: pytest.CaptureFixture[str]) -> None:
    class Needs(CommandSettings):
        model_config = SettingsConfigDict(env_prefix="NEEDS_")
        server: Address

    with pytest.raises(SystemExit) as stop:
        load(Needs, [], {}, prog="needs")
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("needs: --server (NEEDS_SERVER): is required\n")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        sample("--help")
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "A sample service." in text
    assert "--listen HOST:PORT where it listens (default: 127.0.0.1:1080) [SAMPLE_LISTEN]" in text
    assert "--allow TEXT what is allowed; repeatable [SAMPLE_ALLOW]" in text
    assert "--ports N which ports; repeatable (default: 1,2) [SAMPLE_PORTS]" in text
    assert "--token-file FILE holds the token [SAMPLE_TOKEN_FILE]" in text
    assert "--pace {slow,quick} how fast [SAMPLE_PACE]" in text
    assert "--rescue, --no-rescue rescues ends (default: on) [SAMPLE_RESCUE]" in text
    assert "--drain-timeout-s NUMBER 100% of the time to drain (default: 10) [SAMPLE_DRAIN_TIMEOUT_S]" in text


def test_check_config(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        sample("--check-config")
    assert stop.value.code == 0
    assert capsys.readouterr() == ("configuration is valid\n", "")
    assert len(refusal(capsys, "--check-config", "--listen", "x")) == 1


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load(Sample, ["--version"], {}, prog="servicekit something")
    assert stop.value.code == 0
    name, number = capsys.readouterr().out.split()
    assert name == "servicekit"
    assert number[0].isdigit()


def test_the_programs_own_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["/opt/bin/sample", "--quux"])
    with pytest.raises(SystemExit):
        load(Sample, environ={})
    assert capsys.readouterr().err.startswith("sample: unknown flag --quux\n")
    assert load(Sample, [], {}, "sample") == Sample()


def test_subcommands_know_the_variables_of_their_siblings() -> None:
    environ = {"SAMPLE_STRICT": "true", "SAMPLE_LISTEN": "sibling:1"}
    known_env = env_names(Sample) | env_names(Compare)
    assert load(Compare, ["run/1", "3"], environ, prog="sample compare", known_env=known_env).strict
    assert sample(environ=environ, known_env=tuple(known_env)).listen.host == "sibling"


def test_positional_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    settings = load(Compare, ["run/1", "3", "--strict"], {}, prog="sample compare")
    assert (settings.first, settings.count, settings.strict) == (Path("run/1"), 3, True)
    for argv, problem in [
        (["run/1"], "the following arguments are required: COUNT"),
        (["run/1", "x"], 'COUNT: "x" is not valid: must be a valid integer'),
    ]:
        with pytest.raises(SystemExit) as stop:
            load(Compare, argv, {}, prog="sample compare")
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith(f"sample compare: {problem}")


# Whatever is said, on the command line, in the environment and in a file.

FLAGS = ["--listen", "--drain-timeout-s", "--allow", "--ports", "--token-file", "--rescue", "--no-rescue", "--pace"]
flags = st.sampled_from([*FLAGS, "--check-config", "--config", "--help", "--version", "--", "-"]) | st.text(max_size=8)
words = st.text(max_size=10) | st.sampled_from(["127.0.0.1:0", "1", "nan", "[1", '["x"]', "{}", "slow", "1,2", "true"])
arguments = st.one_of(flags, words, st.tuples(flags, words).map("=".join))
# What an environment can hold: no NUL.
variables = st.dictionaries(
    st.sampled_from(["LISTEN", "DRAIN_TIMEOUT_S", "ALLOW", "PORTS", "RESCUE", "PACE", "NONSENSE", "CONFIG"]).map(
        "SAMPLE_{}".format
    ),
    words.map(lambda word: word.replace("\0", "")),
    max_size=3,
)


def loaded(argv: list[str], environ: dict[str, str]) -> Sample | int | str | None:
    """The settings, or the exit code."""
    with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
        try:
            return load(Sample, argv, environ, prog="sample")
        except SystemExit as end:
            return end.code


@given(st.lists(arguments, max_size=5), variables)
def test_any_words_are_settings_or_an_exit(argv: list[str], environ: dict[str, str]) -> None:
    found = loaded(argv, environ)
    assert isinstance(found, Sample) or found in (0, 2)


@given(
    st.one_of(
        st.dictionaries(st.sampled_from(list(Sample.model_fields)) | st.text(max_size=5), json_values).map(toml),
        st.text(max_size=60),
        st.sampled_from(["a = " + "1" * 5000, "a = " + "[" * 5000]),
    )
)
def test_any_file_is_settings_or_an_exit(text: str) -> None:
    with TemporaryDirectory() as directory:
        file = Path(directory) / "sample.toml"
        file.write_text(text, encoding="utf-8", errors="replace")
        found = loaded(["--config", str(file)], {})
        assert isinstance(found, Sample) or found == 2

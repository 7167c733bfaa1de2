"""Settings of a program: flags, environment, an optional TOML file, defaults; in that order of precedence.

Rules:
- One pydantic field is one setting with three spellings: flag `--drain-timeout-s`, environment variable
  `PREFIX_DRAIN_TIMEOUT_S`, TOML key `drain_timeout_s`. Its description is its help.
- A field of a list or tuple type is a flag that can be repeated, a list separated by commas in the
  environment, an array in TOML. A source replaces the list of a lower one, it does not add to it.
- Nothing is ignored: unknown flags, variables with the program's prefix and TOML keys are errors, with the
  nearest name as a hint. (Kubernetes makes such variables for a service named like the program: switch them off
  there with `enableServiceLinks: false`.) An empty variable counts as unset, so that a compose file can pass one
  on with `${NAME:-}`.
- All problems are reported at once, each with setting, value and bound, on stderr; the exit code is 2.
- A secret is never a setting; the name of its file is. So help, errors and logs can show every value.
"""

import json
import sys
import tomllib
from argparse import SUPPRESS, ArgumentParser, HelpFormatter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from os import environ as process_environ
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, get_args, get_origin

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from servicekit.address import Address
from servicekit.logs import LogFormat, LogLevel

EXIT_USAGE = 2

MetricsListen = Annotated[
    Address, Field(description="where /metrics, /healthz and /readyz are served; port 0 takes a free one")
]


class CommandSettings(BaseSettings):
    """Base of the settings of a command that does not serve, such as `loadgen compare`.

    A subclass sets `model_config = SettingsConfigDict(env_prefix="LOADGEN_")`; its docstring opens the help.
    Constructed directly, as tests do, it takes its arguments and the defaults only: `load` reads the sources.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        enable_decoding=False,
        cli_kebab_case=True,
        cli_implicit_flags=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class Settings(CommandSettings):
    """Base of the settings of a program that serves. A subclass gives `metrics_listen` its default."""

    log_format: LogFormat = Field("json", description="one JSON object a line, or text for people")
    log_level: LogLevel = Field("info", description="the least level that is logged")
    metrics_listen: MetricsListen


S = TypeVar("S", bound=CommandSettings)


def load(
    settings_class: type[S],
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    prog: str | None = None,
    *,
    known_env: Iterable[str] = (),
) -> S:
    """The settings of this start of the program.

    `argv` (without the program's name), `environ` and `prog`, the name in messages, are the process's own unless
    given. The first word of `prog` is the distribution whose version `--version` prints. `known_env` are further
    variables with the prefix that are no error: those of sibling subcommands, from `env_names`.

    Exits (SystemExit) with 0 after `--help`, `--version` and `--check-config`, with 2 after an error.
    """
    environ = process_environ if environ is None else environ
    prog = prog or Path(sys.argv[0]).name
    parser = _parser(settings_class, prog)
    namespace, unknown = parser.parse_known_args(sys.argv[1:] if argv is None else list(argv))
    flags = {name: value for name, value in vars(namespace).items() if value is not PydanticUndefined}
    if flags.pop("version"):
        print(_version(prog))
        raise SystemExit(0)
    check_only = flags.pop("check_config")
    config = flags.pop("config", None) or environ.get(_env_prefix(settings_class) + "CONFIG")
    variables = _variables(settings_class, environ)
    table, problems = _table(settings_class, Path(config)) if config else ({}, [])
    problems = [
        *_unknown_flags(parser, unknown),
        *_unknown_variables(settings_class, environ, known_env),
        *problems,
    ]
    try:
        settings = settings_class(**(table | variables | flags))
    except ValidationError as error:
        in_file = table.keys() - variables.keys() - flags.keys()
        for details in error.errors():
            problems.append(_problem(settings_class, details, config if _field(details) in in_file else None))
    if problems:
        _refuse(prog, problems)
    if check_only:
        print("configuration is valid")
        raise SystemExit(0)
    return settings


def env_names(settings_class: type[CommandSettings]) -> set[str]:
    """Every environment variable that the class reads."""
    prefix = _env_prefix(settings_class)
    fields = settings_class.model_fields.items()
    return {prefix + name.upper() for name, field in fields if not _is_positional(field)} | {prefix + "CONFIG"}


# The sources.


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _refuse(self.prog, [message.removeprefix("argument ")])


def _parser(settings_class: type[CommandSettings], prog: str) -> _Parser:
    prefix = _env_prefix(settings_class)
    parser = _Parser(
        prog=prog,
        description=settings_class.__doc__,
        epilog="A flag goes before its environment variable, that before the file, and that before the default.",
        formatter_class=lambda prog: HelpFormatter(prog, max_help_position=30, width=110),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("--check-config", action="store_true", help="check the settings and exit")
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=SUPPRESS,
        help=f"a TOML file of settings, its keys like the flags with underscores [{prefix}CONFIG]",
    )
    CliSettingsSource(settings_class, root_parser=parser, add_argument_method=_add_flag(settings_class))
    return parser


def _add_flag(settings_class: type[CommandSettings]) -> Callable[..., Any]:
    """What pydantic-settings calls to add a flag to the parser; here its help gets our words."""

    def add(parser: ArgumentParser, *names: str, **options: Any) -> Any:
        name = options.get("dest", names[0])
        field = settings_class.model_fields[name]
        variable = None if _is_positional(field) else _env_prefix(settings_class) + name.upper()
        options["help"] = _help(field, variable)
        if "dest" in options and "metavar" in options:
            options["metavar"] = _metavar(field, options["metavar"])
        return ArgumentParser.add_argument(parser, *names, **options)

    return add


def _help(field: FieldInfo, variable: str | None) -> str:
    text = field.description or ""
    if _is_list(field):
        text += "; repeatable"
    if field.is_required():
        text += " (required)"
    elif field.default not in (None, (), [], ""):
        default = {True: "on", False: "off"}[field.default] if isinstance(field.default, bool) else field.default
        text += f" (default: {','.join(map(str, default)) if _is_list(field) else default})"
    if variable:
        text += f" [{variable}]"
    return text.replace("%", "%%")


def _metavar(field: FieldInfo, given: str) -> str:
    kinds = set(_leaf_types(field.annotation))
    for choice in kinds:
        if isinstance(choice, type) and issubclass(choice, Enum):
            return f"{{{','.join(str(member.value) for member in choice)}}}"
    for kind, word in ((Address, "HOST:PORT"), (Path, "FILE"), (float, "NUMBER"), (int, "N"), (str, "TEXT")):
        if kind in kinds:
            return word
    return given


def _leaf_types(annotation: Any) -> Iterator[Any]:
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for part in inner:
        yield from _leaf_types(part)


def _is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) in (list, tuple, set, frozenset)


_POSITIONAL = get_args(CliPositionalArg[str])[1]


def _is_positional(field: FieldInfo) -> bool:
    return _POSITIONAL in field.metadata


def _env_prefix(settings_class: type[CommandSettings]) -> str:
    return settings_class.model_config.get("env_prefix", "")


def _variables(settings_class: type[CommandSettings], environ: Mapping[str, str]) -> dict[str, Any]:
    prefix = _env_prefix(settings_class)
    found: dict[str, Any] = {}
    for name, field in settings_class.model_fields.items():
        text = environ.get(prefix + name.upper())
        if text and not _is_positional(field):
            found[name] = [item.strip() for item in text.split(",")] if _is_list(field) else text
    return found


def _table(settings_class: type[CommandSettings], path: Path) -> tuple[dict[str, Any], list[str]]:
    """The known keys of the TOML file, and what is wrong with it."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return {}, [f"--config: cannot read {path}: {error.strerror}"]
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or nested beyond all measure
        return {}, [f"--config: {path} is not valid TOML: {error}"]
    known = settings_class.model_fields.keys()
    problems = [f"unknown key {key} in {path}{_hint(key, known)}" for key in table if key not in known]
    return {key: value for key, value in table.items() if key in known}, problems


def _version(prog: str) -> str:
    distribution = prog.split()[0]
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return f"{distribution}, not installed"


# Problems, in words.


def _refuse(prog: str, problems: Sequence[str]) -> NoReturn:
    for problem in [*problems, f"{prog} --help lists the settings"]:
        print(f"{prog}: {problem}", file=sys.stderr)
    raise SystemExit(EXIT_USAGE)


def _unknown_flags(parser: ArgumentParser, unknown: Iterable[str]) -> Iterator[str]:
    known = [option for action in parser._actions for option in action.option_strings]
    after_flag = False
    for argument in unknown:
        name, equals, _ = argument.partition("=")
        is_flag = name.startswith("-")
        if is_flag:
            yield f"unknown flag {name}{_hint(name, known)}"
        elif not after_flag:
            yield f"unexpected argument {json.dumps(argument)}"
        after_flag = is_flag and not equals  # the next one is then most likely its value


def _unknown_variables(
    settings_class: type[CommandSettings], environ: Mapping[str, str], known_env: Iterable[str]
) -> Iterator[str]:
    prefix = _env_prefix(settings_class)
    known = env_names(settings_class) | set(known_env)
    for name in sorted(environ):
        if prefix and name.startswith(prefix) and name not in known:
            yield f"unknown environment variable {name}{_hint(name, known, prefix)}"


def _hint(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The nearest known name, if one is near; what all names begin with says nothing about nearness."""
    nearest = get_close_matches(name.removeprefix(prefix), sorted(each.removeprefix(prefix) for each in known), n=1)
    return f"; did you mean {prefix}{nearest[0]}?" if nearest else ""


def _field(details: ErrorDetails) -> str:
    return str(details["loc"][0]) if details["loc"] else ""


def _problem(settings_class: type[CommandSettings], details: ErrorDetails, file: str | None) -> str:
    """One validation error for people; `file` is the TOML file that the value is from, if it is. For example
    `--listen (PROXY_CLIENT_LISTEN): "127.0.0.1:99999" is not valid: port must be 0 to 65535`.
    """
    reason = str(details["ctx"]["error"]) if details["type"] == "value_error" else details["msg"]
    reason = reason.replace("Input should be", "must be")
    name = _field(details)
    if not name:  # from a validator of the whole model
        return reason
    if file:
        where = f"{name} in {file}"
    elif _is_positional(settings_class.model_fields[name]):
        where = name.upper()
    else:
        where = f"--{name.replace('_', '-')} ({_env_prefix(settings_class)}{name.upper()})"
    if details["type"] == "missing":
        return f"{where}: is required"
    value = json.dumps(details["input"], default=str, ensure_ascii=False)
    return f"{where}: {value} is not valid: {reason}"

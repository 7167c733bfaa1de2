"""`loadgen SUBCOMMAND …`: a table of subcommands, each imported only when it is called."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import NamedTuple, cast

EXIT_USAGE = 2


class Subcommand(NamedTuple):
    """`module:function`, where the function takes the arguments behind the subcommand and returns the exit code."""

    entry: str
    summary: str


SUBCOMMANDS = {
    "soak": Subcommand("loadgen.soak.command:main", "load through a SOCKS5 proxy, with a verdict at the end"),
    "scenarios": Subcommand("loadgen.scenarios.command:main", "what can be run, one line each"),
    "compare": Subcommand("loadgen.compare.command:main", "two runs side by side, with a verdict"),
    "ledger": Subcommand("loadgen.ledger.command:main", "which hop lost an end of stream, of programs that run"),
    "link": Subcommand("loadgen.link.command:main", "a UDP relay that behaves like a bad network"),
    "selftest": Subcommand(
        "loadgen.selftest.command:main", "plants each class of failure, and checks what is reported"
    ),
    "faulty": Subcommand("loadgen.faulty.command:main", "a SOCKS5 proxy with one fault, to test a tester with"),
    "stack": Subcommand("loadgen.stacks.command:main", "a stack alone, in the foreground, until interrupted"),
    "report": Subcommand("loadgen.report.command:main", "report.html and junit.xml of a report directory, again"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit code; 2 where there is no such subcommand."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(_usage())
        return 0
    if name == "--version":
        print(f"loadgen {version('loadgen')}")
        return 0
    subcommand = SUBCOMMANDS.get(name)
    if subcommand is None:
        print(f"loadgen: no subcommand {name!r}\n\n{_usage()}" if name else _usage(), file=sys.stderr)
        return EXIT_USAGE
    module, function = subcommand.entry.split(":")
    run = cast(Callable[[list[str]], int], getattr(import_module(module), function))
    return run(arguments[1:])


def _usage() -> str:
    lines = [f"  {name:<10} {subcommand.summary}" for name, subcommand in SUBCOMMANDS.items()]
    return "\n".join(["usage: loadgen SUBCOMMAND [--help] …", "", *lines])


if __name__ == "__main__":
    sys.exit(main())

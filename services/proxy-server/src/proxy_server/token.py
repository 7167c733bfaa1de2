"""`proxy-server token NAME FILE`: a token for a client, and the line that lets it in.

    proxy-server token laptop laptop.token >> tokens

FILE is for the client (`proxy-client --token-file`). It is made with a new token in it unless it is there already, and
only its owner can read it. The line has the token's hash, so the server's file gives no token away. The token itself is
never printed.

Exit codes: 0 done, 2 usage: also where the file cannot be made or read.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from tunnel.net.credentials import hashed_entry, make_token, read_token

EXIT_USAGE = 2


def main(argv: Sequence[str]) -> int:
    """Runs `proxy-server token`; returns the exit code."""
    arguments = _parser().parse_args(list(argv))
    file: Path = arguments.file
    try:
        hashed_entry(arguments.name, b"")  # A name that cannot be makes no file.
        if not file.exists():
            make_token(file)
        print(hashed_entry(arguments.name, read_token(file)))
    except OSError as error:
        return _refuse(f"{file}: {error.strerror}")
    except ValueError as error:
        return _refuse(str(error))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="proxy-server token",
        description="Prints the line for the server's --tokens-file that lets a client in, with its token's hash.",
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="what the server calls the client, in its log")
    parser.add_argument(
        "file", metavar="FILE", type=Path, help="the client's --token-file: made, with a new token, unless it is there"
    )
    return parser


def _refuse(reason: str) -> int:
    print(f"proxy-server token: {reason}", file=sys.stderr)
    return EXIT_USAGE

"""Ten minutes of faults for each pairing of engines, what ADR 8 rests on. Some 42 minutes: it is run by name only."""

from itertools import product

from engines import ENGINES, soak

FLAGS = ("--mix", "small", "--faults", "examples/faults/rough-ten-minutes.toml", "--seed", "4")


def main() -> None:
    for client, server in product(ENGINES, ENGINES):
        soak(client, server, 600, *FLAGS)


if __name__ == "__main__":
    main()

"""Flags that change the programs of a stack: the same for `loadgen stack` and `loadgen soak`."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, Field

from loadgen.stack_api import PROGRAMS

SIDES = ("client", "server")


class ProgramChoices(BaseModel):
    """Mixed into the settings of a command that makes a stack."""

    engine: str | None = Field(
        None,
        description="the QUIC library of both proxies, or client=NAME,server=NAME"
        " (stack external: for verdict.json, where the proxies do not tell)",
    )
    program: tuple[str, ...] = Field(
        (), description="stack local: NAME=PATH, another executable for a program (link: called as PATH link ...)"
    )
    argument: tuple[str, ...] = Field(
        (),
        description="stacks local and compose: NAME=ARGUMENT, further on a program's command line,"
        " such as proxy-server=--no-end-rescue",
    )

    def programs(self) -> dict[str, Path]:
        """Executable by program. Raises ValueError."""
        pairs = _pairs("--program", self.program)
        names = [name for name, _ in pairs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"--program {twice[0]}: is there twice")
        return {name: Path(path) for name, path in pairs}

    def engines(self) -> dict[str, str]:
        """Engine by side, as far as one was asked for. Raises ValueError."""
        if self.engine is None:
            return {}
        if "=" not in self.engine:
            return dict.fromkeys(SIDES, self.engine)
        pairs = [part.partition("=")[::2] for part in self.engine.split(",")]
        sides = [side for side, _ in pairs]
        if not {*sides} <= {*SIDES} or len(sides) > len({*sides}) or not all(name for _, name in pairs):
            raise ValueError(f"--engine {self.engine}: must be NAME, or client=NAME,server=NAME")
        return dict(pairs)

    def arguments(self) -> dict[str, tuple[str, ...]]:
        """Further arguments by program: its engine, then the others in the order given. Raises ValueError."""
        by_program: dict[str, tuple[str, ...]] = {
            f"proxy-{side}": ("--engine", name) for side, name in self.engines().items()
        }
        for name, argument in _pairs("--argument", self.argument):
            by_program[name] = (*by_program.get(name, ()), argument)
        return by_program

    def check_programs(self, stack: str, *, link: bool) -> None:
        """Raises ValueError for choices that `stack` cannot make, or that are none at all; `link`: there is one."""
        named = {*self.programs(), *self.arguments()}
        if (self.program or self.argument) and stack == "external":
            raise ValueError("--program and --argument: only for a stack that is made here, local or compose")
        if self.program and stack == "compose":
            raise ValueError("--program: only for the stack local; containers run what is in their images")
        if "link" in named and not link:
            raise ValueError("--program and --argument: there is no link in this stack")


def _pairs(flag: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        name, _, value = text.partition("=")
        if name not in PROGRAMS or not value:
            raise ValueError(f"{flag} {text}: must be NAME=VALUE, NAME one of {', '.join(PROGRAMS)}")
        pairs.append((name, value))
    return pairs

"""`make fuzz`: every target for its share of the time, and what it found with the command that shows it again.

    python -m tests.fuzz [--seconds N] [--seed N] [--only TARGET]     looks for findings, with atheris
    python -m tests.fuzz --replay TARGET FILE...                      runs inputs once; takes no atheris

Rules:
- A target is a module of this folder with `one_input(bytes)`: whatever that raises is a finding. It imports no atheris.
- A hunt begins with the inputs in corpus/TARGET. What it comes upon stays in reports/fuzz/TARGET, findings too.
- A target is a process of its own, because a finding ends it.
"""

import argparse
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import SystemRandom

ROOT = Path(__file__).parent.parent.parent
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
SCRATCH = ROOT / "reports" / "fuzz"

TARGETS = {"codec": 1, "socks": 1, "aioquic": 2, "quinn": 2}
"""And which share of the time each has."""
INSTRUMENTED = ("tunnel", "aioquic")
INPUT_BYTES_MAX = 4096
INPUT_SECONDS_MAX = 20
"""One input that takes longer hangs, and is a finding."""

NO_ATHERIS = (
    "atheris is not installed: it has wheels for CPython 3.11 to 3.13 on Linux, x86-64, alone; nothing is fuzzed"
)
NO_QUINN = "quinn: not fuzzed, the wheel of the native engine is missing (`make native`)"


def one_input_of(target: str) -> Callable[[bytes], None]:
    found: Callable[[bytes], None] = import_module(f"tests.fuzz.{target}").one_input
    return found


def replay(target: str, files: list[Path]) -> None:
    """Raises what the first finding among them raises."""
    _hush()
    one_input = one_input_of(target)
    for file in files:
        one_input(file.read_bytes())
        print(f"{file}: nothing found")


def hunt(targets: list[str], seconds: int, seed: int) -> bool:
    """Whether nothing was found."""
    print(f"fuzzing {', '.join(targets)} for {seconds} s in all, seed {seed} (SEED={seed} begins in the same way)")
    shares = sum(TARGETS[target] for target in targets)
    clean = [_hunt_one(target, max(1, seconds * TARGETS[target] // shares), seed) for target in targets]
    return all(clean)


def _hunt_one(target: str, seconds: int, seed: int) -> bool:
    scratch = SCRATCH / target
    corpus, log = scratch / "corpus", scratch / "log.txt"
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    command = [
        *(sys.executable, "-m", "tests.fuzz", "--child", target, str(corpus), str(CORPUS / target)),
        *(f"-artifact_prefix={scratch}/", f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={INPUT_BYTES_MAX}"),
        *(f"-timeout={INPUT_SECONDS_MAX}", "-print_final_stats=1"),
    ]
    with log.open("wb") as out:
        code = subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, check=False).returncode
    said = log.read_text(errors="replace")
    if code == 0:
        print(f"{target}: {_figures(said)}, nothing found", flush=True)
        return True
    print(f"{target}: {_figures(said)}, FOUND SOMETHING (exit {code}; all of it: {log.relative_to(ROOT)})")
    print(_what_was_raised(said))
    for name in re.findall(r"Test unit written to (\S+)", said):
        file = Path(name).relative_to(ROOT)
        print(f"input: {file}\nagain: {Path(sys.executable).relative_to(ROOT)} -m tests.fuzz --replay {target} {file}")
    sys.stdout.flush()
    return False


def _figures(said: str) -> str:
    """How many inputs were run, and how much of the code they reached."""
    runs = re.findall(r"^#(\d+)", said, re.MULTILINE)
    reached = re.findall(r"cov: (\d+)", said)
    return f"{runs[-1] if runs else 0} inputs, {reached[-1] if reached else 0} branches"


def _what_was_raised(said: str) -> str:
    """The traceback, where there is one, or else the end of what the fuzzer said."""
    _, mark, traceback = said.partition("=== Uncaught Python exception: ===")
    return traceback.partition("==\n")[0].partition("\n==")[0].strip() if mark else "\n".join(said.splitlines()[-20:])


def _child(target: str, arguments: list[str]) -> None:
    """One hunt, in this process; it does not come back."""
    import atheris

    _hush()
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        one_input = one_input_of(target)
    atheris.Setup([sys.argv[0], *arguments], one_input)
    atheris.Fuzz()


def _hush() -> None:
    """Who is sent garbage has much to say about it. Errors pass: they are findings."""
    logging.disable(logging.WARNING)


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="in all")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", action="append", choices=TARGETS, help="this target; may be given more than once")
    parser.add_argument("--replay", nargs="+", metavar=("TARGET", "FILE"))
    options = parser.parse_args()
    if options.replay:
        replay(options.replay[0], [Path(name) for name in options.replay[1:]])
        return 0
    if find_spec("atheris") is None:
        print(NO_ATHERIS, file=sys.stderr)
        return 2
    targets = list(options.only or TARGETS)
    if "quinn" in targets and find_spec("quinn_engine") is None:
        print(NO_QUINN, file=sys.stderr)
        if os.environ.get("FINBACK_REQUIRE_QUINN") == "1":
            return 2
        targets.remove("quinn")
    seed = SystemRandom().randrange(1, 2**31) if options.seed is None else options.seed
    return 0 if hunt(targets, options.seconds, seed) else 1


if __name__ == "__main__":
    sys.exit(main())

"""One hop swallows ends of stream: `loadgen ledger` names it, whichever it is, and nobody where none does."""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serving import BIN, ROOT, Serving, report, serve

HOPS = {
    "proxy-server": ("on_eof", "http-target -> proxy-server"),
    "proxy-client": ("_finish_socket", "proxy-client"),
}
"""program -> (the step that its test build leaves out each third time, what the ledger calls that hop)"""

TEST_BUILD = """#!{python}
import sys
from itertools import count
from tunnel.net.relay import Relay
step, calls = Relay.{step}, count(1)
Relay.{step} = lambda relay: step(relay) if next(calls) % 3 else None
from {package}.__main__ import main
sys.exit(main())
"""

MISSING_WITHIN_S = 60.0
RATE = "40"
SECONDS = 40


def main() -> None:
    with serve() as serving:
        code, said = ledger_under_load(serving, until_missing=False)
        report("every hop well", said.splitlines()[-1], code == 0)
    for program, (step, hop) in HOPS.items():
        with (
            tempfile.TemporaryDirectory() as directory,
            serve("--program", f"{program}={build(directory, program, step)}") as serving,
        ):
            code, said = ledger_under_load(serving, until_missing=True)
        named = re.findall("IMBALANCE at (.+?):", said)
        report(f"{program} swallows ends", f"named: {', '.join(named)}", code == 1 and named == [hop])


def build(directory: str, program: str, step: str) -> Path:
    path = Path(directory) / program
    path.write_text(TEST_BUILD.format(python=sys.executable, step=step, package=program.replace("-", "_")))
    path.chmod(0o755)
    return path


def ledger_under_load(serving: Serving, *, until_missing: bool) -> tuple[int, str]:
    """Exit code and output of `loadgen ledger`, asked at the end of a load of close-delimited responses."""
    with tempfile.TemporaryDirectory() as reports:
        where = ["--proxy", f"socks5://{serving.proxy}", "--target", f"http://{serving.target}"]
        what = ["--scenario", "close_delimited", "--rate", RATE, "--duration", f"{SECONDS}s", "--log-format", "json"]
        command = [BIN / "loadgen", "soak", "--stack", "external", *where, *what, "--no-preflight", "--report", reports]
        load = subprocess.Popen(
            [*command, "--metrics-listen", "127.0.0.1:0"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            serving.metrics["loadgen"] = metrics_of(load)
            deadline = time.monotonic() + MISSING_WITHIN_S
            wanted = (
                'soak_transactions_total{outcome="eof_missing"'
                if until_missing
                else 'soak_transactions_total{outcome="ok"'
            )
            while not serving.metric("loadgen", wanted):
                assert time.monotonic() < deadline, "no end is missing"
                time.sleep(0.2)  # Another process's counter: nothing tells of it.
            urls = [part for name, url in serving.metrics.items() for part in ("--metrics-of", f"{name}={url}")]
            done = subprocess.run(
                [BIN / "loadgen", "ledger", *urls, "--settle", "3s"], capture_output=True, text=True, check=False
            )
        finally:
            load.terminate()
            load.wait(60)
    return done.returncode, done.stdout


def metrics_of(load: "subprocess.Popen[str]") -> str:
    """By its own word."""
    assert load.stderr is not None
    for line in load.stderr:
        if found := re.search(r'"listener": "metrics", "address": "([^"]+)"', line):
            return f"http://{found[1]}/metrics"
    raise AssertionError("the generator does not start")


if __name__ == "__main__":
    main()

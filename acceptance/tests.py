"""`make test` with all required that it can need, containers too: all green, the named tests among them.

The native engine is required where there is Rust to build it.
"""

import os
import re
import subprocess

from serving import ROOT, report

NAMED = ("test_integration_socks5_over_quic", "test_soak_socks5_over_quic_30s", "tests/sim/")


def main() -> None:
    has_rust = subprocess.run(["make", "-s", "has-rust"], cwd=ROOT, capture_output=True, check=False).returncode == 0
    native = ["native"] if has_rust else []
    whats = ("DOCKER", "PEERS", "BROWSER", *(["QUINN"] if native else []))
    required = {f"FINBACK_REQUIRE_{what}": "1" for what in whats}
    environment = os.environ | required | {"PYTEST_ADDOPTS": "-v"}
    run = subprocess.run(
        ["make", "--no-print-directory", *native, "test"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = run.stdout.splitlines()
    print("\n".join(lines[-5:]))
    passed = sum(int(count) for count in re.findall(r"(\d+) passed", run.stdout))
    report("make test", f"exit code {run.returncode}, {passed} passed", run.returncode == 0)
    for name in NAMED:
        count = sum(name in line and "PASSED" in line for line in lines)
        report(name, f"{count} passed", count > 0)


if __name__ == "__main__":
    main()

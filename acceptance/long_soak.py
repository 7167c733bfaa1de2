"""Ten minutes at 200 transactions a second, mix `small`, through microsocks: the tester itself stays small and on time.

python acceptance/long_soak.py [SECONDS]      (default 600; the first fifth is warm-up and not in the slope)
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from proxies import http_target, microsocks, must_be_installed
from serving import BIN, report

RATE_PER_S = 200
SECONDS = 600
WARM_UP = 0.2
SLOPE_MB = 1.0
"""Growth over the time behind the warm-up: eight of ten minutes."""

Samples = list[tuple[float, int]]
"""(seconds since the start, resident bytes), once a second"""


def main() -> None:
    must_be_installed("microsocks")
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        with http_target(directory) as target, microsocks(directory) as proxy:
            command = [BIN / "loadgen", "soak", *target.flags(proxy), f"--report={directory}", "--mix=small"]
            soak = subprocess.Popen(
                [*command, f"--rate={RATE_PER_S}", f"--duration={seconds}s"], stderr=subprocess.DEVNULL
            )
            try:
                samples, cores = watch(soak)
            finally:
                soak.terminate()
                code = soak.wait(120)
        judge(json.loads((directory / "verdict.json").read_text()), code, samples, cores, seconds)


def watch(soak: "subprocess.Popen[bytes]") -> tuple[Samples, float]:
    """Resident memory once a second until the process ends; and how much of a core it took."""
    began_s, page_bytes = time.monotonic(), os.sysconf("SC_PAGE_SIZE")
    proc, samples, ticks = Path(f"/proc/{soak.pid}"), Samples(), 0
    while soak.poll() is None:
        pages = (proc / "statm").read_text().split()
        times = (proc / "stat").read_text().rpartition(")")[2].split()
        if len(pages) > 1 and int(pages[1]):  # none: it ended between the look and the reading
            samples.append((time.monotonic() - began_s, int(pages[1]) * page_bytes))
            ticks = int(times[11]) + int(times[12])
        time.sleep(1)
    return samples, ticks / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began_s)


def judge(document: dict[str, Any], code: int, samples: Samples, cores: float, seconds: int) -> None:
    counted = [(at_s, rss) for at_s, rss in samples if seconds * WARM_UP <= at_s <= seconds]
    growth_mb = slope(counted) * seconds * (1 - WARM_UP) / 1e6
    last = f"{counted[0][1] / 1e6:.1f} MB at {counted[0][0]:.0f} s, {counted[-1][1] / 1e6:.1f} MB at the end"
    every = max(len(samples) // 20, 1)
    print(f"     MB, every {every} s: {' '.join(f'{rss / 1e6:.2f}' for _, rss in samples[::every])}; {cores:.2f} cores")
    report("memory, slope over the last four fifths", f"{growth_mb:+.2f} MB ({last})", growth_mb < SLOPE_MB)
    generator = document["generator"]
    lag = f"at most {generator['lag_max_s']} s, p99 {generator.get('lag_p99_s')} s, blamed {generator['blamed']} times"
    report("generator lag", lag, not generator["saturated"] and not generator["blamed"])
    totals, outcomes = document["totals"], document["outcomes"]
    failed = {name: number for name, number in outcomes.items() if number and name != "ok"}
    offered_per_s, dropped = document["offered_per_s"], totals["dropped"]
    figure = f"{offered_per_s:.1f} offered a second, {dropped} dropped, not ok: {failed or 'none'}"
    report("load", figure, offered_per_s >= RATE_PER_S - 0.5 and not dropped)
    unsupported = ", ".join(document.get("unsupported", {})) or "none"
    report("verdict", f"{document['verdict']}, exit code {code}, unsupported: {unsupported}", code == 0)


def slope(samples: Samples) -> float:
    """Bytes a second, by least squares."""
    mean_s = sum(at_s for at_s, _ in samples) / len(samples)
    mean = sum(rss for _, rss in samples) / len(samples)
    spread = sum((at_s - mean_s) ** 2 for at_s, _ in samples)
    return sum((at_s - mean_s) * (rss - mean) for at_s, rss in samples) / spread


if __name__ == "__main__":
    main()

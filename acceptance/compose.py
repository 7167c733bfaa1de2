"""`docker compose up -d`: healthy in 60 s, curl through SOCKS, Prometheus, and a paused target that shows as stalls."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request

from serving import ROOT, report

PROJECT = f"finback-acceptance-{os.getpid()}"
HEALTHY_S = 60.0
PROMETHEUS_MADE_HERE = "finback-ci/prometheus:debian"
"""Where images cannot be pulled, CI makes this one."""
PROGRAMS = ("proxy-client", "proxy-server", "http-target", "loadgen")
PHASES = {
    *("tcp_connect", "socks_greeting", "socks_connect", "request_write"),
    *("ttfb", "body", "eof_wait", "upload_eof", "drain"),
}
WAITS_FOR_THE_TARGET = {"ttfb", "body", "eof_wait", "upload_eof", "request_write"}
RISE_S = 60.0


def main() -> None:
    environment = os.environ | {
        "SOCKS_PORT": str(free_port()),
        "PROMETHEUS_PORT": str(free_port()),
        "FINBACK_SUBNET": "172.30.79.0/24",
    }
    made_here = subprocess.run(["docker", "image", "inspect", PROMETHEUS_MADE_HERE], capture_output=True, check=False)
    if made_here.returncode == 0:
        environment.setdefault("PROMETHEUS_IMAGE", PROMETHEUS_MADE_HERE)
    compose(environment, "build")
    try:
        began = time.monotonic()
        compose(environment, "up", "-d")
        healthy = wait(lambda: all(state == "healthy" for state in states().values()), HEALTHY_S)
        took_s = time.monotonic() - began
        report("everything healthy", f"{took_s:.0f} s, {states()}", healthy and took_s <= HEALTHY_S)
        curl(environment["SOCKS_PORT"])
        prometheus(environment["PROMETHEUS_PORT"])
    finally:
        compose(environment, "down", "-v", "-t", "5")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def compose(environment: dict[str, str], *arguments: str) -> None:
    modern = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    command = ["docker", "compose"] if modern else [shutil.which("docker-compose") or "docker-compose"]
    words = [*command, "-p", PROJECT, *arguments]
    run = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, check=False)
    if run.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {run.stderr.decode()[-2000:]}")


def containers() -> dict[str, str]:
    """Container id by service."""
    label = "com.docker.compose"
    shape = f'{{{{.ID}}}} {{{{.Label "{label}.service"}}}}'
    command = ["docker", "ps", "-a", "--filter", f"label={label}.project={PROJECT}", "--format", shape]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: number for number, name in (line.split() for line in found.splitlines())}


def states() -> dict[str, str]:
    """Health by service."""
    found = {}
    for name, number in containers().items():
        inspected = subprocess.run(["docker", "inspect", number], capture_output=True, check=True).stdout
        found[name] = json.loads(inspected)[0]["State"].get("Health", {}).get("Status", "none")
    return found


def curl(port: str) -> None:
    url = "http://http-target:8080/bytes?seed=1&size=100000&framing=length"
    command = ["curl", "-sS", "-m", "30", "-x", f"socks5h://127.0.0.1:{port}", url]
    got = subprocess.run(command, capture_output=True, check=False)
    report("curl -x socks5h", f"exit code {got.returncode}, {len(got.stdout)} bytes", len(got.stdout) == 100_000)


def query(port: str, expression: str) -> dict[str, float]:
    """Value by the first of the labels phase, job; of an instant query."""
    url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        result = json.load(answer)["data"]["result"]
    return {one["metric"].get("phase") or one["metric"].get("job", ""): float(one["value"][1]) for one in result}


def prometheus(port: str) -> None:
    wait(lambda: all(query(port, "up").get(name) == 1 for name in PROGRAMS), 60)
    up = query(port, "up")
    report("up", {name: up.get(name) for name in PROGRAMS}, all(up.get(name) == 1 for name in PROGRAMS))
    for name in ("soak_stalls_total", "soak_timeouts_total"):
        wait(lambda name=name: set(query(port, f"sum by (phase) ({name})")) >= PHASES, 60)
        phases = set(query(port, f"sum by (phase) ({name})"))
        report(f"{name} for each phase", f"{len(phases)} phases", phases >= PHASES)
    pause(port)


def pause(port: str) -> None:
    """With the target paused, transactions stall while they wait for its first byte, or for its body."""
    stalls, timeouts = "sum by (phase) (soak_stalls_total)", "sum by (phase) (soak_timeouts_total)"
    before_stalls, before_timeouts = query(port, stalls), query(port, timeouts)
    target = containers()["http-target"]
    subprocess.run(["docker", "pause", target], check=True, stdout=subprocess.DEVNULL)
    try:
        rose = wait(
            lambda: (
                rise(query(port, stalls), before_stalls).get("ttfb", 0) > 0
                and rise(query(port, timeouts), before_timeouts).get("ttfb", 0) > 0
            ),
            RISE_S,
        )
    finally:
        subprocess.run(["docker", "unpause", target], check=True, stdout=subprocess.DEVNULL)
    risen = rise(query(port, stalls), before_stalls), rise(query(port, timeouts), before_timeouts)
    right = set(risen[0]) | set(risen[1]) <= WAITS_FOR_THE_TARGET
    report("a paused target", f"stalls {risen[0]}, timeouts {risen[1]}", rose and right)


def rise(now: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {phase: value - before.get(phase, 0) for phase, value in now.items() if value > before.get(phase, 0)}


def wait(holds: "callable[[], bool]", seconds: float) -> bool:  # type: ignore[valid-type]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if holds():
                return True
        except OSError:
            pass
        time.sleep(0.5)
    return False


if __name__ == "__main__":
    main()

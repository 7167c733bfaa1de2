"""proxy-server killed, restarted and paused in the middle of a download: what curl sees, and how soon."""

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

from serving import Serving, report, serve

from servicekit.payload import sha256

SIZE = 300_000_000
RATE = "20M"  # So that the download is under way whenever something happens to it.
AFTER_RESTART_S = 5.0
WHILE_DOWN_S = 15.0
PAUSE_S = 8.0


def main() -> None:
    with serve() as serving:
        killed_and_restarted(serving)
    with serve() as serving:
        killed_for_good(serving)
    with serve() as serving:
        paused(serving)


def start_download(serving: Serving) -> "subprocess.Popen[bytes]":
    """curl, once the first bytes have come."""
    url = serving.url(f"/bytes?seed=5&size={SIZE}&framing=length")
    curl = subprocess.Popen(serving.curl("--limit-rate", RATE, "-m", "120", url), stdout=subprocess.PIPE)
    assert curl.stdout is not None
    curl.stdout.read(5_000_000)
    return curl


def drain(curl: "subprocess.Popen[bytes]") -> int:
    """Reads what is left; curl's exit code."""
    assert curl.stdout is not None
    while curl.stdout.read(1 << 20):
        pass
    return curl.wait()


def restart(command: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def command_line(serving: Serving) -> list[str]:
    """How the server was started, with the port that it got instead of port 0."""
    pid = serving.pids["proxy-server"]
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    words[words.index("--listen") + 1] = f"127.0.0.1:{serving.udp_port('proxy-server')}"
    return words


def killed_and_restarted(serving: Serving) -> None:
    command = command_line(serving)
    curl = start_download(serving)
    os.kill(serving.pids["proxy-server"], signal.SIGKILL)
    time.sleep(1.0)
    restarted_at = time.monotonic()
    server = restart(command)
    try:
        code = drain(curl)
        ended_s = time.monotonic() - restarted_at
        report(
            "curl after kill -9 and restart",
            f"exit code {code}, {ended_s:.1f} s after the restart",
            code != 0 and ended_s <= AFTER_RESTART_S,
        )
        worked_s = first_success(serving) - restarted_at
        report("new requests work", f"{worked_s:.1f} s after the restart", worked_s <= AFTER_RESTART_S)
    finally:
        server.terminate()
        server.wait(30)


def first_success(serving: Serving) -> float:
    """When a small request through the tunnel first works. Tries in a row, each bounded."""
    url = serving.url("/bytes?seed=1&size=1000&framing=length")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if (
            subprocess.run(serving.curl("-m", "3", "-o", "/dev/null", url), capture_output=True, check=False).returncode
            == 0
        ):
            break
    return time.monotonic()


def killed_for_good(serving: Serving) -> None:
    curl = start_download(serving)
    killed_at = time.monotonic()
    os.kill(serving.pids["proxy-server"], signal.SIGKILL)
    code = drain(curl)
    ended_s = time.monotonic() - killed_at
    report("curl after kill -9", f"exit code {code} after {ended_s:.1f} s", code != 0 and ended_s <= WHILE_DOWN_S)


def paused(serving: Serving) -> None:
    url = serving.url(f"/bytes?seed=5&size={SIZE}&framing=length")
    curl = subprocess.Popen(serving.curl("--limit-rate", RATE, "-m", "120", url), stdout=subprocess.PIPE)
    assert curl.stdout is not None
    digest = hashlib.sha256(curl.stdout.read(5_000_000))
    os.kill(serving.pids["proxy-server"], signal.SIGSTOP)
    time.sleep(PAUSE_S)
    os.kill(serving.pids["proxy-server"], signal.SIGCONT)
    while data := curl.stdout.read(1 << 20):
        digest.update(data)
    code = curl.wait()
    right = digest.hexdigest() == sha256(5, SIZE)
    report(
        "a download across a pause of 8 s",
        f"exit code {code}, {'byte-exact' if right else 'damaged'}",
        not code and right,
    )


if __name__ == "__main__":
    main()

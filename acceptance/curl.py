"""`curl` through `make serve`: 200 MB down and up, ten at a time, names and both families, refusals, policy."""

import hashlib
import json
import socket
import struct
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving import BIN, Serving, report, serve

from servicekit.payload import chunks, sha256

SIZE = 200_000_000
AT_A_TIME = 10
TIMEOUT = ("-m", "600")


def main() -> None:
    with serve() as serving, tempfile.TemporaryDirectory() as directory:
        download(serving)
        upload(serving, Path(directory))
        families(serving)
        refused_port(serving)
        policy(Path(directory))


def digest_of_download(serving: Serving, seed: int) -> str:
    url = serving.url(f"/bytes?seed={seed}&size={SIZE}&framing=length")
    curl = subprocess.Popen(serving.curl(*TIMEOUT, url), stdout=subprocess.PIPE)
    assert curl.stdout is not None
    digest = hashlib.sha256()
    while data := curl.stdout.read(1 << 20):
        digest.update(data)
    return digest.hexdigest() if curl.wait() == 0 else f"curl ended with {curl.returncode}"


def download(serving: Serving) -> None:
    began = time.monotonic()
    got = digest_of_download(serving, 1)
    report("200 MB down, SHA-256 right", f"{time.monotonic() - began:.1f} s", got == sha256(1, SIZE))
    began = time.monotonic()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        digests = list(pool.map(lambda seed: digest_of_download(serving, seed), range(AT_A_TIME)))
    right = sum(digest == sha256(seed, SIZE) for seed, digest in enumerate(digests))
    report("200 MB down, ten at a time", f"{right} right, {time.monotonic() - began:.1f} s", right == AT_A_TIME)


def upload(serving: Serving, directory: Path) -> None:
    file = directory / "body"
    with file.open("wb") as body:
        for chunk in chunks(7, SIZE):
            body.write(chunk)
    command = serving.curl(*TIMEOUT, "-H", "Expect:", "-T", str(file), serving.url("/upload"))
    expected = {"received": SIZE, "sha256": sha256(7, SIZE)}

    def digest(_: int) -> bool:
        answer = subprocess.run(command, capture_output=True, check=False)
        return answer.returncode == 0 and json.loads(answer.stdout) == expected

    began = time.monotonic()
    right = int(digest(0))
    report("200 MB up, digest right", f"{time.monotonic() - began:.1f} s", right == 1)
    began = time.monotonic()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        right = sum(pool.map(digest, range(AT_A_TIME)))
    report("200 MB up, ten at a time", f"{right} right, {time.monotonic() - began:.1f} s", right == AT_A_TIME)


def families(serving: Serving) -> None:
    for kind, host in (("name", "localhost"), ("IPv4", "127.0.0.1")):
        command = serving.curl(*TIMEOUT, serving.url("/bytes?seed=3&size=1000&framing=length", host))
        got = subprocess.run(command, capture_output=True, check=False).stdout
        report(f"a target by {kind}", f"{len(got)} bytes", hashlib.sha256(got).hexdigest() == sha256(3, 1000))
    command = [str(BIN / "http-target"), "--listen", "[::1]:0", "--server-first-listen", "[::1]:0"]
    with subprocess.Popen([*command, "--metrics-listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True) as target:
        assert target.stderr is not None
        lines = (json.loads(line) for line in target.stderr)
        address = next(line["address"] for line in lines if line.get("listener") == "http")
        command = serving.curl("-g", *TIMEOUT, f"http://{address}/bytes?seed=3&size=1000&framing=length")
        got = subprocess.run(command, capture_output=True, check=False).stdout
        target.terminate()
    report("a target by IPv6", f"{len(got)} bytes", hashlib.sha256(got).hexdigest() == sha256(3, 1000))


def socks_reply(proxy: str, host: str, port: int) -> int:
    """The reply field for a CONNECT to an IPv4 address."""
    with socket.create_connection(tuple(proxy.rsplit(":", 1)), timeout=20) as connection:  # type: ignore[arg-type]
        connection.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x01" + socket.inet_aton(host) + struct.pack(">H", port))
        answer = b""
        while len(answer) < 4:
            answer += connection.recv(64) or b"\xff" * 4
        return answer[3]


def refused_port(serving: Serving) -> None:
    with socket.socket() as closed:  # Bound and not listening: nobody else gets the port, and it refuses.
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        curl = subprocess.run(serving.curl(*TIMEOUT, f"http://127.0.0.1:{port}/"), capture_output=True, check=False)
        reply = socks_reply(serving.proxy, "127.0.0.1", port)
    holds = curl.returncode == 97 and reply == 5
    report("a refused port", f"curl's exit code {curl.returncode}, reply {reply}", holds)


def policy(directory: Path) -> None:
    """A server with the default policy, and a target that would notice a connection."""
    with socket.create_server(("127.0.0.1", 0)) as target, default_server(directory) as proxy:
        target.settimeout(1.0)
        reply = socks_reply(proxy, "127.0.0.1", target.getsockname()[1])
        try:
            target.accept()
            sent = "something"
        except TimeoutError:
            sent = "nothing"
    report("a loopback target under the default policy", f"reply {reply}, {sent} sent", (reply, sent) == (2, "nothing"))


class default_server:
    """proxy-server with the default egress policy and a proxy-client to it; gives where SOCKS5 is."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "certificate"
        self._processes: list[subprocess.Popen[str]] = []

    def _start(self, listener: str, *command: str) -> str:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:], "--metrics-listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True
        )
        self._processes.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            event = json.loads(line)
            if event.get("listener") == listener:
                return str(event["address"])
        raise SystemExit(f"{command[0]} did not start")

    def __enter__(self) -> str:
        flags = ("--listen", "127.0.0.1:0", "--dev-certificate", str(self._directory))
        server = self._start("quic", "proxy-server", *flags)
        return self._start(
            "socks",
            *("proxy-client", "--listen", "127.0.0.1:0", "--server", server, "--server-name", "proxy-server"),
            *("--ca-file", str(self._directory / "ca.pem"), "--token-file", str(self._directory / "token")),
        )

    def __exit__(self, *error: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait(30)
            assert process.stderr is not None
            process.stderr.close()


if __name__ == "__main__":
    main()

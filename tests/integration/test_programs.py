"""proxy-client and proxy-server as processes: what an operator gives them, and what they say and do in return."""

import asyncio
import json
import os
import re
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.conftest import Target
from tests.pairings import Pairing, every_pairing

from servicekit.address import Address
from tunnel.engine.aioquic import client_engine
from tunnel.engine.settings import ClientTls, EngineLimits

BIN = Path(sys.executable).parent
WAIT_S = 30.0
"""The bound of every wait: a process takes a second to start, several when the machine is busy."""

NAMES = ("proxy-client", "proxy-server")
QUIET_S = 0.5
"""After this nothing of an exchange is on its way any more: acknowledgements come within 25 ms."""

PREFIXES = {"proxy-client": "PROXY_CLIENT_", "proxy-server": "PROXY_SERVER_"}


def environment(**extra: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(tuple(PREFIXES.values()))} | extra


Line = dict[str, Any]


class Program:
    """A process and its log, one JSON object a line."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process
        self.log: list[Line] = []
        self.raw = b""
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def line(self, wanted: Callable[[Line], bool]) -> Line:
        """The first line that is wanted, as soon as it is there."""
        async with asyncio.timeout(WAIT_S), self._news:
            while not (found := [line for line in self.log if wanted(line)]):
                assert not self._reading.done(), f"{self.name} ended without it: {self.log}"
                await self._news.wait()
            return found[0]

    async def event(self, event: str, **fields: object) -> Line:
        """The same, for an event with these fields."""
        return await self.line(lambda line: line["event"] == event and fields.items() <= line.items())

    def events(self, event: str, **fields: object) -> list[Line]:
        return [line for line in self.log if line["event"] == event and fields.items() <= line.items()]

    async def address(self, listener: str) -> Address:
        return Address.parse((await self.event("listening", listener=listener))["address"])

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
            return await client.get(f"http://{await self.address('metrics')}{path}")

    async def until(self, name: str, value: float, **labels: str) -> None:
        """Waits for a metric."""
        async with asyncio.timeout(WAIT_S):
            while True:
                if await self.metric(name, **labels) == value:
                    return
                await asyncio.sleep(0.02)

    async def metric(self, name: str, **labels: str) -> float:
        for family in text_string_to_metric_families((await self.get("/metrics")).text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        raise AssertionError(f"{self.name} has no {name}{labels}")

    async def until_ready(self, ready: bool) -> str:
        """Waits until /readyz says so; its text."""
        async with asyncio.timeout(WAIT_S):
            while True:
                answer = await self.get("/readyz")
                if answer.is_success == ready:
                    return answer.text
                await asyncio.sleep(0.05)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit code, when it has ended and all of its log is read."""
        async with asyncio.timeout(WAIT_S):
            await self._reading
            return await self.process.wait()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._news:
                self.raw += line
                self.log.append(json.loads(line) if line.startswith(b"{") else {"event": "text", "text": line.decode()})
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()


Start = Callable[..., Coroutine[None, None, Program]]


@pytest.fixture
async def start(certificates: Path) -> AsyncIterator[Start]:
    """Starts programs on free ports. At the end no log may hold an exception, an error or a secret."""
    started: list[Program] = []

    async def start(name: str, *flags: object, **environ: str) -> Program:
        process = await asyncio.create_subprocess_exec(
            BIN / name,
            "--metrics-listen=127.0.0.1:0",
            *map(str, flags),
            stderr=asyncio.subprocess.PIPE,
            env=environment(**environ),
        )
        started.append(Program(name, process))
        return started[-1]

    yield start
    for program in started:
        if program.process.returncode is None:
            program.process.kill()
        await program.ended()
    token = (certificates / "token").read_bytes().strip()
    for program in started:
        assert token not in program.raw
        assert b"Traceback" not in program.raw
        for line in program.log:
            assert line.get("level") != "error" or line["event"] == "cannot_start", line


@dataclass
class Stack:
    """Both programs, joined."""

    start: Start
    certificates: Path
    server: Program
    client: Program
    server_flags: tuple[object, ...] = ()

    async def socks(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = await self.client.address("socks")
        return await asyncio.open_connection(address.host, address.port)

    async def request(self, target: Address) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
        """The reply's number, and the connection."""
        reader, writer = await self.socks()
        packed = socket.inet_aton(target.host) + target.port.to_bytes(2, "big")
        writer.write(b"\x05\x01\x00" + b"\x05\x01\x00\x01" + packed)
        async with asyncio.timeout(WAIT_S):
            return (await reader.readexactly(12))[3], reader, writer

    async def restart_server(self) -> None:
        address = await self.server.address("quic")
        self.server = await start_server(self.start, self.certificates, f"--listen={address}", *self.server_flags)


async def start_server(start: Start, certificates: Path, *flags: object, **environ: str) -> Program:
    flags = ("--listen=127.0.0.1:0", "--dev-certificate", certificates, "--egress-allow=own", *flags)
    server = await start("proxy-server", *flags, **environ)
    await server.event("ready")
    return server


async def start_client(start: Start, certificates: Path, server: Address, *flags: object, **environ: str) -> Program:
    flags = ("--listen=127.0.0.1:0", "--server", server, "--server-name=proxy-server", *flags)
    if not {"--ca-file", "--insecure", "--no-insecure", "--pin-sha256"} & {str(flag) for flag in flags}:
        flags = (*flags, "--ca-file", certificates / "ca.pem")
    if "--token-file" not in flags:
        flags = (*flags, "--token-file", certificates / "token")
    return await start("proxy-client", *flags, **environ)


MakeStack = Callable[..., Coroutine[None, None, Stack]]


@pytest.fixture
async def make_stack(start: Start, certificates: Path, pairing: Pairing) -> MakeStack:
    """`server_flags` and `client_flags` go in front of the usual ones."""
    server_engine, client_engine = f"--engine={pairing.server}", f"--engine={pairing.client}"

    async def make(server_flags: tuple[object, ...] = (), client_flags: tuple[object, ...] = ()) -> Stack:
        server = await start_server(start, certificates, server_engine, *server_flags)
        client = await start_client(start, certificates, await server.address("quic"), client_engine, *client_flags)
        await client.event("ready")
        return Stack(start, certificates, server, client, (server_engine,))

    return make


async def run(name: str, *flags: object, **environ: str) -> tuple[int, str, str]:
    """A program that is expected to end by itself: its exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        BIN / name,
        *map(str, flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**environ),
    )
    try:
        async with asyncio.timeout(WAIT_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


# The command line.


@pytest.mark.parametrize("name", NAMES)
async def test_help_tells_every_setting(name: str) -> None:
    code, out, err = await run(name, "--help")
    assert (code, err) == (0, "")
    flags = set(re.findall(r"^  (--[a-z0-9-]+)", out, re.MULTILINE))
    assert {"--listen", "--metrics-listen", "--config", "--check-config", "--version", "--log-format"} <= flags
    for flag in flags - {"--version", "--check-config", "--help"}:
        assert f"[{PREFIXES[name]}{flag[2:].upper().replace('-', '_')}]" in out
    assert "(default: 127.0.0.1:9101)" in out if name == "proxy-client" else "(default: 127.0.0.1:9102)" in out


@pytest.mark.parametrize("name", NAMES)
async def test_version(name: str) -> None:
    code, out, err = await run(name, "--version")
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"{name} \d+\.\d+\.\d+\S*\n", out)


CLIENT = ("proxy-client", "--server=127.0.0.1:9")
SERVER = ("proxy-server", "--dev-certificate=somewhere")
REFUSED = [
    (["proxy-client"], "--server (PROXY_CLIENT_SERVER): is required"),
    ([*CLIENT, "--sever=x"], "unknown flag --sever; did you mean --server?"),
    ([*CLIENT, "--listen=1080"], '--listen (PROXY_CLIENT_LISTEN): "1080" is not valid: must be HOST:PORT'),
    ([*CLIENT, "--socks-timeout-s=0"], '"0" is not valid: must be greater than 0'),
    ([*CLIENT, "--max-datagram-bytes=100"], '"100" is not valid: must be greater than or equal to 1200'),
    ([*CLIENT, "--server-name="], "--server-name (PROXY_CLIENT_SERVER_NAME)"),
    ([*CLIENT, "--pin-sha256=abc"], "--pin-sha256 (PROXY_CLIENT_PIN_SHA256)"),
    ([*CLIENT, "--insecure", "--ca-file=ca.pem"], "choose one of --ca-file, --pin-sha256 and --insecure"),
    ([*CLIENT, "--listen=0.0.0.0:1080"], "is not loopback: give --users-file, or --allow-open-listener"),
    ([*CLIENT, "--engine=magic"], "'auto', 'aioquic' or 'quinn'"),
    ([*CLIENT, "--congestion-control=vegas"], "'cubic', 'bbr' or 'reno'"),
    ([*CLIENT, "--engine=aioquic", "--congestion-control=bbr"], "aioquic has no congestion control bbr"),
    ([*SERVER, "--engine=aioquic", "--congestion-control=bbr"], "aioquic has no congestion control bbr"),
    (["proxy-server"], "give --certificate and --private-key, or --dev-certificate"),
    ([*SERVER, "--certificate=c.pem", "--private-key=k.pem"], "or --dev-certificate"),
    (["proxy-server", "--certificate=c.pem"], "--certificate and --private-key go together"),
    (["proxy-server", "--certificate=c.pem", "--private-key=k.pem"], "--tokens-file is required"),
    ([*SERVER, "--listen=127.0.0.1:70000"], "port must be 0 to 65535"),
    ([*SERVER, "--egress-allow=10.0.0.1/8"], "'10.0.0.1/8' is neither a network (CIDR) nor 'own'"),
    ([*SERVER, "--egress-allow=everything"], "'everything' is neither a network"),
    ([*SERVER, "--dial-timeout-s=61"], '"61" is not valid: must be less than or equal to 60'),
    ([*SERVER, "--max-connections=0"], '"0" is not valid: must be greater than or equal to 1'),
]


@pytest.mark.parametrize(("command", "words"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED])
async def test_bad_settings_are_refused(command: list[str], words: str) -> None:
    """With the setting, the value and the bound; `--check-config` finds what a start would."""
    code, out, err = await run(*command, "--check-config")
    assert (code, out) == (2, "")
    assert words in err
    assert err.endswith(f"{command[0]}: {command[0]} --help lists the settings\n")


@pytest.mark.parametrize("command", [CLIENT, SERVER], ids=NAMES)
async def test_environment_and_file(command: tuple[str, str], tmp_path: Path) -> None:
    name, prefix = command[0], PREFIXES[command[0]]
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('listen = "127.0.0.1:0"\ndrain_timeout_s = 3\n')
    bad.write_text('listen = "127.0.0.1"\ndrain_timeout = 3\n')
    assert await run(*command, "--check-config", "--config", good) == (0, "configuration is valid\n", "")
    code, _, err = await run(*command, "--check-config", **{f"{prefix}CONFIG": str(bad), f"{prefix}LISTNE": "x"})
    assert code == 2
    assert f"unknown environment variable {prefix}LISTNE; did you mean {prefix}LISTEN?" in err
    assert f"unknown key drain_timeout in {bad}; did you mean drain_timeout_s?" in err
    assert f'listen in {bad}: "127.0.0.1" is not valid: must be HOST:PORT' in err
    code, _, err = await run(*command, "--check-config", **{f"{prefix}DRAIN_TIMEOUT_S": "-1"})
    assert code == 2
    assert f"--drain-timeout-s ({prefix}DRAIN_TIMEOUT_S)" in err
    assert name in err


# What cannot start says why, in one line, and exits 1.


async def cannot_start(name: str, *flags: object, **environ: str) -> str:
    anywhere = () if any(str(flag).startswith("--listen") for flag in flags) else ("--listen=127.0.0.1:0",)
    code, _, err = await run(name, "--metrics-listen=127.0.0.1:0", *anywhere, *flags, **environ)
    assert code == 1
    line = json.loads(err.splitlines()[-1])
    assert (line["level"], line["event"], line["program"]) == ("error", "cannot_start", name)
    assert "Traceback" not in err
    return str(line["reason"])


async def test_files_that_cannot_be_used(certificates: Path, tmp_path: Path) -> None:
    nowhere, garbage, empty, users, two = (tmp_path / name for name in ("nowhere", "garbage", "empty", "users", "two"))
    garbage.write_text("no certificate\n")
    empty.write_text("# nothing\n")
    users.write_text("alice:secret\n\nalice\n")
    two.write_text("one\ntwo\n")
    ca, certificate, key = (certificates / name for name in ("ca.pem", "certificate.pem", "key.pem"))
    other = tmp_path / "other.pem"
    trustme.CA().issue_cert("other").private_key_pem.write_to_path(other)
    server = ("--certificate", certificate, "--private-key", key)
    cases: list[tuple[tuple[Any, ...], str]] = [
        (("proxy-client", "--ca-file", nowhere), f"--ca-file {nowhere}: No such file or directory"),
        (("proxy-client", "--ca-file", tmp_path), f"--ca-file {tmp_path}: Is a directory"),
        (("proxy-client", "--ca-file", garbage), f"--ca-file {garbage}: no certificate"),
        (("proxy-client", "--ca-file", ca, "--token-file", nowhere), f"--token-file {nowhere}: No such file"),
        (("proxy-client", "--ca-file", ca, "--token-file", two), f"--token-file {two}: one line with the token"),
        (("proxy-client", "--ca-file", ca, "--users-file", users), f"--users-file {users}, line 3: name:secret is"),
        (("proxy-client", "--ca-file", ca, "--users-file", empty), f"--users-file {empty}: there is no name:secret"),
        (("proxy-server", *server, "--tokens-file", nowhere), f"--tokens-file {nowhere}: No such file"),
        (("proxy-server", *server, "--tokens-file", empty), f"--tokens-file {empty}: there is no name:secret"),
        (("proxy-server", "--dev-certificate", garbage), f"--dev-certificate {garbage}: File exists"),
    ]
    tokens = tmp_path / "tokens"
    tokens.write_text("client:secret\n")
    for broken in (nowhere, garbage, other):
        flags = ("--certificate", certificate, "--private-key", broken, "--tokens-file", tokens)
        cases.append((("proxy-server", *flags), f"the certificate or its key cannot be used: {broken}: "))
    flags = ("--certificate", garbage, "--private-key", key, "--tokens-file", tokens)
    cases.append((("proxy-server", *flags), f"the certificate or its key cannot be used: {garbage}: "))
    server_of = {"proxy-client": ("--server=127.0.0.1:9",), "proxy-server": ()}
    reasons = await asyncio.gather(*(cannot_start(name, *server_of[name], *given) for (name, *given), _ in cases))
    for reason, (_, words) in zip(reasons, cases, strict=True):
        assert reason.startswith(words)
        assert "Errno" not in reason
        assert "secret\n" not in reason


async def test_ports_that_are_taken(certificates: Path) -> None:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        udp.bind(("127.0.0.1", 0))
        tcp_address, udp_address = (Address.of_socket(sock.getsockname()) for sock in (tcp, udp))
        client = ("proxy-client", "--server=127.0.0.1:9")
        server = ("proxy-server", "--dev-certificate", certificates)
        taken = "Address already in use"
        assert await cannot_start(*client, f"--listen={tcp_address}") == f"--listen {tcp_address}: {taken}"
        assert await cannot_start(*server, f"--listen={udp_address}") == f"--listen {udp_address}: {taken}"
        for command in (client, server):
            reason = await cannot_start(*command, f"--metrics-listen={tcp_address}")
            assert reason == f"cannot listen on {tcp_address}: {taken}"


@pytest.mark.parametrize("engine", ["auto", "quinn"])
async def test_a_wheel_of_another_revision(certificates: Path, tmp_path: Path, engine: str) -> None:
    """An update of the code without `make native`: `auto` does not make do with the slow engine either."""
    (tmp_path / "quinn_engine.py").write_text("class Endpoint: ...\n")
    client = ("proxy-client", "--server=127.0.0.1:9", "--insecure")
    server = ("proxy-server", "--dev-certificate", certificates)
    for command in (client, server):
        reason = await cannot_start(*command, f"--engine={engine}", PYTHONPATH=str(tmp_path))
        assert re.fullmatch(
            f"--engine {engine}: the engine quinn is installed and cannot be loaded: "
            r"its wheel is of another revision \(API 0, not \d+\); `make native` builds it anew",
            reason,
        )


# A life in order.


async def test_from_start_to_stop(make_stack: MakeStack, target: Target) -> None:
    stack = await make_stack()
    for program in (stack.server, stack.client):
        assert (await program.get("/healthz")).text == "healthy\n"
        assert (await program.get("/readyz")).text == "ready\n"
        assert (await program.get("/")).status_code == 404
    reply, reader, writer = await stack.request(target.address)
    assert reply == 0
    far_reader, far_writer = await target.connection()
    writer.write(b"question")
    writer.write_eof()
    async with asyncio.timeout(WAIT_S):
        assert await far_reader.read(-1) == b"question"
        far_writer.write(b"answer")
        far_writer.close()
        assert await reader.read(-1) == b"answer"
    writer.close()
    for program in (stack.client, stack.server):
        program.signal()
        assert await program.ended() == 0

    assert [line["event"] for line in stack.client.log] == [
        *("listening", "listening", "connecting", "connection_up", "ready"),
        *("draining", "connection_closed", "stopped"),
    ]
    assert [line["event"] for line in stack.server.log] == [
        *("listening", "listening", "ready", "connection_up", "connection_closed", "draining", "stopped"),
    ]
    for program in (stack.client, stack.server):
        assert {line["level"] for line in program.log} == {"info"}
        assert program.log[-1]["clean"] is True
        for line in program.log:
            assert list(line)[:4] == ["time", "level", "program", "event"]
            assert line["program"] == program.name
    [up_here], [up_there] = stack.client.events("connection_up"), stack.server.events("connection_up")
    assert up_here["session"] == up_there["session"]
    assert up_here["instance"] == up_there["instance"]
    assert up_here["peer"] == up_here["server"] == str(await stack.server.address("quic"))
    assert up_there["name"] == "dev"
    assert up_there["peer"].startswith("127.0.0.1:")
    assert up_here["handshake_ms"] > 0 < up_there["handshake_ms"]


def not_empty(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.stat().st_size]


@every_pairing
async def test_qlog_stops_at_as_many_files_as_there_may_be(make_stack: MakeStack, tmp_path: Path) -> None:
    """Those of earlier runs count: of the last one that there is room for, the client makes use."""
    for number in range(63):
        (tmp_path / f"{number}.sqlog").touch()
    stack = await make_stack(("--qlog", tmp_path), ("--qlog", tmp_path))
    full = f"qlog {tmp_path}: it holds 64 files, and gets no more until some are removed"
    assert (await stack.server.event(full))["level"] == "warning"
    [written] = not_empty(tmp_path)
    assert re.fullmatch(r"[0-9-]{10}T[0-9-]{8}Z-client-[0-9a-f]+\.sqlog", written)
    assert not stack.client.events(full)


async def test_text_for_people(start: Start, certificates: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "other"
    tokens.write_text("no such token\n")
    server = await start_server(start, certificates)
    flags = ("--log-format=text", "--token-file", tokens)
    client = await start_client(start, certificates, await server.address("quic"), *flags)
    await server.event("connection_failed")
    await client.line(lambda line: "connection_failed" in line["text"])
    client.signal()
    assert await client.ended() == 0
    text = client.raw.decode()
    assert re.search(
        r"^\S+ \[info +\] listening .*listener=socks address=127\.0\.0\.1:\d+ engine=\w+$", text, re.MULTILINE
    )
    assert re.search(r"^\S+ \[warning +\] connection_failed .*cause=token_refused detail='.*'", text, re.MULTILINE)
    assert "\x1b" not in text  # no colours where nobody sees them
    assert "no such token" not in text


# Readiness, and a server that goes and comes.


async def test_readiness_follows_the_tunnel(start: Start, certificates: Path) -> None:
    server = await start_server(start, certificates)
    address = await server.address("quic")
    server.signal()
    assert await server.ended() == 0

    client = await start_client(start, certificates, address)
    await client.event("connecting")
    assert await client.until_ready(False) == f"there is no connection to {address}\n"
    assert (await client.get("/healthz")).is_success
    stack = Stack(start, certificates, server, client)
    await stack.restart_server()
    assert await client.until_ready(True) == "ready\n"
    await client.event("ready")

    stack.server.signal()
    assert await stack.server.ended() == 0
    assert (await client.until_ready(False)).startswith(f"there is no connection to {address}")
    await stack.restart_server()
    assert await client.until_ready(True) == "ready\n"
    assert len(client.events("ready")) == 1
    assert len(client.events("connection_up")) == 2


@every_pairing
@pytest.mark.failure("F02")
async def test_f02_server_killed_and_restarted(make_stack: MakeStack, target: Target, pairing: Pairing) -> None:
    """What is open is reset, and new requests work within 5 s of the restart."""
    stack = await make_stack()
    reply, reader, writer = await stack.request(target.address)
    assert reply == 0
    await target.connection()
    stack.server.signal(signal.SIGKILL)
    await stack.server.ended()
    await stack.restart_server()
    loop = asyncio.get_running_loop()
    ready_at = loop.time()
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(WAIT_S):
            await reader.read(-1)
    writer.close()
    while (answer := await stack.request(target.address))[0] != 0:
        answer[2].close()
    assert loop.time() - ready_at < 5.0
    answer[2].close()
    lost = await stack.client.event("connection_lost")
    assert lost["cause"] == "peer_restarted"
    assert lost["streams_lost"] == 1
    if pairing != ("quinn", "quinn"):  # No stateless resets: it takes the answer to a new connection.
        assert stack.client.events("connection_suspect")
    assert await stack.client.metric("tunnel_connections_total", role="client", cause="peer_restarted") == 1
    assert await stack.client.metric("tunnel_streams_total", role="client", ending="lost") == 1
    assert await stack.client.until_ready(True) == "ready\n"


@pytest.mark.parametrize("pairing", [Pairing("quinn", "quinn")], indirect=True, ids=str)
@pytest.mark.failure("F02")
async def test_f02_quinn_hears_of_the_restart_with_its_next_packet(make_stack: MakeStack, target: Target) -> None:
    """Nothing was under way while the server was down; the answer to the next packet is a stateless reset."""
    stack = await make_stack()
    _, reader, writer = await stack.request(target.address)
    _, far_writer = await target.connection()
    far_writer.write(b"x")
    async with asyncio.timeout(WAIT_S):
        assert await reader.readexactly(1) == b"x"
    await asyncio.sleep(QUIET_S)
    stack.client.signal(signal.SIGSTOP)  # A start takes as long as it takes; the client's time begins with the packet.
    stack.server.signal(signal.SIGKILL)
    await stack.server.ended()
    await stack.restart_server()
    writer.write(b"the next packet")
    stack.client.signal(signal.SIGCONT)
    async with asyncio.timeout(WAIT_S):
        lost = await stack.client.event("connection_lost")
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
    writer.close()
    assert lost["cause"] == "peer_restarted"
    assert not stack.client.events("connection_suspect")
    await stack.client.until_ready(True)


# Who is let in.


async def test_insecure_works_and_warns(start: Start, certificates: Path) -> None:
    server = await start_server(start, certificates)
    client = await start_client(start, certificates, await server.address("quic"), "--insecure")
    await client.event("ready")
    [warning] = client.events("insecure")
    assert warning["level"] == "warning"
    assert "not verified" in warning["detail"]


async def test_pinned_certificate(start: Start, certificates: Path) -> None:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509 import load_pem_x509_certificate

    certificate = load_pem_x509_certificate((certificates / "certificate.pem").read_bytes())
    server = await start_server(start, certificates)
    pin = certificate.fingerprint(SHA256()).hex()
    flags = ("--pin-sha256", pin.upper(), "--server-name=anything")
    client = await start_client(start, certificates, await server.address("quic"), *flags)
    await client.event("ready")


@pytest.mark.parametrize("pairing", [Pairing("aioquic", "auto"), Pairing("quinn", "auto")], indirect=True, ids=str)
async def test_who_is_not_let_in(start: Start, certificates: Path, tmp_path: Path, pairing: Pairing) -> None:
    """Both sides say why, the client goes on trying, and neither floods its log."""
    other_ca, other_token = tmp_path / "ca.pem", tmp_path / "token"
    trustme.CA().cert_pem.write_to_path(other_ca)
    other_token.write_text("no such token\n")
    server = await start_server(start, certificates)
    address = await server.address("quic")
    unknown, another = {
        "aioquic": ("unable to get local issuer certificate", "hostname 'example.test' doesn't match"),
        "quinn": ("invalid peer certificate: UnknownIssuer", 'certificate not valid for name "example.test"'),
    }[pairing.client]
    cases = [
        (("--ca-file", other_ca), "certificate_refused", unknown),
        (("--no-insecure",), "certificate_refused", unknown),  # No CA of ours at all.
        (("--server-name=example.test",), "certificate_refused", another),
        (("--pin-sha256", "00" * 32), "certificate_refused", "not the pinned one"),
        (("--token-file", other_token), "token_refused", "the server does not know the token"),
    ]
    for flags, cause, words in cases:
        refused_before = await server.metric("tunnel_connections_total", role="server", cause=cause)
        client = await start_client(start, certificates, address, f"--engine={pairing.client}", *flags)
        failed = await client.event("connection_failed")
        assert (failed["cause"], failed["level"]) == (cause, "warning")
        assert words in failed["detail"]
        why = await client.until_ready(False)
        assert why.startswith(f"there is no connection to {address}; the last attempt: {cause}, ")
        assert words in why
        again = await client.line(lambda line: line["event"] == "connection_failed" and line["connection"] >= 3)
        lines = client.events("connection_failed")
        assert len(lines) + sum(line.get("repeated", 0) for line in lines) == again["connection"] > len(lines)
        assert not client.events("ready")
        assert await server.metric("tunnel_connections_total", role="server", cause=cause) >= refused_before + 3
        client.signal()
        assert await client.ended() == 0
    for cause in ("certificate_refused", "token_refused"):
        line = server.events("connection_failed", cause=cause)[0]
        assert line["level"] == "warning"
    assert server.events("connection_failed", cause="token_refused")[0]["peer"].startswith("127.0.0.1:")
    everything = [line for line in server.log if line["event"] == "connection_failed"]
    assert len(everything) < await server.metric("tunnel_connections_total", role="server", cause="certificate_refused")
    # Others are not bothered.
    await (await start_client(start, certificates, address)).event("ready")


def first_flights(count: int) -> Iterator[bytes]:
    """The first datagrams of so many handshakes, none of which will go on."""
    for _ in range(count):
        engine = client_engine(ClientTls("proxy-server", insecure=True), EngineLimits())
        engine.connect(("127.0.0.1", 9), 0.0)
        transmit = engine.poll_transmit(0.0)
        assert transmit is not None
        yield transmit.data[: transmit.segment_size]


class Flood(asyncio.DatagramProtocol):
    """The side of a stranger who begins many handshakes."""

    def __init__(self) -> None:
        self.asked_to_retry = asyncio.Event()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if data[0] & 0xF0 == 0xF0:  # RFC 9000 section 17.2.5
            self.asked_to_retry.set()


@every_pairing
@pytest.mark.failure("F26")
async def test_f26_a_wrong_token_and_a_flood_of_handshakes_keep_nobody_out(
    make_stack: MakeStack, target: Target, tmp_path: Path, pairing: Pairing
) -> None:
    """A stream that is open goes on, another client comes in, and strangers have to prove their address."""
    stack = await make_stack()
    _, reader, writer = await stack.request(target.address)
    far_reader, far_writer = await target.connection()
    address = await stack.server.address("quic")
    other_token = tmp_path / "token"
    other_token.write_text("no such token\n")
    refused = await start_client(stack.start, stack.certificates, address, "--token-file", other_token)
    await refused.event("connection_failed", cause="token_refused")

    flood = Flood()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: flood, remote_addr=(address.host, address.port)
    )
    for flight in first_flights(200):
        transport.sendto(flight)
        await asyncio.sleep(0)  # Answers are many, and a socket's buffer is small.
    async with asyncio.timeout(WAIT_S):
        await flood.asked_to_retry.wait()
    client = await start_client(stack.start, stack.certificates, address, f"--engine={pairing.client}")
    await client.event("ready")
    transport.close()
    async with asyncio.timeout(WAIT_S):
        writer.write(b"still here")
        assert await far_reader.readexactly(10) == b"still here"
        far_writer.write(b"so am I")
        assert await reader.readexactly(7) == b"so am I"
    writer.close()
    assert not stack.client.events("connection_suspect")
    assert not refused.events("ready")


async def test_server_that_is_not_there(start: Start, certificates: Path) -> None:
    client = await start_client(start, certificates, Address("nowhere.invalid", 4433))
    line = await client.event("server_not_found")
    assert line["level"] == "warning"
    assert line["server"] == "nowhere.invalid:4433"
    assert "Errno" not in line["detail"]
    assert (await client.until_ready(False)).startswith("there is no connection to nowhere.invalid:4433; the last")
    await client.event("server_not_found", level="warning")
    client.signal()
    assert await client.ended() == 0


async def test_development_certificate_is_made_once(start: Start, tmp_path: Path) -> None:
    directory = tmp_path / "new" / "certificates"
    server = await start_server(start, directory)
    made = {path.name: path.read_bytes() for path in directory.iterdir()}
    for name in ("key.pem", "token"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
    server.signal()
    assert await server.ended() == 0
    server = await start_server(start, directory)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == made
    await (await start_client(start, directory, await server.address("quic"))).event("ready")
    assert made["token"].strip() not in server.raw


async def test_secrets_are_in_no_log(start: Start, certificates: Path, tmp_path: Path, target: Target) -> None:
    users, tokens = tmp_path / "users", tmp_path / "tokens"
    users.write_text("alice:correct-horse\n")
    tokens.write_text("laptop:battery-staple\n")
    token = tmp_path / "token"
    token.write_text("battery-staple\n")
    verbose = "--log-level=debug"
    server = await start_server(start, certificates, "--tokens-file", tokens, verbose)
    flags = ("--token-file", token, "--users-file", users, verbose)
    client = await start_client(start, certificates, await server.address("quic"), *flags)
    await client.event("ready")
    assert (await server.event("connection_up"))["name"] == "laptop"
    stack = Stack(start, certificates, server, client)
    packed = socket.inet_aton("127.0.0.1") + target.address.port.to_bytes(2, "big")
    for password, answer in ((b"correct-horse", b"\x00\x05\x00"), (b"wrong-horses!", b"\x01")):
        reader, writer = await stack.socks()
        writer.write(b"\x05\x01\x02" + b"\x01\x05alice\x0d" + password + b"\x05\x01\x00\x01" + packed)
        async with asyncio.timeout(WAIT_S):
            assert (await reader.readexactly(3 + len(answer)))[3:] == answer
        writer.close()
    (await target.connection())[1].close()
    await client.event("request_failed", cause="bad_credentials")
    for program in (client, server):
        program.signal()
        await program.ended()
        for secret in (b"horse", b"battery", b"staple"):
            assert secret not in program.raw


# Leaving.


@pytest.mark.parametrize("leaving", NAMES)
async def test_sigterm_lets_an_open_transfer_finish(make_stack: MakeStack, target: Target, leaving: str) -> None:
    stack = await make_stack()
    _, reader, writer = await stack.request(target.address)
    far_reader, far_writer = await target.connection()
    far_writer.write(b"first ")
    async with asyncio.timeout(WAIT_S):
        assert await reader.readexactly(6) == b"first "
        program = stack.client if leaving == "proxy-client" else stack.server
        program.signal()
        draining = await program.event("draining")
        assert draining["streams"] == 1
        assert await program.until_ready(False) == "draining\n"
        assert (await program.get("/healthz")).is_success
        if leaving == "proxy-client":
            with pytest.raises(ConnectionRefusedError):
                await stack.socks()
        writer.write(b"still here")
        assert await far_reader.readexactly(10) == b"still here"
        far_writer.write(b"second")
        far_writer.close()
        assert await reader.read(-1) == b"second"
        writer.close()
    assert await program.ended() == 0
    assert program.log[-1]["event"] == "stopped"
    assert program.log[-1]["clean"] is True


@pytest.mark.parametrize("leaving", NAMES)
async def test_second_sigterm_stops_at_once(make_stack: MakeStack, target: Target, leaving: str) -> None:
    stack = await make_stack(("--drain-timeout-s=3600",), ("--drain-timeout-s=3600",))
    _, reader, writer = await stack.request(target.address)
    far_reader, _ = await target.connection()
    program = stack.client if leaving == "proxy-client" else stack.server
    program.signal()
    await program.event("draining")
    program.signal()
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
        with pytest.raises(ConnectionResetError):
            await far_reader.read(-1)
    writer.close()
    assert await program.ended() == 1
    assert [line["event"] for line in program.log][-1] == "stopped"
    assert program.events("drain_cut", level="warning")
    assert program.log[-1]["clean"] is False


@pytest.mark.parametrize("leaving", NAMES)
async def test_drain_is_bounded(make_stack: MakeStack, target: Target, leaving: str) -> None:
    stack = await make_stack(("--drain-timeout-s=0.5",), ("--drain-timeout-s=0.5",))
    _, reader, writer = await stack.request(target.address)
    await target.connection()
    program = stack.client if leaving == "proxy-client" else stack.server
    program.signal()
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
    writer.close()
    assert await program.ended() == 1
    [cut] = program.events("drain_cut")
    assert cut["streams"] == 1


async def test_garbage_leaves_no_error_in_the_log(make_stack: MakeStack) -> None:
    """Under the event loop that the programs use; the cases one by one are in test_bad_input."""
    stack = await make_stack((), ("--socks-timeout-s=0.5",))
    listener = await stack.client.address("socks")
    garbage = (
        b"",
        b"\x05",
        bytes(5000),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
        b"\x05\x01\x00\x05\x01\x00\x03\x00",
    )
    for data in garbage:
        reader, writer = await asyncio.open_connection(listener.host, listener.port)
        writer.write(data)
        async with asyncio.timeout(WAIT_S):
            await reader.read(-1)
        writer.close()
    with socket.socket(type=socket.SOCK_DGRAM) as stranger:
        quic = await stack.server.address("quic")
        for data in (b"", b"x", bytes(1200), b"\xc0\x00\x00\x00\x01" + bytes(1195), b"\x40" + b"\xff" * 1300):
            stranger.sendto(data, (quic.host, quic.port))
    assert len(stack.client.events("request_failed")) == len(garbage)
    await stack.client.until("socks_connections_active", 0)
    for program in (stack.client, stack.server):
        program.signal()
        assert await program.ended() == 0

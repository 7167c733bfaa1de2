"""Secrets occur nowhere but in their files: the real programs at their most talkative, well and badly used."""

import asyncio
import base64
import signal
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import trustme
from tests.integration import test_programs
from tests.integration.conftest import Target
from tests.integration.test_programs import NAMES, PREFIXES, WAIT_S, Program, Stack, Start, run
from tests.pairings import Pairing

start = test_programs.start  # The fixture.

pytestmark = pytest.mark.timeout(180)  # A program a case, one after the other: some twelve starts in a test.

ENGINES = pytest.mark.parametrize(
    "pairing", [Pairing("aioquic", "aioquic"), Pairing("quinn", "quinn")], indirect=True, ids=str
)

TOKEN, HASHED_TOKEN, WRONG_TOKEN = "tok-5Ur1nAm-plain", "tok-9CoNg0-hashed", "tok-2Tap4j0s-wrong"
PASSWORD, WRONG_PASSWORD = "pwd-7Ebr0-right", "pwd-3Dan0be-wrong"


@dataclass
class Secrets:
    """Files with secrets, and every form in which one of these could be told."""

    directory: Path

    def __post_init__(self) -> None:
        self.hash = sha256(HASHED_TOKEN.encode()).hexdigest()
        authority = trustme.CA()
        made = authority.issue_cert("proxy-server")
        authority.cert_pem.write_to_path(self.file("ca.pem"))
        made.cert_chain_pems[0].write_to_path(self.file("certificate.pem"))
        made.private_key_pem.write_to_path(self.file("key.pem"))
        self.write("tokens", f"laptop:{TOKEN}\nphone:sha256:{self.hash}\n")
        self.write("users", f"alice:{PASSWORD}\n")
        for name, token in (("token", TOKEN), ("wrong", WRONG_TOKEN)):
            self.write(name, f"{token}\n")

    def file(self, name: str) -> Path:
        return self.directory / name

    def write(self, name: str, text: str) -> Path:
        self.file(name).write_text(text)
        return self.file(name)

    def forms(self) -> Iterable[bytes]:
        for secret in (TOKEN, HASHED_TOKEN, WRONG_TOKEN, PASSWORD, WRONG_PASSWORD):
            raw = secret.encode()
            yield from (raw, raw.hex().encode(), base64.b64encode(raw)[:-4], sha256(raw).hexdigest().encode())
        key = self.file("key.pem").read_bytes().splitlines()
        yield from (line for line in key if len(line) > 30 and b"-----" not in line)

    def found_in(self, told: bytes | str) -> list[bytes]:
        data = told.encode() if isinstance(told, str) else told
        return [form for form in self.forms() if form in data]


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets(tmp_path)


async def login(stack: Stack, password: str, target: Target) -> tuple[bytes, asyncio.StreamWriter]:
    """The reply to user and password, with a request behind them."""
    reader, writer = await stack.socks()
    packed = socket.inet_aton(target.address.host) + target.address.port.to_bytes(2, "big")
    credentials = b"\x01\x05alice" + bytes([len(password)]) + password.encode()
    writer.write(b"\x05\x01\x02" + credentials + b"\x05\x01\x00\x01" + packed)
    async with asyncio.timeout(WAIT_S):
        assert await reader.readexactly(2) == b"\x05\x02"
        return await reader.readexactly(2), writer


@ENGINES
@pytest.mark.parametrize("log_format", ["json", "text"])
async def test_programs_that_run_tell_no_secret(
    start: Start, secrets: Secrets, target: Target, pairing: Pairing, log_format: str
) -> None:
    """Log, metrics port, qlog, arguments and environment: while all is well, and when tokens are wrong or change."""
    common = ("--log-level=debug", f"--log-format={log_format}", "--qlog", secrets.file("qlog"))
    files = ("--certificate", secrets.file("certificate.pem"), "--private-key", secrets.file("key.pem"))
    flags = (*files, "--tokens-file", secrets.file("tokens"), "--listen=127.0.0.1:0", "--egress-allow=own", *common)
    server = await start("proxy-server", f"--engine={pairing.server}", *flags)
    quic = await address(server, "quic")

    async def client(token: str) -> Program:
        trust = ("--server", quic, "--server-name=proxy-server", "--ca-file", secrets.file("ca.pem"))
        login = ("--users-file", secrets.file("users"), "--token-file", secrets.file(token))
        engine = f"--engine={pairing.client}"
        return await start("proxy-client", engine, "--listen=127.0.0.1:0", *trust, *login, *common)

    good, bad = await client("token"), await client("wrong")
    await said(good, "connection_up")
    await said(bad, "connection_failed")
    stack = Stack(start, secrets.directory, server, good)
    stack.socks = lambda: connect(good)  # type: ignore[method-assign]
    accepted, writer = await login(stack, PASSWORD, target)
    assert accepted == b"\x01\x00"
    refused, refused_writer = await login(stack, WRONG_PASSWORD, target)
    assert refused == b"\x01\x01"
    await target.connection()
    await said(good, "bad_credentials")

    told: list[str | bytes] = [await pages(program, writer) for program in (server, good, bad)]
    for program in (server, good, bad):
        process = Path(f"/proc/{program.process.pid}")
        told += [(process / "cmdline").read_bytes(), (process / "environ").read_bytes()]
    secrets.write("tokens", f"laptop:sha256:{TOKEN}\n")
    server.signal(signal.SIGHUP)
    await said(server, "reload_refused")
    secrets.write("tokens", f"other:{HASHED_TOKEN}\n")
    server.signal(signal.SIGHUP)
    await said(good, "its token was taken away")
    for one in (writer, refused_writer):
        one.close()
    for program in (good, bad, server):
        program.signal()
        await program.ended()
    qlogs = [path.read_bytes() for path in secrets.file("qlog").iterdir()]
    assert any(qlogs)
    assert b"debug" in server.raw, "it was talkative"
    for text in (*told, *qlogs, server.raw, good.raw, bad.raw):
        assert secrets.found_in(text) == []


async def said(program: Program, words: str) -> str:
    """Waits for a line with these words, in either format."""
    return str(await program.line(lambda line: words in str(line)))


async def address(program: Program, listener: str) -> str:
    """Where it listens, in either format."""
    line = await program.line(
        lambda line: line.get("listener") == listener or f"listener={listener}" in line.get("text", "")
    )
    return str(line["address"]) if "address" in line else line["text"].split("address=")[1].split()[0]


async def connect(program: Program) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = (await address(program, "socks")).rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def pages(program: Program, application: asyncio.StreamWriter) -> str:
    """All that its metrics port tells."""
    host, port = application.get_extra_info("sockname")
    metrics = await address(program, "metrics")
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_S) as client:
        paths = ("metrics", "healthz", "readyz", "pending", f"evidence?application={host}:{port}", "nothing")
        return "\n".join([(await client.get(f"http://{metrics}/{path}")).text for path in paths])


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_said_of_bad_settings_has_no_secret(name: str, secrets: Secrets) -> None:
    """Somebody gives the secret where its file should be named, in the ways that people do."""
    required = {"proxy-client": ("--server=127.0.0.1:9",), "proxy-server": ("--dev-certificate", secrets.file("dev"))}
    given = required[name]
    config = secrets.write("config.toml", f'token = "{TOKEN}"\npassword = "{PASSWORD}"\n')
    broken = secrets.write("broken.toml", f'token = "{TOKEN}\n')
    cases: list[tuple[tuple[object, ...], dict[str, str]]] = [
        (("--help",), {}),
        ((*given, "--check-config"), {}),
        ((*given, f"--token={TOKEN}"), {}),
        ((*given, "--token", TOKEN), {}),
        ((*given, "--password", PASSWORD), {}),
        (given, {f"{PREFIXES[name]}TOKEN": TOKEN}),
        ((*given, "--config", config), {}),
        ((*given, "--config", broken), {}),
    ]
    for flags, environ in cases:
        code, out, err = await run(name, *flags, **environ)
        assert code == (0 if {"--help", "--check-config"} & set(map(str, flags)) else 2)
        assert secrets.found_in(out + err) == [], flags


async def test_what_is_said_of_bad_files_has_no_secret(secrets: Secrets) -> None:
    client = ("proxy-client", "--server=127.0.0.1:9", "--ca-file", secrets.file("ca.pem"))
    server = ("proxy-server", "--certificate", secrets.file("certificate.pem"), "--private-key")
    tokens = ("--tokens-file", secrets.file("tokens"))
    key = secrets.file("key.pem").read_text()
    other = secrets.write("other.pem", key.replace("-----END", "AAAA\n-----END"))
    not_utf8 = secrets.file("not_utf8")
    not_utf8.write_bytes(f"alice:{PASSWORD}".encode() + b"\xff\n")
    cases: list[tuple[object, ...]] = [
        (*client, "--token-file", secrets.write("two", f"{TOKEN}\n{HASHED_TOKEN}\n")),
        (*client, "--token-file", secrets.write("long", TOKEN * 100)),
        (*client, "--users-file", secrets.write("no_colon", f"{PASSWORD}\n")),
        (*client, "--users-file", secrets.write("twice", f"alice:{PASSWORD}\nalice:{WRONG_PASSWORD}\n")),
        (*client, "--users-file", not_utf8),
        (*client[:2], "--ca-file", secrets.file("key.pem")),
        (*server, secrets.file("key.pem"), "--tokens-file", secrets.write("hash", f"a:sha256:{TOKEN}\n")),
        (*server, secrets.file("key.pem"), "--tokens-file", secrets.file("key.pem")),
        (*server, secrets.file("tokens"), *tokens),
        (*server, other, *tokens),
        ("proxy-server", "token", f"a:{TOKEN[:3]}", secrets.file("token")),
    ]
    for name, *flags in cases:
        listen = () if flags[0] == "token" else ("--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0")
        code, out, err = await run(str(name), *flags, *listen, *(("--log-level=debug",) if listen else ()))
        assert code in (1, 2), flags
        assert secrets.found_in(out + err) == [], flags
    code, out, err = await run("proxy-server", "token", "laptop", secrets.file("token"))
    assert (code, err) == (0, "")
    assert TOKEN not in out


def test_the_search_finds_what_it_looks_for(secrets: Secrets) -> None:
    for told in (f"x{TOKEN}x", PASSWORD.encode().hex(), secrets.hash, secrets.file("key.pem").read_text()):
        assert secrets.found_in(told)

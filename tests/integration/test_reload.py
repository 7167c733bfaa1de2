"""Tokens and certificates of a proxy-server that runs: made, hashed, read again. With the real programs."""

import asyncio
import os
import signal
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from tests.integration import test_programs
from tests.integration.conftest import Target
from tests.integration.test_programs import WAIT_S, Program, Stack, Start, run, start_client
from tests.pairings import Pairing, every_pairing

start = test_programs.start  # The fixture.

SERVER_ENGINES = pytest.mark.parametrize(
    "pairing", [Pairing("auto", "aioquic"), Pairing("auto", "quinn")], indirect=True, ids=str
)


@dataclass
class Operator:
    """A server with files of its own, as an operator has them."""

    start: Start
    directory: Path
    engine: str
    server: Program

    @property
    def tokens(self) -> Path:
        return self.directory / "tokens"

    async def reload(self, event: str, what: str) -> dict[str, object]:
        """What the server says to SIGHUP of its tokens or of its certificate."""
        before = len(self.said(event, what))
        self.server.signal(signal.SIGHUP)
        await self.server.line(lambda line: len(self.said(event, what)) > before)
        return self.said(event, what)[-1]

    def said(self, event: str, what: str) -> list[dict[str, object]]:
        return [line for line in self.server.events(event) if line["what"] == what]

    async def client(self, token: Path, *flags: object) -> Program:
        flags = ("--ca-file", self.directory / "ca.pem", "--token-file", token, *flags)
        return await start_client(self.start, self.directory, await self.server.address("quic"), *flags)

    def certify(self) -> None:
        """A certificate of a new authority."""
        authority = trustme.CA()
        made = authority.issue_cert("proxy-server")
        authority.cert_pem.write_to_path(self.directory / "ca.pem")
        made.cert_chain_pems[0].write_to_path(self.directory / "certificate.pem")
        made.private_key_pem.write_to_path(self.directory / "key.pem")


async def token(directory: Path, name: str) -> tuple[Path, str]:
    """A client's file and the server's line, by the command."""
    file = directory / f"{name}.token"
    code, line, err = await run("proxy-server", "token", name, file)
    assert (code, err) == (0, "")
    return file, line


@pytest.fixture
async def operator(start: Start, tmp_path: Path, pairing: Pairing) -> Operator:
    """Serves `laptop` and `phone`."""
    lines = [(await token(tmp_path, name))[1] for name in ("laptop", "phone")]
    (tmp_path / "tokens").write_text("".join(lines))
    made = Operator(start, tmp_path, pairing.server, None)  # type: ignore[arg-type]
    made.certify()
    files = ("--certificate", tmp_path / "certificate.pem", "--private-key", tmp_path / "key.pem")
    flags = ("--listen=127.0.0.1:0", "--egress-allow=own", f"--engine={pairing.server}", "--tokens-file", made.tokens)
    made.server = await start("proxy-server", *files, *flags)
    await made.server.event("ready")
    return made


async def test_a_token_of_the_commands(tmp_path: Path) -> None:
    """For the client a file that nobody else can read, for the server a line that gives nothing away."""
    file, line = await token(tmp_path, "laptop")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = file.read_text().strip()
    assert line.startswith("laptop:sha256:")
    assert secret not in line
    assert (await token(tmp_path, "laptop"))[1] == line, "a file that is there is taken as it is"
    assert file.read_text().strip() == secret
    code, out, err = await run("proxy-server", "token", "a:b", tmp_path / "new")
    assert (code, out) == (2, "")
    assert "cannot be a name" in err
    assert not (tmp_path / "new").exists()
    code, _, err = await run("proxy-server", "token", "a", tmp_path / "nowhere" / "new")
    assert (code, err) == (2, f"proxy-server token: {tmp_path}/nowhere/new: No such file or directory\n")


@SERVER_ENGINES
async def test_a_token_that_is_taken_away_ends_its_sessions_and_no_others(operator: Operator, target: Target) -> None:
    clients = [await operator.client(operator.directory / f"{name}.token") for name in ("laptop", "phone")]
    laptop, phone = (Stack(operator.start, operator.directory, operator.server, client) for client in clients)
    for name in ("laptop", "phone"):
        await operator.server.event("connection_up", name=name)
    _, lost, lost_writer = await laptop.request(target.address)
    await target.connection()
    _, kept, kept_writer = await phone.request(target.address)
    far_reader, far_writer = await target.connection()

    tablet, line = await token(operator.directory, "tablet")
    operator.tokens.write_text(operator.tokens.read_text().splitlines(keepends=True)[1] + line)
    reloaded = await operator.reload("reloaded", "tokens")
    assert (reloaded["tokens"], reloaded["connections_ended"]) == (2, 1)
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ConnectionResetError):
            await lost.read(-1)
        down = await laptop.client.event("connection_lost")
        assert (down["cause"], down["streams_lost"]) == ("token_refused", 1)
        assert "its token was taken away" in down["detail"]
        await laptop.client.event("connection_failed", cause="token_refused")
        kept_writer.write(b"still here")
        assert await far_reader.readexactly(10) == b"still here"
        far_writer.write(b"and here")
        far_writer.close()
        assert await kept.read(-1) == b"and here"
    for writer in (lost_writer, kept_writer):
        writer.close()
    await (await operator.client(tablet)).event("ready")


@SERVER_ENGINES
async def test_tokens_that_cannot_be_used_change_nothing_and_are_named(operator: Operator) -> None:
    client = await operator.client(operator.directory / "laptop.token")
    await client.event("ready")
    operator.certify()
    operator.tokens.write_text("laptop:sha256:abc\n")
    refused = await operator.reload("reload_refused", "tokens")
    assert refused["level"] == "warning"
    assert (
        refused["reason"]
        == f"--tokens-file {operator.tokens}, line 1: behind sha256: 64 hexadecimal digits are expected"
    )
    operator.tokens.unlink()
    refused = await operator.reload("reload_refused", "tokens")
    assert str(refused["reason"]).endswith("No such file or directory")
    assert operator.said("reloaded", "certificate"), "which has nothing to do with it"
    await (await operator.client(operator.directory / "laptop.token")).event("ready")
    assert not client.events("connection_lost")


@SERVER_ENGINES
async def test_a_certificate_that_cannot_be_used_keeps_no_stolen_token_in(operator: Operator) -> None:
    laptop, phone = [await operator.client(operator.directory / f"{name}.token") for name in ("laptop", "phone")]
    for client in (laptop, phone):
        await client.event("ready")
    operator.tokens.write_text(operator.tokens.read_text().splitlines(keepends=True)[1])
    key = operator.directory / "key.pem"
    trustme.CA().issue_cert("proxy-server").private_key_pem.write_to_path(key)
    refused = await operator.reload("reload_refused", "certificate")
    assert f"{key}: not the key of the certificate" in str(refused["reason"])
    assert operator.said("reloaded", "tokens")[-1]["connections_ended"] == 1
    await laptop.event("connection_lost")
    await (await operator.client(operator.directory / "phone.token")).event("ready")
    assert not phone.events("connection_lost")


async def test_tokens_that_anyone_could_use_who_reads_the_file_are_warned_of(operator: Operator) -> None:
    assert not operator.server.events("tokens_in_the_clear")
    operator.tokens.write_text(operator.tokens.read_text() + "tablet:readable\nwatch:this too\n")
    assert (await operator.reload("reloaded", "tokens"))["tokens"] == 4
    [warning] = operator.server.events("tokens_in_the_clear")
    assert warning["level"] == "warning"
    assert (warning["tokens"], warning["file"]) == (2, str(operator.tokens))
    assert not any("readable" in str(line) for line in operator.server.events("tokens_in_the_clear"))


@every_pairing
async def test_a_new_certificate_is_shown_without_a_restart(
    operator: Operator, target: Target, pairing: Pairing
) -> None:
    engine = f"--engine={pairing.client}"
    file = operator.directory / "laptop.token"
    before = await operator.client(file, engine)
    await before.event("ready")
    stack = Stack(operator.start, operator.directory, operator.server, before)
    _, reader, writer = await stack.request(target.address)
    _, far_writer = await target.connection()
    operator.certify()
    await operator.reload("reloaded", "certificate")
    await (await operator.client(file, engine)).event("ready")
    far_writer.write(b"through all of it")
    far_writer.close()
    async with asyncio.timeout(WAIT_S):
        assert await reader.read(-1) == b"through all of it"
    writer.close()
    assert not before.events("connection_lost")


async def test_a_development_token_is_read_again_too(start: Start, tmp_path: Path) -> None:
    server = await test_programs.start_server(start, tmp_path)
    (client,) = [await start_client(start, tmp_path, await server.address("quic"))]
    await client.event("ready")
    (tmp_path / "token").write_text("another\n")
    server.signal(signal.SIGHUP)
    assert (await server.event("reloaded", what="tokens"))["connections_ended"] == 1
    assert os.fspath(tmp_path) not in str(server.events("reloaded"))
    await client.event("connection_failed", cause="token_refused")

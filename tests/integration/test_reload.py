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

    async def reload(self, event: str) -> dict[str, object]:
        """What the server says to SIGHUP."""
        before = len(self.server.events(event))
        self.server.signal(signal.SIGHUP)
        await self.server.line(lambda line: len(self.server.events(event)) > before)
        return self.server.events(event)[-1]

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
    reloaded = await operator.reload("reloaded")
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
async def test_files_that_cannot_be_used_change_nothing_and_are_named(operator: Operator) -> None:
    client = await operator.client(operator.directory / "laptop.token")
    await client.event("ready")
    good = operator.tokens.read_text()
    operator.tokens.write_text("laptop:sha256:abc\n")
    refused = await operator.reload("reload_refused")
    assert refused["level"] == "warning"
    assert (
        refused["reason"]
        == f"--tokens-file {operator.tokens}, line 1: behind sha256: 64 hexadecimal digits are expected"
    )
    operator.tokens.unlink()
    refused = await operator.reload("reload_refused")
    assert str(refused["reason"]).endswith("No such file or directory")
    operator.tokens.write_text(
        good.splitlines(keepends=True)[1]
    )  # Without laptop; but the key is not the certificate's.
    key = operator.directory / "key.pem"
    trustme.CA().issue_cert("proxy-server").private_key_pem.write_to_path(key)
    refused = await operator.reload("reload_refused")
    assert f"{key}: not the key of the certificate" in str(refused["reason"])
    await (await operator.client(operator.directory / "laptop.token")).event("ready")
    assert not client.events("connection_lost")


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
    await operator.reload("reloaded")
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
    assert (await server.event("reloaded"))["connections_ended"] == 1
    assert os.fspath(tmp_path) not in str(server.events("reloaded"))
    await client.event("connection_failed", cause="token_refused")

"""Each fault, as a client and a target see it: what it breaks is broken, what it does not break is not."""

from pathlib import Path
from time import monotonic

import pytest
from tests.unit.loadgen.faulty.conftest import END, RESET, Proxies

from loadgen.faulty import faults
from loadgen.faulty.fault import AT_BYTES
from loadgen.faulty.faults.body_stall import BodyStall
from loadgen.faulty.faults.body_stall_forever import BodyStallForever
from loadgen.faulty.faults.byte_flipped import ByteFlipped
from loadgen.faulty.faults.bytes_added import ADDED, BytesAdded
from loadgen.faulty.faults.eof_early import EofEarly
from loadgen.faulty.faults.eof_swallowed import EofSwallowed
from loadgen.faulty.faults.half_close_as_close import HalfCloseAsClose
from loadgen.faulty.faults.reply_delayed import ReplyDelayed
from loadgen.faulty.faults.reply_never import ReplyNever
from loadgen.faulty.faults.reset_mid_body import ResetMidBody
from loadgen.faulty.faults.silence import Silence
from loadgen.faulty.faults.trickle import STEP_BYTES, Trickle
from loadgen.faulty.faults.upload_eof_swallowed import UploadEofSwallowed
from loadgen.faulty.registry import FAULTS
from loadgen.transaction.transaction import Direction
from servicekit import payload

BODY = payload.body(5, 2 * AT_BYTES)
FIRST = BODY[:AT_BYTES]


def test_every_file_is_in_the_list() -> None:
    files = {path.stem for path in Path(faults.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == set(FAULTS)
    assert all(planted.summary and "\n" not in planted.summary for planted in FAULTS.values())


@pytest.mark.parametrize("name", sorted(FAULTS.keys() - {"silence", "reply_delayed", "reply_never"}))
async def test_uploads_pass(proxies: Proxies, name: str) -> None:
    """What is no fault of the handshake, and does relay, breaks no byte on its way to the target."""
    pair = await proxies.pair(FAULTS[name].make)
    await pair.client.send(BODY)
    assert await pair.target.read(len(BODY)) == BODY


async def test_none(proxies: Proxies) -> None:
    pair = await proxies.pair(FAULTS["none"].make)
    await pair.target.send(BODY)
    pair.target.end()
    assert await pair.client.rest() == (BODY, END)


async def test_trickle(proxies: Proxies) -> None:
    steps_s = 0.02
    began_s = monotonic()
    pair = await proxies.pair(lambda: Trickle(steps_s))
    await pair.target.send(BODY)
    pair.target.end()
    assert await pair.client.rest() == (BODY, END)
    assert monotonic() - began_s >= len(BODY) / STEP_BYTES * steps_s


async def test_eof_swallowed(proxies: Proxies) -> None:
    pair = await proxies.pair(EofSwallowed)
    await pair.target.send(BODY)
    pair.target.end()
    assert await pair.client.read(len(BODY)) == BODY
    await pair.dealt_with[Direction.TARGET_TO_CLIENT].wait()
    await pair.echo()
    pair.client.end()
    assert await pair.target.rest() == (b"", END)
    await pair.dealt_with[Direction.CLIENT_TO_TARGET].wait()
    assert not pair.client.has_input


async def test_eof_early(proxies: Proxies) -> None:
    pair = await proxies.pair(EofEarly)
    await pair.target.send(BODY)
    assert await pair.client.rest() == (FIRST, END)
    await pair.echo()


async def test_body_stall(proxies: Proxies) -> None:
    pause_s = 0.3
    pair = await proxies.pair(lambda: BodyStall(pause_s))
    began_s = monotonic()
    await pair.target.send(BODY)
    pair.target.end()
    assert await pair.client.read(AT_BYTES) == FIRST
    assert await pair.client.rest() == (BODY[AT_BYTES:], END)
    assert monotonic() - began_s >= pause_s


async def test_body_stall_forever(proxies: Proxies) -> None:
    pair = await proxies.pair(BodyStallForever)
    await pair.target.send(BODY)
    assert await pair.client.read(AT_BYTES) == FIRST
    await pair.echo()
    assert not pair.client.has_input
    pair.client.reset()
    assert await pair.target.rest() == (b"", RESET)


async def test_reply_delayed(proxies: Proxies) -> None:
    delay_s = 0.3
    began_s = monotonic()
    pair = await proxies.pair(lambda: ReplyDelayed(delay_s))
    assert monotonic() - began_s >= delay_s
    await pair.echo()


async def test_reply_never(proxies: Proxies) -> None:
    """The target is connected and has nobody to talk to, until the client gives up; that gets no reply even then."""
    client, target = await proxies.asked(ReplyNever)
    client.end()
    assert await client.rest() == (b"", RESET)
    assert (await target.rest())[0] == b""


async def test_reply_never_and_a_client_that_resets(proxies: Proxies) -> None:
    client, target = await proxies.asked(ReplyNever)
    client.reset()
    assert (await target.rest())[0] == b""


async def test_reset_mid_body(proxies: Proxies) -> None:
    pair = await proxies.pair(ResetMidBody)
    await pair.target.send(BODY)
    assert await pair.client.rest() == (FIRST, RESET)
    assert await pair.target.rest() == (b"", RESET)


@pytest.mark.parametrize("pieces", [1, 7, AT_BYTES, AT_BYTES + 1])
async def test_byte_flipped(proxies: Proxies, pieces: int) -> None:
    """The same byte, however the body arrives."""
    pair = await proxies.pair(ByteFlipped)
    step = -(-len(BODY) // pieces) if pieces < 100 else pieces
    for start in range(0, len(BODY), step):
        await pair.target.send(BODY[start : start + step])
    pair.target.end()
    received, ending = await pair.client.rest()
    assert (len(received), ending) == (len(BODY), END)
    assert [at for at, (one, other) in enumerate(zip(BODY, received, strict=True)) if one != other] == [AT_BYTES]


async def test_bytes_added(proxies: Proxies) -> None:
    pair = await proxies.pair(BytesAdded)
    await pair.target.send(BODY)
    pair.target.end()
    assert await pair.client.rest() == (BODY + ADDED, END)
    pair.client.end()
    assert await pair.target.rest() == (b"", END)


async def test_upload_eof_swallowed(proxies: Proxies) -> None:
    pair = await proxies.pair(UploadEofSwallowed)
    await pair.client.send(BODY)
    pair.client.end()
    assert await pair.target.read(len(BODY)) == BODY
    await pair.dealt_with[Direction.CLIENT_TO_TARGET].wait()
    await pair.target.send(b"?")
    assert await pair.client.read(1) == b"?"
    assert not pair.target.has_input
    pair.client.reset()
    assert await pair.target.rest() == (b"", RESET)


async def test_half_close_as_close(proxies: Proxies) -> None:
    pair = await proxies.pair(HalfCloseAsClose)
    await pair.client.send(BODY)
    pair.client.end()
    assert await pair.client.rest() == (b"", END)
    assert await pair.target.rest() == (BODY, END)


async def test_silence(proxies: Proxies) -> None:
    pair = await proxies.pair(Silence)
    await pair.client.send(BODY)
    pair.client.end()
    await pair.target.send(BODY)
    pair.target.end()
    for dealt_with in pair.dealt_with.values():
        await dealt_with.wait()
    assert not pair.client.has_input
    assert not pair.target.has_input
    pair.client.reset()
    assert await pair.target.rest() == (b"", RESET)


@pytest.mark.parametrize("name", ["eof_swallowed", "upload_eof_swallowed", "silence"])
async def test_what_is_kept_back_is_let_go_when_the_client_resets(proxies: Proxies, name: str) -> None:
    """Also when the client had ended before, and nobody reads from it any more."""
    pair = await proxies.pair(FAULTS[name].make)
    pair.client.end()
    await pair.dealt_with[Direction.CLIENT_TO_TARGET].wait()
    pair.client.reset()
    data, _ = await pair.target.rest()
    assert data == b""

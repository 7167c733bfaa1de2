"""servicekit.payload: a body depends on seed and offset only, however it is cut; and it looks like noise."""

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicekit import payload

MIB = 1 << 20
GOLDEN_FIRST_64 = (
    "8f8e4f612e61ffb9d78c3ea707e3776805a4f86e1d7371f4c7fea77a668c8b84"
    "bde07c16feeb484f78f1e7ebc3dd7f3301ca18774c15fccd92fe87c517199960"
)
GOLDEN_SHA256 = "1b1eb97c91e066610cf0e8d8ecb4464d68ad9f460735a1c1688db0a11a36bd2a"


def test_golden() -> None:
    """The construction is a contract between programs of different releases: it never changes silently."""
    assert payload.body(0, 64).hex() == GOLDEN_FIRST_64
    assert payload.sha256(7, 3 * MIB + 5) == GOLDEN_SHA256


@given(
    seed=st.integers(0, 2**64 - 1),
    size=st.integers(0, 300_000),
    start=st.floats(0, 1),
    chunk_bytes=st.integers(700, 200_000),
)
def test_any_range_in_any_pieces_is_the_same_bytes(seed: int, size: int, start: float, chunk_bytes: int) -> None:
    whole = payload.body(seed, 300_000)[:size]
    offset = int(start * size)
    pieces = list(payload.chunks(seed, size, offset, chunk_bytes))
    assert b"".join(pieces) == whole[offset:]
    assert all(len(piece) == chunk_bytes for piece in pieces[:-1])


def test_sha256_is_that_of_the_body() -> None:
    assert payload.sha256(3, 200_001) == hashlib.sha256(payload.body(3, 200_001)).hexdigest()
    assert payload.sha256(3, 0) == hashlib.sha256().hexdigest()


def test_no_two_blocks_are_alike() -> None:
    blocks = [block for seed in range(8) for block in payload.chunks(seed, 16 * payload.BLOCK_BYTES)]
    assert len(set(blocks)) == len(blocks)
    assert len({block[:16] for block in blocks}) == len(blocks)


def test_nothing_to_compress() -> None:
    body = payload.body(1, MIB)
    assert len(zlib.compress(body, 6)) > 0.95 * len(body)


@pytest.mark.parametrize(
    ("seed", "size", "start", "chunk_bytes"),
    [(-1, 1, 0, 1), (2**64, 1, 0, 1), (0, -1, 0, 1), (0, 1, 2, 1), (0, 1, -1, 1), (0, 1, 0, 0)],
)
def test_out_of_range(seed: int, size: int, start: int, chunk_bytes: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        payload.chunks(seed, size, start, chunk_bytes)

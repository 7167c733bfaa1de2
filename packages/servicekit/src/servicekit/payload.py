"""Deterministic bodies: what http-target sends for (seed, size) is what loadgen expects, known out of band.

Rules:
- A body is a prefix of its seed's endless stream, so a smaller body is the beginning of a larger one.
- Access is random: any range is made without what comes before it.
- The stream is a row of blocks of 64 KiB. Block i is a tag, the first 32 bytes of SHAKE-128(seed, i), and then
  noise: a slice of one constant MiB of SHAKE-128 output, from a place that the tag chooses.

Why not SHAKE-128 throughout: it costs 3 ms a MB, more than sending the MB does, and the tunnel is measured through
these bodies. A slice costs a copy. What a test needs is still there: no two blocks of any two seeds are equal, so
bytes that are lost, repeated, moved or taken from another connection change the digest; and there is nothing
in a deflate window for a compressing hop to find.
"""

from collections.abc import Iterator
from functools import cache, lru_cache
from hashlib import sha256 as _sha256
from hashlib import shake_128

BLOCK_BYTES = 65536
_TAG_BYTES = 32
_NOISE_BYTES = 1 << 20


def chunks(seed: int, size: int, start: int = 0, chunk_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The body of `size` bytes from offset `start` to its end, in pieces of `chunk_bytes` (the last one: the rest).

    Seeds are 0 to 2**64 - 1. Raises ValueError for a seed, size, start or chunk_bytes out of range.
    """
    if not (0 <= seed < 1 << 64 and 0 <= start <= size and chunk_bytes > 0):
        raise ValueError(f"{seed=}, {size=}, {start=} or {chunk_bytes=} is out of range")
    return _chunks(seed, size, start, chunk_bytes)


def body(seed: int, size: int) -> bytes:
    """The whole body at once: for small ones."""
    return b"".join(chunks(seed, size))


@lru_cache(maxsize=256)
def sha256(seed: int, size: int) -> str:
    """The body's SHA-256 in hex, computed once for each of the last 256 (seed, size)."""
    digest = _sha256()
    for chunk in chunks(seed, size):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(seed: int, size: int, start: int, chunk_bytes: int) -> Iterator[bytes]:
    while start < size:
        end = min(start + chunk_bytes, size)
        yield _range(seed, start, end)
        start = end


def _range(seed: int, start: int, end: int) -> bytes:
    first, last = start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
    if first == last:
        return _part(seed, first, start % BLOCK_BYTES, end - first * BLOCK_BYTES)
    return b"".join(
        _part(seed, i, start % BLOCK_BYTES if i == first else 0, min(BLOCK_BYTES, end - i * BLOCK_BYTES))
        for i in range(first, last + 1)
    )


def _part(seed: int, block: int, start: int, end: int) -> bytes:
    """Bytes `start` to `end` of one block; a small body costs a small slice, not a block."""
    tag = shake_128(seed.to_bytes(8, "big") + block.to_bytes(8, "big")).digest(_TAG_BYTES)
    place = int.from_bytes(tag[:4], "big") % _NOISE_BYTES
    noise = _noise()[place + max(start - _TAG_BYTES, 0) : place + max(end - _TAG_BYTES, 0)]
    return tag[start:end] + noise


@cache
def _noise() -> bytes:
    """A MiB of noise, its beginning repeated at its end so that a slice may start anywhere. 3 ms, 1.1 MB."""
    noise = shake_128(b"finback payload noise").digest(_NOISE_BYTES)
    return noise + noise[:BLOCK_BYTES]

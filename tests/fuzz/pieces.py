"""Bytes in arbitrary pieces, as a stream brings them.

Rules:
- The first octet says how the rest is cut, so that what a fuzzer changes in the rest moves no cut. 0: not at all.
"""

from random import Random

SIZES = (1, 1, 2, 3, 5, 8, 21, 144)


def pieces(how: int, data: bytes) -> list[bytes]:
    """`data` in one of 256 ways; none of the pieces is empty."""
    if how == 0:
        return [data] if data else []
    rng, cut = Random(how), list[bytes]()
    while data:
        size = rng.choice(SIZES)
        cut.append(data[:size])
        data = data[size:]
    return cut

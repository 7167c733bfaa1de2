"""Variable-length integers of RFC 9000 section 16.

Rules:
- 0 to 2**62 - 1, in 1, 2, 4 or 8 bytes; the two highest bits of the first byte tell how many.
- The writer takes the shortest form; the reader takes any, as the RFC has it.
"""

MAX_VARINT = (1 << 62) - 1

_FORMS = ((1 << 6, 1, 0x00), (1 << 14, 2, 0x40), (1 << 30, 4, 0x80), (1 << 62, 8, 0xC0))

_ONE_BYTE = tuple(bytes((value,)) for value in range(1 << 6))


def encode_varint(value: int) -> bytes:
    """1 to 8 bytes. Raises ValueError for what does not fit in 62 bits."""
    if 0 <= value < 1 << 6:  # Most are: types, lengths, outcomes.
        return _ONE_BYTE[value]
    for bound, size, prefix in _FORMS:
        if 0 <= value < bound:
            return (value | prefix << (8 * (size - 1))).to_bytes(size, "big")
    raise ValueError(f"{value} is not in 0..2**62-1")


def decode_varint(data: bytes | bytearray, start: int) -> tuple[int, int] | None:
    """The integer at `start` and the offset behind it; None where `data` ends before the integer does."""
    if start >= len(data):
        return None
    first = data[start]
    if first < 1 << 6:
        return first, start + 1
    size = 1 << (first >> 6)
    stop = start + size
    if stop > len(data):
        return None
    return int.from_bytes(data[start:stop], "big") & ((1 << (8 * size - 2)) - 1), stop

"""PROTOCOL.md and the code say the same."""

import re
from pathlib import Path

from tunnel.errors import Cause
from tunnel.wire.codec import Decoder, encode

TEXT = (Path(__file__).parents[3] / "PROTOCOL.md").read_text()


def test_codes_are_the_error_table() -> None:
    rows = re.findall(r"^\| 0x([0-9a-f]{2}) \| ([A-Z_]+) \| (\d) \| (.+) \|$", TEXT, re.MULTILINE)
    codes = [row for row in rows if row[1] in Cause.__members__]
    assert codes == [(f"{c.code:02x}", c.name, str(int(c.reply)), c.summary) for c in Cause]


def test_examples_are_messages() -> None:
    examples = re.findall(r"^    ([A-Z]+) .*?  ((?:[0-9a-f]{2} ){2} [0-9a-f ]+)$", TEXT, re.MULTILINE)
    assert len(examples) == 13
    for name, text in examples:
        decoder = Decoder()
        decoder.feed(bytes.fromhex(text))
        message = decoder.take_one()
        assert message is not None
        assert type(message).__name__.upper() == name
        assert encode(message) == bytes.fromhex(text)
        assert decoder.pending_bytes == 0

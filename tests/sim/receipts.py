"""Listens to what a session says on its control streams: each DONE, as it goes to the engine.

Rule: DONE is said once for each direction of each stream (PROTOCOL.md); a second one is caught when it is said.
"""

from tunnel.engine.port import CONTROL_STREAM, Engine
from tunnel.wire.codec import Decoder
from tunnel.wire.messages import Direction, Done, GoAway, Outcome

Receipt = tuple[int, int, Direction]
"""Connection, QUIC stream id, direction."""


class Receipts:
    """What one session has confirmed. Made before the session, around its engine's `send`."""

    def __init__(self, engine: Engine) -> None:
        self.done: dict[Receipt, Outcome] = {}
        self.goaways = 0
        self._send = engine.send
        self._decoders: dict[int, Decoder] = {}
        engine.send = self._listen  # type: ignore[method-assign]

    def _listen(self, connection: int, stream: int, data: bytes | memoryview) -> int:
        taken = self._send(connection, stream, data)
        if stream == CONTROL_STREAM and taken:
            decoder = self._decoders.setdefault(connection, Decoder())
            decoder.feed(bytes(data[:taken]))
            for message in decoder:
                match message:
                    case Done(qid, direction, _, outcome):
                        receipt = (connection, qid, direction)
                        assert receipt not in self.done, f"a second DONE of {receipt}: {outcome.label}"
                        self.done[receipt] = outcome
                    case GoAway():
                        self.goaways += 1
        return taken

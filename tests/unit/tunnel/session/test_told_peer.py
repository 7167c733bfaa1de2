"""What a peer is told waits for it, within bounds: one that asks and never reads is put out."""

from random import Random

import pytest
from tests.unit.tunnel.session.conftest import CLIENT, TOKEN
from tests.unit.tunnel.session.puppet import PuppetEngine

from tunnel.engine import port
from tunnel.errors import Cause
from tunnel.session.server import ServerSession
from tunnel.session.settings import SessionSettings
from tunnel.wire.codec import encode
from tunnel.wire.messages import VERSION, Hello, Ping

SETTINGS = SessionSettings()
TURN = [encode(Ping(bytes(8)))] * 100


class SlowReader(PuppetEngine):
    """A peer that takes `room` bytes of the control stream, and no more until it says so."""

    def __init__(self) -> None:
        super().__init__()
        self.room = 1000

    def send(self, connection: int, stream: int, data: bytes | memoryview) -> int:
        taken = super().send(connection, stream, data[: self.room])
        self.room -= taken
        return taken


class Talk:
    """A client that is known, and what the session makes of it."""

    def __init__(self) -> None:
        self.engine = SlowReader()
        self.session = ServerSession(
            self.engine,
            lambda digest: "laptop",
            SETTINGS,
            instance_id=bytes(16),
            rng=Random(1),
            now=0.0,
            max_streams=256,
        )
        self.connection = self.engine.appear(CLIENT)
        self.say(encode(Hello(VERSION, 0, TOKEN)))

    def say(self, data: bytes) -> None:
        self.engine.happen(self.connection, port.Data(port.CONTROL_STREAM, data, False))
        self.heard()

    def heard(self) -> None:
        while self.session.poll_event() is not None:
            pass
        self.session.poll_transmit(0.0)

    @property
    def closed(self) -> tuple[int, str] | None:
        return self.engine.deeds[self.connection].closed


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_who_asks_and_never_reads_is_put_out(talk: Talk) -> None:
    asked = 0
    while talk.closed is None and asked < 100_000:
        talk.say(b"".join(TURN))
        asked += len(TURN)
    assert talk.closed is not None
    code, reason = talk.closed
    assert code == Cause.PROTOCOL_VIOLATION.code
    assert "reads nothing of the control stream" in reason
    assert asked * 9 < SETTINGS.max_control_backlog_bytes + 2 * 9 * len(TURN), "it was put out as soon as that"
    assert talk.session.connection_count == 0


def test_who_reads_in_time_gets_all_of_it(talk: Talk) -> None:
    told = 0
    for _ in range(100):
        talk.say(b"".join(TURN))
        told += len(TURN)
        talk.engine.room = 1 << 20
        talk.engine.happen(talk.connection, port.Writable(port.CONTROL_STREAM))
        talk.heard()
        talk.engine.room = 0
    assert talk.closed is None
    assert talk.engine.deeds[talk.connection].sent[port.CONTROL_STREAM].count(b"\x07") >= told

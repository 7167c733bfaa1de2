"""Target: the SOCKS5 machine. Any bytes, cut anyhow, come to the same events; nothing raises, no byte is lost."""

from tests.fuzz.pieces import pieces

from tunnel.errors import Cause
from tunnel.socks5 import EARLY_BYTES_MAX, Close, Event, Handshake, Request, State

USER, PASSWORD = b"alice", b"secret"


def one_input(data: bytes) -> None:
    """The lowest bit of the first octet: whether there are users; the others: how the rest is cut."""
    how, sent = data[0] if data else 0, data[1:]
    whole = talked(bool(how & 1), [sent])
    assert talked(bool(how & 1), pieces(how >> 1, sent)) == whole, "it depends on how the bytes were cut"


def talked(users: bool, sent: list[bytes]) -> tuple[list[Event], State, bytes]:
    """What the machine said to one client, which then leaves."""
    handshake = Handshake(_is_alice if users else None)
    events = list[Event]()
    for piece in sent:
        if handshake.state is State.CLOSED:
            assert handshake.wanted == 0
            assert handshake.receive(piece) == [], "something was said behind the Close"
            continue
        assert len(piece) <= handshake.wanted, "the machine wants less than an honest client may send"
        events += handshake.receive(piece)
    events += handshake.receive_eof()
    _check(events, handshake)
    state, early = handshake.state, handshake.take_early()
    assert b"".join(sent).endswith(early), "the early bytes are not what the client sent"
    if state is State.DECIDING:
        _decide(handshake)
    return events, state, early


def _is_alice(user: bytes, password: bytes) -> bool:
    return (user, password) == (USER, PASSWORD)


def _check(events: list[Event], handshake: Handshake) -> None:
    ends = [number for number, event in enumerate(events) if isinstance(event, Close)]
    assert not ends or ends == [len(events) - 1], "nothing follows a Close"
    requests = [event for event in events if isinstance(event, Request)]
    assert bool(ends) == (handshake.state is State.CLOSED)
    assert len(requests) == (handshake.state is State.DECIDING), "a client that left is closed or waits for its reply"
    assert all(request.target.port for request in requests)
    assert 0 <= handshake.wanted <= EARLY_BYTES_MAX
    assert handshake.timed_out() == [], "the handshake is over, one way or the other"


def _decide(handshake: Handshake) -> None:
    assert handshake.reply(Cause.NONE)[:2] == b"\x05\x00"
    assert handshake.state is State.ESTABLISHED
    assert handshake.wanted == 0
    assert handshake.take_early() == b"", "early bytes are handed on once"

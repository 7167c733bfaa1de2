"""The server's session: checks tokens, hands out dials, answers.

Rules:
- Nothing of a connection is acted on before its HELLO is accepted; what comes before is held within a stranger's
  credit (F26).
- REPLY does not wait for data (F17). A refused request is answered, finished and receipted like any other.
- Of a token only its digest is kept. When tokens change, those who are in are asked about again, and whose token was
  taken away is put out at once, with all its streams: it may have been stolen. (Who only wants another token gives the
  client a second one first.)
- A client gets no more connections and streams than its share (`shares`), so that others get theirs (F26).
- Draining, GOAWAY names the last stream that is processed; later ones are reset with RETRY_ELSEWHERE.
"""

from collections.abc import Callable
from hashlib import sha256
from random import Random

from tunnel.engine import port
from tunnel.errors import Cause
from tunnel.session import events
from tunnel.session.base import Session
from tunnel.session.connection import Connection, State
from tunnel.session.events import Ending
from tunnel.session.evidence import What
from tunnel.session.settings import ClientLimits, SessionSettings
from tunnel.session.shares import Limit, Shares
from tunnel.session.stream import SendState, Stream
from tunnel.target import Target
from tunnel.wire.codec import SESSION_ID_BYTES, WireError, encode
from tunnel.wire.messages import VERSION, Direction, Done, GoAway, Hello, Open, Outcome, Reply, Welcome

Authenticate = Callable[[bytes], str | None]
"""The name behind a token's SHA-256, None for one that is not known."""


class ServerSession(Session):
    """All clients of one proxy server."""

    sends = Direction.TARGET_TO_CLIENT

    def __init__(
        self,
        engine: port.Engine,
        authenticate: Authenticate,
        settings: SessionSettings,
        *,
        instance_id: bytes,
        rng: Random,
        now: float,
        max_streams: int = 256,
        limits: ClientLimits | None = None,
    ) -> None:
        super().__init__(engine, settings, rng, now)
        self._authenticate = authenticate
        self._instance_id = instance_id
        self._max_streams = max_streams
        self._draining = False
        self._shares = Shares(limits or ClientLimits())

    # The edge.

    def dialled(self, stream: int, bound: Target | None, now: float) -> None:
        """The target is connected: success goes to the client at once."""
        found = self._streams.get(stream)
        if found is not None and found.send.state is SendState.OPEN:
            self._now = now
            found.answered = True
            found.send.outbox += encode(Reply(Cause.NONE.code, bound))
            self._flush(found)

    def refused(self, stream: int, cause: Cause, now: float) -> None:
        """The target is not to be had. The edge's last word on this stream."""
        found = self._streams.get(stream)
        if found is None:
            return
        self._now = now
        found.detached = found.refused = True
        if found.send.state is SendState.OPEN:
            found.send.outbox += encode(Reply(cause.code, None))
            self._leave(found, SendState.FINISHED)
            self._flush(found)
        self._stop(found, Cause.REFUSED)
        self._retire_if_done(found)

    def drain(self, now: float) -> None:
        """No new streams; connections close as they run empty. `connection_count` tells when that is done."""
        self._now = now
        self._draining = True
        self._engine.refuse_strangers()
        for connection in list(self._connections.values()):
            if connection.state is State.UP:
                self._send_away(connection)
            elif connection.state is State.GREETING:
                self._turn_away(connection)

    def use_tokens(self, authenticate: Authenticate, now: float) -> int:
        """Other tokens hold from now on. Returns how many connections had to end."""
        self._now = now
        self._authenticate = authenticate
        ended = [one for one in self._connections.values() if one.was_up and not self._still_known(one)]
        for connection in ended:
            self._put_out(connection, Cause.TOKEN_REFUSED, "its token was taken away")
        return len(ended)

    def _still_known(self, connection: Connection) -> bool:
        return self._authenticate(connection.token_digest) == connection.peer_name

    def _put_out(self, connection: Connection, cause: Cause, detail: str) -> None:
        self._engine.close(connection.number, cause.code, detail)
        self._lose(connection, cause, detail)

    def _send_away(self, connection: Connection) -> None:
        """GOAWAY: what is known of it so far is still processed."""
        connection.promised_qid = connection.highest_qid
        self._tell(connection, GoAway(connection.promised_qid))
        self._begin_leaving(connection)

    def _turn_away(self, connection: Connection) -> None:
        """Nothing of it was acted on, so the client can take all of it elsewhere."""
        self._engine.close(connection.number, Cause.SERVER_BUSY.code, "the server is draining")
        self._lose(connection, Cause.SERVER_BUSY, "refused while draining")

    # Hooks.

    def _on_connected(self, connection: Connection) -> None:
        assert connection.address is not None
        if self._draining:
            self._turn_away(connection)
        elif (limit := self._shares.join_address(connection, connection.address)) is not None:
            self._one_too_many(connection, limit)

    def _one_too_many(self, connection: Connection, limit: Limit) -> None:
        """Refused before anything of it was acted on, like one that the engine has no room for."""
        self._tell_limit(connection, limit)
        self._put_out(connection, Cause.TOO_MANY_CONNECTIONS, Cause.TOO_MANY_CONNECTIONS.summary)

    def _tell_limit(self, connection: Connection, limit: Limit) -> None:
        most = self._shares.most(limit)
        self._events.append(
            events.LimitReached(connection.number, limit, most, connection.address, connection.peer_name)
        )

    def _attach(self, stream: Stream, connection: Connection, qid: int) -> None:
        super()._attach(stream, connection, qid)
        self._shares.stream_opened(connection)

    def _on_retired(self, connection: Connection) -> None:
        self._shares.stream_retired(connection)

    def _on_down(self, connection: Connection, cause: Cause) -> None:
        self._shares.leave(connection)

    def _is_heeded(self, connection: Connection) -> bool:
        return connection.was_up

    def _on_greeting(self, connection: Connection, message: Hello | Welcome) -> None:
        if not isinstance(message, Hello) or connection.was_up:
            raise WireError(f"{type(message).__name__} is not expected")
        connection.token_digest = sha256(message.token).digest()
        name = self._authenticate(connection.token_digest) if message.version == VERSION else None
        if name is None:
            cause = Cause.TOKEN_REFUSED if message.version == VERSION else Cause.VERSION_UNSUPPORTED
            self._put_out(connection, cause, cause.summary)
            return
        connection.peer_name = name
        if (limit := self._shares.join_token(connection, name)) is not None:
            self._one_too_many(connection, limit)
            return
        connection.was_up = True
        connection.ring.note(self._now, None, What.UP)
        connection.instance_id, connection.session_id = self._instance_id, self._rng.randbytes(SESSION_ID_BYTES)
        self._timers.cancel(("greeting", connection.number))
        self._engine.accept(connection.number)
        if connection.state is State.GREETING:
            connection.state = State.UP
        self._tell(connection, Welcome(connection.session_id, self._instance_id, self._max_streams, 0))
        self._announce(connection)
        for stream in list(connection.streams.values()):
            held, stream.held = stream.held, []
            for data, end in held:
                self._on_data(stream, data, end)

    def _announce(self, connection: Connection) -> None:
        self._check_liveness(connection)
        assert connection.address is not None
        self._events.append(
            events.ConnectionUp(
                connection.number,
                connection.address,
                connection.peer_name,
                connection.session_id.hex(),
                self._instance_id.hex(),
                self._now - connection.started_at,
            )
        )

    def _on_goaway(self, connection: Connection, message: GoAway) -> None:
        self._events.append(events.GoAwayReceived(connection.number))

    def _on_new_stream(self, connection: Connection, qid: int) -> Stream | None:
        if qid & 3:
            self._violation(connection, f"stream {qid} is not a bidirectional one of the client's")
            return None
        if qid > connection.highest_qid:
            connection.unseen_qids.update(range(connection.highest_qid + 4, qid, 4))
        elif qid in connection.unseen_qids:
            connection.unseen_qids.remove(qid)
        else:
            return None  # It was here and is retired.
        if connection.promised_qid is not None and qid > connection.promised_qid:
            connection.highest_qid = max(connection.highest_qid, qid)
            self._bounce(connection, qid)
            return None
        return self._new_stream()

    def _bounce(self, connection: Connection, qid: int) -> None:
        """A stream above GOAWAY's: not processed, so the client can take it elsewhere."""
        self._engine.reset(connection.number, qid, Cause.RETRY_ELSEWHERE.code)
        self._engine.stop(connection.number, qid, Cause.RETRY_ELSEWHERE.code)
        self._tell(connection, Done(qid, Direction.CLIENT_TO_TARGET, 0, Outcome.CLOSED))

    def _on_data(self, stream: Stream, data: bytes, end: bool) -> None:
        if stream.head is not None:  # It may be a stranger's.
            connection = self._connection_of(stream)
            if connection is not None and not connection.was_up:
                stream.held.append((data, end))
                return
        super()._on_data(stream, data, end)

    def _on_head(self, stream: Stream, message: Open | Reply) -> None:
        if not isinstance(message, Open):
            self._violation_of(stream, "a stream of the client's begins with REPLY")
            return
        stream.target = message.target
        if self._is_one_too_many(stream):
            return
        self._events.append(events.Dial(stream.number, message.target))
        if stream.send.state is not SendState.OPEN:  # STOP_SENDING overtook the OPEN, and nobody could be told.
            self._events.append(events.Stopped(stream.number, Cause.CANCELLED))
        self._apply_early_done(stream)

    def _is_one_too_many(self, stream: Stream) -> bool:
        """Then it is refused like one whose target is not to be had, and nobody hears of it."""
        connection = self._connection_of(stream)
        limit = None if connection is None else self._shares.exceeded(connection)
        if connection is None or limit is None:
            return False
        self._tell_limit(connection, limit)
        self.refused(stream.number, Cause.LIMIT_REACHED, self._now)
        self._apply_early_done(stream)
        return True

    def _on_headless_end(self, stream: Stream, ending: Ending, cause: Cause) -> None:
        """It ended before its OPEN was there: nobody was told of it."""
        stream.detached = stream.refused = True
        stream.head = None
        stream.held.clear()
        self._reset(stream, Cause.REFUSED)
        self._end_receiving(stream, ending, cause)
        self._apply_early_done(stream)

    def _apply_early_done(self, stream: Stream) -> None:
        """What the client has said of the stream before the stream was here."""
        connection = self._connection_of(stream)
        if connection is not None and stream.qid is not None:
            done = connection.early_dones.pop(stream.qid, None)
            try:
                if done is not None:
                    self._on_done(connection, done)
            except WireError as error:
                self._violation(connection, str(error))

    def _on_timer_of_role(self, kind: str, number: int) -> None:
        raise AssertionError(f"no timer is called {kind}")

"""The two programs that a SOCKS connection joins: an application behind proxy-client, a target behind proxy-server.

Rules:
- A `Script` says what a program does; the program does it, and checks at every step what it is given:
  bytes are a prefix of what the other one wrote; a clean end stands behind all of them, and only where the other one
  ended cleanly; nothing comes behind an end.
- A program is `over` when both its directions have ended, as far as it can see, or when it has left.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random
from socket import SHUT_WR

from tests.sim.kernel import VirtualSocket
from tests.sim.world import World

MAX_PAUSES_S = 6.0
"""After so much of it a program pauses no more, however small the pieces are that it gets."""


class Finish(Enum):
    """How a program ends what it writes."""

    WHEN_WRITTEN = auto()
    AFTER_PEER = auto()
    """When everything is written and the other one's end was read."""
    RESET = auto()
    """A reset, when everything is written."""
    CLOSE = auto()
    """`close` when everything is written and `leave_after` bytes, or the end, are read; what comes then is refused."""
    VANISH = auto()
    """Reads nothing at all, and closes after `patience_s`."""


@dataclass(frozen=True, slots=True)
class Script:
    """Sizes in bytes. `starts_after` bytes of the other one's (None: its end) come before the first byte is written."""

    payload: bytes = field(default=b"", repr=False)
    starts_after: int | None = 0
    write_bytes: int = 4096
    write_pause_s: float = 0.0
    read_bytes: int = 4096
    read_pause_s: float = 0.0
    reads_after_s: float = 0.0
    finish: Finish = Finish.WHEN_WRITTEN
    leave_after: int = 0
    patience_s: float = 5.0

    eager: bool = False
    """An application that does not wait for the answers of the SOCKS handshake before it goes on."""

    @property
    def polite(self) -> bool:
        """Whether everything is written, read and ended cleanly, if the other one lets it."""
        return self.finish in (Finish.WHEN_WRITTEN, Finish.AFTER_PEER)


class Program:
    """Runs a script on a socket. `name` is for people."""

    def __init__(self, name: str, world: World, rng: Random, script: Script) -> None:
        self.name = name
        self.script = script
        self.peer: Program = self
        self.sock: VirtualSocket | None = None
        self.head_written = 0
        self.written = 0
        self.received = 0
        self.eof = False
        self.broken = False
        """A reset was read, or a write failed."""
        self.left = False
        """Closed or reset the socket by itself, before both directions had ended."""
        self.over_at: float | None = None
        self._world = world
        self._rng = rng
        self._reading_planned = False
        self._writing_planned = False
        self._write_over = False
        self._paused_s = 0.0
        self._reads_from = 0.0

    @property
    def over(self) -> bool:
        return self.left or self.broken or (self.eof and self._write_over)

    @property
    def first_read_s(self) -> float:
        """Seconds after the start."""
        return self.script.reads_after_s

    @property
    def may_write(self) -> bool:
        """Whether the payload's turn has come."""
        after = self.script.starts_after
        return self.eof if after is None else self.received >= after

    def head_to_write(self) -> bytes:
        """What has to be written before the payload."""
        return b""

    def take_head(self, data: bytes) -> bytes:
        """Takes what comes before the other one's payload; gives the rest."""
        return data

    @property
    def happy(self) -> bool:
        """All written, all of the other one's read, both ends clean."""
        return self._all_written and self._write_over and self.eof and self.received == len(self.peer.script.payload)

    @property
    def ended_cleanly(self) -> bool:
        """Whether a clean end stands behind what it wrote."""
        return self.sock is not None and self.sock.fin_sent

    def start(self, sock: VirtualSocket) -> None:
        self.sock = sock
        self._reads_from = self._world.now + self.first_read_s
        sock.on_change = self._wake
        if self.script.finish is Finish.VANISH:
            self._world.after(self.script.patience_s, self.leave)
        self._wake()

    def leave(self) -> None:
        """Closes; with bytes unread that is a reset."""
        if not self.over and self.sock is not None:
            self.left = True
            self.sock.close()
            self._note_over()

    def never_start(self) -> None:
        """There is nobody to connect to."""
        self.left = True

    def __str__(self) -> str:
        state = [word for word in ("eof", "broken", "left", "over", "happy") if getattr(self, word)]
        script = self.script
        return (
            f"{self.name}: wrote {self.written} of {len(script.payload)}, read {self.received} of "
            f"{len(self.peer.script.payload)}, {script.finish.name.lower()}, {' '.join(state) or 'waits'}"
        )

    # Both directions.

    def _wake(self) -> None:
        self._plan_reading()
        self._plan_writing()

    def _plan_reading(self) -> None:
        if not (self._reading_planned or self.over or self.script.finish is Finish.VANISH):
            self._reading_planned = True
            not_before_s = self._reads_from - self._world.now
            self._world.after(max(not_before_s, self._soon(self.script.read_pause_s)), self._read)

    def _plan_writing(self) -> None:
        if not (self._writing_planned or self.over or self._write_over):
            self._writing_planned = True
            self._world.after(self._soon(self.script.write_pause_s), self._write)

    def _soon(self, pause_s: float) -> float:
        if self._paused_s > MAX_PAUSES_S:
            pause_s = 0
        delay_s = (pause_s + 0.000_2) * self._rng.random() * 2
        self._paused_s += delay_s
        return delay_s

    def break_off(self) -> None:
        """The connection is no good any more."""
        self.broken = True
        assert self.sock is not None
        self.sock.close()
        self._note_over()

    def _note_over(self) -> None:
        if self.over:
            self.over_at = self._world.now
            if self.sock is not None and not self.left:
                self.sock.close()

    # Reading.

    def _read(self) -> None:
        self._reading_planned = False
        if self.over or self.eof:
            return
        assert self.sock is not None
        try:
            data = self.sock.recv(self.script.read_bytes)
        except BlockingIOError:
            return
        except OSError:
            self.break_off()
            return
        if data:
            self._take(self.take_head(data))
            self._plan_reading()
        else:
            self._take_end()
        if not self._leave_early():
            self._plan_writing()

    def _take(self, data: bytes) -> None:
        expected = self.peer.script.payload[self.received : self.received + len(data)]
        assert data == expected, f"{self}: {len(data)} bytes at {self.received} are not what {self.peer.name} wrote"
        self.received += len(data)
        assert self.received <= self.peer.written, f"{self}: bytes came before they were written"

    def _take_end(self) -> None:
        assert self.peer.ended_cleanly, f"{self}: a clean end, but there is none of {self.peer}"
        assert self.received == self.peer.written, f"{self}: a clean end in the middle of the bytes of {self.peer}"
        self.eof = True
        self._note_over()

    def _leave_early(self) -> bool:
        script = self.script
        enough = self.eof or self.received >= script.leave_after
        if script.finish is Finish.CLOSE and self._all_written and enough:
            self.leave()
        return self.left

    # Writing.

    @property
    def _all_written(self) -> bool:
        return self.written == len(self.script.payload)

    def _write(self) -> None:
        self._writing_planned = False
        if self.over or self._write_over:
            return
        head = self.head_to_write()
        if not head and not self.may_write:
            self._give_up_waiting()
            return
        assert self.sock is not None
        try:
            if head:
                self.head_written += self.sock.send(head)
            elif not self._all_written:
                self.written += self.sock.send(self._next_bytes())
        except BlockingIOError:
            return
        except OSError:
            self.break_off()
            return
        if not self.head_to_write() and self.may_write and self._all_written:
            self._finish()
        else:
            self._plan_writing()

    def _next_bytes(self) -> bytes:
        return self.script.payload[self.written : self.written + self.script.write_bytes]

    def _give_up_waiting(self) -> None:
        """The other one ended, cleanly but early, and what it was waited for will never come."""
        if self.eof and not self.over and not self.may_write:
            self.leave()

    def _finish(self) -> None:
        assert self.sock is not None
        match self.script.finish:
            case Finish.AFTER_PEER if not self.eof:
                return
            case Finish.WHEN_WRITTEN | Finish.AFTER_PEER:
                try:
                    self.sock.shutdown(SHUT_WR)
                except OSError:
                    self.break_off()
                    return
                self._write_over = True
                self._note_over()
            case Finish.RESET:
                self.left = True
                self.sock.reset()
                self._note_over()
            case Finish.CLOSE:
                self._leave_early()
            case Finish.VANISH:
                pass


class Application(Program):
    """A program that reaches the other one through SOCKS5 (RFC 1928), as the target with this name."""

    def __init__(self, name: str, world: World, rng: Random, script: Script) -> None:
        super().__init__(name, world, rng, script)
        self.reply: int | None = None
        """The field of the SOCKS reply."""
        host = name.encode()
        self._greeting = b"\x05\x01\x00"
        self._head = self._greeting + b"\x05\x01\x00\x03" + bytes((len(host),)) + host + b"\x00\x50"
        self._answer = b""

    @property
    def first_read_s(self) -> float:
        return 0.0  # The answers of the handshake are read at once.

    @property
    def may_write(self) -> bool:
        return (self.script.eager or self.reply == 0) and super().may_write

    def head_to_write(self) -> bytes:
        goes_on = self.script.eager or len(self._answer) >= 2
        return (self._head if goes_on else self._greeting)[self.head_written :]

    def take_head(self, data: bytes) -> bytes:
        """The answers: two bytes for the method, then ten, because bound addresses are IPv4 here."""
        if self.reply == 0:
            return data
        missing = 12 - len(self._answer)
        self._answer += data[:missing]
        assert b"\x05\x00".startswith(self._answer[:2])
        if len(self._answer) == 12:
            assert self._answer[2] == 5, f"{self}: {self._answer!r} is no reply"
            self.reply = self._answer[3]
            self._reads_from = self._world.now + self.script.reads_after_s
            if self.reply:
                assert len(data) == missing, f"{self}: bytes came behind a refusal"
                self.leave()
        return data[missing:]

    def __str__(self) -> str:
        return f"{super().__str__()}, reply {self.reply}"

"""One way to run a program: uvloop, signals, exit code.

Rules:
- The first SIGTERM or SIGINT asks to drain, the second to stop at once. What that means is the program's
  business; nothing is cancelled behind its back.
- The exit code is what `main` returns; 1 for `CannotStartError`; 70 for an unexpected exception, which is
  logged once, its traceback a field of the event.
"""

import asyncio
import resource
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import uvloop

from servicekit.errors import CannotStartError
from servicekit.logs import get_logger

EXIT_CANNOT_START = 1
EXIT_INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h


@dataclass(frozen=True, slots=True)
class Stop:
    """The two requests to end. Whenever `now` is set, `draining` is."""

    draining: asyncio.Event = field(default_factory=asyncio.Event)
    now: asyncio.Event = field(default_factory=asyncio.Event)

    def request(self) -> None:
        """What a signal does: the first call sets `draining`, the second sets `now`."""
        if self.draining.is_set():
            self.now.set()
        self.draining.set()


def run(main: Callable[[Stop], Awaitable[int]]) -> int:
    """Runs `main` to its end and returns the exit code. Call it from the main thread, after `logs.configure`."""
    raise_descriptor_limit()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_with_signals(main))
    except CannotStartError as error:
        get_logger().error("cannot_start", reason=str(error))
        return EXIT_CANNOT_START
    except Exception:
        get_logger().exception("internal_error")
        return EXIT_INTERNAL_ERROR


async def _with_signals(main: Callable[[Stop], Awaitable[int]]) -> int:
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.request)
    return await main(stop)


def raise_descriptor_limit() -> None:
    """Lifts the soft limit of open descriptors to the hard one: each connection takes one, the usual 1024 is few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS refuses "unlimited"; the soft limit then stays
            pass

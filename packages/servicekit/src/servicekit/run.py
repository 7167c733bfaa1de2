"""One way to run a program: uvloop, signals, exit code.

Rules:
- The first SIGTERM or SIGINT asks to drain, the second to stop at once. What that means is the program's
  business; nothing is cancelled behind its back.
- The garbage collector leaves alone what was made until the program waits for the first time.
- The exit code is what `main` returns; 1 for `CannotStartError`; 70 for an unexpected exception, which is
  logged once, its traceback a field of the event.
"""

import asyncio
import gc
import resource
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import uvloop

from servicekit.errors import CannotStartError
from servicekit.logs import get_logger

GC_THRESHOLDS = 10_000, 20, 20
"""Python's own are 700, 10, 10. What waits to be collected is mostly small: 10,000 objects are some 2 MB."""

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
    thresholds = gc.get_threshold()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_with_signals(main))
    except CannotStartError as error:
        get_logger().error("cannot_start", reason=str(error))
        return EXIT_CANNOT_START
    except Exception:
        get_logger().exception("internal_error")
        return EXIT_INTERNAL_ERROR
    finally:  # Only a test goes on after this.
        gc.unfreeze()
        gc.set_threshold(*thresholds)


async def _with_signals(main: Callable[[Stop], Awaitable[int]]) -> int:
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.request)
    loop.call_soon(settle)  # When `main` waits for the first time: then everything is made.
    return await main(stop)


def settle() -> None:
    """Takes what a program is made of out of the garbage collector's sight, and lets it look at the rest less often.

    Modules, settings and metrics live as long as the program. Looked through again and again while connections come
    and go, some 50,000 objects make pauses of tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def raise_descriptor_limit() -> None:
    """Lifts the soft limit of open descriptors to the hard one: each connection takes one, the usual 1024 is few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS refuses "unlimited"; the soft limit then stays
            pass

"""Logs: one line an event, on stderr, as JSON for machines or as text for people.

Rules:
- A JSON line has the keys `time` (ISO 8601, UTC), `level`, `program` and `event` first, then the bound fields;
  a traceback is the field `exception`, so that one event stays one line.
- The standard library's logging and warnings go the same way. Libraries are heard from `warning` upwards, or from
  `debug` when that is the level: at `info` an HTTP or QUIC library logs every request and datagram.
- Logging never ends a program: a stderr that nobody reads any more, or that is on a full disk, loses lines, it does not
  raise. A line that was cut by it does not take the next one along.
"""

import json
import logging
import sys
from typing import Literal, cast

# structlog.dev imports rich wherever it is installed, 0.3 s at every start, for tracebacks that nothing here
# renders. While `rich` is marked as absent, structlog goes without; other importers find it as ever.
_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]
try:
    import structlog
finally:
    if _rich is None:
        del sys.modules["rich"]
    else:
        sys.modules["rich"] = _rich

from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger  # noqa: E402

LogFormat = Literal["json", "text"]
LogLevel = Literal["debug", "info", "warning", "error"]


def configure(format: LogFormat, level: LogLevel, program: str) -> None:
    """Sends all logs of the process to stderr. Call it once, before the first event."""

    def identify(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        first: EventDict = {"time": event.pop("time"), "level": event.pop("level"), "program": program}
        return {**first, "event": event.pop("event"), **event}

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        identify,
    ]
    renderer = _text_renderer() if format == "text" else structlog.processors.JSONRenderer(_dumps)
    sink = _Stderr()
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *args: sink,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    libraries_threshold = threshold if level == "debug" else max(threshold, logging.WARNING)
    logging.basicConfig(handlers=[handler], level=libraries_threshold, force=True)
    logging.raiseExceptions = False
    logging.captureWarnings(True)


def get_logger(**fields: object) -> FilteringBoundLogger:
    """A logger with `fields` on each of its events. Before `configure`, structlog's own defaults hold."""
    return cast(FilteringBoundLogger, structlog.get_logger(**fields))


class _Stderr:
    """structlog's sink: one write a line, so that lines of several threads never mix."""

    _torn = False
    """Whether the last one may be there in part."""

    def msg(self, line: str) -> None:
        try:
            sys.stderr.write(f"\n{line}\n" if self._torn else f"{line}\n")
            sys.stderr.flush()
            self._torn = False
        except (OSError, ValueError):  # ValueError: stderr is closed
            self._torn = True

    debug = info = warning = error = critical = msg


def _dumps(event: EventDict, **options: object) -> str:
    return json.dumps(event, default=str, separators=(", ", ": "))


def _text_renderer() -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        timestamp_key="time",
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,
    )

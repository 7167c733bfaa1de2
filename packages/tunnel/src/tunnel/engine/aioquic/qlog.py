"""aioquic's own qlog events, written as they happen: its logger keeps them all until the connection ends.

Rules:
- The format is JSON text sequences, which grow record by record: qvis opens them.
- What is in the directory counts, whoever wrote it: what is asked for and forgotten fills no disk, however often the
  program starts. A file is capped too, and then ends between two records.
- No file is ever overwritten or added to.
- A disk that is full ends the recording, never the tunnel. It is said once.
"""

import json
import logging
from pathlib import Path
from typing import Any

from aioquic.quic.logger import QLOG_VERSION, QuicLogger, QuicLoggerTrace

from tunnel.engine.settings import Qlog

RECORD_SEPARATOR = b"\x1e"
SUFFIX = ".sqlog"

logger = logging.getLogger(__name__)


class Trace(QuicLoggerTrace):
    """One connection. `path` is None where nothing shall be written."""

    def __init__(self, path: Path | None, *, is_client: bool, odcid: bytes, file_bytes_max: int) -> None:
        super().__init__(is_client=is_client, odcid=odcid)
        self._left_bytes = file_bytes_max
        try:
            self._file = None if path is None else path.open("xb", buffering=0)
        except OSError as error:
            logger.warning("qlog %s: %s", path, error.strerror)
            self._file = None
        described = {key: value for key, value in self.to_dict().items() if key != "events"}
        self._put({"qlog_format": "JSON-SEQ", "qlog_version": QLOG_VERSION, "title": "finback", "trace": described})

    def log_event(self, **event: Any) -> None:
        """See `QuicLoggerTrace.log_event`."""
        super().log_event(**event)
        self._put(self._events.pop())

    def close(self) -> None:
        """Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _put(self, record: dict[str, Any]) -> None:
        if self._file is None:
            return
        line = RECORD_SEPARATOR + json.dumps(record, separators=(",", ":")).encode() + b"\n"
        self._left_bytes -= len(line)
        try:
            if self._left_bytes < 0:
                raise OSError(0, "it is as large as it may be")
            self._file.write(line)
        except OSError as error:
            logger.warning("qlog %s ends here: %s", self._file.name, error.strerror)
            self.close()


class Logger(QuicLogger):
    """What aioquic's configuration takes: a directory of traces."""

    def __init__(self, qlog: Qlog) -> None:
        super().__init__()
        self._qlog = qlog
        self._full = False

    def start_trace(self, is_client: bool, odcid: bytes) -> Trace:
        path = self._path(f"{'client' if is_client else 'server'}-{odcid.hex()}")
        return Trace(path, is_client=is_client, odcid=odcid, file_bytes_max=self._qlog.file_bytes_max)

    def _path(self, name: str) -> Path | None:
        directory = self._qlog.directory
        there = sum(1 for _ in directory.glob(f"*{SUFFIX}"))
        full = there >= self._qlog.files_max
        if full and not self._full:
            logger.warning("qlog %s: it holds %d files, and gets no more until some are removed", directory, there)
        self._full = full
        return None if full else directory / f"{self._qlog.started}-{name}{SUFFIX}"

    def end_trace(self, trace: QuicLoggerTrace) -> None:
        assert isinstance(trace, Trace)
        trace.close()

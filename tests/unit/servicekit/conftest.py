"""Logging is global to the process: a test that configures it gets everything put back."""

import logging
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.raiseExceptions = raises
    root.handlers[:] = handlers
    root.setLevel(level)

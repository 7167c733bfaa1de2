"""What all tests have in common."""

import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# How long an example takes says something of the machine, not of the code: speed is measured in bench/.
settings.register_profile("finback", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("finback")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Logging is global to the process: after a test that configures it, everything is put back."""
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        logging.captureWarnings(False)
        logging.raiseExceptions = raises
        root.handlers[:] = handlers
        root.setLevel(level)

"""Libraries that say on the terminal what concerns their own developers."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

TORCH_LOGS = "TORCH_LOGS"
"""By this variable torch's own developers ask for what is kept off here."""


@contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """Keep warnings, and what loggers of these names or below them say of less than errors, off the terminal."""
    if os.environ.get(TORCH_LOGS):
        yield
        return
    below = tuple(f"{name}." for name in libraries)
    known = [name for name in logging.root.manager.loggerDict if name.startswith(below)]
    talkers = [logging.getLogger(name) for name in libraries]
    talkers += [logger for name in known if (logger := logging.getLogger(name)).level != logging.NOTSET]
    levels = [logger.level for logger in talkers]
    for logger in talkers:
        logger.setLevel(max(logger.level, logging.ERROR))
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in zip(talkers, levels, strict=True):
            logger.setLevel(level)

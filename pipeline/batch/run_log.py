"""``run.log``: everything that the pipeline logs while a batch runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from configs import ConfigError
from pipeline.slides.readers.base import show


class _LogFile(logging.FileHandler):
    """A log that a full disk does not turn into tracebacks on the terminal."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Leaves the line out."""

    def close(self) -> None:
        """Closes the file; what a full disk did not take is lost."""
        with suppress(OSError):
            super().close()


@contextmanager
def run_log(path: Path) -> Iterator[None]:
    """While it lasts, what the pipeline logs goes into a file, behind what is there.

    Raises:
        ConfigError: the file can't be opened.
    """
    try:
        handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError(f"{show(path)}: can't be written: {error.strerror}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("pipeline")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()

"""``run.log``: everything that the pipeline logs while a batch runs, as lines or as JSON lines.

JSON lines go into a file of their own, ``run.log.jsonl``, so that whoever reads a log meets one
format in it. Each record is an object on a line of its own, and valid whatever stands in names:

- ``time``: in UTC; ``level``; ``message``: what the line of text would say;
- ``host`` and ``pid``: who says it;
- ``slide`` (as in ``run.json``), ``attempt`` (from 1; 0 where nothing of it was screened), where it
  concerns one; ``status`` and ``seconds``, where one has begun or ended;
- ``code``: of a warning or a refusal that has one;
- ``traceback``: as text, where something happened that nobody foresaw.

A record is appended by one write, so that lines of several processes of one machine don't mix, and
a line that was cut off, by a kill or a full disk, never takes the next one with it. Between
machines no network file system promises that: each process that shares a folder with others has a
log of its own.
"""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from configs import ConfigError
from pipeline.batch.run_record import Shard, record_name
from pipeline.reports.report import encodable
from pipeline.slides.readers.base import show

LogFormat = Literal["text", "json"]
"""Lines for people, or JSON lines for programs."""

FIELDS = ("slide", "attempt", "status", "seconds", "code")
"""What a record may say beside its message: keys of ``extra`` of a call, and of the JSON."""

_ENDINGS: dict[LogFormat, str] = {"text": ".log", "json": ".log.jsonl"}


def log_name(shard: Shard | None, form: LogFormat = "text", joined: str | None = None) -> str:
    """Name of the log of a run.

    Args:
        shard: its part of the batch; None for all.
        form: how it is written.
        joined: what tells a process from others that share its folder; None for the first.
    """
    return record_name(shard, f".{joined}" * bool(joined) + _ENDINGS[form])


@contextmanager
def run_log(path: Path, form: LogFormat = "text") -> Iterator[None]:
    """While it lasts, what the pipeline logs goes into a file, behind what is there.

    Raises:
        ConfigError: the file can't be opened.
    """
    try:
        handler = _LogFile(path)
    except OSError as error:
        raise ConfigError(f"{show(path)}: can't be written: {error.strerror}") from error
    handler.setFormatter(_JsonLines() if form == "json" else logging.Formatter(_TEXT))
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


_TEXT = "%(asctime)s %(levelname)s %(message)s"


class _LogFile(logging.Handler):
    """A log that a full disk does not turn into tracebacks on the terminal."""

    def __init__(self, path: Path) -> None:
        """Opens the file.

        Raises:
            OSError: it can't be opened.
        """
        super().__init__()
        self._file = path.open("ab", buffering=0)
        self._torn = _ends_torn(path)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record; what doesn't fit on the disk is left out."""
        line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
        data = b"\n" * self._torn + line
        try:
            written = self._file.write(data)
        except OSError:
            return
        # An unbuffered file may take a part only.
        self._torn = self._torn if not written else written < len(data)

    def close(self) -> None:
        """Closes the file."""
        with suppress(OSError):
            self._file.close()
        super().close()


def _ends_torn(path: Path) -> bool:
    """Whether the last line of a file was cut off."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            if not file.tell():
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # may be written, but not read, or is a pipe
        return False


class _JsonLines(logging.Formatter):
    """A record as one line of JSON, in ASCII: no name can break it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, without its end."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": encodable(record.getMessage()),
            "host": encodable(platform.node()),
            "pid": record.process,
        }
        for key in FIELDS:
            value = getattr(record, key, None)
            if value not in (None, ""):
                told[key] = encodable(value) if isinstance(value, str) else value
        if record.exc_info:
            told["traceback"] = encodable(self.formatException(record.exc_info))
        return json.dumps(told, allow_nan=False)

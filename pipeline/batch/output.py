"""The output folder: results appear in it whole or not at all.

A result is written into a hidden folder beside the others and moved to its place when it is
complete. What a killed run left half written is swept away at the next start.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import ValidationError

from configs import ConfigError
from pipeline.batch.discovery import SlideJob
from pipeline.reports.report import SlideReport
from pipeline.reports.writers import HOST, PARTIAL, partial_name
from pipeline.slides.readers.base import show

_REPORT = "report.json"

_ABANDONED_S = 24 * 3600
"""Age of a half-written result, seconds, after which nobody writes it any more."""


def prepare_output(out: Path, jobs: Iterable[SlideJob]) -> None:
    """Makes the output folder, sweeps it, and makes sure that results can be written there.

    Raises:
        ConfigError: it can't be written, or what is no result stands in a result's place.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / partial_name()
        probe.mkdir()
        probe.rmdir()
        _sweep(out)
        taken = next((out / job.name for job in jobs if not _is_free(out / job.name)), None)
    except OSError as error:
        raise ConfigError(f"--out {show(out)}: can't be written: {error.strerror}") from error
    if taken:
        raise ConfigError(
            f"{show(taken)}: is not a result of an earlier run; move it away or give another --out"
        )


def publish(out: Path, name: str, write: Callable[[Path], None]) -> None:
    """Makes the result ``name``: ``write`` fills a folder, which then takes its place.

    Raises:
        OSError: it can't be written; an earlier result stays as it was.
    """
    partial = out / partial_name()
    try:
        partial.mkdir()
        write(partial)
        place = out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        _move(partial, place, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_report(folder: Path) -> SlideReport | None:
    """The report of a result, without its cells; None where there is none of this version."""
    try:
        return SlideReport.model_validate_json((folder / _REPORT).read_bytes())
    except (OSError, ValidationError):
        return None


def _move(partial: Path, place: Path, out: Path) -> None:
    """Puts a folder in another's place; no system can replace a folder that is not empty."""
    if not place.exists():
        os.replace(partial, place)
        return
    old = out / partial_name()
    os.replace(place, old)
    try:
        os.replace(partial, place)
    except OSError:
        os.replace(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_free(place: Path) -> bool:
    """Whether a result may go there: nothing is, or an earlier result."""
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False
    return not names or _REPORT in names


def _sweep(out: Path) -> None:
    for path in out.glob(f"{PARTIAL}*"):
        if _is_abandoned(path):
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)


def _is_abandoned(path: Path) -> bool:
    """Whether the writer is gone: a dead process of this machine, or nobody for a day.

    Other shards may be writing just now, on this machine or another.
    """
    host, _, rest = path.name.removeprefix(PARTIAL).rpartition("-")[0].rpartition("-")
    if host == HOST and rest.isdecimal() and not _is_running(int(rest)):
        return True
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_S
    except OSError:
        return False


def _is_running(process: int) -> bool:
    if os.name != "posix":  # elsewhere there is no harmless signal: os.kill would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True

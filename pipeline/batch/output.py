"""The output folder: results appear in it whole or not at all.

A result is written into a hidden folder beside the others and moved to its place when it is
complete. What a killed run left half written is swept away at the next start.

On Linux a new result and an older one change places at once: whoever looks sees the one or the
other. Elsewhere, and on file systems that can't do that, the older one is moved away first: for
that instant there is none, and whoever finds none looks again. Of several writers of one result
the last one wins, and none fails. Who reads a result file by file while it is replaced may get
files of both; ``fingerprint.json`` tells them apart.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from configs import ConfigError
from pipeline.batch.discovery import SlideJob
from pipeline.batch.exchange import exchange
from pipeline.cloud.urls import is_collapsed
from pipeline.reports.report import SlideReport
from pipeline.reports.writers import MACHINE, PARTIAL, partial_name
from pipeline.slides.readers.base import show

REPORT = "report.json"

_ABANDONED_S = 24 * 3600
"""Age of a half-written result, seconds, after which nobody writes it any more."""

_TAKEN = {errno.EACCES} if os.name == "nt" else {errno.ENOTEMPTY, errno.EEXIST}
"""What the system says where a folder is to be moved into the place of another."""

_TURNS = 100
"""Tries to get into a place that others get into all the time."""


def prepare_output(out: Path, jobs: Iterable[SlideJob]) -> None:
    """Makes the output folder, sweeps it, and makes sure that results can be written there.

    Raises:
        ConfigError: it can't be written, or what is no result stands in a result's place.
    """
    make_output(out)
    with refusing(out):
        _check_places(out, jobs)


def make_output(out: Path) -> None:
    """Makes the output folder, sweeps it, and makes sure that it can be written.

    Raises:
        ConfigError: it can't.
    """
    check_local(out)
    with refusing(out):
        out.mkdir(parents=True, exist_ok=True)
        probe = out / partial_name()
        probe.mkdir()
        probe.rmdir()
        sweep(out)


def check_output(out: Path, jobs: Iterable[SlideJob]) -> None:
    """`prepare_output` as far as it shows without writing: to tell what a run would do.

    Raises:
        ConfigError: as there.
    """
    check_local(out)
    with refusing(out):
        there = next((path for path in (out, *out.parents) if os.path.lexists(path)), None)
        if there and not there.is_dir():
            raise NotADirectoryError
        if there and not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        _check_places(out, jobs)


def _check_places(out: Path, jobs: Iterable[SlideJob]) -> None:
    """Refuses to put results where something else is.

    Raises:
        ConfigError: there is.
        OSError: that can't be seen.
    """
    taken = next((out / job.name for job in jobs if not _is_free(out / job.name)), None)
    if taken:
        raise ConfigError(
            f"{show(taken)}: is not a result of an earlier run; move it away or give another --out"
        )


@contextmanager
def refusing(out: Path) -> Iterator[None]:
    """Turns what the system says of the output folder into an error for people.

    Raises:
        ConfigError: it can't be written.
    """
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        problem = "a file, or a link to nothing, is in the way"
        raise ConfigError(f"--out {show(out)}: can't be written: {problem}") from error
    except OSError as error:
        problem = error.strerror or str(error)
        raise ConfigError(f"--out {show(out)}: can't be written: {problem}") from error


def check_local(out: Path) -> None:
    """Refuses an output folder that is named by URL.

    Raises:
        ConfigError: it is one.
    """
    if is_collapsed(out):
        raise ConfigError(
            f"--out {show(out)}: is a URL; reports are written to a folder here, or on a mounted "
            "share: name one, and copy it from there"
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
        _remove(partial)


def load_report(folder: Path) -> SlideReport | None:
    """The report of a result, without its cells; None where there is none of this version."""
    try:
        return SlideReport.model_validate_json((folder / REPORT).read_bytes())
    except (OSError, ValidationError):
        return None


def has_result(folder: Path) -> bool:
    """Whether a result lies there, of whatever settings."""
    return os.path.lexists(folder / REPORT)


def _move(partial: Path, place: Path, out: Path) -> None:
    """Puts a folder in a place; what stood there, if anything, is then in ``partial`` or gone.

    Other writers may be at the same place at the same time: each turn that fails is one in which
    another one has succeeded.
    """
    for turn in range(1, _TURNS + 1):
        try:
            os.replace(partial, place)
            return
        except OSError as error:  # no system replaces a folder that is not empty
            if not _is_taken(error, place) or turn == _TURNS:
                raise
        if exchange(partial, place) or _displace(partial, place, out):
            return


def _is_taken(error: OSError, place: Path) -> bool:
    """Whether a folder couldn't be moved because there is one, or a link to one, already."""
    if error.errno == errno.ENOTDIR:
        return place.is_symlink()
    return error.errno in _TAKEN


def _displace(partial: Path, place: Path, out: Path) -> bool:
    """Moves away what is in a place, and a folder there; False where others were quicker."""
    old = out / partial_name()
    try:
        os.replace(place, old)
    except FileNotFoundError:
        return False
    try:
        os.replace(partial, place)
    except OSError:
        if os.path.lexists(place):
            _remove(old)
            return False
        with suppress(OSError):
            os.replace(old, place)
        raise
    _remove(old)
    return True


def _remove(path: Path) -> None:
    """Removes a folder, or a link to one, if it is there."""
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _is_free(place: Path) -> bool:
    """Whether a result may go there: nothing is, or an earlier result."""
    if has_result(place):  # of most of many slides that were screened before: one question each
        return True
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False
    return not names or REPORT in names


def sweep(out: Path) -> None:
    """Removes what processes left that were killed while they wrote a result."""
    for path in out.glob(f"{PARTIAL}*"):
        if _is_abandoned(path):
            _remove(path)


def _is_abandoned(path: Path) -> bool:
    """Whether the writer is gone: a dead process of this machine, or nobody for a day.

    Other shards may be writing just now, on this machine or another.
    """
    machine, _, rest = path.name.removeprefix(PARTIAL).rpartition("-")[0].rpartition("-")
    if machine == MACHINE and rest.isdecimal() and not is_running(int(rest)):
        return True
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_S
    except OSError:
        return False


def is_running(process: int) -> bool:
    """Whether a process of this machine lives; where that can't be told, it does."""
    if os.name != "posix":  # elsewhere there is no harmless signal: os.kill would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True

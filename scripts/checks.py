"""Checks of ``cytolibra doctor`` that try something out: folders, and the shipped model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LEAST_SCRATCH = 1 << 30
"""Free bytes below which scratch space is called short."""

MOST_SKEW = 10.0
"""Seconds that a folder's clock may differ from ours; times of a FAT disk are 2 s apart."""

_LOCK_TAKEN = 3
"""Exit status of the process that finds a lock taken, as it should."""

_TRY_LOCK = f"""
import sys
from filelock import FileLock, Timeout
try:
    FileLock(sys.argv[1], fallback_to_soft=False).acquire(timeout=0)
except Timeout:
    sys.exit({_LOCK_TAKEN})
"""

_SEED, _SIDE, _MPP, _PER_MM2, _ABNORMAL = 0, 2048, 0.25, 200.0, 0.3
LEAST_IOU = 0.5
LEAST_FOUND, MOST_WRONG = 0.85, 0.15
"""Shares of the drawn cells that must be found, and of the finds that may be none.

The default model finds 52 of the 55 cells, and 4 of its 56 finds are none. Other devices and
precisions may differ by a cell or two; a network that computes wrongly misses most.
"""


@dataclass(frozen=True)
class Check:
    """What was tried.

    Attributes:
        name: short, as it is shown.
        found: what came of it, in a few words.
        mend: what to do; empty where all is well.
    """

    name: str
    found: str
    mend: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is to be mended."""
        return not self.mend


def check_out(out: Path) -> Iterator[Check]:
    """Tries in a folder for reports what a batch does there; leaves nothing behind.

    A folder that is not there yet is not made: the one that it would be made in is tried.
    """
    try:
        wanted = folder = out.absolute()
        while not _is_there(folder):
            folder = folder.parent
        is_folder = folder.is_dir()
    except OSError as error:  # one above may not be searched, a name is too long, a mount is gone
        mend = "name another folder, or give this user the right to open those above it"
        yield Check("folder", f"{out}: {_why(error)}", mend)
        return
    if not is_folder:
        yield Check("folder", f"{folder} is a file", "name a folder, or one that can be made")
        return
    yield Check("folder", str(folder) if folder == wanted else f"{folder}, {out} is new")
    try:
        place = Path(tempfile.mkdtemp(prefix=".doctor-", dir=folder))
    except OSError as error:
        yield Check("write", _why(error), "give this user the right to write there, or free space")
        return
    tries: dict[str, tuple[Callable[[Path], str], str]] = {
        "write": (_write, "free space or quota there, or name another folder"),
        "rename": (_rename, "name a folder of a file system that renames (no bucket mount)"),
        "lock": (_lock, "mount it with locks (NFS: without nolock), or start one batch at a time"),
        "clock": (_clock, "set both machines' clocks by one time server"),
    }
    try:
        for name, (attempt, mend) in tries.items():
            try:
                yield Check(name, attempt(place))
            except OSError as error:
                yield Check(name, _why(error), mend)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _is_there(path: Path) -> bool:
    """As `Path.exists`, which of some Pythons takes any error for a no."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def check_scratch() -> Check:
    """Tries the folder for temporary files."""
    mend = "free space there, or set TMPDIR to a folder with more"
    try:
        folder = tempfile.gettempdir()
        with tempfile.TemporaryFile() as stream:
            stream.write(bytes(1 << 20))
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("scratch space", _why(error), mend)
    text = f"{free / 2**30:.1f} GiB free ({folder})"
    return Check("scratch space", text, mend if free < LEAST_SCRATCH else "")


def check_model() -> Check:
    """Screens drawn cells, whose places are known, with the shipped model; takes some seconds."""
    from configs import CytoLibraError
    from data.boxes import box_iou
    from data.synth import draw_field
    from data.synth.region import Region
    from data.synth.writer import Pixels, write_pyramid
    from models.card import DEFAULT_MODEL
    from pipeline import screen_slide
    from pipeline.errors import kind_and_text

    mend = "install cytolibra again; if it stays so, try --device cpu, and report it"
    size = (_SIDE, _SIDE)
    image, boxes, _ = draw_field(_SEED, size, _MPP, _PER_MM2, _ABNORMAL)
    began = time.perf_counter()

    def draw(regions: Iterable[Region]) -> Iterator[Pixels]:
        return (image[r.y : r.bottom, r.x : r.right] for r in regions)

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "known.tif"
            write_pyramid(path, size, _MPP, draw)
            found = screen_slide(path, DEFAULT_MODEL).cells.boxes
    except (CytoLibraError, OSError) as error:
        return Check("self-test", _why(error), mend)
    except Exception as error:  # of OpenVINO, torch or a driver: what is broken here is the answer
        return Check("self-test", kind_and_text(error), mend)
    seconds = time.perf_counter() - began
    covered = box_iou(boxes, found) >= LEAST_IOU
    hits, right = int(covered.any(1).sum()), int(covered.any(0).sum())
    wrong = len(found) - right
    text = (
        f"{hits} of {len(boxes)} drawn cells found (at least {LEAST_FOUND:.0%}), {wrong} of "
        f"{len(found)} finds are none (at most {MOST_WRONG:.0%}), {seconds:.1f} s"
    )
    sound = hits >= LEAST_FOUND * len(boxes) and wrong <= MOST_WRONG * max(1, len(found))
    return Check("self-test", text, "" if sound else mend)


def _write(place: Path) -> str:
    content = bytes(range(256)) * 4096
    path = place / "written"
    began = time.perf_counter()
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    if path.read_bytes() != content:
        raise OSError("what is read is not what was written")
    seconds = time.perf_counter() - began
    free = shutil.disk_usage(place).free / 2**30
    return f"1 MiB in {1000 * seconds:.0f} ms, {free:.1f} GiB free"


def _rename(place: Path) -> str:
    """Files over files, and whole folders, as results are published."""
    (place / "old").write_text("old")
    (place / "new").write_text("new")
    os.replace(place / "new", place / "old")
    (place / "partial").mkdir()
    (place / "partial" / "file").touch()
    os.rename(place / "partial", place / "whole")
    if (place / "old").read_text() != "new" or not (place / "whole" / "file").exists():
        raise OSError("a renamed file or folder is not what it was")
    return "files and folders"


def _lock(place: Path) -> str:
    """Another process must find a lock taken: locks within one prove nothing on NFS."""
    from filelock import FileLock

    path = str(place / "lock")
    with FileLock(path, fallback_to_soft=False):
        call = [sys.executable, "-c", _TRY_LOCK, path]
        try:
            status = subprocess.run(call, check=False, capture_output=True, timeout=60).returncode
        except subprocess.TimeoutExpired:
            raise OSError("another process that asks for the lock hangs") from None
    if status != _LOCK_TAKEN:
        raise OSError("another process is not kept out")
    return "keeps another process out"


def _clock(place: Path) -> str:
    path = place / "clock"
    before = time.time()
    path.touch()
    stamp, after = path.stat().st_mtime, time.time()
    skew = float(np.clip(stamp, before, after)) - stamp
    if abs(skew) > MOST_SKEW:
        raise OSError(f"its clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} ours")
    return f"within {MOST_SKEW:.0f} s of ours"


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

"""Whatever the program reads, changed at random: read or refused, within their limits.

`CYTOLIBRA_MUTATIONS` says how many files in all; the same number and seed give the same files.
"""

import faulthandler
import logging
import math
import multiprocessing
import os
import random
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

import pytest
from mutated import KINDS, SomeFailedError

FILES = int(os.environ.get("CYTOLIBRA_MUTATIONS", "300"))
SEED = int(os.environ.get("CYTOLIBRA_MUTATIONS_SEED", "18"))

MEMORY = 4 << 30
"""Address space of a worker beyond what it has at first; a slide of these takes some 10 MB."""

WARM = 12
"""Times that a file is read unchanged before limits hold: commands load what they need."""

PEAK = 1 << 30
"""Resident bytes that no file may take beyond those of the first one, unchanged."""

FEW = 50
"""Changed files of a kind that may all be readable still."""


def resident() -> int:
    """Most resident bytes that this process has held; getrusage's may be its parent's."""
    return _of_process("VmHWM")


def held() -> int:
    """Address space that this process has: of libraries and threads, mostly."""
    return _of_process("VmSize")


def _of_process(fact: str) -> int:
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if fact in x)
    return int(line.split()[1]) * 1024


class Place:
    """A folder that is put back as it was: commands write into folders of reports."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._content = {path: path.read_bytes() for path in _files(folder)}
        self._stamps = {path: _stamp(path) for path in self._content}

    def restore(self) -> None:
        """Writes what was changed or is gone, and removes what is new."""
        for path in set(_files(self._folder)) - set(self._content):
            path.unlink()
        for path, content in self._content.items():
            if _stamp(path) != self._stamps[path]:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                self._stamps[path] = _stamp(path)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino


def work(name: str, count: int, folder: Path, told) -> None:
    """Reads `count` files; sends what is no refusal in one line, and at the end the peak."""
    import resource  # not on Windows

    from configs import CytoLibraError

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a hang within C ends too
    kind = KINDS[name]
    path = kind.make(folder)
    whole, place = path.read_bytes(), Place(folder)
    for first in range(WARM):  # whatever is loaded at first
        with suppress(SomeFailedError, CytoLibraError if kind.odd else SomeFailedError):
            kind.read(path, random.Random(first))
        place.restore()
    resource.setrlimit(resource.RLIMIT_AS, (held() + MEMORY,) * 2)
    faults, slowest, refused, before = [], 0.0, 0, resident()
    for number in range(count):
        draw = random.Random(f"{SEED} {name} {number}")
        place.restore()
        path.write_bytes(draw.choice(kind.mutators)(whole, draw))
        signal.alarm(kind.seconds)
        began = time.perf_counter()
        try:
            kind.read(path, draw)
        except CytoLibraError as error:
            refused += 1
            if not str(error).isprintable() or (kind.named and path.name not in str(error)):
                faults.append(f"{number}: {error!r}")
        except Exception:
            faults.append(f"{number}: {traceback.format_exc()[-1500:]}")
        signal.alarm(0)
        slowest = max(slowest, time.perf_counter() - began)
    told.send((faults, slowest, refused, resident() - before))


def shares(files: int) -> dict[str, int]:
    """How many files of each kind, by their weights; at least one."""
    total = sum(kind.weight for kind in KINDS.values())
    return {name: math.ceil(files * kind.weight / total) for name, kind in KINDS.items()}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits and peaks are Linux's")
@pytest.mark.parametrize("kind", KINDS)
def test_no_file_crashes_hangs_or_takes_all_memory(kind, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    count = shares(FILES)[kind]
    spawn = multiprocessing.get_context("spawn")
    heard, told = spawn.Pipe(duplex=False)
    worker = spawn.Process(target=work, args=(kind, count, folder, told))
    worker.start()
    told.close()
    try:
        faults, slowest, refused, peak = heard.recv()
    except EOFError:
        worker.join()
        pytest.fail(f"a file of {folder} ended its reader with {worker.exitcode}")
    worker.join()
    print(f"{kind}: {refused} of {count} refused, slowest {slowest:.1f} s, {peak >> 20} MiB more")
    assert not faults, "\n".join(faults[:5])
    assert refused or count < FEW or KINDS[kind].silent
    assert peak < PEAK
    assert [path.name for path in tmp_path.iterdir()] == ["files"]

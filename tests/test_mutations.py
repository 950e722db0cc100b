"""Slides, sidecars and kept detections changed at random: read or refused, within their limits.

`CYTOLIBRA_MUTATIONS` says how many files in all; the same number and seed give the same files.
"""

import faulthandler
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import pytest
from hostilefiles import SLIDES, make

FILES = int(os.environ.get("CYTOLIBRA_MUTATIONS", "300"))
SEED = int(os.environ.get("CYTOLIBRA_MUTATIONS_SEED", "18"))

MEMORY = 4 << 30
"""Address space of a worker; a slide of these takes some 10 MB."""

PEAK = 1 << 30
"""Resident bytes that no file may take beyond those of the first one, unchanged."""

SMALL, OVERVIEW = 3000, 32.0
"""Pixels of a slide that is read whole, and how many times smaller another is looked at."""

SECONDS = 20
"""No file may take longer."""


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, a part lost, doubled or moved; words of a header made extreme."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        near = draw.random() < 0.5  # headers lie at either end
        limit = min(len(changed), 600) if near else len(changed)
        at = draw.randrange(limit) if limit else 0
        at = len(changed) - 1 - at if draw.random() < 0.4 else at
        kind = draw.random()
        if kind < 0.5:
            changed[at : at + 1] = bytes([draw.randrange(256)])
        elif kind < 0.75:
            word = draw.choice([0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, len(data)])
            changed[at : at + 4] = (word & 0xFFFFFFFF).to_bytes(4, draw.choice(["little", "big"]))
        elif kind < 0.85:
            del changed[at : at + draw.randint(1, 64)]
        elif kind < 0.95:
            changed[at:at] = changed[at : at + draw.randint(1, 64)]
        else:
            del changed[at:]
    return bytes(changed)


def look(kind: str, path: Path) -> None:
    """Reads a file of a kind as screening does."""
    if kind == "sidecar":
        from models.card import read_card

        read_card(path.parent)
    elif kind == "kept":
        from pipeline.reports.detections import load_kept

        load_kept(path.parent)
    else:
        from pipeline.slides.slide import open_slide

        with open_slide(path, 0.25) as slide:
            longest = max(slide.size.width, slide.size.height)
            slide.overview(1 if longest < SMALL else OVERVIEW)


def resident() -> int:
    """Most resident bytes that this process has held; getrusage's may be its parent's."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) * 1024


def base_of(kind: str, folder: Path) -> Path:
    if kind in SLIDES:
        return make(kind, folder)
    if kind == "sidecar":
        from models.card import DEFAULT_MODEL, SIDECAR, find_model

        return Path(shutil.copy(find_model(DEFAULT_MODEL) / SIDECAR, folder))
    from keptcases import make_kept

    from pipeline.reports.detections import FILE, save_kept

    save_kept(make_kept(), folder)
    return folder / FILE


def work(kind: str, count: int, folder: Path, told) -> None:
    """Reads `count` files; sends what is no refusal in one line, and at the end the peak."""
    import resource  # not on Windows

    from configs import CytoLibraError

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a hang within C ends too
    path = base_of(kind, folder)
    look(kind, path)
    whole, draw, before = path.read_bytes(), random.Random(f"{SEED} {kind}"), resident()
    faults, slowest, refused = [], 0.0, 0
    for number in range(count):
        path.write_bytes(mutate(whole, draw))
        signal.alarm(SECONDS)
        began = time.perf_counter()
        try:
            look(kind, path)
        except CytoLibraError as error:
            refused += 1
            if len(str(error).splitlines()) != 1 or path.name not in str(error):
                faults.append(f"{number}: {error!r}")
        except Exception:
            faults.append(f"{number}: {traceback.format_exc()[-1500:]}")
        signal.alarm(0)
        slowest = max(slowest, time.perf_counter() - began)
    told.send((faults, slowest, refused, resident() - before))


KINDS = [*SLIDES, "sidecar", "kept"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits and peaks are Linux's")
@pytest.mark.parametrize("kind", KINDS)
def test_no_file_crashes_hangs_or_takes_all_memory(kind, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    count = -(-FILES // len(KINDS))
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
    assert refused
    assert peak < PEAK
    assert [path.name for path in tmp_path.iterdir()] == ["files"]
    assert len(list(folder.iterdir())) == 1

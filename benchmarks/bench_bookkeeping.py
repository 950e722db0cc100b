"""What it costs to keep the record of a run, by the number of slides: milliseconds a slide.

Three tables. The journal's lines, and the whole records that fall to a slide's share, each timed
alone. Then whole batches, each in a process of its own, whose engine returns at once: what a slide
costs besides its screening, with its files, record and summary. Last, `cytolibra screen` as a whole
process over folders of which all slides are done: with the file of what is known of the results
(``.results.jsonl``), and without, as after an update.

A hundred thousand slides take some minutes, and a few gigabytes of the disk of ``--folder``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from models import DEFAULT_MODEL
from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import SlideJob, discover
from pipeline.batch.engines import Recipe
from pipeline.batch.fingerprint import (
    Fingerprint,
    hash_found,
    hash_recipe,
    save_fingerprint,
    stamp_files,
)
from pipeline.batch.journal import Journal
from pipeline.batch.known import FILE
from pipeline.batch.ledger import _SAVED_OF_N
from pipeline.batch.plan import BatchPlan
from pipeline.batch.run_record import RunRecord, SlideRecord, load_records, save_record
from pipeline.reports.report import SlideReport
from pipeline.reports.writers import to_json
from pipeline.settings import ScreenSettings

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from fakes import MODEL, make_cells, make_report

REPO = Path(__file__).parents[1]

_LINES = 1000

_A_FOLDER = 100
"""Slides in each of the folders of slides."""

_KINDS = 20
"""Reports that are made up; each slide has one of them."""


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    numbers = [1_000, 10_000, 100_000]
    parser.add_argument("--slides", type=int, nargs="*", default=numbers, help="of the records")
    parser.add_argument("--batches", type=int, nargs="*", default=[1_000, 10_000], help="screened")
    parser.add_argument("--done", type=int, nargs="*", default=numbers, help="done before")
    parser.add_argument("--folder", help="where all of it is written, and removed again")
    parser.add_argument("--one-batch", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one_batch:
        _screen_at_once(int(given.one_batch[0]), Path(given.one_batch[1]))
        return
    print("| slides | ms a slide | whole twice a slide, ms | reading the record, s |")
    print("| ---: | ---: | ---: | ---: |")
    for slides in given.slides:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            print(_record_row(slides, Path(folder)), flush=True)
    print("\n| slides, screened at once | s | processor, ms a slide | memory, MB |")
    print("| ---: | ---: | ---: | ---: |")
    for slides in given.batches:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            print(_batch_row(slides, Path(folder)), flush=True)
    print(
        "\n| slides, all done | s | processor, ms a slide | memory, MB | s; MB without the file |"
    )
    print("| ---: | ---: | ---: | ---: | ---: |")
    for slides in given.done:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            print(_done_row(slides, Path(folder)), flush=True)


def _record_row(slides: int, out: Path) -> str:
    record = RunRecord(
        command=("cytolibra", "screen"),
        shard=None,
        started="",
        software={},
        model=MODEL,
        settings={},
        recipe="",
        slides={f"{n}.svs": SlideRecord(path=f"/slides/{n}.svs") for n in range(slides)},
    )
    journal = Journal(out, "run")

    def add() -> None:
        for _ in range(_LINES):
            journal.add(record, "0.svs")

    whole = _seconds(lambda: save_record(record, out))
    line = _seconds(add) / _LINES
    read = _seconds(lambda: load_records(out))
    # A slide changes twice: it starts, and it ends.
    now = 2 * (line + min(1.0, _SAVED_OF_N / slides) * whole)
    return f"| {slides:,} | {1e3 * now:.1f} | {2e3 * whole:.1f} | {read:.2f} |"


def _batch_row(slides: int, folder: Path) -> str:
    command = [sys.executable, __file__, "--one-batch", str(slides), str(folder)]
    wall, processor, memory = _run(command, folder)
    return f"| {slides:,} | {wall:.1f} | {1e3 * processor / slides:.2f} | {memory:.0f} |"


def _screen_at_once(slides: int, folder: Path) -> None:
    """A batch whose engine does nothing but make a report up."""
    out = folder / "out"
    jobs = _make_slides(slides, folder / "slides", out)
    plan = BatchPlan(out=out, model=MODEL, settings={})
    result = screen_batch(jobs, _AtOnce(), plan, _Deaf())
    assert result.screened == slides


class _AtOnce:
    """An engine that returns at once."""

    slots = 2

    def submit(self, path: Path, careful: bool = False) -> Future[SlideReport]:
        future: Future[SlideReport] = Future()
        future.set_result(make_report(path, make_cells(20)))
        return future

    def close(self, wait: bool = True) -> None: ...


def _done_row(slides: int, folder: Path) -> str:
    source, out = folder / "slides", folder / "out"
    _make_results(_make_slides(slides, source, out), out)
    command = [sys.executable, "-m", "scripts", "screen", str(source), "--out", str(out)]
    _run(command, folder)  # from now on there are a record and the file of what is known
    (out / FILE).unlink()
    without = _run(command, folder)
    wall, processor, memory = _run(command, folder)
    assert f"{slides} done before" in (folder / "told").read_text("utf-8")
    return (
        f"| {slides:,} | {wall:.1f} | {1e3 * processor / slides:.2f} | {memory:.0f} "
        f"| {without[0]:.1f}; {without[2]:.0f} |"
    )


def _make_slides(slides: int, source: Path, out: Path) -> tuple[SlideJob, ...]:
    """Files of a byte each, a hundred a folder; as jobs."""
    for index in range(slides):
        path = source / f"case-{index // _A_FOLDER:05}" / f"S26-{index:06}.svs"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return discover([source], out, with_images=False).jobs


def _make_results(jobs: tuple[SlideJob, ...], out: Path) -> None:
    """A result of each slide, by the defaults of `cytolibra screen`: report and fingerprint."""
    force = Recipe(DEFAULT_MODEL, ScreenSettings()).foresee()
    classes = len(force.model.classes)
    texts = []
    for seed in range(_KINDS):
        report = make_report(
            "SLIDE.svs", make_cells(9 + 17 * seed, seed, classes), model=force.model
        )
        report = report.model_copy(update={"settings": dict(force.settings)})
        texts.append(to_json(report.model_dump(mode="json")))
    recipe = hash_recipe(force.settings, force.model)
    found = hash_found(force.settings, force.model)
    for index, job in enumerate(jobs):
        place = out / job.name
        place.mkdir(parents=True)
        text = texts[index % _KINDS].replace("SLIDE.svs", str(job.path))
        (place / "report.json").write_text(text, "utf-8")
        files = stamp_files(job)
        save_fingerprint(
            Fingerprint(recipe=recipe, found=found, files=files, sha256="0" * 64), place
        )


def _run(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Seconds, those of the processor, and the most memory in MB of a process."""
    path = f"{REPO}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    began = time.perf_counter()
    with (folder / "told").open("w") as told:
        process = subprocess.Popen(
            command, cwd=REPO, env=os.environ | {"PYTHONPATH": path}, stdout=told, stderr=told
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit((folder / "told").read_text("utf-8")[-2000:])
    wall = time.perf_counter() - began
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


class _Deaf:
    def batch_started(self, slides: int) -> None: ...
    def slide_started(self, job: object) -> None: ...
    def slide_ended(self, job: object, record: object, report: object) -> None: ...


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

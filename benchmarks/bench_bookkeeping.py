"""What it costs to keep the record of a run, by the number of slides: milliseconds a slide.

The journal's lines, and the whole records that fall to a slide's share, each timed alone; beside it
what it cost to write the record whole twice a slide. Results and summary are not in it.

Then a whole batch over generated result folders, all of which are done: how long it takes to find
that out, and to write record and summary, and how often each fingerprint and report is opened.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.fingerprint import (
    Fingerprint,
    hash_found,
    hash_recipe,
    save_fingerprint,
    stamp_files,
)
from pipeline.batch.journal import Journal
from pipeline.batch.ledger import _SAVED_OF_N
from pipeline.batch.plan import BatchPlan, is_done
from pipeline.batch.run_record import RunRecord, SlideRecord, load_records, save_record
from pipeline.reports.report import ModelFacts, SlideReport
from pipeline.reports.writers import to_json

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from fakes import MODEL, make_report

_LINES = 1000


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slides", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument(
        "--batches", type=int, nargs="*", default=[1_000, 5_000], help="100000 takes minutes"
    )
    given = parser.parse_args()
    print("| slides | ms a slide | whole twice a slide, ms | reading the record, s |")
    print("| ---: | ---: | ---: | ---: |")
    for slides in given.slides:
        with tempfile.TemporaryDirectory() as folder:
            print(_row(slides, Path(folder)))
    print()
    print("| slides, all done | s | ms a slide | fingerprints opened, a slide | reports, a slide |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    opened = Counter[str]()
    sys.addaudithook(lambda event, what: _count(opened, event, what))
    for slides in given.batches:
        with tempfile.TemporaryDirectory() as folder:
            print(_batch_row(slides, Path(folder), opened), flush=True)


def _row(slides: int, out: Path) -> str:
    record = RunRecord(
        command=("cytolibra", "screen"),
        shard=None,
        started="",
        software={},
        model=ModelFacts(name="none", sha256=None, classes=(), mpp=0.25, threshold={}),
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


def _count(opened: Counter[str], event: str, what: tuple[object, ...]) -> None:
    """Counts files of the names of interest; an audit hook can't be taken off again."""
    if event == "open" and isinstance(what[0], str):
        for name in ("fingerprint.json", "report.json"):
            opened[name] += what[0].endswith(name)


def _batch_row(slides: int, folder: Path, opened: Counter[str]) -> str:
    source, out = folder / "slides", folder / "out"
    source.mkdir()
    for index in range(slides):
        (source / f"{index}.svs").write_bytes(b"x")
    jobs = discover([source], out, with_images=False).jobs
    plan = BatchPlan(out=out, model=MODEL, settings={})
    report = make_report("SLIDE.svs")
    text = to_json(report.model_dump(mode="json"))
    for job in jobs:
        place = out / job.name
        place.mkdir(parents=True)
        (place / "report.json").write_text(text.replace("SLIDE.svs", str(job.path)))
        fingerprint = Fingerprint(
            recipe=hash_recipe(plan.settings, plan.model),
            found=hash_found(plan.settings, plan.model),
            files=stamp_files(job),
            sha256="0" * 64,
        )
        save_fingerprint(fingerprint, place)
    opened.clear()

    def resume() -> None:
        assert is_done(jobs, plan)
        result = screen_batch(jobs, LocalEngine(_never), plan, _Deaf())
        assert result.reused == slides

    spent = _seconds(resume)
    often = [opened[name] / slides for name in ("fingerprint.json", "report.json")]
    return (
        f"| {slides:,} | {spent:.1f} | {1e3 * spent / slides:.1f} | {often[0]:.0f} "
        f"| {often[1]:.0f} |"
    )


def _never(path: Path) -> SlideReport:
    raise AssertionError(f"{path}: all is done")


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

"""What it costs to keep the record of a run, by the number of slides: milliseconds a slide.

The journal's lines, and the whole records that fall to a slide's share, each timed alone; beside it
what it cost to write the record whole twice a slide. Results and summary are not in it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.batch.batch import _SAVED_OF_N
from pipeline.batch.journal import Journal
from pipeline.batch.run_record import RunRecord, SlideRecord, load_records, save_record
from pipeline.reports.report import ModelFacts

_LINES = 1000


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slides", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    print("| slides | ms a slide | whole twice a slide, ms | reading the record, s |")
    print("| ---: | ---: | ---: | ---: |")
    for slides in parser.parse_args().slides:
        with tempfile.TemporaryDirectory() as folder:
            print(_row(slides, Path(folder)))


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


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

"""What a batch asks of the file system, in calls a slide: what a share's server has to answer.

Counted by strace: opening, looking up, listing, making, renaming and removing, below the folders of
slides and results. Two batches of different size are compared, so that what comes once in a run
drops out. Screening itself is left out: reports are made up, and slides have one byte. A share's
client may answer part of it from memory, so these are upper bounds.
"""

from __future__ import annotations

import argparse
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.batch.batch import BatchPlan, is_done, screen_batch
from pipeline.batch.discovery import discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.run_record import Shard

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from fakes import MODEL, make_report

CASES = {
    "all slides to do": "screens each",
    "all slides done": "passes by each",
    "one shard of many, nothing done": "starts and ends, for each slide of the batch",
}


def main() -> None:
    """Prints the table, or is one of the batches that are counted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slides", type=int, nargs=2, default=[100, 300])
    parser.add_argument("--run", nargs=3, metavar=("SLIDES", "OUT", "SHARD"), help="internal")
    given = parser.parse_args()
    if given.run:
        _run(Path(given.run[0]), Path(given.run[1]), given.run[2])
        return
    if not shutil.which("strace"):
        parser.error("strace is not installed")
    print("| a process that finds | and | calls a slide | processor ms a slide |")
    print("| --- | --- | ---: | ---: |")
    for case, does in CASES.items():
        calls, spent = zip(*(_count(case, slides) for slides in given.slides), strict=True)
        more = given.slides[1] - given.slides[0]
        per_ms = 1000 * (spent[1] - spent[0]) / more
        print(f"| {case} | {does} | {(calls[1] - calls[0]) / more:.1f} | {per_ms:.2f} |")


def _run(slides: Path, out: Path, shard: str) -> None:
    jobs = discover([slides], out, with_images=False).jobs
    part = Shard.parse(shard) if shard else None
    plan = BatchPlan(out=out, model=MODEL, settings={}, shard=part)
    is_done(jobs, plan)  # as the command does
    screen_batch(jobs, LocalEngine(make_report), plan, _Deaf())


class _Deaf:
    def batch_started(self, *_: object) -> None: ...
    def slide_started(self, *_: object) -> None: ...
    def slide_ended(self, *_: object) -> None: ...
    def slide_ended_elsewhere(self, *_: object) -> None: ...
    def waiting(self, *_: object) -> None: ...


def _count(case: str, number: int) -> tuple[int, float]:
    """Calls of one run, and the seconds of processor time of one that nobody counts."""
    with tempfile.TemporaryDirectory() as folder:
        slides, out = Path(folder) / "slides", Path(folder) / "out"
        slides.mkdir()
        for n in range(number):
            (slides / f"{n:06}.svs").write_bytes(b"x")
        shard = f"1/{number}" if case.startswith("one shard") else ""
        words = [sys.executable, __file__, "--run", str(slides), str(out), shard]
        if case == "all slides done":
            subprocess.run(words, check=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if case != "all slides done":
            shutil.rmtree(out)
        trace = Path(folder) / "trace"
        kinds = "%file,getdents64"
        strace = ["strace", "-f", "-qq", "-y", "-e", f"trace={kinds}", "-o", str(trace)]
        subprocess.run([*strace, *words], check=True)
        return sum(1 for _ in _below(trace, folder)), spent


def _below(trace: Path, folder: str) -> Iterator[str]:
    """Calls that concern a folder, each once: of one that was interrupted its first line."""
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        if folder in line and not re.search(r"<\.\.\. \w+ resumed>", line):
            yield line


if __name__ == "__main__":
    main()

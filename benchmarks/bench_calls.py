"""What a batch asks of the file system, in calls a slide: what a share's server has to answer.

Counted by strace: opening, looking up, listing, making, renaming and removing, below the folders of
slides and results. Two batches of different size are compared, so that what comes once in a run
drops out. Screening itself is left out: reports are made up, and slides have one byte. A share's
client may answer part of it from memory, so these are upper bounds.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.plan import BatchPlan, is_done
from pipeline.batch.run_record import Shard
from pipeline.reports.report import SlideReport

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from fakes import MODEL, make_report

CASES = {
    "all slides to do": "screens each",
    "all slides done": "passes by each",
    "one shard of many, nothing done": "starts and ends, for each slide of the batch",
    "all done by another that is still at work": "passes by each",
}

_LAST = "zzz.svs"
"""A slide that takes for ever."""


def main() -> None:
    """Prints the table, or is one of the batches that are counted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slides", type=int, nargs=2, default=[100, 400])
    parser.add_argument("--run", nargs=3, metavar=("SLIDES", "OUT", "SHARD"), help="internal")
    given = parser.parse_args()
    if given.run:
        _run(Path(given.run[0]), Path(given.run[1]), given.run[2])
        return
    if not shutil.which("strace"):
        parser.error("strace is not installed")
    fewer, more = given.slides
    print("| a process that finds | and | calls a slide | processor ms a slide |")
    print("| --- | --- | ---: | ---: |")
    for case, does in CASES.items():
        calls, spent = zip(*(_count(case, slides) for slides in (fewer, more)), strict=True)
        per_slide = (calls[1] - calls[0]) / (more - fewer)
        ms = 1000 * (spent[1] - spent[0]) / (more - fewer)
        print(f"| {case} | {does} | {per_slide:.1f} | {ms:.2f} |", flush=True)


def _run(slides: Path, out: Path, shard: str) -> None:
    """One batch; prints its seconds of processor time."""
    began = time.process_time()
    jobs = discover([slides], out, with_images=False).jobs
    part = Shard.parse(shard) if shard else None
    plan = BatchPlan(out=out, model=MODEL, settings={}, shard=part)
    is_done(jobs, plan)  # as the command does
    screen_batch(jobs, LocalEngine(_make), plan, _Ears())
    print(time.process_time() - began, flush=True)


def _make(path: Path) -> SlideReport:
    if path.name == _LAST:
        print("at the last", flush=True)
        time.sleep(3600)
    return make_report(path)


class _Ears:
    def batch_started(self, *_: object) -> None: ...
    def slide_started(self, *_: object) -> None: ...
    def slide_ended(self, *_: object) -> None: ...
    def slide_ended_elsewhere(self, *_: object) -> None: ...
    def joined(self, *_: object) -> None: ...

    def waiting(self, *_: object) -> None:
        """Nothing is left but what the other one has in work."""
        raise KeyboardInterrupt


def _count(case: str, number: int) -> tuple[int, float]:
    """Calls of one run, and the seconds of processor time of another one."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as at_work:
        slides, out = Path(folder) / "slides", Path(folder) / "out"
        slides.mkdir()
        for n in range(number):
            (slides / f"{n:06}.svs").write_bytes(b"x")
        shard = f"1/{number}" if case.startswith("one shard") else ""
        words = [sys.executable, __file__, "--run", str(slides), str(out), shard]
        if "done" in case and not shard:
            _seconds(words)
        if "another" in case:
            (slides / _LAST).write_bytes(b"x")
            at_work.callback(_keep_busy(words).kill)
        spent = _seconds(words)
        if case.startswith(("all slides to do", "one shard")):
            shutil.rmtree(out)
        trace = Path(folder) / "trace"
        strace = ["strace", "-f", "-qq", "-y", "-e", "trace=%file,getdents64", "-o", str(trace)]
        _seconds([*strace, *words])
        return sum(1 for _ in _below(trace, folder)), spent


def _seconds(words: list[str]) -> float:
    told = subprocess.run(words, check=True, capture_output=True, text=True)
    return float(told.stdout)


def _keep_busy(words: list[str]) -> subprocess.Popen[str]:
    """A process that has come to the slide that takes for ever."""
    other = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "at the last\n"
    return other


def _below(trace: Path, folder: str) -> Iterator[str]:
    """Calls that concern a folder, each once: of one that was interrupted its first line."""
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        if folder in line and not re.search(r"<\.\.\. \w+ resumed>", line):
            yield line


if __name__ == "__main__":
    main()

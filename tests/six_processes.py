"""Six processes on one folder, three of them killed at random: ``python six_processes.py N DIR``.

Plays N rounds below DIR, and prints a line of JSON for each: what went wrong in it, and how often
slides were begun, taken over and done twice. Processes are forked from this one, which has loaded
all that they need; in every second round each says to be of a machine of its own, so that others
can only go by its silence. In every third round the six find what two have left that were killed.

Nobody waits for the silence of one that has no slide in hand: what it has left when it was killed
last of all is swept by whoever is started later, as another one is then.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fakes import MODEL, make_report

from pipeline.batch import lock
from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import SlideJob, discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.plan import BatchPlan
from pipeline.batch.presence import Pace
from pipeline.batch.run_record import RunRecord
from pipeline.reports.report import SlideReport

SLIDES = 24
PROCESSES = 6
KILLED = 3
EARLIER = 2
PACE = Pace(beat_s=0.2, stale_s=1.5, watch_s=0.5, look_s=0.1)
SCREENED_S = 0.05


class Noting:
    """Notes in a file, line by line, which slides this process begins."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def batch_started(self, slides: int) -> None: ...

    def slide_started(self, job: SlideJob) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{job.name}\n")

    def slide_ended(self, *_: object) -> None: ...
    def slide_ended_elsewhere(self, *_: object) -> None: ...
    def joined(self, *_: object) -> None: ...
    def waiting(self, *_: object) -> None: ...


def screen(path: Path) -> SlideReport:
    time.sleep(SCREENED_S * random.uniform(0.5, 1.5))
    return make_report(path)


def run(slides: Path, out: Path, notes: Path, apart: bool) -> int:
    """One process of the run; its exit code."""
    random.seed(os.getpid())
    if apart:
        lock.MACHINE = f"machine-{uuid.uuid4()}"
    jobs = discover([slides], out, with_images=False).jobs
    plan = BatchPlan(out=out, model=MODEL, settings={}, pace=PACE)
    return screen_batch(jobs, LocalEngine(screen, slots=2), plan, Noting(notes)).exit_code


def fork(work: Callable[[], int]) -> int:
    """Another process that does it; its number."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = work()
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return pid


def hidden(out: Path) -> list[str]:
    """What only a run at work has in a folder."""
    return sorted({path.name for path in out.glob(".*")} - {".results.jsonl"})


def contents(out: Path) -> dict[str, bytes]:
    """The bytes of all results, by path below the folder, without how long things took."""
    times = re.compile(rb'"timing": \{[^}]*\}')
    return {
        str(path.relative_to(out)): times.sub(b"", path.read_bytes())
        for path in out.rglob("*")
        if path.is_file() and path.parent != out
    }


def leave_something(slides: Path, out: Path, notes: Path) -> set[str]:
    """A run of processes that are killed; the slides that they had begun."""
    pids = [
        fork(lambda k=k: run(slides, out, notes / f"earlier-{k}", False)) for k in range(EARLIER)
    ]
    for k, pid in enumerate(pids):
        while not (notes / f"earlier-{k}").exists():
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return {name for path in notes.iterdir() for name in path.read_text().split()}


def play(
    number: int, folder: Path, slides: Path, undisturbed: dict[str, bytes]
) -> dict[str, object]:
    """One round."""
    out, notes = folder / "out", folder / "notes"
    notes.mkdir(parents=True)
    began = time.monotonic()
    apart = number % 2 == 1
    earlier = leave_something(slides, out, notes) if number % 3 == 2 else set[str]()
    pids = [fork(lambda k=k: run(slides, out, notes / str(k), apart)) for k in range(PROCESSES)]
    killed = random.sample(range(PROCESSES), KILLED)
    codes = {}
    for victim in killed:
        while not (notes / str(victim)).exists() and not os.waitid(
            os.P_PID, pids[victim], os.WEXITED | os.WNOHANG | os.WNOWAIT
        ):
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.4))
        os.kill(pids[victim], signal.SIGKILL)
        codes[victim] = os.waitstatus_to_exitcode(os.waitpid(pids[victim], 0)[1])
    for k in set(range(PROCESSES)) - set(killed):
        codes[k] = os.waitstatus_to_exitcode(os.waitpid(pids[k], 0)[1])
    swept_later = apart and bool(hidden(out))
    if swept_later:
        time.sleep(PACE.stale_s)
        again = fork(lambda: run(slides, out, notes / "again", apart))
        codes[PROCESSES] = os.waitstatus_to_exitcode(os.waitpid(again, 0)[1])

    begun = Counter(
        name for path in notes.iterdir() for name in path.read_text(encoding="utf-8").split()
    )
    logs = "".join(path.read_text(encoding="utf-8") for path in out.glob("run*.log"))
    takeovers = Counter(
        Path(path).name for path in re.findall(r"WARNING (.*): taken over from", logs)
    )
    taken = earlier | takeovers.keys()
    record = RunRecord.model_validate_json((out / "run.json").read_bytes())
    twice = {name for name, count in begun.items() if count > 1}
    attempts = {name: slide.attempts for name, slide in record.slides.items()}
    wrong = {
        "exit codes": sorted(codes[k] for k in codes if codes[k] not in (0, -signal.SIGKILL)),
        "not complete": [n for n, slide in record.slides.items() if slide.status != "complete"],
        "twice without a takeover": sorted(twice - taken),
        "other bytes": contents(out) != undisturbed,
        # Each one that was killed may have noted that it begins a slide, and told nobody yet.
        "attempts": {
            n: a
            for n, a in attempts.items()
            if not 0 <= a - begun[n] <= takeovers[n] + EARLIER * bool(earlier)
        },
        "status": record.status if record.status != "complete" else "",
        "left": hidden(out),
    }
    summary = {
        "round": number,
        "wrong": {what: value for what, value in wrong.items() if value},
        "swept later": swept_later,
        "killed": sum(code == -signal.SIGKILL for code in codes.values()),
        "begun": begun.total(),
        "taken over": len(taken),
        "done twice": len(twice),
        "seconds": round(time.monotonic() - began, 1),
    }
    if not summary["wrong"]:
        shutil.rmtree(folder)
    return summary


def main(rounds: int, folder: Path) -> None:
    slides = folder / "slides"
    slides.mkdir(parents=True)
    for index in range(SLIDES):
        (slides / f"{index:02}.svs").write_bytes(bytes([index]))
    single = folder / "single"
    assert os.waitpid(fork(lambda: run(slides, single, folder / "notes", False)), 0)[1] == 0
    undisturbed = contents(single)
    assert len(undisturbed) >= SLIDES
    for number in range(rounds):
        told = play(number, folder / str(number), slides, undisturbed)
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

"""A batch that is killed at random moments, again and again, ends as one that nobody disturbed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkout import PYTHONPATH

from pipeline.batch.run_record import RunRecord

KILLS = 20
SLIDES = 120

CHILD = """
import sys, time
from pathlib import Path
from fakes import MODEL, make_report
from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.plan import BatchPlan

slides, out = Path(sys.argv[1]), Path(sys.argv[2])

def screen(path):
    time.sleep(0.005)
    return make_report(path)

class Ears:
    def batch_started(self, *_): print("started", flush=True)
    def slide_started(self, *_): pass
    def slide_ended(self, job, record, report):
        if not record.reused: print("ended", flush=True)

jobs = discover([slides], out, with_images=False).jobs
plan = BatchPlan(out=out, model=MODEL, settings={"tiler": {"overlap": 128}})
sys.exit(screen_batch(jobs, LocalEngine(screen, slots=2), plan, Ears()).exit_code)
"""


def start(slides: Path, out: Path) -> subprocess.Popen[bytes]:
    """A batch in a process of its own, of which the slides are begun just now."""
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    command = [sys.executable, "-c", CHILD, str(slides), str(out)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline() == b"started\n"
    return child


def results(out: Path) -> dict[str, bytes]:
    """What lies in the folders of slides."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.glob("*.svs/*"))
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_kills_at_random_moments_lose_nothing_and_leave_the_same_bytes(tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    for number in range(SLIDES):
        (slides / f"{number:03}.svs").write_bytes(bytes([number]))
    assert start(slides, tmp_path / "whole").wait(300) == 0

    draw, out = random.Random(18), tmp_path / "out"
    for _ in range(KILLS):
        child = start(slides, out)
        for _ in range(draw.randint(0, 5)):
            assert child.stdout is not None
            assert child.stdout.readline() == b"ended\n"
        time.sleep(draw.uniform(0.0, 0.03))
        child.send_signal(signal.SIGKILL)
        assert child.wait(60) == -signal.SIGKILL
    whole = results(tmp_path / "whole")
    done = results(out)
    assert 0 < len(done) < len(whole)  # the kills came in mid-run
    assert all(whole[name] == data for name, data in done.items())
    files = {name.partition("/")[0] for name in done}
    assert len(done) == len(files) * (len(whole) // SLIDES)  # whole folders alone

    assert start(slides, out).wait(300) == 0
    assert results(out) == whole
    # Of claims, journals, locks and half results nothing is left.
    assert [path.name for path in out.iterdir() if path.name[0] == "."] == [".results.jsonl"]
    record = RunRecord.model_validate_json((out / "run.json").read_bytes())
    attempts = [slide.attempts for slide in record.slides.values()]
    assert len(attempts) == SLIDES
    assert min(attempts) == 1
    # A kill cuts short what is in work, or done and not written yet: all of that is counted.
    assert SLIDES < sum(attempts) <= SLIDES + 4 * KILLS

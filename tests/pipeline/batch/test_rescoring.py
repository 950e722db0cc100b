"""Slides that are opened for new reports: in doubt, by another process, as those to be screened."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import MODEL, make_report

from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import SlideJob
from pipeline.batch.engines import LocalEngine, RescoringAside
from pipeline.batch.plan import BatchPlan
from pipeline.batch.remote import RemoteSlide
from pipeline.batch.rescore import Rescorer
from pipeline.errors import WorkerLostError
from pipeline.settings import ScreenSettings


class Deadly(Rescorer):
    """Aborts at slides that are called so."""

    def why_not(self, job: SlideJob, folder: Path) -> str | None:
        """Any will do."""

    def rescore_here(self, job: SlideJob, folder: Path):
        """See `Rescorer`."""
        if job.path.stem == "abort":
            os.abort()
        return make_report(job.path, warnings=(str(os.getpid()),))


def test_a_slide_that_crashes_costs_itself_and_the_next_has_another_process(tmp_path: Path) -> None:
    aside = RescoringAside(ScreenSettings())
    rescorer = Deadly(None, ScreenSettings(), "")
    remote = RemoteSlide("s3://bucket/good.tif", store=lambda: "can't be pickled")
    good = SlideJob(tmp_path / "good.tif", "good.tif", remote=remote)
    try:
        with pytest.raises(WorkerLostError, match=r"abort\.tif: .* died: it aborted itself"):
            aside.rescore(rescorer, SlideJob(tmp_path / "abort.tif", "abort.tif"), tmp_path, True)
        (there,) = aside.rescore(rescorer, good, tmp_path, False).warnings
        assert there.text != str(os.getpid())
    finally:
        aside.close()


class Aside:
    """Takes note of what it is asked; some slides are in doubt to it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []
        self.closed = False

    def why(self, path: Path) -> str:
        return "odd" if "odd" in path.name else ""

    def rescore(self, rescorer: Rescorer, job: SlideJob, folder: Path, careful: bool):
        assert rescorer.apart is None
        self.asked.append((job.name, careful))
        return make_report(job.path)

    def close(self, wait: bool = True) -> None:
        self.closed = True


def test_who_is_in_doubt_or_was_in_work_is_apart_and_what_is_gone_never_is() -> None:
    aside, jobs = Aside(), [SlideJob(Path(name), name) for name in ("a.tif", "odd.tif", "was.tif")]
    rescorer = Deadly(None, ScreenSettings(), "", aside)
    for job in (*jobs, replace(jobs[1], name="gone", gone=True)):
        rescorer.rescore(job, Path(), careful=job.name == "was.tif")
    assert aside.asked == [("odd.tif", False), ("was.tif", True)]


@pytest.mark.parametrize(("isolate", "why"), [("auto", ""), ("always", "as every slide")])
def test_all_are_apart_where_that_is_asked_for(tmp_path: Path, isolate: str, why: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"no TIFF")
    assert RescoringAside(ScreenSettings(isolate=isolate)).why(path) == why
    assert RescoringAside(ScreenSettings(), isolates_all=True).why(path) == "as every slide"


class Ears:
    def batch_started(self, slides: int) -> None: ...
    def slide_started(self, job: object) -> None: ...
    def slide_ended(self, job: object, record: object, report: object) -> None: ...


def test_a_batch_says_which_slides_an_earlier_one_was_at(tmp_path: Path) -> None:
    names = ("a.tif", "b.tif")
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    jobs = [SlideJob(tmp_path / name, name) for name in names]
    out, aside = tmp_path / "out", Aside()
    plan = BatchPlan(out=out, model=MODEL, settings={})
    screen_batch(jobs, LocalEngine(make_report), plan, Ears())
    text = (out / "run.json").read_text()
    before, after = text.split('"b.tif": {')
    (out / "run.json").write_text(
        before + '"b.tif": {' + after.replace('"status": "complete"', '"status": "running"', 1)
    )
    rescorer = Deadly(None, ScreenSettings(), "", aside)
    plan = BatchPlan(out=out, model=MODEL, settings={"a": 1}, rescorer=rescorer)
    assert screen_batch(jobs, LocalEngine(make_report), plan, Ears()).rescored == 2
    assert aside.asked == [("b.tif", True)]
    assert aside.closed

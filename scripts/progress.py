"""How a batch is shown: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pipeline.batch.discovery import SlideJob
from pipeline.batch.metrics import RunMetrics
from pipeline.batch.run_record import SlideRecord
from pipeline.reports.slide_summary import SlideSummary
from pipeline.slides.readers.base import show


class PlainProgress:
    """A line when a slide is begun and one when it is done; failures and warnings go to stderr."""

    def __init__(self) -> None:
        self._slides = 0
        self._numbers: dict[str, int] = {}
        self._awaited = ""
        self._told = 0.0

    def batch_started(self, slides: int) -> None:
        """See `pipeline.batch.plan.Listener`."""
        self._slides = slides

    def slide_started(self, job: SlideJob) -> None:
        """See `pipeline.batch.plan.Listener`."""
        what = "fetching, then screening" if job.remote else "screening"
        self._tell(f"{self._number(job)} {show(Path(job.name))}: {what}")

    def tiles_done(self, slide: Path, done: int, tiles: int) -> None:
        """Tiles of the slide that is being screened; told by bars only."""

    def slide_ended(self, job: SlideJob, record: SlideRecord, report: SlideSummary | None) -> None:
        """See `pipeline.batch.plan.Listener`."""
        if record.error is not None:
            self._tell_failure(f"error: {record.error}")
        outcome = describe_outcome(record, report)
        self._tell(f"{self._number(job)} {show(Path(job.name))}: {outcome}")
        for doubt in report.warnings if report else ():
            self._tell_warning(f"warning: {show(Path(job.name))}: {doubt}")

    def warn(self, text: str) -> None:
        """Something that befalls the batch as a whole."""
        self._tell_warning(f"warning: {text}")

    def slide_ended_elsewhere(
        self, job: SlideJob, record: SlideRecord, report: SlideSummary | None
    ) -> None:
        """See `pipeline.batch.plan.Listener`; warnings are told by who has screened it."""
        if record.error is not None:
            self._tell_failure(f"error: {record.error}")
        outcome = "failed" if record.error is not None else "done"
        self._tell(f"{self._number(job)} {show(Path(job.name))}: {outcome} by another process")

    def joined(self, whom: str) -> None:
        """See `pipeline.batch.plan.Listener`."""
        self._tell(f"the same batch is at work here, by {whom}: its slides are shared")

    def waiting(self, slides: int, whom: str) -> None:
        """See `pipeline.batch.plan.Listener`; told where it is another one, or now and then."""
        if whom == self._awaited and time.monotonic() - self._told < _TOLD_AGAIN_S:
            return
        self._awaited, self._told = whom, time.monotonic()
        self._tell(f"waiting for the last {slides} slide{'s' * (slides > 1)}, in work by {whom}")

    def _number(self, job: SlideJob) -> str:
        """Which slide this is, of how many; several may be in work."""
        number = self._numbers.setdefault(job.name, len(self._numbers) + 1)
        return f"[{number}/{self._slides}]"

    def _tell(self, line: str) -> None:
        print(line, flush=True)

    def _tell_failure(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def _tell_warning(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


_TOLD_AGAIN_S = 300.0
"""Until who is waited for is told once more."""


class BarProgress(PlainProgress):
    """Bars with rate and time left, below the lines of slides that are done.

    One of slides, and one of the tiles of each slide that a detector is at.
    """

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._all = progress.add_task("slides", total=None, unit="slides", visible=False)
        self._bars: dict[Path, TaskID] = {}
        self._ended: set[Path] = set()
        self._lock = threading.Lock()

    def batch_started(self, slides: int) -> None:
        """See `pipeline.batch.plan.Listener`."""
        super().batch_started(slides)
        self._progress.update(self._all, total=slides, visible=True)

    def slide_started(self, job: SlideJob) -> None:
        """See `pipeline.batch.plan.Listener`; its bar begins with its tiles."""

    def tiles_done(self, slide: Path, done: int, tiles: int) -> None:
        """Tiles of a slide that a detector is at; of another process they may come late."""
        with self._lock:
            if slide in self._ended:
                return
            if slide not in self._bars:
                name = show(Path(slide.name))[-40:]
                self._bars[slide] = self._progress.add_task(name, total=tiles, unit="tiles")
            self._progress.update(self._bars[slide], completed=done, total=tiles)
            if done == tiles:
                self._drop(slide)

    def slide_ended(self, job: SlideJob, record: SlideRecord, report: SlideSummary | None) -> None:
        """See `pipeline.batch.plan.Listener`."""
        super().slide_ended(job, record, report)
        with self._lock:
            self._drop(job.path)
        self._progress.advance(self._all)

    def slide_ended_elsewhere(
        self, job: SlideJob, record: SlideRecord, report: SlideSummary | None
    ) -> None:
        """See `pipeline.batch.plan.Listener`."""
        super().slide_ended_elsewhere(job, record, report)
        self._progress.advance(self._all)

    def _drop(self, slide: Path) -> None:
        self._ended.add(slide)
        if slide in self._bars:
            self._progress.remove_task(self._bars.pop(slide))

    def _tell(self, line: str) -> None:
        self._print(line)

    def _tell_failure(self, line: str) -> None:
        self._print(line, style="red")

    def _tell_warning(self, line: str) -> None:
        self._print(line, style="yellow")

    def _print(self, line: str, style: str | None = None) -> None:
        """A line as it is, above the bars: names are no markup."""
        console = self._progress.console
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


class Several:
    """Passes what happens on to who shows it, and to who counts it."""

    def __init__(self, shown: PlainProgress, counted: RunMetrics) -> None:
        self._shown = shown
        self._others: tuple[PlainProgress | RunMetrics, ...] = (shown, counted)

    def warn(self, text: str) -> None:
        """A warning of the batch as a whole."""
        self._shown.warn(text)

    def batch_started(self, slides: int) -> None:
        """See `pipeline.batch.plan.Listener`."""
        for one in self._others:
            one.batch_started(slides)

    def slide_started(self, job: SlideJob) -> None:
        """See `pipeline.batch.plan.Listener`."""
        for one in self._others:
            one.slide_started(job)

    def tiles_done(self, slide: Path, done: int, tiles: int) -> None:
        """Tiles of the slide that is being screened."""
        for one in self._others:
            one.tiles_done(slide, done, tiles)

    def slide_ended(self, job: SlideJob, record: SlideRecord, report: SlideSummary | None) -> None:
        """See `pipeline.batch.plan.Listener`."""
        for one in self._others:
            one.slide_ended(job, record, report)

    def slide_ended_elsewhere(
        self, job: SlideJob, record: SlideRecord, report: SlideSummary | None
    ) -> None:
        """See `pipeline.batch.plan.Listener`."""
        for one in self._others:
            one.slide_ended_elsewhere(job, record, report)

    def joined(self, whom: str) -> None:
        """See `pipeline.batch.plan.Listener`."""
        for one in self._others:
            one.joined(whom)

    def waiting(self, slides: int, whom: str) -> None:
        """See `pipeline.batch.plan.Listener`."""
        for one in self._others:
            one.waiting(slides, whom)


class RateColumn(ProgressColumn):
    """Slides or tiles a second."""

    def render(self, task: Task) -> Text:
        """The rate of a task; nothing where it is not known yet."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g} {task.fields['unit']}/s" if speed else "")


def describe_outcome(record: SlideRecord, report: SlideSummary | None) -> str:
    """How it went with a slide, in one short line."""
    if report is None:
        return "failed"
    strange = report.domain == "outside"
    found = "out of the model's domain; " if strange else ""
    found += f"{report.abnormal_cells} abnormal of {report.cells} cells; {report.category}"
    seconds = "done before" if record.reused else f"{record.seconds:.1f} s"
    return f"{found} ({seconds})"


@contextmanager
def show_progress(console: Console) -> Iterator[PlainProgress]:
    """Bars where the console is a terminal, else plain lines."""
    if not console.is_terminal:
        yield PlainProgress()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield BarProgress(progress)

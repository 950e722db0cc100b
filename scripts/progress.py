"""How a batch is shown: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
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
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pipeline.discovery import SlideJob
from pipeline.readers.base import show
from pipeline.report import SlideReport
from pipeline.run_record import SlideRecord


class PlainProgress:
    """One line when a slide is begun and one when it is done; failures go to stderr."""

    def __init__(self) -> None:
        self._slides = 0
        self._numbers: dict[str, int] = {}

    def batch_started(self, slides: int) -> None:
        """See `pipeline.batch.Listener`."""
        self._slides = slides

    def slide_started(self, job: SlideJob) -> None:
        """See `pipeline.batch.Listener`."""
        self._tell(f"{self._number(job)} {show(Path(job.name))}: screening")

    def tiles_done(self, slide: Path, done: int, tiles: int) -> None:
        """Tiles of the slide that is being screened; told by bars only."""

    def slide_ended(self, job: SlideJob, record: SlideRecord, report: SlideReport | None) -> None:
        """See `pipeline.batch.Listener`."""
        if record.error is not None:
            self._tell_failure(f"error: {record.error}")
        outcome = describe_outcome(record, report)
        self._tell(f"{self._number(job)} {show(Path(job.name))}: {outcome}")

    def _number(self, job: SlideJob) -> str:
        """Which slide this is, of how many; several may be in work."""
        number = self._numbers.setdefault(job.name, len(self._numbers) + 1)
        return f"[{number}/{self._slides}]"

    def _tell(self, line: str) -> None:
        print(line, flush=True)

    def _tell_failure(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class BarProgress(PlainProgress):
    """Bars of slides and tiles with rate and time left, below the lines of slides that are done."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._slide: Path | None = None
        self._all = progress.add_task("slides", total=None, unit="slides", visible=False)
        self._current = progress.add_task("", total=None, unit="tiles", visible=False)

    def batch_started(self, slides: int) -> None:
        """See `pipeline.batch.Listener`."""
        super().batch_started(slides)
        self._progress.update(self._all, total=slides, visible=True)

    def slide_started(self, job: SlideJob) -> None:
        """See `pipeline.batch.Listener`; its bar begins with its tiles."""

    def tiles_done(self, slide: Path, done: int, tiles: int) -> None:
        """Tiles of the slide that the detector is at."""
        if slide != self._slide:
            self._slide = slide
            name = show(Path(slide.name))
            self._progress.reset(self._current, total=tiles, description=name[-40:], visible=True)
        self._progress.update(self._current, completed=done, total=tiles)

    def slide_ended(self, job: SlideJob, record: SlideRecord, report: SlideReport | None) -> None:
        """See `pipeline.batch.Listener`."""
        super().slide_ended(job, record, report)
        if job.path == self._slide:
            self._progress.update(self._current, visible=False)
        self._progress.advance(self._all)

    def _tell(self, line: str) -> None:
        self._print(line)

    def _tell_failure(self, line: str) -> None:
        self._print(line, style="red")

    def _print(self, line: str, style: str | None = None) -> None:
        """A line as it is, above the bars: names are no markup."""
        console = self._progress.console
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


class RateColumn(ProgressColumn):
    """Slides or tiles a second."""

    def render(self, task: Task) -> Text:
        """The rate of a task; nothing where it is not known yet."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g} {task.fields['unit']}/s" if speed else "")


def describe_outcome(record: SlideRecord, report: SlideReport | None) -> str:
    """How it went with a slide, in one short line."""
    if report is None:
        return "failed"
    cells = sum(report.counts.values())
    found = f"{report.abnormal_cells} abnormal of {cells} cells; {report.suggestion.category}"
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

"""New reports of slides that might end the process which opens them, made by another one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.batch.discovery import SlideJob
from pipeline.batch.engines.base import Told
from pipeline.batch.engines.local import STAGGERED
from pipeline.batch.engines.processes import ProcessEngine
from pipeline.batch.rescore import Rescorer
from pipeline.reports.report import SlideReport
from pipeline.settings import ScreenSettings
from pipeline.slides.doubtful import why_in_doubt


class RescoringAside:
    """Processes without a network, started when the first such slide comes.

    Args:
        settings: say which slides they read, and what one may take.
        isolates_all: whether they read all, whatever the settings say.

    Raises:
        ConfigError: this machine can't tell when a limit is reached.
    """

    def __init__(self, settings: ScreenSettings, isolates_all: bool = False) -> None:
        self._all = isolates_all or settings.isolates_all
        self._processes = ProcessEngine([_Maker()] * STAGGERED, limits=settings.limits)

    def why(self, path: Path) -> str:
        """See `pipeline.batch.rescore.Apart`."""
        return "as every slide" if self._all else why_in_doubt(path)

    def rescore(
        self, rescorer: Rescorer, job: SlideJob, folder: Path, careful: bool
    ) -> SlideReport:
        """See `pipeline.batch.rescore.Apart`."""
        asked = _Asked(rescorer, _portable(job), folder)
        return self._processes.screen(job.path, careful, asked)

    def close(self, wait: bool = True) -> None:
        """See `pipeline.batch.rescore.Apart`."""
        self._processes.close(wait)


def _portable(job: SlideJob) -> SlideJob:
    """A slide's job as it can be pickled: who fetches it stays here."""
    return replace(job, remote=job.remote and replace(job.remote, store=None, files=()))


@dataclass(frozen=True)
class _Asked:
    rescorer: Rescorer
    job: SlideJob
    folder: Path


@dataclass(frozen=True)
class _Maker:
    """Makes who rescores, in that process."""

    def worker(self, told: Told) -> _Rescoring:
        """See `pipeline.batch.engines.supervised.Maker`."""
        return _Rescoring()


class _Rescoring:
    def describe(self) -> None:
        """Nothing: each question brings what is in force."""

    def screen(self, asked: _Asked) -> SlideReport:
        """Makes one report."""
        return asked.rescorer.rescore_here(asked.job, asked.folder)

"""Slides that other processes of the run have: what became of them, and what these leave."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.batch.claims import Claims, Standing
from pipeline.batch.discovery import SlideJob
from pipeline.batch.lock import Holder
from pipeline.batch.plan import BatchPlan
from pipeline.batch.run_record import SlideRecord
from pipeline.reports.slide_summary import SlideSummary
from pipeline.slides.readers.base import show


@dataclass(frozen=True)
class News:
    """What is to be known of a slide that another process has, or had.

    Attributes:
        job: the slide.
        standing: of its claim.
        done: what became of it; None where it may be taken over.
        report: what its report says, where it is complete.
    """

    job: SlideJob
    standing: Standing
    done: SlideRecord | None = None
    report: SlideSummary | None = None


class Others:
    """The slides that others have claimed.

    Args:
        plan: of the batch.
        claims: of all.
    """

    def __init__(self, plan: BatchPlan, claims: Claims) -> None:
        self._plan, self._claims = plan, claims
        self._jobs: dict[str, SlideJob] = {}
        self._missed: dict[str, float] = {}
        self._looked = 0.0
        self._at_work: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, job: SlideJob) -> None:
        """A slide that another process has."""
        self._jobs[job.name] = job

    def drop(self, job: SlideJob) -> None:
        """The slide is theirs no more, or is done."""
        self._jobs.pop(job.name, None)

    @property
    def pause_s(self) -> float:
        """Seconds until it is time to look at them."""
        return max(0.0, self._looked + self._plan.pace.look_s - time.monotonic())

    @property
    def awaited(self) -> tuple[int, str]:
        """How many were in work at the last look, and by whom."""
        whom = ", ".join(f"{who} ({count})" for who, count in self._at_work.most_common())
        return self._at_work.total(), whom

    def look(self) -> Iterator[News]:
        """What there is to know of each; nothing before it is time."""
        if self.pause_s > 0:
            return
        self._at_work.clear()
        for job in list(self._jobs.values()):
            standing = self._claims.look(job.name)
            if standing.state == "in work":
                self._at_work[by_whom(standing)] += 1
            elif standing.record is None:
                yield News(job, standing)
            elif standing.record.status == "failed":
                yield News(job, standing, standing.record)
            elif report := self._plan.known.summary(job.name):
                yield News(job, standing, standing.record, report)
            elif self._is_missing(job):
                yield News(job, standing)
        self._looked = time.monotonic()

    def _is_missing(self, job: SlideJob) -> bool:
        """Whether a result that was told is gone, rather than not seen yet from this machine."""
        since = self._missed.setdefault(job.name, time.monotonic())
        return time.monotonic() - since >= self._plan.pace.stale_s


def by_whom(standing: Standing) -> str:
    """Who has a slide, or had it, in words."""
    return _named(standing.holder, "a process that has left")


def by_all(fellows: Iterable[Holder | None]) -> str:
    """Some processes, in words."""
    unknown = "a process that doesn't say who it is"
    return ", ".join(_named(one, unknown) for one in fellows) or unknown


def _named(holder: Holder | None, unknown: str) -> str:
    said = f"process {holder.pid} on {holder.host}" if holder else unknown
    return show(Path(said))

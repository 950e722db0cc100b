"""What a batch tells of itself: its summary, now and then and in the end, and its doubts."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence

from configs import Doubt
from configs.doubts import listed
from pipeline.batch.batch_summary import tell_progress, write_summary
from pipeline.batch.discovery import SlideJob
from pipeline.batch.ledger import Ledger
from pipeline.batch.opening import slides_besides
from pipeline.batch.output import has_result
from pipeline.batch.plan import BatchPlan, take_shard
from pipeline.batch.run_record import RunRecord, Shard, load_records
from pipeline.reports.report import encodable
from pipeline.reports.tables import format_in_force

_SUMMARY_EVERY_S = 60.0
"""Seconds between two summaries of a run that goes on, or more:"""

_SUMMARY_COST = 50
"""times as long as the last one took."""

_NAMED = 3
"""Slides that are named where several are told of."""

_log = logging.getLogger(__name__)


class Telling:
    """Writes the summary of all slides, and finds what a person should know of the whole.

    Args:
        jobs: all slides, of all shards.
        plan: of the batch.
        ledger: how it goes.
        before: slides of earlier runs that are none of this one.
    """

    def __init__(
        self,
        jobs: Sequence[SlideJob],
        plan: BatchPlan,
        ledger: Ledger,
        before: Sequence[str] = (),
    ) -> None:
        self._all_jobs, self._plan, self._ledger = jobs, plan, ledger
        self._before = _tell_before(before)
        self._summarised, self._summary_took = time.monotonic(), 0.0
        self._old: list[SlideJob] | None = None
        """Slides whose results are of other settings; None before anybody has looked."""
        self.problem: str | None = None
        """Why the summary couldn't be written in the end."""

    def begin(self) -> None:
        """Has the summary say that there are results of other settings, if there are.

        A run that is killed leaves it so.
        """
        if old := self._tell_old(self._find_old()):
            self._summarise(old)

    def end(self, again: Iterable[str]) -> tuple[Doubt, ...]:
        """Writes the last summary.

        Args:
            again: names of slides that were tried again because their process had died.

        Returns:
            What is to be told of the batch.
        """
        old = self._tell_old(self._find_old())
        lost = self._tell_lost(again)
        if shard := self._ledger.record.shard:  # others may have told of theirs meanwhile
            records = load_records(self._plan.out)
            besides = slides_besides(self._all_jobs, self._plan, records)
            self._before = (*_tell_before(besides), *self._tell_behind(shard, records))
        doubts = (*self._before, *old, *lost, *self._summarise(old))
        for doubt in doubts:
            _log.warning(str(doubt), extra={"code": doubt.code})
        return doubts

    def _summarise(self, old: Sequence[Doubt], as_of: str = "") -> tuple[Doubt, ...]:
        """Writes the summary, in which results of other settings are marked.

        Args:
            old: that there are some.
            as_of: how the run stands, while it goes on.

        Returns:
            What is to be told of the summary itself.
        """
        try:
            return write_summary(
                self._all_jobs,
                self._plan.out,
                self._ledger.record.recipe,
                format_in_force(self._plan.settings),
                doubts=(*self._plan.doubts, *self._before, *old),
                not_read=self._plan.not_read,
                reports=self._plan.reports,
                known=self._plan.known,
                as_of=as_of,
            )
        except OSError as error:  # a full disk, or a spreadsheet that holds the file
            problem = f"the summary can't be written: {error}"
            self.problem = None if as_of else problem  # it may be written at the end
            _log.warning(problem)
            return ()

    def now_and_then(self) -> None:
        """Lets the summary say how far a long run is, for a fiftieth of its time at most."""
        if not self._ledger.kept_here:
            return
        began = time.monotonic()
        if began - self._summarised < max(_SUMMARY_EVERY_S, _SUMMARY_COST * self._summary_took):
            return
        slides = self._ledger.record.slides
        ended = sum(slide.status in ("complete", "failed") for slide in slides.values())
        self._summarise(self._tell_old(self._find_old()), tell_progress(ended, len(slides)))
        self._summarised = time.monotonic()
        self._summary_took = self._summarised - began

    def _find_old(self) -> list[str]:
        """Names of slides, of all shards, whose results here are of other settings.

        Results of other slides, which stay in their place, are none: each is told of its slide.

        Runs of other settings are kept out, so that the first look at all slides finds the last of
        them: later ones go by what it found.
        """
        out, recipe, known = self._plan.out, self._ledger.record.recipe, self._plan.known
        self._old = [
            job
            for job in (self._all_jobs if self._old is None else self._old)
            if not known.is_current(job, recipe) and has_result(out / job.name)
        ]
        slides = self._ledger.record.slides
        names = [encodable(job.name) for job in self._old]
        return [name for name in names if name not in slides or not slides[name].finds_another]

    def _tell_old(self, old: Sequence[str]) -> tuple[Doubt, ...]:
        if not old:
            return ()
        text = (
            f"mixed: {len(old)} of {len(self._all_jobs)} slides have reports of other settings, or "
            f"of files that have changed since: {listed(old, _NAMED)}; run the same command again"
        )
        return (Doubt(code="mixed-settings", text=text),)

    def _tell_behind(self, own: Shard, records: Iterable[RunRecord]) -> tuple[Doubt, ...]:
        """That slides fall to other shards, which had ended before these came."""
        recipe, doubts = self._ledger.record.recipe, []
        for record in records:
            shard = record.shard
            if shard is None or shard.count != own.count or shard == own:
                continue
            if record.recipe != recipe or record.status == "running":
                continue
            names = [encodable(job.name) for job in take_shard(self._all_jobs, shard)]
            if left := [name for name in names if name not in record.slides]:
                which = f"{shard.index}/{shard.count}"
                text = (
                    f"{len(left)} slide(s) came after --shard {which} had listed its own, and are "
                    f"screened by none: {listed(left, _NAMED)}; run --shard {which} once more"
                )
                doubts.append(Doubt(code="shard-behind", text=text))
        return tuple(doubts)

    def _tell_lost(self, again: Iterable[str]) -> tuple[Doubt, ...]:
        """That slides are complete whose process died at first."""
        slides = self._ledger.record.slides
        names = [name for name in sorted(again) if slides[name].status == "complete"]
        if not names:
            return ()
        text = (
            f"the process of {len(names)} slide(s) died, and they were screened again: "
            f"{listed(names, _NAMED)}; see run.log"
        )
        return (Doubt(code="screened-again", text=text),)


def _tell_before(before: Sequence[str]) -> tuple[Doubt, ...]:
    if not before:
        return ()
    text = (
        f"{len(before)} slide(s) of earlier calls are here that this one doesn't name: "
        f"{listed(before, _NAMED)}; the summary is of this call alone"
    )
    return (Doubt(code="slides-of-before", text=text),)

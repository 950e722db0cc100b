"""New reports of what was found before, by other thresholds and rules, without the network."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.card import ModelCard
from pipeline.batch.discovery import SlideJob
from pipeline.batch.fingerprint import Fingerprint, is_of_slide, load_fingerprint, slide_of
from pipeline.batch.output import load_report
from pipeline.batch.places import Places
from pipeline.batch.run_record import latest_slides, load_records, of_last_run
from pipeline.cells.found import KeptSettings
from pipeline.conclusion import Clock, conclude
from pipeline.in_force import InForce, in_force, order_settings
from pipeline.network.detector import DetectorFacts, describe_detector, limits_of
from pipeline.network.grading import GraderInForce
from pipeline.network.runtimes import RuntimeFacts
from pipeline.reports.detections import DetectionsError, Finder, KeptFacts, load_facts, load_kept
from pipeline.reports.report import SlideReport, encodable
from pipeline.settings import MADE, ScreenSettings
from pipeline.slides.mpp import GivenMpp
from pipeline.slides.readers.base import show
from pipeline.slides.slide import open_slide
from pipeline.slides.unread import NotRead
from pipeline.tiles.focal import plan_planes

_log = logging.getLogger(__name__)


class Apart(Protocol):
    """Makes reports in another process; see `pipeline.batch.engines.rescoring`."""

    def why(self, path: Path) -> str:
        """Why the slide is not to be read by this process; empty where it may be."""

    def rescore(
        self, rescorer: Rescorer, job: SlideJob, folder: Path, careful: bool
    ) -> SlideReport:
        """See `Rescorer.rescore`, which ``rescorer`` does there."""

    def close(self, wait: bool = True) -> None:
        """See `Rescorer.close`."""


@dataclass(frozen=True)
class Rescorer:
    """Makes reports of what was kept.

    Attributes:
        card: of the model that found it.
        settings: of all stations; those that shape what is found are each slide's own.
        found: hash of what shapes what is found, see `fingerprint.hash_found`: of other results
            none is made.
        apart: makes those of slides that might end this process; None where none is made so.
    """

    card: ModelCard
    settings: ScreenSettings
    found: str
    apart: Apart | None = None

    def why_not(self, job: SlideJob, folder: Path) -> str | None:
        """Why no report can be made of the result in a folder; None where one can.

        What is found out only when all of it is read is told by `rescore`.
        """
        known = load_fingerprint(folder)
        if known is None or load_report(folder) is None:
            return f"{show(folder)}: there is no whole result of an earlier run"
        if not known.found:
            return f"{show(folder)}: is of a version that kept nothing of what the network found"
        if known.found != self.found:
            return (
                f"{show(folder)}: was found by another model, or with other settings that shape "
                "what is found"
            )
        if not is_of_slide(job, folder, known):
            return f"{show(job.where)}: is another file than when it was screened, or moved"
        try:
            return self._too_low(folder, load_facts(folder))
        except DetectionsError as error:
            return error.text

    def rescore(self, job: SlideJob, folder: Path, careful: bool = False) -> SlideReport:
        """The report of a slide, of what lies in a folder.

        Args:
            job: the slide.
            folder: has what was kept.
            careful: whether a process has ended while the slide was in work.

        Raises:
            DetectionsError: what was kept is damaged.
            SlideError: the slide can't be read, or there are warnings and ``settings.strict``.
            WorkerLostError: the process that read it died.
            ConfigError: a setting is not allowed.
        """
        if self.apart is None or job.gone:
            return self.rescore_here(job, folder)
        why = "a process ended while it was in work" if careful else self.apart.why(job.path)
        if not why:
            return self.rescore_here(job, folder)
        _log.info("%s: read by a process of its own: %s", show(job.where), why)
        there = Rescorer(self.card, self.settings, self.found)
        return self.apart.rescore(there, job, folder, careful)

    def close(self, wait: bool = True) -> None:
        """Ends processes of its own, at once where nobody is to wait."""
        if self.apart:
            self.apart.close(wait)

    def rescore_here(self, job: SlideJob, folder: Path) -> SlideReport:
        """The same, by this process. Raises as `rescore`."""
        clock = Clock()
        kept, earlier = load_kept(folder), load_report(folder)
        detector = self._detector(kept.finder, kept.settings)
        if job.gone:
            return conclude(kept, None, detector, self.settings, clock, earlier)
        facts = kept.slide.model_copy(update={"path": encodable(job.where)})
        icc = kept.color.icc
        with open_slide(job.path, GivenMpp(override=facts.mpp), icc=icc) as slide:
            here = replace(kept, slide=facts)
            seen, _ = plan_planes(slide, kept.choice)
            return conclude(here, seen, detector, self.settings, clock, earlier)

    def other_model(self, facts: KeptFacts) -> str | None:
        """Why the model is not the one that found what was kept; None where it is."""
        card, finder = self.card, facts.finder
        weights = {card.sha256, *(graph.sha256 for graph in card.graphs.values())}
        if finder.sha256 not in weights or finder.classes != card.detector.classes:
            return "is not the model that found these cells"
        look = card.second_look
        graders = {look.sha256, *(one.sha256 for one in look.graphs.values())} if look else set()
        if finder.grader and finder.grader not in graders:
            return "does not have the grader that looked at these cells"
        return None

    def in_force(self, facts: KeptFacts) -> InForce:
        """What is in force for a slide of which this was kept.

        Raises:
            ConfigError: slide rule or negatives are for another model or other thresholds, or a
                class that is to be counted is none of its.
        """
        force = in_force(self.settings, self._detector(facts.finder, facts.settings))
        made = {name: value for name, value in force.settings.items() if name in MADE}
        return replace(force, settings=order_settings({**facts.settings, **made}))

    def _too_low(self, folder: Path, facts: KeptFacts) -> str | None:
        limits = limits_of(self._detector(facts.finder, facts.settings))
        missing = limits.floors(facts.looked) < np.array(facts.complete, np.float32)
        if not missing.any():
            return None
        names = [facts.finder.classes[i] for i in np.flatnonzero(missing)]
        of = ", ".join(f"{facts.complete[facts.finder.classes.index(n)]:.4g} of {n}" for n in names)
        return f"{show(folder)}: cells of so low a score were not kept; all are from {of} on"

    def _detector(self, finder: Finder, settings: Any) -> DetectorFacts:
        """What found the cells, with the thresholds that are asked for."""
        runtime = settings["runtime"]
        grader = None
        if finder.grader and finder.grader_precision:
            grader = GraderInForce(finder.grader_precision, finder.grader, None)  # type: ignore[arg-type]
        return describe_detector(
            self.card,
            RuntimeFacts(runtime["name"], runtime["precision"], finder.sha256 or ""),
            runtime["device"],
            grader,
            self.settings.threshold,
            KeptSettings.model_validate(settings["kept"]),
        )


@dataclass(frozen=True)
class Result:
    """A result of an earlier run, as it lies in its folder.

    Attributes:
        job: its slide, wherever that is now.
        report: without its cells; None where it can't be read, which is the job's problem.
        fingerprint: what it was made of; None where that is not known.
    """

    job: SlideJob
    report: SlideReport | None
    fingerprint: Fingerprint | None


def find_results(places: Places) -> list[Result]:
    """The results that lie in a folder, by name."""
    found = []
    for folder in places.results:
        report, known = load_report(folder), load_fingerprint(folder)
        found.append(Result(_job(report, folder, places.name_of(folder), known), report, known))
    return found


def _job(
    report: SlideReport | None, folder: Path, name: str, known: Fingerprint | None
) -> SlideJob:
    if report is None:
        problem = f"{show(folder / 'report.json')}: can't be read; screen its slide again"
        return SlideJob(folder, name, problem=problem, gone=True)
    return slide_of(report.slide.path, name, known)


@dataclass(frozen=True)
class Unscreened:
    """What the last run left without a result: the summary of new reports tells of it, too.

    Attributes:
        failed: slides that failed, each with what was wrong.
        waiting: slides that were not reached.
        not_read: what looks like a slide and isn't read.
    """

    failed: tuple[SlideJob, ...] = ()
    waiting: tuple[SlideJob, ...] = ()
    not_read: tuple[NotRead, ...] = ()


def find_unscreened(reports: Path, results: Sequence[Result]) -> Unscreened:
    """What the records of the last run, of all its shards, tell of beside the results."""
    alike = of_last_run(load_records(reports))
    there = {encodable(result.job.name) for result in results}
    failed, waiting = list[SlideJob](), list[SlideJob]()
    for name, slide in sorted(latest_slides(alike).items()):
        if name in there:
            continue
        problem = slide.error if slide.status == "failed" else None
        job = replace(slide_of(slide.path, name, None), problem=problem, gone=True)
        (failed if problem else waiting).append(job)
    not_read = {path: text for record in alike for path, text in record.not_read.items()}
    return Unscreened(
        tuple(failed),
        tuple(waiting),
        tuple(_not_read(path, *text.partition("; ")[::2]) for path, text in not_read.items()),
    )


def _not_read(where: str, kind: str, remedy: str) -> NotRead:
    return NotRead(Path(where), kind, remedy, where if "://" in where else "")


def describe_state(results: Sequence[Result]) -> list[str]:
    """Of which settings the reports of a folder are, a line for each kind, most first.

    Of several kinds each is told by those settings in which they differ.
    """
    kinds: dict[str, list[Result]] = {}
    for result in results:
        recipe = result.fingerprint.recipe if result.fingerprint else ""
        kinds.setdefault(recipe, []).append(result)
    if len(kinds) == 1:
        return [f"all {len(results)} reports are of the same settings"]
    told = {recipe: dict(_flat(_of(same[0]))) for recipe, same in kinds.items()}
    keys = dict.fromkeys(key for values in told.values() for key in values)
    differ = [k for k in keys if len({str(values.get(k)) for values in told.values()}) > 1]
    ordered = sorted(kinds.items(), key=lambda kind: (-len(kind[1]), kind[0]))
    return [
        f"{len(same)} of {len(results)} reports: "
        + (", ".join(f"{key} {told[recipe].get(key)}" for key in differ[:_MOST_TOLD]) or "older")
        for recipe, same in ordered
    ]


_MOST_TOLD = 6
"""Settings by which kinds of reports are told apart."""


def most_common_found(results: Sequence[Result]) -> Result | None:
    """A result that was found as most of them were; None where nothing was kept of any."""
    found = Counter(r.fingerprint.found for r in results if r.fingerprint and r.fingerprint.found)
    if not found:
        return None
    (most, _), *_ = found.most_common(1)
    return next(r for r in results if r.fingerprint and r.fingerprint.found == most)


def _of(result: Result) -> dict[str, Any]:
    report = result.report
    if report is None:
        return {"report": "that can't be read"}
    model = {"weights": (report.model.identity or "")[:12]}
    return {**report.settings, "model": model}


def _flat(values: dict[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{start}{key}.")
        else:
            yield f"{start}{key}", value

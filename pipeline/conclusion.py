"""From what was found on a slide to its report: whatever thresholds and the like have a say in.

Screening ends with this, and rescoring is nothing else; so both give the same report.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from configs import Doubt
from pipeline.cells.classes import is_abnormal
from pipeline.cells.domain import DomainFinding, check_domain, doubts_of_domain
from pipeline.cells.found import Found, name_found
from pipeline.errors import SlideError
from pipeline.geometry import Detections, Rect
from pipeline.in_force import accuracy_of, alarms_of, describe_model, order_settings, what_is_made
from pipeline.network.detector import DetectorFacts, TileDetector, limits_of, own_thresholds
from pipeline.objects.source import Header
from pipeline.objects.writing import find_source
from pipeline.reports.adequacy import Specimen, warn_of
from pipeline.reports.detections import Kept
from pipeline.reports.pictures import Pictures, take_pictures
from pipeline.reports.quality import find_faults, measure_faults, warn_of_quality
from pipeline.reports.report import (
    LookFacts,
    SlideFacts,
    SlideReport,
    build_report,
    judge_cells,
    most_suspicious_first,
)
from pipeline.reports.slide_summary import Note
from pipeline.reports.triage import TriageSettings, carriers
from pipeline.settings import ScreenSettings
from pipeline.slides.readers.base import show
from pipeline.slides.slide import Slide
from pipeline.tiles.plausible import Focus


@dataclass
class Clock:
    """Seconds by stage; stages that run side by side add up to more than the whole."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Times a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)

    @contextmanager
    def turn(self, lock: Lock) -> Iterator[None]:
        """Holds a lock; the time of waiting for it is another slide's, and not counted."""
        start = time.perf_counter()
        with lock:
            self.started += time.perf_counter() - start
            yield

    def add(self, stage: str, seconds: float) -> None:
        """Adds to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def total(self) -> dict[str, float]:
        """All stages, and the time since the clock was made as ``total``."""
        return {**self.seconds, "total": time.perf_counter() - self.started}


def check_strict(where: Path | str, doubts: Sequence[Doubt | Note], strict: bool) -> None:
    """Turns the warnings of a slide into its failure.

    Raises:
        SlideError: there are some, and ``strict`` is set.
    """
    if strict and doubts:
        told = "; ".join(map(str, doubts))
        raise SlideError(f"{show(where)}: not screened with --strict: {told}", "strict")


def conclude(
    kept: Kept,
    slide: Slide | None,
    detector: TileDetector | DetectorFacts,
    settings: ScreenSettings,
    clock: Clock,
    earlier: SlideReport | None = None,
) -> SlideReport:
    """The report of a slide on which everything was found that is to be found.

    Args:
        kept: what was found, complete down to the thresholds.
        slide: the slide, open; None where it is not there: then the report has no pictures, and
            whether the cells are of the model's domain is taken from the earlier report.
        detector: that found it; its thresholds are those asked for.
        settings: of all stations; of those that shape what is found, `Kept.settings` hold.
        clock: times the stages.
        earlier: of the same slide; None where it is screened.

    Raises:
        SlideError: there are warnings, and ``settings.strict`` is set; or DICOM objects are wanted,
            and the slide's header lacks what they need.
        ConfigError: the slide rule can't be read, or a class that is to be counted is unknown.
    """
    found = kept.found
    model = describe_model(detector, found.looked)
    with clock("naming"):
        named, left = name_found(found, limits_of(detector), kept.stitcher)
    cells = most_suspicious_first(named, model.classes)
    look = _describe_look(found, left) if found.looked else None
    with clock("domain"):
        domain = _domain_of(slide, cells, detector, settings, earlier)
    doubts = [*doubts_of_domain(domain), *kept.doubts]  # first: it takes the weight from all else
    if slide is None:
        doubts.append(_slide_not_there())
    picture = find_faults(kept.deposit, kept.faults, settings.quality)
    quality, areas = measure_faults(
        picture,
        kept.deposit,
        _bounds(kept.slide),
        kept.slide.mpp,
        cells,
        is_abnormal(cells, model.classes),
        settings.quality,
    )
    doubts += warn_of_quality(quality, areas, {doubt.code for doubt in doubts})
    check_strict(kept.slide.path, doubts, settings.strict)
    judgement = judge_cells(
        cells,
        model,
        _specimen(kept, picture.focus),
        warnings=doubts,
        triage=_triage_of(settings, detector, found),
        adequacy=settings.adequacy,
        alarms=alarms_of(settings, detector, look),
        accuracy=accuracy_of(model, detector, look),
        domain=domain,
    )
    doubts = [*doubts, *warn_of(judgement.adequacy)]
    check_strict(kept.slide.path, doubts, settings.strict)
    pictures = Pictures()
    if slide:
        with clock("pictures"):
            first = carriers(judgement.suggestion, cells, model.classes)
            pictures = take_pictures(slide, cells, model.classes, first=first)
    kept = kept.bounded(own_thresholds(detector.card))
    source = source_of(slide, kept, settings)
    return build_report(
        slide=kept.slide,
        model=model,
        settings=order_settings({**kept.settings, **what_is_made(settings, detector)}),
        cells=cells,
        area=kept.area.model_copy(update=areas),
        judgement=judgement,
        warnings=doubts,
        timing=_timing(clock, earlier),
        pictures=pictures,
        second_look=look,
        domain=domain,
        quality=quality,
        faults=picture.maps,
        kept=kept,
        source=source,
    )


def source_of(slide: Slide | None, kept: Kept | None, settings: ScreenSettings) -> Header | None:
    """What DICOM objects need of a slide's header; None where none are wanted, or it has none.

    Args:
        slide: the slide, open; None where it is not there.
        kept: what was found on it; None before anything was.
        settings: of all stations.

    Raises:
        SlideError: the header lacks something, or the slide is not there to be asked.
    """
    if settings.reports.dicom is None:
        return None
    if slide:
        return find_source(slide.path, slide.size)
    if kept and kept.slide.format == "dicom":
        raise SlideError(
            f"{show(kept.slide.path)}: is not there, and reports.dicom needs its header; "
            "bring it back, or leave reports.dicom"
        )
    return None


def _domain_of(
    slide: Slide | None,
    cells: Detections,
    detector: TileDetector | DetectorFacts,
    settings: ScreenSettings,
    earlier: SlideReport | None,
) -> DomainFinding | None:
    """Whether the cells are such as the model knows; None where nobody could look."""
    if slide:
        return check_domain(slide, cells, detector.card.domain, settings.domain)
    return earlier.domain if earlier and settings.domain.check else None


def _triage_of(
    settings: ScreenSettings, detector: TileDetector | DetectorFacts, found: Found
) -> TriageSettings:
    if detector.second_look and not found.looked:
        # A rule of scores after a look says nothing of others.
        return settings.triage.model_copy(update={"rule": None})
    return settings.triage


def _describe_look(found: Found, abnormal_left: int) -> LookFacts:
    return LookFacts(
        candidates=found.candidates,
        looked_at=found.looked_at,
        unread=found.unread,
        abnormal_by_detector=abnormal_left,
    )


def _bounds(slide: SlideFacts) -> Rect:
    return Rect(*(slide.bounds or (0, 0, slide.width, slide.height)))


def _specimen(kept: Kept, focus: Focus | None) -> Specimen:
    """What was seen of a slide; where no square of it could be measured, focus of a few places."""
    area = kept.area
    return Specimen(
        area.slide_mm2,
        area.screened_mm2,
        area.unread_mm2,
        kept.slide.mpp,
        kept.deposit,
        focus or kept.focus,
    )


def _slide_not_there() -> Doubt:
    text = (
        "the slide was not there when this report was made anew: it has no pictures, and whether "
        "its cells look like the model's own is told by the cells of the report before"
    )
    return Doubt(code="slide-not-there", text=text)


def _timing(clock: Clock, earlier: SlideReport | None) -> dict[str, float]:
    """Stages that were done again have their new time, the others that of the screening."""
    spent = clock.total()
    if earlier is None:
        return spent
    again = spent.pop("total")
    return {**earlier.timing, **spent, "rescore": again}

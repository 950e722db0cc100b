"""The reviews of a folder of reports, slide by slide, as one reader or all of them have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs import ConfigError
from pipeline.review.catalogue import Catalogue, ReportFolder
from pipeline.review.exchange.truth import SlideFrame, SlideTruth, gather
from pipeline.review.store import Reader, Reading, ReviewStore

CONSENSUS = "consensus"


@dataclass
class Left:
    """What was left out, and why.

    Attributes:
        slides: names by reason.
    """

    slides: dict[str, list[str]] = field(default_factory=dict)

    def out(self, reason: str, name: str) -> None:
        """Takes note of a slide that is left out."""
        self.slides.setdefault(reason, []).append(name)

    def lines(self) -> Iterator[str]:
        """A line for each reason."""
        for reason, names in self.slides.items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield f"left out: {', '.join(names[:3])}{more}: {reason}"


NOT_SIGNED = "not signed off (--unsigned takes it all the same)"
DIFFERS = "its readers differ, and nobody has adjudicated; name one by --reader"
UNREAD = "nobody has decided anything"
NO_REPORT = "its report is no longer there"


def find_reader(store: ReviewStore, name: str) -> Reader | None:
    """A reader by name; None for the consensus.

    Raises:
        ConfigError: nobody of that name has read here.
    """
    if name == CONSENSUS:
        return None
    for reader in store.readers():
        if reader.name == name:
            return reader
    known = ", ".join(reader.name for reader in store.readers()) or "nobody"
    raise ConfigError(f"--reader {name}: has read nothing here; {known} has")


def readings(
    store: ReviewStore, catalogue: Catalogue, reader: Reader | None, unsigned: bool, left: Left
) -> Iterator[tuple[ReportFolder, Reading]]:
    """Slides with what holds of each, in the order in which they were begun.

    Args:
        store: of the reviews.
        catalogue: of the same folder.
        reader: whose reading; None for the consensus.
        unsigned: whether readings that are not signed off count.
        left: is told what is left out.
    """
    for key in store.slides():
        result = catalogue.of_key(key)
        if result is None:
            left.out(NO_REPORT, key.name)
            continue
        reading = store.reading(key, reader) if reader else store.consensus(key)
        if reading is None:
            left.out(DIFFERS if store.state(key).signed else _open(store, key), key.name)
        elif not (reading.cells or reading.regions or reading.decision.category):
            left.out(UNREAD, key.name)
        elif not (unsigned or reading.signed):
            left.out(NOT_SIGNED, key.name)
        else:
            yield result, reading


def _open(store: ReviewStore, key: Any) -> str:
    """Why a slide that nobody has signed off has no consensus."""
    return NOT_SIGNED if store.readings(key) else UNREAD


def truths(
    store: ReviewStore, catalogue: Catalogue, reader: Reader | None, unsigned: bool, left: Left
) -> Iterator[SlideTruth]:
    """What is known of each slide; arguments as of `readings`.

    Raises:
        ConfigError: the cells of a report can't be read.
    """
    for result, reading in readings(store, catalogue, reader, unsigned, left):
        if reading.cells or reading.regions:
            findings = catalogue.cells(result).cells.boxes
            yield gather(_frame(catalogue, result), reading, findings)


def sum_told(found: list[SlideTruth]) -> Counter[str]:
    """What was settled by a rule on all slides, by what it is."""
    return sum((Counter(truth.told) for truth in found), Counter())


def _frame(catalogue: Catalogue, result: ReportFolder) -> SlideFrame:
    slide = result.report.slide
    found = catalogue.find_slide(result).path
    bounds = slide.bounds or (0, 0, slide.width, slide.height)
    return SlideFrame(
        result.name,
        (found or Path(slide.path)).absolute(),
        (slide.width, slide.height),
        slide.mpp,
        (bounds[0], bounds[1]),
        result.report.model.classes,
    )

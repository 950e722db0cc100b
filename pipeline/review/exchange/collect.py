"""The reviews of a folder of reports, slide by slide, as one reader or all of them have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from configs import ConfigError
from configs.doubts import listed
from pipeline.review.catalogue import Catalogue, ReportFolder
from pipeline.review.exchange.truth import SlideFrame, SlideTruth, gather
from pipeline.review.finding import FoundSlide
from pipeline.review.store import Reader, Reading, ReviewStore, SlideKey

CONSENSUS = "consensus"


NOT_SIGNED = "not signed off (--unsigned takes it all the same)"
DIFFERS = "its readers differ in what nobody has adjudicated; name one by --reader"
UNREAD = "nobody has decided anything"
NO_REPORT = "its report is no longer there"
CHANGED = (
    "its file is no longer the slide that was screened (its content differs); screen it again, or "
    "name the folder of the right one by --slides"
)
SLIDE_ALONE = (
    "nothing was decided about its cells and no region was read in full; its category goes to "
    "labels.csv"
)
NOTHING_KNOWN = (
    "no region was read in full, and no cell agreed to, called, added or rejected: as an "
    "annotation it would say that all of it is background"
)


@dataclass
class Left:
    """What was left out, and why; and what was taken unchecked.

    Attributes:
        slides: names by reason.
        unchecked: names of those that were taken though nobody can say that the file is the slide
            that was screened.
    """

    slides: dict[str, list[str]] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)

    def out(self, reason: str, name: str) -> None:
        """Takes note of a slide that is left out."""
        self.slides.setdefault(reason, []).append(name)

    def lines(self) -> Iterator[str]:
        """A line for each reason."""
        for reason, names in self.slides.items():
            yield f"left out: {listed(names, 3)}: {reason}"
        if self.unchecked:
            yield (
                f"taken unchecked: {listed(self.unchecked, 3)}: no fingerprint beside the report, "
                "so nobody can say that the file is the slide that was screened"
            )


@dataclass(frozen=True)
class Reviews:
    """What was decided about a folder of reports, as somebody wants it.

    Attributes:
        store: of the reviews.
        catalogue: of the same folder.
        reader: whose reading; None for the consensus.
        unsigned: whether readings that are not signed off count.
        left: what is left out, once it was asked for.
    """

    store: ReviewStore
    catalogue: Catalogue
    reader: Reader | None = None
    unsigned: bool = False
    left: Left = field(default_factory=Left)

    def readings(self) -> Iterator[tuple[ReportFolder, Reading]]:
        """Slides with what holds of each, in the order in which they were begun."""
        store, left = self.store, self.left
        for key in store.slides():
            result = self.catalogue.of_key(key)
            if result is None:
                left.out(NO_REPORT, key.name)
                continue
            reading = store.reading(key, self.reader) if self.reader else store.consensus(key)
            if reading is None:
                left.out(self._why_none(key), key.name)
            elif not (reading.cells or reading.regions or reading.decision.category):
                left.out(UNREAD, key.name)
            elif not (self.unsigned or reading.signed):
                left.out(NOT_SIGNED, key.name)
            else:
                yield result, reading

    def truths(self) -> Iterator[SlideTruth]:
        """What is known of each slide; nothing where its file is another slide's by now.

        Raises:
            ConfigError: the cells of a report can't be read.
        """
        for result, reading in self.readings():
            if not (reading.cells or reading.regions):
                self.left.out(SLIDE_ALONE, result.name)
                continue
            found = self.catalogue.find_slide(result)
            if found.code == "changed":  # its cells would lie on another specimen's picture
                self.left.out(CHANGED, result.name)
                continue
            findings = self.catalogue.cells(result).cells.boxes
            truth = gather(_frame(result, found), reading, findings)
            # An image without a region is read as annotated throughout.
            if not len(truth.regions):
                self.left.out(NOTHING_KNOWN, result.name)
                continue
            if found.code == "unchecked":
                self.left.unchecked.append(result.name)
            yield truth

    def _why_none(self, key: SlideKey) -> str:
        """Why a slide has no consensus."""
        if self.store.state(key).signed:
            return DIFFERS
        return NOT_SIGNED if self.store.readings(key) else UNREAD


def _frame(result: ReportFolder, found: FoundSlide) -> SlideFrame:
    """The frame of a slide; one that is gone keeps the path of its report."""
    slide = result.report.slide
    bounds = slide.bounds or (0, 0, slide.width, slide.height)
    return SlideFrame(
        result.name,
        (found.path or Path(slide.path)).absolute(),
        (slide.width, slide.height),
        slide.mpp,
        (bounds[0], bounds[1]),
        result.report.model.classes,
    )


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
    raise ConfigError(f"--reader {name}: has read nothing here; who has: {known}")


def sum_told(found: list[SlideTruth]) -> Counter[str]:
    """What was settled by a rule on all slides, by what it is."""
    return sum((Counter(truth.told) for truth in found), Counter())

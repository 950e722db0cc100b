"""The reviews of a folder of reports, slide by slide, as one reader or all of them have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from configs import ConfigError
from pipeline.review.catalogue import Catalogue, ReportFolder
from pipeline.review.exchange.truth import SlideFrame, SlideTruth, gather
from pipeline.review.store import Reader, Reading, ReviewStore, SlideKey

CONSENSUS = "consensus"


NOT_SIGNED = "not signed off (--unsigned takes it all the same)"
DIFFERS = "its readers differ, and nobody has adjudicated; name one by --reader"
UNREAD = "nobody has decided anything"
NO_REPORT = "its report is no longer there"
NOTHING_KNOWN = (
    "no region was read in full, and no cell agreed to, called, added or rejected: as an "
    "annotation it would say that all of it is background"
)


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
        """What is known of each slide.

        Raises:
            ConfigError: the cells of a report can't be read.
        """
        for result, reading in self.readings():
            if reading.cells or reading.regions:
                findings = self.catalogue.cells(result).cells.boxes
                truth = gather(self._frame(result), reading, findings)
                # An image without a region is read as annotated throughout.
                if len(truth.regions):
                    yield truth
                else:
                    self.left.out(NOTHING_KNOWN, result.name)

    def _why_none(self, key: SlideKey) -> str:
        """Why a slide has no consensus."""
        if self.store.state(key).signed:
            return DIFFERS
        return NOT_SIGNED if self.store.readings(key) else UNREAD

    def _frame(self, result: ReportFolder) -> SlideFrame:
        slide = result.report.slide
        found = self.catalogue.find_slide(result).path
        bounds = slide.bounds or (0, 0, slide.width, slide.height)
        return SlideFrame(
            result.name,
            (found or Path(slide.path)).absolute(),
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

"""Slides with known outcome: a table of labels, matched with the names of slides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from configs import ConfigError, Doubt
from data.tables import Record, Sheet, read_records
from pipeline.cells.classes import find_category
from pipeline.reports.report import encodable

_POSITIVE = {"1", "true", "positive", "abnormal", "yes"}
_NEGATIVE = {"0", "false", "negative", "normal", "no"}


class Outcome(NamedTuple):
    """What is known of a slide; ``patient`` is the slide's own name where nobody says."""

    is_positive: bool
    patient: str


@dataclass(frozen=True)
class Labels:
    """What a table says.

    Attributes:
        outcomes: by the slide's name.
        missing: rows that name none of the slides.
        doubts: what was odd about the table.
    """

    outcomes: dict[str, Outcome]
    missing: tuple[str, ...]
    doubts: tuple[Doubt, ...]

    def notes(self, labels: Path) -> list[str]:
        """What a person should know of the table, in words; ``labels`` is its file."""
        told = [f"{labels}: {doubt}" for doubt in self.doubts]
        return [*told, *note_slides("with a label have no report", self.missing)]


def note_slides(what: str, names: Sequence[str]) -> list[str]:
    """A line that counts slides and names the first of them; none where there are none."""
    if not names:
        return []
    few = f"{', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
    return [f"{len(names)} slides {what}: {few}"]


def read_labels(names: Iterable[str], labels: Path, positive_from: str | None) -> Labels:
    """Matches a CSV of labels with slides.

    Args:
        names: of slides, as their results' folders are called.
        labels: CSV with the columns slide, label and, if it may be, patient; a slide is called by
            its path below the folder, its file's name, or that without extension.
        positive_from: the least severe category that counts as positive; None: any but normal.

    Raises:
        ConfigError: it can't be read, ``positive_from`` is no abnormal category, a label is not
            known or says too little for that, or a name fits several slides.
    """
    by_name: dict[str, set[str]] = defaultdict(set)
    for name in names:
        for alias in (name, Path(name).name, Path(name).stem):
            # As tables hold it, too: bytes that are no text stand there as escapes.
            by_name[normalize("NFC", alias)].add(name)
            by_name[normalize("NFC", encodable(alias))].add(name)
    find_least(positive_from)  # refused as an option, not as a line of the table
    outcomes: dict[str, Outcome] = {}
    missing = []
    sheet, records = _read_records(labels)
    for line, row in records:
        matches = by_name.get(normalize("NFC", row["slide"]), set())
        if len(matches) > 1:
            raise ConfigError(f"{labels}: {row['slide']} may be {' or '.join(sorted(matches))}")
        if not matches:
            missing.append(row["slide"])
            continue
        name = next(iter(matches))
        if name in outcomes:
            raise ConfigError(f"{labels}: line {line}: {name} has two labels")
        try:
            positive = is_positive(row["label"], positive_from)
        except ConfigError as error:
            raise ConfigError(f"{labels}: line {line}: {error}") from error
        outcomes[name] = Outcome(positive, normalize("NFC", row.get("patient", "")) or name)
    unsaid = sum(outcome.patient == name for name, outcome in outcomes.items())
    return Labels(
        outcomes, tuple(missing), (*sheet.doubts, *_patient_doubts(unsaid, len(outcomes)))
    )


def _patient_doubts(unsaid: int, slides: int) -> Iterator[Doubt]:
    """What should be known of slides of which the table says no patient."""
    if unsaid:
        few = "no row says" if unsaid == slides else f"of {unsaid} of {slides} slides no row says"
        text = (
            f"{few} the patient: each counts as a patient of its own, of whom nothing else is seen"
        )
        yield Doubt(code="group-unknown", text=text)


def find_least(positive_from: str | None) -> int:
    """Severity from which on a category counts as positive.

    Raises:
        ConfigError: ``positive_from`` is no abnormal category.
    """
    if positive_from is None:
        return 1
    least = find_category(positive_from)
    if least is None:
        raise ConfigError(f"--positive {positive_from}: no category of the Bethesda System")
    if not least.severity:
        raise ConfigError(
            f"--positive {positive_from}: is the normal category: name the least severe abnormal "
            "one that counts"
        )
    return least.severity


def is_positive(label: str, positive_from: str | None) -> bool:
    """Whether a label, a category or a word, counts as positive.

    Raises:
        ConfigError: it is not known, or says too little for ``positive_from``, which may be wrong
            itself.
    """
    least = find_least(positive_from)
    word = label.strip().lower()
    if word in _POSITIVE and least > 1:
        raise ConfigError(
            f"label {label!r} says no category: whether it is {positive_from} or more severe can't "
            "be told; name the category, or leave out --positive"
        )
    if word in _POSITIVE | _NEGATIVE:
        return word in _POSITIVE
    category = find_category(label.strip())
    if category is None:
        raise ConfigError(
            f"label {label!r}: neither a category of the Bethesda System, nor positive or negative"
        )
    return category.severity >= least


def _read_records(labels: Path) -> tuple[Sheet, list[Record]]:
    try:
        sheet, records = read_records(labels)
    except ConfigError as error:
        raise ConfigError(f"--labels {error}") from error
    names = [name.lower() for name in sheet.header]
    if not sheet.rows or not {"slide", "label"} <= set(names):
        raise ConfigError(f"--labels {labels}: needs the columns slide and label")
    return sheet, records

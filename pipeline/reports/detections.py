"""``detections.npz``: what the network found on a slide, with what its report is made of besides.

New thresholds, rules and figures of false alarms make a new report of it, without the network. It
holds arrays as numpy writes them, never pickled, each with a checksum, and one JSON, ``facts``.

At most ``kept.most`` places are in it, beside those that a second look was at: some 60 bytes each
with six classes, before compression. Numbers are kept as they were computed, to the last bit, so
that the same thresholds give the same bytes of a report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, TypeAdapter, ValidationError

from configs import Doubt, StrictModel
from data.arrays import BROKEN, open_arrays
from pipeline.cells.found import Found, KeptSettings
from pipeline.cells.stitcher import StitcherSettings
from pipeline.errors import SlideError
from pipeline.geometry import Detections
from pipeline.reports.planes import PlaneRead
from pipeline.reports.report import AreaFacts, ModelFacts, SlideFacts
from pipeline.slides.readers.base import show
from pipeline.slides.readers.profiled import ColorSettings
from pipeline.tiles.deposit import Deposit
from pipeline.tiles.faults import Faults
from pipeline.tiles.focal import PlaneChoice
from pipeline.tiles.plausible import Focus

FILE = "detections.npz"

_VERSION = "1.0"

_FAULTS = tuple(one.name for one in fields(Faults))
"""Names of the arrays of what hinders the view."""


class DetectionsError(SlideError):
    """What was kept of a slide can't be used."""


class Finder(StrictModel):
    """What found the cells: the same finds the same. As `ModelFacts`, without any threshold."""

    sha256: str | None
    classes: tuple[str, ...]
    mpp: float
    grader: str | None
    grader_precision: str | None

    @classmethod
    def of(cls, model: ModelFacts) -> Finder:
        """That of a model in force."""
        look = model.second_look
        return cls(
            sha256=model.sha256,
            classes=tuple(one.name for one in model.classes),
            mpp=model.mpp,
            grader=look.sha256 if look else None,
            grader_precision=look.precision if look else None,
        )


class KeptFacts(StrictModel):
    """The JSON beside the arrays.

    Attributes:
        slide, area: as in the report.
        doubts: what is odd about slide and reading, whatever its cells are.
        finder: what found the cells.
        settings: all in force that shape what is found, as JSON.
        complete: score of each class from which on nothing is missing.
        looked, candidates, unread, dropped: as of `Found`.
        side: of the deposit's squares in level-0 pixels; None where nobody looked.
        blurred: places out of focus, and how many were looked at; likewise.
        planes: the slide's focal planes; none where it has one.
    """

    version: Literal["1.0"] = "1.0"
    slide: SlideFacts
    area: AreaFacts
    doubts: tuple[Doubt, ...]
    finder: Finder
    settings: dict[str, JsonValue]
    complete: tuple[float, ...]
    looked: bool
    candidates: int
    unread: int
    dropped: int
    side: float | None
    blurred: tuple[int, int] | None
    planes: tuple[PlaneRead, ...] = ()


@dataclass(frozen=True)
class Kept:
    """What was found on a slide, and what its report is made of besides.

    Attributes:
        found: cells, before any threshold.
        slide, area, doubts, finder, settings: as of `KeptFacts`.
        deposit: where the specimen lies; None where nobody looked.
        focus: of a few places; likewise.
        faults: of the picture; likewise, and None in older files.
        planes: as of `KeptFacts`.
    """

    found: Found
    slide: SlideFacts
    area: AreaFacts
    doubts: tuple[Doubt, ...]
    finder: Finder
    settings: Mapping[str, JsonValue]
    deposit: Deposit | None = None
    focus: Focus | None = None
    faults: Faults | None = None
    planes: tuple[PlaneRead, ...] = ()

    @property
    def stitcher(self) -> StitcherSettings:
        """How doubles were told from neighbours."""
        return StitcherSettings.model_validate(self.settings["stitcher"])

    @property
    def color(self) -> ColorSettings:
        """How its colours were taken; as they are stored, in older files."""
        return ColorSettings.model_validate(self.settings.get("color", {}))

    @property
    def choice(self) -> PlaneChoice:
        """Which focal planes were read; the best-focused one, in older files."""
        return TypeAdapter[PlaneChoice](PlaneChoice).validate_python(
            self.settings.get("planes", "one")
        )

    def bounded(self, own: NDArray[np.float32]) -> Kept:
        """The same with no more places than ``kept.most``; see `Found.bounded`."""
        settings = KeptSettings.model_validate(self.settings["kept"])
        return replace(self, found=self.found.bounded(own, settings.most))


def save_kept(kept: Kept, folder: Path) -> None:
    """Writes `FILE` into a folder; the same things give the same bytes.

    Raises:
        OSError: it can't be written.
    """
    with (folder / FILE).open("wb") as stream:
        np.savez_compressed(stream, **_arrays(kept))  # type: ignore[arg-type]


def load_facts(folder: Path) -> KeptFacts:
    """What is known of what was kept, without its cells, which takes a millisecond.

    Raises:
        DetectionsError: there is none, it is damaged, or of another version.
    """
    with _Opened(folder) as arrays:
        return arrays.facts()


def load_kept(folder: Path) -> Kept:
    """What was kept.

    Raises:
        DetectionsError: there is none, it is damaged, or of another version.
    """
    with _Opened(folder) as arrays:
        return arrays.kept()


def _arrays(kept: Kept) -> dict[str, NDArray[Any]]:
    found, deposit, focus = kept.found, kept.deposit, kept.focus
    facts = KeptFacts(
        slide=kept.slide,
        area=kept.area,
        doubts=kept.doubts,
        finder=kept.finder,
        settings=dict(kept.settings),
        complete=tuple(found.complete.tolist()),
        looked=found.looked,
        candidates=found.candidates,
        unread=found.unread,
        dropped=found.dropped,
        side=deposit.side if deposit else None,
        blurred=(focus.blurred, focus.places) if focus else None,
        planes=kept.planes,
    )
    without = None if kept.planes else {"planes"}
    text = facts.model_dump_json(exclude=without).encode("utf-8", "backslashreplace")
    cells = found.cells
    arrays: dict[str, NDArray[Any]] = {
        "facts": np.frombuffer(text, np.uint8),
        "boxes": cells.boxes.astype(np.float64),
        "scores": cells.scores.astype(np.float32),
        "labels": cells.labels.astype(np.uint16),
    }
    if cells.class_scores is not None:
        arrays["class_scores"] = cells.class_scores.astype(np.float32)
    if cells.grades is not None:
        rows = np.flatnonzero(cells.graded)
        arrays |= {"graded": rows.astype(np.uint32), "grades": cells.grades[rows]}
    if cells.planes is not None:
        arrays["planes"] = cells.planes.astype(np.int16)
    if deposit:
        arrays["deposit"] = deposit.mask
        if deposit.thick is not None:
            arrays["thick"] = deposit.thick
    if kept.faults:
        known = {name: getattr(kept.faults, name) for name in _FAULTS}
        arrays |= {name: array for name, array in known.items() if array is not None}
    return arrays


class _Opened:
    """The file of a folder, opened; what is wrong with it is one line."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def __enter__(self) -> _Opened:
        try:
            content = self._path.read_bytes()  # no handle stays that a new result would wait for
        except FileNotFoundError:
            raise DetectionsError(
                f"{show(self._path)}: is not there; the report is of a version that kept nothing"
            ) from None
        except OSError as error:
            raise DetectionsError(f"{show(self._path)}: {error.strerror}") from error
        try:
            self._file = open_arrays(content)
        except ValueError as error:
            raise self._damaged() from error
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def facts(self) -> KeptFacts:
        try:
            text = self._file["facts"].tobytes()
            return KeptFacts.model_validate_json(text)
        except ValidationError as error:
            if any(detail["loc"] == ("version",) for detail in error.errors()):
                raise DetectionsError(
                    f"{show(self._path)}: is of another version than {_VERSION}"
                ) from error
            raise self._damaged() from error
        except (*BROKEN, AttributeError) as error:
            raise self._damaged() from error

    def kept(self) -> Kept:
        facts = self.facts()
        try:
            cells, deposit = self._cells(facts), self._deposit(facts)
            faults = self._faults(deposit)
            complete = np.array(facts.complete, np.float32)
            _check(cells, complete, facts)
        except (*BROKEN, IndexError, TypeError) as error:
            raise self._damaged() from error
        found = Found(cells, complete, facts.looked, facts.candidates, facts.unread, facts.dropped)
        focus = Focus(*facts.blurred) if facts.blurred else None
        return Kept(
            found,
            facts.slide,
            facts.area,
            facts.doubts,
            facts.finder,
            facts.settings,
            deposit,
            focus,
            faults,
            facts.planes,
        )

    def _cells(self, facts: KeptFacts) -> Detections:
        boxes, scores = self._file["boxes"], self._file["scores"]
        grades = None
        if "grades" in self._file:
            width = len(facts.finder.classes) + 1
            grades = np.full((len(scores), width), np.nan, np.float32)
            grades[self._file["graded"]] = self._file["grades"]
        known = self._file.get("class_scores")
        labels, planes = self._file["labels"].astype(np.int64), self._file.get("planes")
        return Detections(boxes, scores, labels, known, grades, planes)

    def _deposit(self, facts: KeptFacts) -> Deposit | None:
        if facts.side is None:
            return None
        thick = self._file.get("thick")
        return Deposit(self._file["deposit"], thick, facts.side)

    def _faults(self, deposit: Deposit | None) -> Faults | None:
        known = {name: self._file[name] for name in _FAULTS if name in self._file}
        if not known or deposit is None:
            return None
        for name, array in known.items():
            kind = np.float16 if name == "sharpness" else np.bool_
            fits = array.ndim == 2 and (name == "sharpness" or array.shape == deposit.mask.shape)
            if array.dtype != kind or not fits:
                raise ValueError(f"{name} does not fit the deposit")
        return Faults(**known)

    def _damaged(self) -> DetectionsError:
        return DetectionsError(f"{show(self._path)}: is damaged")


def _check(cells: Detections, complete: NDArray[np.float32], facts: KeptFacts) -> None:
    """Makes sure that arrays fit each other and are what they are called.

    Raises:
        ValueError: they don't, or aren't.
    """
    count, classes = len(cells.scores), len(facts.finder.classes)
    shapes: list[tuple[NDArray[Any], tuple[int, ...], type]] = [
        (cells.boxes, (count, 4), np.float64),
        (cells.scores, (count,), np.float32),
        (cells.labels, (count,), np.int64),
        (complete, (classes,), np.float32),
    ]
    if cells.class_scores is not None:
        shapes.append((cells.class_scores, (count, classes), np.float32))
    if cells.planes is not None:
        shapes.append((cells.planes, (count,), np.int16))
        if count and not (0 <= cells.planes.min() <= cells.planes.max() < len(facts.planes)):
            raise ValueError("focal planes that the slide has not")
    if facts.looked and (cells.grades is None or cells.class_scores is None):
        raise ValueError("a second look without its grades")
    if any(array.shape != shape or array.dtype != kind for array, shape, kind in shapes):
        raise ValueError("arrays of other shapes")
    if count and not (cells.labels < classes).all():
        raise ValueError("labels of no class")
    if not all(np.isfinite(array).all() for array, *_ in shapes):
        raise ValueError("numbers that are none")

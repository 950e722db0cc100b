"""Annotated fields as arrays: what training and evaluation take, whatever file it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError, Doubt

Grouping = Literal["field", "slide", "patient"]
"""What belongs together when a set is split or drawn anew."""


@dataclass(frozen=True)
class Field:
    """One annotated image, or a part of a slide.

    Attributes:
        image: its file.
        width, height: its size in pixels; of level 0 for a part of a slide.
        mpp: µm per pixel, None where nobody says.
        boxes: (N, 4) float32, xyxy in pixels, inside the image.
        nuclei: (N, 2) float32, x and y of each nucleus; the middle of the box where none is marked.
        labels: (N,) int64, indices into the classes of the set; of no meaning for a crowd.
        crowd: (N,) bool, regions that count neither as cell nor as background, for any class.
        origin: x and y of its top left in the image; all else is in the field's own pixels.
        slide: the slide that it comes from; empty where the image is all that is known.
        patient: whose slide it is; empty where nobody says.
        source: which of several sources of a training it was read from; empty where there is one.
    """

    image: Path
    width: int
    height: int
    mpp: float | None
    boxes: NDArray[np.float32]
    nuclei: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    origin: tuple[int, int] = (0, 0)
    slide: str = ""
    patient: str = ""
    source: str = ""

    def group(self, by: Grouping) -> str:
        """The name of what the field belongs to; the next smaller thing where that is unknown."""
        whole_slide = self.slide or str(self.image)
        if by == "field":
            return f"{self.image}@{self.origin[0]},{self.origin[1]}"
        return whole_slide if by == "slide" else self.patient or whole_slide


@dataclass(frozen=True)
class FieldSet:
    """Annotated fields and the classes that their labels index.

    Attributes:
        classes: names of the labels.
        fields: the fields.
        notes: what was read, what was left out, and why: a line each, for people.
        doubts: what was odd about the annotations, and how it was settled.
        weights: by source how much more often than others it is drawn from; 1 for those that
            aren't named.
    """

    classes: tuple[str, ...]
    fields: tuple[Field, ...]
    notes: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)

    def class_counts(self) -> list[int]:
        """Number of cells of each class, in the order of the classes."""
        none = np.zeros(0, np.int64)
        labels = np.concatenate([none, *(f.labels[~f.crowd] for f in self.fields)])
        return np.bincount(labels, minlength=len(self.classes)).tolist()


def merge_sets(sets: Mapping[str, FieldSet], weights: Mapping[str, float]) -> FieldSet:
    """One set of several sources; each field knows its own.

    Args:
        sets: by the source's name, all with the same classes.
        weights: how much more often than others a source is drawn from.

    Raises:
        ConfigError: two sources have the same image: its cells would count twice.
    """
    owner: dict[Path, str] = {}
    for name, one in sets.items():
        for image in dict.fromkeys(f.image for f in one.fields):
            path = image.resolve()
            if path in owner:
                raise ConfigError(
                    f"{image}: is in the sources {owner[path]} and {name}; its cells would count "
                    "twice: leave it out of one of them"
                )
            owner[path] = name
    first = next(iter(sets.values()))
    return FieldSet(
        first.classes,
        tuple(replace(f, source=name) for name, one in sets.items() for f in one.fields),
        tuple(f"{name}: {note}" for name, one in sets.items() for note in one.notes),
        tuple(dict.fromkeys(doubt for one in sets.values() for doubt in one.doubts)),
        dict(weights),
    )


def check_apart(parts: Sequence[FieldSet], runs: Sequence[str]) -> None:
    """Makes sure that what several runs left out can be counted together.

    A run is told by its place, not by its name: one that is named twice counts twice, too.

    Args:
        parts: what each run left out.
        runs: their names, for people.

    Raises:
        ConfigError: an image, or a slide under whatever name of its file, is in two parts.
    """
    owner: dict[Path | str, int] = {}
    for place, part in enumerate(parts):
        images = dict.fromkeys(field.image for field in part.fields)
        left_out: dict[Path | str, str] = {image.resolve(): str(image) for image in images}
        left_out |= {f.slide: f"slide {f.slide}" for f in part.fields if f.slide}
        for known, told in left_out.items():
            first = owner.setdefault(known, place)
            if first != place:
                raise ConfigError(
                    f"{runs[first]} and {runs[place]} both left {told} out, whose cells would "
                    "count twice: name one of these runs"
                )


def of_source(fields: FieldSet, name: str) -> list[int]:
    """Indices of the fields that were read from a source."""
    return [i for i, one in enumerate(fields.fields) if one.source == name]


def weights_of_fields(fields: FieldSet) -> NDArray[np.float64] | None:
    """(fields,) weight of each field's source; None where all have the same."""
    weights = np.array([fields.weights.get(one.source, 1.0) for one in fields.fields])
    return weights if len(np.unique(weights)) > 1 else None


def widest_cell(fields: FieldSet) -> float | None:
    """Longest side of a cell in µm, but for one in a thousand; of fields whose mpp is known.

    None where no such field has a cell.
    """
    sides = [
        (field.boxes[:, 2:] - field.boxes[:, :2])[~field.crowd].max(axis=1) * field.mpp
        for field in fields.fields
        if field.mpp and not field.crowd.all()
    ]
    return float(np.quantile(np.concatenate(sides), 0.999)) if sides else None

"""The classes that a detector names, and what cytology knows of them.

The Bethesda System for Reporting Cervical Cytology, 3rd edition (Nayar and Wilbur, 2015; "Bethesda
2014"), names the categories below. A model may use any other names: then only its ``abnormal``
flags count, and the order of its class list stands for severity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError, StrictModel
from pipeline.geometry import Detections

Color = tuple[int, int, int]


class CellClass(StrictModel):
    """One class of a detector: its name, and whether its cells are abnormal."""

    name: str
    abnormal: bool


def name_classes(names: Sequence[str], abnormal: Sequence[bool]) -> tuple[CellClass, ...]:
    """A model's classes, from what its configuration says of them."""
    pairs = zip(names, abnormal, strict=True)
    return tuple(CellClass(name=name, abnormal=flag) for name, flag in pairs)


@dataclass(frozen=True, slots=True)
class Category:
    """A category of the Bethesda System.

    Attributes:
        name: the usual abbreviation.
        meaning: the name in full.
        severity: rank among the categories; higher is more severe.
        color: RGB that stands out on stained cells, the same in every report.
    """

    name: str
    meaning: str
    severity: int
    color: Color


BETHESDA = (
    Category("NILM", "no intraepithelial lesion or malignancy seen in the cell", 0, (0, 140, 110)),
    Category("ASC-US", "atypical squamous cells of undetermined significance", 1, (222, 170, 0)),
    Category("LSIL", "low-grade squamous intraepithelial lesion", 2, (235, 110, 0)),
    Category("ASC-H", "atypical squamous cells, cannot exclude HSIL", 3, (214, 64, 159)),
    Category("AGC", "atypical glandular cells", 4, (0, 114, 189)),
    Category("HSIL", "high-grade squamous intraepithelial lesion", 5, (208, 28, 40)),
    Category("AIS", "endocervical adenocarcinoma in situ", 6, (30, 60, 160)),
    Category("SCC", "squamous cell carcinoma", 7, (112, 32, 150)),
    Category("adenocarcinoma", "adenocarcinoma", 8, (60, 40, 110)),
)

ABNORMAL = "abnormal"
"""All abnormal classes together."""

LOW_GRADE, HIGH_GRADE = "low grade", "high grade"

_GRADES = {HIGH_GRADE: ("ASC-H", "HSIL", "SCC"), LOW_GRADE: ("ASC-US", "LSIL")}
"""Squamous categories by grade, the more severe first."""

_SQUAMOUS = {"NILM", *(name for names in _GRADES.values() for name in names)}

_NORMAL_COLORS: tuple[Color, ...] = ((0, 140, 110), (80, 130, 90), (0, 130, 150))
_ABNORMAL_COLORS: tuple[Color, ...] = (
    (208, 28, 40),
    (214, 64, 159),
    (235, 110, 0),
    (112, 32, 150),
    (0, 114, 189),
)


def find_category(name: str) -> Category | None:
    """The Bethesda category that a class name stands for, however it is spelled, or None."""
    return _BY_SPELLING.get(_spelling(name))


def by_level(classes: Sequence[CellClass]) -> dict[str, tuple[int, ...]]:
    """The coarser levels on which cells are told, beside their class: what each of them merges.

    The one definition: reports, `evaluate` and the comparison of models go by it.

    Returns:
        Indices of "abnormal", "low grade" and "high grade", as far as the model has such classes;
        an abnormal class that is neither, such as AGC, is of no grade.
    """
    groups = {ABNORMAL: tuple(index for index, c in enumerate(classes) if c.abnormal)}
    grades = [grade_of(c) for c in classes]
    for grade in (LOW_GRADE, HIGH_GRADE):
        groups[grade] = tuple(index for index, known in enumerate(grades) if known == grade)
    return {name: members for name, members in groups.items() if members}


def grade_of(cell_class: CellClass) -> str:
    """Low or high grade, in words; nothing for a class that is normal or of neither."""
    category = find_category(cell_class.name) if cell_class.abnormal else None
    grades = (g for g, names in _GRADES.items() if category and category.name in names)
    return next(grades, "")


def squamous_labels(
    classes: Sequence[CellClass], names: Sequence[str] | None = None
) -> tuple[int, ...]:
    """Indices of the classes whose cells are squamous.

    Args:
        classes: the model's.
        names: of those that are, where a person says so; None for Bethesda's squamous categories,
            NILM among them.

    Raises:
        ConfigError: the model has no class of such a name.
    """
    known = [c.name for c in classes]
    if names is None:
        found = [find_category(name) for name in known]
        return tuple(i for i, c in enumerate(found) if c and c.name in _SQUAMOUS)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"adequacy.squamous: the model has no class {name}; it has {', '.join(known)}"
            )
    return tuple(known.index(name) for name in dict.fromkeys(names))


def group_by_grade(classes: Sequence[CellClass]) -> dict[str, tuple[int, ...]]:
    """Groups of classes that can be told with more certainty than each of them.

    Returns:
        Indices of "high grade" and "low grade", where the model has several classes of one, and of
        "abnormal", all of them.
    """
    groups = by_level(classes)
    several = {name: groups[name] for name in _GRADES if len(groups.get(name, ())) > 1}
    return several | {name: groups[name] for name in (ABNORMAL,) if name in groups}


def order_by_severity(classes: Sequence[CellClass]) -> list[int]:
    """Indices into ``classes``, most severe first.

    Abnormal classes come first: Bethesda's by their rank, then others, the last in the model's
    list taken as the most severe of them. Normal classes follow in the model's order.
    """

    def key(index: int) -> tuple[bool, int, int]:
        cell_class = classes[index]
        category = find_category(cell_class.name)
        if not cell_class.abnormal:
            return (True, 0, index)
        return (False, -category.severity if category else 0, -index)

    return sorted(range(len(classes)), key=key)


def class_colors(classes: Sequence[CellClass]) -> list[Color]:
    """An RGB colour for each class: Bethesda's own, else one from a palette by position."""
    colors = []
    for index, cell_class in enumerate(classes):
        category = find_category(cell_class.name)
        palette = _ABNORMAL_COLORS if cell_class.abnormal else _NORMAL_COLORS
        colors.append(category.color if category else palette[index % len(palette)])
    return colors


def is_abnormal(cells: Detections, classes: Sequence[CellClass]) -> NDArray[np.bool_]:
    """(N,) flags: which cells are of an abnormal class."""
    flags = np.array([c.abnormal for c in classes], dtype=bool)
    return flags[cells.labels]


def level_scores(
    cells: Detections, classes: Sequence[CellClass], level: str = ABNORMAL
) -> NDArray[np.float32]:
    """(N,) how likely each cell is of a level, whatever it is called: its best score of these.

    The best, whatever the loss, because that is how `data.evaluation` pools classes: curves drawn
    of either agree. The sum of a softmax would be nearer to a probability; but with a centerness
    in it, or of balanced groups, a score is none, and sigmoid ones overlap too much for a product.

    Args:
        cells: with the scores of all classes.
        classes: the model's.
        level: a key of `by_level`; 0 for all cells where the model has no such class.

    Raises:
        ValueError: the cells come without the scores of all classes.
    """
    if cells.class_scores is None:
        raise ValueError("the cells come without the scores of all classes")
    members = list(by_level(classes).get(level, ()))
    return np.asarray(cells.class_scores[:, members].max(axis=1, initial=0))


def abnormal_scores(cells: Detections, classes: Sequence[CellClass]) -> NDArray[np.float32]:
    """(N,) how likely each cell is abnormal; see `level_scores`."""
    return level_scores(cells, classes)


def _spelling(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


_BY_SPELLING = {_spelling(category.name): category for category in BETHESDA}

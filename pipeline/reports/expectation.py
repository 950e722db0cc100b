"""Found against expected: how many cells of each class a screened area holds by chance.

A detector reports abnormal cells on normal slides, too, and takes one grade for another. How often
is measured (by `evaluate` on annotated fields, by `calibrate --negatives` on normal slides) and
kept: in the model's card, or in a file of the lab's own. What a slide holds is set against it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from configs import ConfigError, StrictModel
from data.evaluation.false_alarms import (
    Rate,
    expect,
    expect_number,
    fit_rate,
    fit_share,
    share_between,
)
from models.card import FalseAlarms, RateFacts
from pipeline.cells.classes import ABNORMAL, CellClass, group_by_grade

if TYPE_CHECKING:
    from data.evaluation.mistakes import Mistakes

LEVEL = 0.95
"""Of the intervals."""

_SAME = 1e-3
"""Thresholds that differ by less are the same."""


class Finding(StrictModel):
    """What was found of a class or a group of classes, and what was to be expected by chance."""

    found: int = Field(ge=0)
    expected: float = Field(ge=0, description="false alarms, and cells of other grades named so")
    low: int = Field(ge=0, description="a slide without such cells has at least so many")
    high: int = Field(ge=0, description="and at most so many")

    @property
    def is_more(self) -> bool:
        """Whether chance does not explain it."""
        return self.found > self.high


class Expectation(StrictModel):
    """Found against expected, and what the latter rests on."""

    groups: dict[str, Finding] = Field(description="by class, by grade, and abnormal as a whole")
    level: float = Field(description="of the intervals")
    basis: str = Field(description="what false alarms were measured on")


def describe_mistakes(
    mistakes: Mistakes,
    mm2: NDArray[np.float64],
    classes: Sequence[CellClass],
    *,
    data: str,
    thresholds: Mapping[str, float],
    slides: Sequence[str] = (),
    normal: NDArray[np.bool_] | None = None,
) -> FalseAlarms:
    """Turns counts on annotated fields into what a model's card says.

    Args:
        mistakes: of the fields.
        mm2: (N,) their areas.
        classes: the model's.
        data: what the fields are called.
        thresholds: with which they were reported.
        slides: (N,) which slide each field is of, where that is known.
        normal: (N,) which fields' false alarms count; None for all. Confusions count of all.

    Raises:
        ValueError: there are too few fields, or no abnormal class.
    """
    rows = np.arange(len(mm2)) if normal is None else np.flatnonzero(normal)
    of_rows = [slides[row] for row in rows.tolist()] if slides else ()
    rates = _rates(mistakes.false_alarms[rows], mm2[rows], classes, of_rows)
    members = _members(classes)
    return FalseAlarms(
        groups={
            name: facts.model_copy(update=_confusion(mistakes.confused, members[name], slides))
            for name, facts in rates.items()
        },
        unit="field",
        data=data,
        thresholds=dict(thresholds),
    )


def describe_negatives(
    counts: NDArray[np.int64],
    mm2: NDArray[np.float64],
    classes: Sequence[CellClass],
    *,
    known: FalseAlarms | None,
    data: str,
    thresholds: Mapping[str, float],
    sha256: str,
) -> FalseAlarms:
    """The same from slides that are known to be normal.

    Args:
        counts: (N, C) cells of each class on each slide.
        mm2: (N,) what of it was screened.
        classes: the model's.
        known: the model's own figures, for how it confuses grades, which normal slides can't show.
        data: what the slides are called.
        thresholds: with which they were screened.
        sha256: of the model's weights.

    Raises:
        ValueError: there are too few slides, or no abnormal class.
    """
    groups = _rates(counts, mm2, classes, ())
    if known:
        kept = {"confused", "confused_spread"}
        groups = {
            name: rate.model_copy(update=known.groups[name].model_dump(include=kept))
            for name, rate in groups.items()
            if name in known.groups
        }
    return FalseAlarms(
        groups=groups, unit="slide", data=data, thresholds=dict(thresholds), sha256=sha256
    )


def expect_cells(
    counts: Mapping[str, int],
    classes: Sequence[CellClass],
    alarms: FalseAlarms,
    screened_mm2: float,
) -> Expectation:
    """Sets what was found against what chance would have.

    Of a class or grade chance has its false alarms, and its share of the abnormal cells beyond all
    false alarms, as if they were of other classes: so a slide full of LSIL does not make a SCC.
    That share varies between slides as widely as it did where it was measured.

    Args:
        counts: cells at or above threshold by class.
        classes: the model's.
        alarms: what it reports by chance.
        screened_mm2: the area looked at.
    """
    members = _members(classes)
    found = {
        name: sum(counts.get(classes[i].name, 0) for i in indices)
        for name, indices in members.items()
    }
    by_chance = {
        name: expect(rate_of(facts), screened_mm2, LEVEL)
        for name, facts in alarms.groups.items()
        if name in members
    }
    whole = found.get(ABNORMAL, 0)
    beyond = max(0.0, whole - by_chance[ABNORMAL].mean) if ABNORMAL in by_chance else 0.0
    groups = {}
    for name, chance in by_chance.items():
        facts = alarms.groups[name]
        confused = expect_number(facts.confused * beyond, facts.confused_spread, LEVEL)
        groups[name] = Finding(
            found=found[name],
            expected=round(chance.mean + confused.mean, 2),
            low=chance.low,
            high=chance.high + confused.high,
        )
    basis = f"{alarms.data}; spread between {alarms.unit}s"
    return Expectation(groups=groups, level=LEVEL, basis=basis)


def is_beyond_chance(expectation: Expectation | None) -> bool:
    """Whether there are more abnormal cells than chance explains, of any class, grade or level."""
    return expectation is not None and any(f.is_more for f in expectation.groups.values())


@lru_cache(maxsize=4)
def load_negatives(path: Path) -> FalseAlarms:
    """Reads a file of ``cytolibra calibrate --negatives``.

    Raises:
        ConfigError: it can't be read, or is none.
    """
    try:
        return FalseAlarms.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"--negatives {path}: can't be read: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigError(
            f"--negatives {path}: is no file of cytolibra calibrate --negatives"
        ) from error


def version_of(*figures: StrictModel | None) -> str | None:
    """A short hash of figures, by which results made with others are told from these.

    None where there are none.
    """
    if not any(figures):
        return None
    text = "\n".join(one.model_dump_json() if one else "" for one in figures)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def why_not(
    alarms: FalseAlarms | None, thresholds: Mapping[str, float], sha256: str | None
) -> str | None:
    """Why figures of false alarms say nothing here; None where they do.

    Args:
        alarms: the figures.
        thresholds: in force, by class.
        sha256: of the model's weights.
    """
    if alarms is None:
        return (
            "the model does not know how many false alarms it raises; measure it with cytolibra "
            "evaluate --write-false-alarms, or with cytolibra calibrate --negatives"
        )
    if alarms.sha256 and alarms.sha256 != sha256:
        return "the false alarms of normal slides were measured with another model"
    differ = other_thresholds(alarms.thresholds, thresholds)
    if differ:
        return (
            "how many false alarms to expect is known for other thresholds than those in force "
            f"({', '.join(differ)}); screen normal slides at these, and measure it with cytolibra "
            "calibrate --negatives"
        )
    return None


def other_thresholds(known: Mapping[str, float], in_force: Mapping[str, float]) -> list[str]:
    """Classes whose threshold is another than that for which figures are known."""
    return [n for n, value in in_force.items() if abs(known.get(n, -1.0) - value) > _SAME]


def _members(classes: Sequence[CellClass]) -> dict[str, tuple[int, ...]]:
    """Indices of each abnormal class by itself, of each grade, and of all abnormal ones."""
    single = {c.name: (index,) for index, c in enumerate(classes) if c.abnormal}
    return single | group_by_grade(classes)


def _rates(
    counts: NDArray[np.int64],
    mm2: NDArray[np.float64],
    classes: Sequence[CellClass],
    slides: Sequence[str],
) -> dict[str, RateFacts]:
    members = _members(classes)
    if not members:
        raise ValueError("the model has no abnormal class")
    totals = {name: counts[:, list(indices)].sum(axis=1) for name, indices in members.items()}
    # Single classes have too few false alarms to tell what slides share.
    share = share_between(totals[ABNORMAL], mm2, slides)
    return {name: _facts(fit_rate(totals[name], mm2, slides, share)) for name in members}


def _confusion(
    confused: NDArray[np.int64], indices: tuple[int, ...], slides: Sequence[str]
) -> dict[str, float]:
    """How many of the abnormal cells outside of a group are reported in it, for `RateFacts`."""
    others = confused[:, np.setdiff1d(np.arange(confused.shape[-1]), indices)]
    hits = others[:, :, list(indices)].sum(axis=(1, 2))
    share, spread = fit_share(hits, others.sum(axis=(1, 2)), slides)
    return {"confused": round(share, 4), "confused_spread": round(spread, 4)}


def _facts(rate: Rate) -> RateFacts:
    return RateFacts(
        per_mm2=round(rate.per_mm2, 4),
        between=round(rate.between, 4),
        within=round(rate.within, 4),
        units=rate.units,
        slides=rate.slides,
        mm2=round(rate.mm2, 4),
        found=rate.found,
        unit_mm2=round(rate.unit_mm2, 4),
    )


def rate_of(facts: RateFacts) -> Rate:
    """A card's facts as what `data.evaluation.expect` takes."""
    return Rate(
        per_mm2=facts.per_mm2,
        between=facts.between,
        within=facts.within,
        units=facts.units,
        slides=facts.slides,
        mm2=facts.mm2,
        found=facts.found,
        unit_mm2=facts.unit_mm2,
    )

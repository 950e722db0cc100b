"""Whether there is enough to judge: adequacy by the Bethesda System, as a suggestion.

The Bethesda System (Nayar and Wilbur, 2015) asks for at least 5,000 well seen squamous cells of a
liquid-based preparation and 8,000 to 12,000 of a conventional one; calls a specimen unsatisfactory
where more than 75% of it is obscured; and any specimen with abnormal cells satisfactory. The
detector counts what it was trained to find. How many cells there are follows from that by its
recall and precision as measured on annotated fields, with an interval; where these are not known,
nothing is said. The rule, each step before the next:

1. Of what was not screened, or is no smear, nothing is assessed.
2. More abnormal cells than chance explains make it satisfactory.
3. More than `AdequacySettings.most_obscured` of the deposit obscured makes it unsatisfactory.
4. Of a part of a preparation (less than `LEAST_MM2`), or where the preparation is not known, the
   number of cells makes no verdict.
5. The low end of the interval at or above the limit makes it satisfactory, the high end below it
   unsatisfactory; a limit inside of the interval leaves it open.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from configs import Doubt, StrictModel
from data.evaluation.counting import Counting, Estimate, count_cells
from models.card import Accuracy
from pipeline.cells.classes import CellClass, squamous_labels
from pipeline.geometry import Detections
from pipeline.tiles.deposit import Deposit
from pipeline.tiles.plausible import LARGE_MM2, Focus

Preparation = Literal["liquid-based", "conventional"]
"""How cells came onto the glass."""

ADEQUACY_VERSION = "2"

LEAST_MM2 = LARGE_MM2
"""Scanned area below which a picture is but a part of a preparation."""

FIELDS = 10
"""Fields along a diameter, as the Bethesda System counts them."""

LEVEL = 0.95
"""Of the intervals."""

TRANSFORMATION_ZONE = "no class of the model knows endocervical or metaplastic cells"

NOT_ASSESSED = "not assessed"


class AdequacySettings(StrictModel):
    """How adequacy is assessed.

    Attributes:
        preparation: of the slides; None where it is not known: then both limits are told, and the
            number of cells makes no verdict.
        liquid_based, conventional: squamous cells that a preparation needs.
        squamous: names of the classes that are counted; None for NILM and the squamous abnormal
            ones of the Bethesda System.
        field_mm: diameter of a microscope's field at 40x: 0.55 for a field number of 22, 0.5 of 20.
        most_obscured: share of the deposit that may be obscured.
    """

    preparation: Preparation | None = None
    liquid_based: int = Field(5000, ge=1)
    conventional: int = Field(8000, ge=1)
    squamous: tuple[str, ...] | None = None
    field_mm: float = Field(0.55, ge=0.1, le=2)
    most_obscured: float = Field(0.75, gt=0, le=1)

    @property
    def limits(self) -> dict[Preparation, int]:
        """Squamous cells that each preparation needs."""
        return {"liquid-based": self.liquid_based, "conventional": self.conventional}


class _Part(StrictModel):
    """A part of the report: strict JSON, so no NaN and no infinity."""

    model_config = ConfigDict(allow_inf_nan=False)


class SquamousCells(_Part):
    """How many squamous cells there are."""

    found: int = Field(ge=0, description="reported ones, at or above their thresholds")
    estimate: int | None = Field(ge=0, description="cells there are, by recall and precision")
    low: int | None = Field(ge=0, description="of the estimate's interval")
    high: int | None = Field(ge=0)
    level: float | None = Field(description="of the interval")
    basis: str = Field(description="what the estimate rests on, or why there is none")


class FieldCount(_Part):
    """The estimate as at a microscope: fields along a diameter, and the deposit's area."""

    counts: tuple[int, ...] = Field(description="squamous cells found in each field")
    field_mm: float = Field(description="diameter of a field")
    deposit_mm2: float = Field(description="area of the deposit, small gaps between cells filled")
    estimate: int | None = Field(description="cells there are, by recall and precision")
    low: int | None = Field(description="of the estimate's interval, by how fields differ")
    high: int | None


class Obscured(_Part):
    """Share of the deposit in which cells can't be seen well."""

    share: float | None = Field(description="thick or out of focus; null where not looked at")
    thick: float | None = Field(description="share of the deposit that lets too little light pass")
    out_of_focus: float | None = Field(description="share of the places looked at that is blurred")
    places: int = Field(description="how many places or squares were looked at for focus")


class Adequacy(_Part):
    """What the report says of adequacy: a suggestion, and what it rests on."""

    satisfactory: bool | None = Field(description="null where nothing can be said")
    reason: str = Field(description="why, in words")
    version: str = Field(ADEQUACY_VERSION, description="of the rule")
    preparation: Preparation | None = Field(None, description="as the settings say; null: unknown")
    squamous_cells: SquamousCells | None = Field(None, description="null where not assessed")
    needed: dict[str, int] = Field({}, description="squamous cells, by preparation")
    reached: dict[str, bool | None] = Field(
        {}, description="whether there are so many; null: the interval leaves it open"
    )
    by_fields: FieldCount | None = Field(None, description="null where no field fits")
    obscured_share: float | None = Field(None, description="the same as obscured.share")
    obscured: Obscured | None = None
    transformation_zone: Literal["not assessable"] = Field(
        "not assessable", description="no class of the model knows endocervical cells"
    )


def not_assessed(reason: str = NOT_ASSESSED) -> Adequacy:
    """Nothing is said, and why."""
    return Adequacy(satisfactory=None, reason=reason)


@dataclass(frozen=True)
class Specimen:
    """What was seen of a slide, for its adequacy.

    Attributes:
        scanned_mm2, screened_mm2, unread_mm2: areas.
        mpp: µm per level-0 pixel.
        deposit: where the specimen lies; None where nobody looked.
        focus: of the squares that could be measured, or of a few places; None where nobody looked.
    """

    scanned_mm2: float
    screened_mm2: float
    unread_mm2: float
    mpp: float
    deposit: Deposit | None = None
    focus: Focus | None = None


def assess(
    cells: Detections,
    classes: Sequence[CellClass],
    specimen: Specimen,
    *,
    is_abnormal: bool,
    accuracy: Accuracy | None,
    unknown: str | None = None,
    settings: AdequacySettings | None = None,
) -> Adequacy:
    """Says what is known of a specimen's adequacy, by the rule above.

    Args:
        cells: at or above threshold, level-0 boxes; labels index the classes.
        classes: the model's.
        specimen: what was seen of the slide.
        is_abnormal: whether there are more abnormal cells than chance explains.
        accuracy: of the model at the thresholds in force; None where that is not known.
        unknown: why the model's figures say nothing here; None where they do.
        settings: None for the defaults.

    Raises:
        ConfigError: a class that is to be counted is none of the model's.
    """
    settings = settings or AdequacySettings()
    if unknown:
        return not_assessed(f"not assessed: {unknown}")
    if not specimen.screened_mm2:
        return not_assessed("not assessed: nothing was screened")
    labels = squamous_labels(classes, settings.squamous)
    counting = _counting(accuracy)
    centers = cells.centers[np.isin(cells.labels, labels)]
    squamous = _count(centers, labels, specimen, counting, accuracy)
    obscured = look_through(specimen.deposit, specimen.focus)
    reached = {name: _reaches(squamous, limit) for name, limit in settings.limits.items()}
    satisfactory, reason = _judge(squamous, obscured, specimen, is_abnormal, reached, settings)
    return Adequacy(
        satisfactory=satisfactory,
        reason=reason,
        preparation=settings.preparation,
        squamous_cells=squamous,
        needed=dict(settings.limits),
        reached=dict(reached),
        by_fields=_by_fields(centers, specimen, counting, settings.field_mm) if labels else None,
        obscured_share=obscured.share,
        obscured=obscured,
    )


def warn_of(adequacy: Adequacy) -> list[Doubt]:
    """A warning where a specimen would be unsatisfactory."""
    if adequacy.satisfactory is not False:
        return []
    return [Doubt(code="unsatisfactory", text=f"suggested as unsatisfactory: {adequacy.reason}")]


def look_through(deposit: Deposit | None, focus: Focus | None) -> Obscured:
    """Share of a deposit that is obscured: too thick, or, of the rest, out of focus.

    Thickness is seen everywhere. Focus is where there is stain, or at a few places of a slide
    whose squares can't be measured: these stand for all of it.
    """
    thick = deposit.thick_share if deposit else None
    places = focus.places if focus else 0
    blurred = focus.blurred / places if focus and places else None
    share = None
    if thick is not None or blurred is not None:
        share = 1 - (1 - (thick or 0.0)) * (1 - (blurred or 0.0))
    return Obscured(
        share=_rounded(share), thick=_rounded(thick), out_of_focus=_rounded(blurred), places=places
    )


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _counting(accuracy: Accuracy | None) -> Counting | None:
    facts = accuracy.counting if accuracy else None
    return Counting(**facts.model_dump()) if facts else None


def _count(
    centers: NDArray[np.float64],
    labels: Sequence[int],
    specimen: Specimen,
    counting: Counting | None,
    accuracy: Accuracy | None,
) -> SquamousCells:
    found = len(centers)
    if not labels:
        return _not_counted(
            found, "no class of the model is known to be squamous; name them: adequacy.squamous"
        )
    if counting is None or accuracy is None:
        return _not_counted(
            found,
            "how many cells there are for each reported is not known for this model at these "
            "thresholds; measure it with cytolibra evaluate --write-accuracy",
        )
    estimate = count_cells(counting, found, LEVEL)
    more = 1 + specimen.unread_mm2 / specimen.screened_mm2  # as many there as elsewhere, at most
    return SquamousCells(
        found=found,
        estimate=estimate.cells,
        low=estimate.low,
        high=math.ceil(estimate.high * more),
        level=LEVEL,
        basis=f"{counting.ratio:.2f} cells for each reported, by recall and precision on "
        f"{accuracy.data}; spread between {counting.units} fields",
    )


def _not_counted(found: int, why: str) -> SquamousCells:
    return SquamousCells(found=found, estimate=None, low=None, high=None, level=None, basis=why)


def _reaches(cells: SquamousCells, limit: int) -> bool | None:
    if cells.low is None or cells.high is None:
        return None
    if cells.low >= limit:
        return True
    return False if cells.high < limit else None


def _judge(
    cells: SquamousCells,
    obscured: Obscured,
    specimen: Specimen,
    is_abnormal: bool,
    reached: Mapping[Preparation, bool | None],
    settings: AdequacySettings,
) -> tuple[bool | None, str]:
    """The verdict, and why; see the rule at the top."""
    if is_abnormal:
        return True, "more abnormal cells than chance explains: any such specimen is satisfactory"
    if obscured.share is not None and obscured.share > settings.most_obscured:
        return False, (
            f"{obscured.share:.0%} of the deposit is obscured, more than "
            f"{settings.most_obscured:.0%}"
        )
    if specimen.scanned_mm2 < LEAST_MM2:
        return None, (
            f"{specimen.scanned_mm2:.2f} mm² were scanned: a part of a preparation says nothing "
            "of all of it"
        )
    if cells.estimate is None:
        return None, cells.basis
    told = f"{cells.estimate:,} squamous cells ({cells.low:,} to {cells.high:,})"
    if settings.preparation is None:
        limits = "; ".join(
            f"{name}: {limit:,} needed, {_WORDS[reached[name]]}"
            for name, limit in settings.limits.items()
        )
        return None, f"{told}; the preparation is not known ({limits})"
    limit = settings.limits[settings.preparation]
    verdict = reached[settings.preparation]
    return verdict, f"{told}; {limit:,} needed ({settings.preparation}), {_WORDS[verdict]}"


_WORDS = {True: "reached", False: "not reached", None: "open, as it lies in that interval"}


def _by_fields(
    centers: NDArray[np.float64],
    specimen: Specimen,
    counting: Counting | None,
    field_mm: float,
) -> FieldCount | None:
    """Counts cells in fields along a diameter, and takes the deposit to be as full everywhere."""
    deposit = specimen.deposit
    ends = deposit.diameter() if deposit else None
    if deposit is None or ends is None:
        return None
    start, end = np.array(ends)
    mm = specimen.mpp / 1000
    length = float(np.abs(end - start).sum()) * mm
    number = min(FIELDS, int(length / field_mm))
    if not number:
        return None
    steps = (np.arange(number) + 0.5) / number
    middles = start + steps[:, None] * (end - start)
    radius = field_mm / mm / 2
    counts = [int((np.hypot(*(centers - one).T) <= radius).sum()) for one in middles]
    area = deposit.area_px0 * mm**2
    fields = area / (math.pi * (field_mm / 2) ** 2)
    estimate = _extrapolate(np.array(counts, np.float64), fields, counting)
    return FieldCount(
        counts=tuple(counts),
        field_mm=field_mm,
        deposit_mm2=round(area, 4),
        estimate=estimate.cells if estimate else None,
        low=estimate.low if estimate and number > 1 else None,
        high=estimate.high if estimate and number > 1 else None,
    )


def _extrapolate(
    counts: NDArray[np.float64], fields: float, counting: Counting | None
) -> Estimate | None:
    """From some fields to all that the deposit holds.

    The interval: how fields differ (Student's t of their number) and how the model's ratio does, on
    a logarithmic scale, so that it does not fall below zero. As wide as can be where no field has
    a cell: then none below is known, and none above but by the ratio of one cell in all of them.
    """
    if counting is None:
        return None
    from scipy.special import stdtrit

    mean, number = float(counts.mean()), len(counts)
    total = counting.ratio * mean * fields
    if number < 2 or not mean:
        most = counting.ratio * max(mean, 1 / number) * fields
        return Estimate(round(total), 0, math.ceil(most))
    between = float(counts.var(ddof=1)) / number / mean**2
    variance = between + counting.spread + counting.error
    t = float(stdtrit(number - 1, (1 + LEVEL) / 2))
    reach = math.exp(t * math.sqrt(math.log1p(variance)))
    return Estimate(round(total), math.floor(total / reach), math.ceil(total * reach))

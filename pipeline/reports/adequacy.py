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

from typing import Literal

from pydantic import ConfigDict, Field

from configs import StrictModel

Preparation = Literal["liquid-based", "conventional"]
"""How cells came onto the glass."""

ADEQUACY_VERSION = "1"

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
    places: int = Field(description="how many places were looked at for focus")


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

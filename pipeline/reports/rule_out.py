"""Which slides may be set aside: below a threshold with a bound, and never where one is unsure.

The threshold is an order statistic of the scores of abnormal patients on whom the rule was not
fitted; the bound holds for any score and any distribution of it, as long as the patients to come
are like those (exchangeable). Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World,
2005 (on average); Tong, Feng & Li, Science Advances 4, 2018 (with a confidence). To be unsure only
ever keeps a slide from being set aside, so it never breaks the bound.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs import Doubt, StrictModel

MOST_UNREAD = 0.01
"""Share of what had to be screened that may be unreadable where a slide is set aside."""

HARMLESS = frozenset(
    {
        "mpp-argument-unused",
        "exif-turned",
        "first-picture",
        "orientation-unused",
        "ending-differs",
        "areas-joined",
        "focal-planes",
        "unread-area",  # by its share, see `MOST_UNREAD`
    }
)
"""Warnings that say nothing against scale or picture. Every other one, of whatever code, makes
unsure: a code that is new is not taken for harmless."""

ANY_ABNORMAL = "any abnormal category"
"""What counts as positive where nobody says a category; see `SlideRule.positive`."""

_LEVEL = 0.95
"""Of the upper bound that is told beside the promise."""


class RuleOut(StrictModel):
    """A threshold below which slides are set aside, and what it promises.

    A patient with an abnormal slide counts once, by the lowest score of these slides: of a share
    ``bound`` of such patients, at most, an abnormal slide is set aside. Abnormal is here and below
    what the rule counts as positive: of patients with less nothing is promised.

    Attributes:
        level: the largest share of abnormal patients that was to be set aside.
        confidence: with which that holds for these held-out patients; None: on average over such.
        threshold: slides with a lower score are set aside, unless they are suspicious.
        patients: abnormal ones that it was chosen on, held out from the rule's fit.
        below: of these, those that have a lower score.
        bound: the share that is promised on average, ``(below + 1) / (patients + 1)``.
        upper: what the share is not above with 95% confidence.
    """

    level: float = Field(gt=0, lt=1)
    confidence: float | None = Field(None, gt=0, lt=1)
    threshold: float = Field(ge=0, le=1)
    patients: int = Field(ge=1)
    below: int = Field(ge=0)
    bound: float = Field(gt=0, le=1)
    upper: float = Field(gt=0, le=1)


class Decision(NamedTuple):
    """Whether a slide is set aside; None for undecided. And why."""

    set_aside: bool | None
    reason: str


def needed_patients(level: float, confidence: float | None) -> int:
    """Abnormal patients below which no threshold promises ``level``."""
    if confidence is None:
        return math.ceil(1 / level - 1 - 1e-9)
    return math.ceil(math.log(1 - confidence) / math.log(1 - level) - 1e-9)


def least_level(patients: int, confidence: float | None) -> float:
    """The smallest share that so many abnormal patients can promise."""
    if confidence is None:
        return 1 / (patients + 1)
    return float(1 - (1 - confidence) ** (1 / patients))


def choose_threshold(
    scores: NDArray[np.float64], level: float, confidence: float | None = None
) -> RuleOut:
    """The highest threshold that promises to set aside at most ``level`` of the abnormal patients.

    It is the k-th lowest score. The share of patients below that is, for a continuous score,
    Beta(k, n - k + 1) distributed, and less where scores tie: its mean is k / (n + 1). With a
    confidence k is the largest for which the share exceeds the level with a chance of at most
    1 - confidence.

    Args:
        scores: (n,) one of each held-out abnormal patient; infinite where it would be undecided.
        level: share that may be set aside.
        confidence: see `RuleOut`.

    Raises:
        ValueError: there are fewer than `needed_patients`.
    """
    from scipy.special import betaincinv

    count = len(scores)
    if count < needed_patients(level, confidence):
        raise ValueError(f"{count} abnormal patients can't promise a share of {level:g}")
    rank = _rank(count, level, confidence)
    # Infinite ones stay above any threshold; the score itself never reaches beyond 1.
    threshold = min(1.0, float(np.sort(scores)[rank - 1]))
    threshold = math.floor(threshold * 1e6) / 1e6
    return RuleOut(
        level=level,
        confidence=confidence,
        threshold=threshold,
        patients=count,
        below=int((scores < threshold).sum()),
        bound=rank / (count + 1),
        upper=float(betaincinv(rank, count - rank + 1, _LEVEL)),
    )


def patients_with(positive: str) -> str:
    """Those whom a promise is about, in words; see `SlideRule.positive`."""
    return "abnormal patients" if positive == ANY_ABNORMAL else f"patients with {positive}"


def decide(
    rule_out: RuleOut,
    score: float,
    suspicious_from: float,
    unsure: str | None,
    positive: str = ANY_ABNORMAL,
) -> Decision:
    """Whether a slide of this score is set aside.

    Args:
        rule_out: threshold and promise.
        score: of the slide.
        suspicious_from: score from which on it is suspicious, and so never set aside.
        unsure: why nothing can be decided; None where it can. See `why_unsure`.
        positive: what the rule counts as positive, in words: the promise is about it alone.
    """
    if unsure:
        return Decision(None, f"undecided: {unsure}")
    limit = min(rule_out.threshold, suspicious_from)
    below = score < limit
    promise = f"at most {rule_out.bound:.1%} of {patients_with(positive)} lie below, by "
    promise += f"{rule_out.patients} who were held out"
    where = "below" if below else "not below"
    return Decision(below, f"slide score {score:.3f}, {where} {limit:.3f}; {promise}")


def why_unsure(
    warnings: Iterable[Doubt],
    wanted_mm2: float,
    unread_mm2: float,
    adequacy: object,
    unchecked: str | None = None,
) -> str | None:
    """Why nothing should be decided of a slide; None where nothing speaks against it.

    Args:
        warnings: of the slide.
        wanted_mm2: area that had to be screened, unread parts too.
        unread_mm2: what of it could not be read.
        adequacy: of the report; what has an attribute ``satisfactory`` that is False is inadequate.
        unchecked: why nobody knows whether the slide is of the model's domain.
    """
    odd = _codes_beside(warnings, HARMLESS)
    if odd:
        return f"the slide has warnings ({', '.join(odd)})"
    if wanted_mm2 <= 0:
        return "nothing of it was screened"
    if unread_mm2 > MOST_UNREAD * wanted_mm2:
        return f"{unread_mm2 / wanted_mm2:.1%} of what had to be screened can't be read"
    if getattr(adequacy, "satisfactory", None) is False:
        return "the specimen is not adequate"
    return unchecked


def _codes_beside(warnings: Iterable[Doubt], harmless: Collection[str]) -> list[str]:
    return list(dict.fromkeys(doubt.code for doubt in warnings if doubt.code not in harmless))


def _rank(count: int, level: float, confidence: float | None) -> int:
    """Which of the scores, from the lowest, counted from 1, is the threshold."""
    if confidence is None:
        return math.floor(level * (count + 1) + 1e-9)
    from scipy.special import bdtr

    ranks = np.arange(1, count + 1)
    allowed = ranks[bdtr(ranks - 1.0, count, level) <= 1 - confidence + 1e-12]
    return int(allowed.max())

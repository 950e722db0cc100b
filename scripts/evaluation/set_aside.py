"""Slides that may be set aside: a threshold from held-out patients, and how it does on others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from configs import ConfigError
from data.evaluation.slide_metrics import Estimate, exact_proportion, proportion_by_groups
from pipeline.reports.report import why_not_set_aside
from pipeline.reports.rule_out import (
    ANY_ABNORMAL,
    choose_threshold,
    decide,
    least_level,
    needed_patients,
    patients_with,
)
from pipeline.reports.slide_rule import SlideRule
from scripts.evaluation.slide_level import (
    FEWEST,
    LabelledSlides,
    as_share,
    fit_rule,
    intervals_of,
)


class Wish(NamedTuple):
    """What is wanted of the slides that are set aside; see `pipeline.reports.rule_out.RuleOut`."""

    level: float
    confidence: float | None


def check_wish(level: float, confidence: float | None) -> Wish:
    """Makes sure that both are shares.

    Raises:
        ConfigError: one is none.
    """
    if not 0 < level < 1:
        raise ConfigError(f"--rule-out {level:g}: is a share between 0 and 1, such as 0.01")
    if confidence is not None and not 0 < confidence < 1:
        raise ConfigError(f"--rule-out-confidence {confidence:g}: is a share such as 0.95")
    return Wish(level, confidence)


def fit_with_rule_out(
    slides: LabelledSlides, wish: Wish, wanted: float, positive: str, folds: int = 5, seed: int = 0
) -> tuple[SlideRule, NDArray[np.float64], LabelledSlides]:
    """A rule, and the threshold below which slides are set aside, each from patients of its own.

    The bound holds for a score that has not seen the patients whose scores choose the threshold.
    So some of the abnormal patients, drawn by ``seed``, are held out from all of the rule's fit:
    half of them, or as many as the wish needs. Normal slides all serve the fit, since the bound
    is about abnormal patients only.

    Args:
        slides: with known outcome.
        wish: what is to be promised.
        wanted: sensitivity that a slide is called suspicious for.
        positive: what counts as positive, in words.
        folds: of the cross-validation.
        seed: of the folds, and of who is held out.

    Returns:
        The rule; scores of the slides that it was fitted on, when they were left out; these slides.

    Raises:
        ConfigError: there are too few abnormal patients for the wish, or too few slides to fit.
    """
    held = _hold_out(slides, wish, seed, positive)
    fitted = slides.part(~held)
    rule, scores = fit_rule(fitted, wanted, positive, folds, seed)
    apart = slides.part(held & slides.positive)
    lowest = np.full(int(apart.groups.max()) + 1, np.inf)
    np.minimum.at(lowest, apart.groups, _scores_if_decided(apart, rule))
    rule_out = choose_threshold(lowest, *wish)
    return rule.model_copy(update={"rule_out": rule_out}), scores, fitted


def judge_set_aside(slides: LabelledSlides, rule: SlideRule) -> dict[str, Any]:
    """What a rule sets aside of slides that neither its fit nor its threshold has seen.

    Returns:
        ``level``, ``bound``, ``threshold`` and ``positive`` of the rule, the last in words: its
        promise is about that. As the labels have it here, of ``normal`` slides the share that is
        set aside, of ``abnormal`` ones (missed), and of ``patients`` with an abnormal slide those
        of whom one is: {value, low, high, count, of}, the latter two with exact intervals, the
        former two by patient where these have several slides, as ``intervals`` says;
        ``undecided`` slides by reason, and the names of those that are ``missed``.
    """
    assert rule.rule_out is not None
    unsure = [why_not_set_aside(report, rule) for report in slides.reports]
    scores = slides.scores(rule)
    aside = np.array(
        [
            decide(rule.rule_out, float(score), rule.threshold, why).set_aside is True
            for score, why in zip(scores, unsure, strict=True)
        ]
    )
    missed = aside & slides.positive
    ill, hit = (set(slides.groups[chosen].tolist()) for chosen in (slides.positive, missed))
    normal = ~slides.positive
    return {
        "level": rule.rule_out.level,
        "bound": round(rule.rule_out.bound, 4),
        "threshold": min(rule.rule_out.threshold, rule.threshold),
        "positive": rule.positive,
        "normal": _counted(
            proportion_by_groups(aside[normal], slides.groups[normal]),
            int(aside[normal].sum()),
            int(normal.sum()),
        ),
        "abnormal": _counted(
            proportion_by_groups(aside[~normal], slides.groups[~normal], interval=exact_proportion),
            int(missed.sum()),
            int(slides.positive.sum()),
        ),
        "patients": _counted(exact_proportion(len(hit), len(ill)), len(hit), len(ill)),
        "intervals": intervals_of(slides.groups),
        "undecided": dict(Counter(why for why in unsure if why)),
        "missed": [name for name, lost in zip(slides.names, missed, strict=True) if lost],
    }


def set_aside_table(figures: Mapping[str, Any], positive: str = ANY_ABNORMAL) -> Table:
    """`judge_set_aside` for a terminal.

    Args:
        figures: of the slides.
        positive: what counts as positive among them, in words.
    """
    title = f"set aside below {figures['threshold']:g} (promised: at most {figures['bound']:.1%} "
    title += f"of {patients_with(figures['positive'])})"
    plain = positive == ANY_ABNORMAL
    table = Table(title=title, caption=f"with 95% intervals {figures['intervals']}")
    table.add_column("of")
    table.add_column("set aside", justify="right")
    table.add_column("share", justify="right")
    for name, key in {
        "normal slides" if plain else "other slides": "normal",
        "abnormal slides" if plain else f"slides with {positive}": "abnormal",
        "patients with an abnormal slide" if plain else "patients with such a slide": "patients",
    }.items():
        share = figures[key]
        bounds = f"{share['value']:.3f} ({share['low']:.3f} to {share['high']:.3f})"
        table.add_row(name, f"{share['count']} of {share['of']}", bounds)
    table.add_section()
    for reason, count in figures["undecided"].items():
        table.add_row(f"undecided: {reason}", str(count), "")
    return table


def _hold_out(slides: LabelledSlides, wish: Wish, seed: int, positive: str) -> NDArray[np.bool_]:
    """(N,) all slides of the abnormal patients on whom the threshold is chosen."""
    patients, those = np.unique(slides.groups[slides.positive]), patients_with(positive)
    count, needed = len(patients), needed_patients(*wish)
    room = count - FEWEST
    if room < needed:
        least = f"at most {least_level(max(room, 1), wish.confidence):.2%}" if room > 0 else "none"
        raise ConfigError(
            f"--rule-out {wish.level:g}: of {count} {those} {max(room, 0)} can be held out, as "
            f"{FEWEST} are needed for the fit, and a bound of {wish.level:.2%} needs {needed}: "
            f"with so many {least} can be promised" + (_advice(room, wish) if room > 0 else "")
        )
    held = min(room, max(needed, count // 2))
    rng = np.random.default_rng([seed, 1])
    return np.isin(slides.groups, rng.choice(patients, held, replace=False))


def _advice(room: int, wish: Wish) -> str:
    level = math.ceil(least_level(room, wish.confidence) * 1e4) / 1e4
    return f" (--rule-out {level:g})"


def _scores_if_decided(slides: LabelledSlides, rule: SlideRule) -> NDArray[np.float64]:
    """(N,) scores; infinite where the slide would be left undecided, which never misses it."""
    unsure = np.array([why_not_set_aside(report) is not None for report in slides.reports])
    return np.where(unsure, np.inf, slides.scores(rule))


def _counted(estimate: Estimate, count: int, of: int) -> dict[str, Any]:
    return as_share(estimate).model_dump() | {"count": count, "of": of}

"""Slides that are set aside: the bound by order statistics, and what makes unsure."""

from types import SimpleNamespace

import numpy as np
import pytest

from configs import Doubt
from configs.codes import SLIDES
from pipeline.reports.rule_out import (
    HARMLESS,
    RuleOut,
    choose_threshold,
    decide,
    least_level,
    needed_patients,
    why_unsure,
)


def test_the_threshold_is_an_order_statistic_by_hand():
    """floor(0.05 * 101) = 5: the fifth lowest of a hundred, below which four lie."""
    scores = np.arange(1, 101)[::-1] / 200
    found = choose_threshold(scores, 0.05)
    assert (found.threshold, found.below, found.patients) == (0.025, 4, 100)
    assert found.bound == pytest.approx(5 / 101)
    assert found.upper == pytest.approx(0.0891, abs=5e-4)  # Clopper-Pearson's, of 4 of 100


def test_with_a_confidence_it_is_lower():
    """Of 299 abnormal patients the lowest one promises 1% with 95% confidence; of 298 none does."""
    scores = np.arange(1, 300) / 1000
    found = choose_threshold(scores, 0.01, 0.95)
    assert (found.threshold, found.below) == (0.001, 0)
    assert found.upper <= 0.01
    assert choose_threshold(scores, 0.01).threshold == 0.003
    with pytest.raises(ValueError, match="298 abnormal patients can't promise"):
        choose_threshold(scores[1:], 0.01, 0.95)


@pytest.mark.parametrize(
    ("level", "confidence", "needed"),
    [(0.01, None, 99), (0.05, None, 19), (0.5, None, 1), (0.01, 0.95, 299), (0.05, 0.95, 59)],
)
def test_how_many_patients_a_promise_needs(level, confidence, needed):
    assert needed_patients(level, confidence) == needed
    assert least_level(needed, confidence) <= level + 1e-12 < least_level(needed - 1, confidence)


def test_forty_promise_two_point_four_per_cent():
    assert least_level(40, None) == pytest.approx(0.0244, abs=1e-4)


def test_the_promise_holds_for_new_patients():
    """Drawn two thousand times: on average it is kept, and with a confidence it mostly is."""
    rng = np.random.default_rng(0)
    on_average, kept = [], []
    for _ in range(2000):
        scores = rng.beta(2, 1, 120)
        on_average.append(
            choose_threshold(scores, 0.05).threshold ** 2
        )  # share below, of beta(2, 1)
        kept.append(choose_threshold(scores, 0.05, 0.9).threshold ** 2 <= 0.05)
    assert 0.045 < np.mean(on_average) <= 6 / 121 + 0.001
    assert 0.9 <= np.mean(kept) < 0.97


def test_those_who_would_be_undecided_lie_above_any_threshold():
    scores = np.array([0.1, 0.2, *[np.inf] * 17])
    assert choose_threshold(scores, 0.05).threshold == 0.1
    assert choose_threshold(np.full(19, np.inf), 0.05).threshold == 1.0


def made(threshold=0.2):
    return RuleOut(level=0.05, threshold=threshold, patients=40, below=0, bound=1 / 41, upper=0.1)


@pytest.mark.parametrize(
    ("score", "suspicious_from", "aside"),
    [(0.1, 0.5, True), (0.2, 0.5, False), (0.15, 0.12, False), (0.1, 0.12, True)],
)
def test_low_scores_are_set_aside_unless_suspicious(score, suspicious_from, aside):
    decided = decide(made(), score, suspicious_from, None)
    assert decided.set_aside is aside
    assert "2.4% of abnormal patients" in decided.reason


def test_a_promise_is_told_of_those_whom_it_is_about():
    decided = decide(made(), 0.1, 0.5, None, "HSIL and more severe")
    assert "2.4% of patients with HSIL and more severe lie below" in decided.reason


def test_where_one_is_unsure_nothing_is_decided():
    assert decide(made(), 0.0, 0.5, "it is odd") == (None, "undecided: it is odd")


def unsure(*codes, wanted=10.0, unread=0.0, adequacy="not_assessed", unchecked=None):
    doubts = [Doubt(code=code, text="odd") for code in codes]
    return why_unsure(doubts, wanted, unread, adequacy, unchecked)


def test_what_makes_unsure():
    assert unsure() is None
    assert unsure("exif-turned", "unread-area", unread=0.1) is None
    assert unsure("unread-area", unread=0.2) == "2.0% of what had to be screened can't be read"
    assert unsure("out-of-domain", "grey") == "the slide has warnings (out-of-domain, grey)"
    assert unsure(wanted=0.0) == "nothing of it was screened"
    assert unsure(unchecked="too few cells") == "too few cells"
    assert unsure(adequacy=SimpleNamespace(satisfactory=False)) == "the specimen is not adequate"
    assert unsure(adequacy=SimpleNamespace(satisfactory=None)) is None


@pytest.mark.parametrize("code", sorted(set(SLIDES) - HARMLESS))
def test_any_other_warning_makes_unsure(code):
    assert unsure(code) == f"the slide has warnings ({code})"


def test_what_is_harmless_is_a_code():
    assert set(SLIDES) >= HARMLESS

"""A second, closer look at what the detector found: which candidates, and what the look changes.

The detector and a grader of crops err differently, so neither is trusted alone: their scores are
combined by a rule with few exponents, which the model's card holds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.card import CombinationRule

LEAST = 1e-30
"""Shares and probabilities may be 0; something has to be left to tell classes apart by."""


def combine(
    class_scores: NDArray[np.floating],
    probabilities: NDArray[np.floating],
    is_abnormal: NDArray[np.bool_],
    rule: CombinationRule,
) -> NDArray[np.float32]:
    """Scores of all classes, from the detector's and what the grader says of the same places.

    With ``any`` the detector's best score at a place, ``share_c = s_c / any`` and ``q_c`` the
    grader's probability of a class if there is a cell at all::

        base     = any * (1 - p_background) ** background
        abnormal = base * max_abnormal(share) ** share * sum_abnormal(q) ** evidence
        class c  = base * share_c ** share * q_c ** grade

    Then the abnormal classes are scaled so that the largest of them is ``abnormal``: the grade
    moves no cell between normal and abnormal.

    Args:
        class_scores: (N, C) the detector's, in 0..1.
        probabilities: (N, C + 1) the grader's, background last; rows sum to one.
        is_abnormal: (C,) which classes are abnormal.
        rule: the exponents.

    Returns:
        (N, C) in 0..1; 0 where the detector saw nothing.
    """
    scores, grades = class_scores.astype(np.float64), probabilities[:, :-1].astype(np.float64)
    best = scores.max(axis=1, initial=0, keepdims=True)
    cell = grades.sum(axis=1, keepdims=True)  # 1 - p_background, exact where that is nearly 1
    share = np.maximum(scores / np.maximum(best, LEAST), LEAST)
    grade = np.maximum(grades / np.maximum(cell, LEAST), LEAST)
    values = share**rule.share * grade**rule.grade
    if is_abnormal.any():
        seen = share[:, is_abnormal].max(axis=1, keepdims=True)
        sure = np.minimum(grade[:, is_abnormal].sum(axis=1, keepdims=True), 1)
        level = seen**rule.share * sure**rule.evidence
        values[:, is_abnormal] *= level / values[:, is_abnormal].max(axis=1, keepdims=True)
    base = best * np.minimum(cell, 1) ** rule.background
    return (base * values).astype(np.float32)

"""Temperature scaling: one number that makes a classifier's confidence mean what it says.

Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017, section 4.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from data.evaluation.calibration import Reliability, reliability
from data.evaluation.matching import Matches

RANGE = (0.1, 10.0)
"""Temperatures that are tried: beyond them a classifier is of no use."""


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature with the least negative log-likelihood; 1 of nothing.

    Args:
        logits: (N, K).
        labels: (N,) what is right.
    """
    if not len(labels):
        return 1.0
    low, high = np.log(RANGE)
    found = minimize_scalar(
        lambda power: negative_log_likelihood(logits, labels, float(np.exp(power))),
        bounds=(low, high),
        method="bounded",
    )
    return float(np.exp(found.x))


def negative_log_likelihood(
    logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float
) -> float:
    """Mean of -log of the probability that what is right got; NaN of nothing."""
    if not len(labels):
        return float("nan")
    logs = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return float(-logs[np.arange(len(labels)), labels].mean())


def confidence(
    logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float
) -> Reliability:
    """Probability of what is called likeliest, against how often that is right."""
    chances = softmax(logits.astype(np.float64) / temperature, axis=1)
    named = chances.argmax(axis=1)
    return reliability(Matches(chances.max(axis=1), named == labels, len(labels)), lowest=0.0)

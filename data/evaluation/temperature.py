"""Calibration of a classifier, so that eight in ten of what it calls 0.8 likely are so.

By a temperature alone (Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks",
ICML 2017, section 4.2) a classifier gets less sure, not less frequent. One that learned from
classes drawn more evenly than they come goes on expecting them as they were drawn: so each class
has a bias, too (bias-corrected temperature scaling: Alexandari, Kundaje and Shrikumar, "Maximum
likelihood with bias-corrected calibration is hard-to-beat at label shift adaptation", ICML 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from data.evaluation.calibration import Reliability, reliability
from data.evaluation.matching import Matches

RANGE = (0.1, 10.0)
"""Temperatures that are tried: beyond them a classifier is of no use."""

RIDGE = 1e-4
"""Weight of the biases' squares beside the mean negative log-likelihood: a class of which there was
none would else be ruled out for ever."""


@dataclass(frozen=True)
class Calibration:
    """What makes probabilities of logits: softmax(logits / temperature + bias).

    Attributes:
        temperature: one number.
        bias: (K,) one a class; 0 for the last.
    """

    temperature: float
    bias: NDArray[np.float64]

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, K) probabilities of (N, K) logits."""
        if not len(logits):
            return np.zeros(logits.shape)
        return np.asarray(softmax(logits.astype(np.float64) / self.temperature + self.bias, axis=1))

    @property
    def evened(self) -> tuple[float, ...]:
        """(K,) by which probabilities are multiplied to take the biases out of them again."""
        return tuple(np.exp(-self.bias).round(4).tolist())

    def likelihood(self, logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
        """Mean of -log of the probability that what is right got; NaN of nothing."""
        if not len(labels):
            return float("nan")
        logs = log_softmax(logits.astype(np.float64) / self.temperature + self.bias, axis=1)
        return float(-logs[np.arange(len(labels)), labels].mean())

    def confidence(self, logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Reliability:
        """Probability of what is called likeliest, against how often that is right."""
        chances = self.probabilities(logits)
        named = chances.argmax(axis=1) if len(labels) else np.zeros(0, np.int64)
        sure = chances.max(axis=1) if len(labels) else np.zeros(0)
        return reliability(Matches(sure, named == labels, len(labels)), lowest=0.0)


def no_calibration(classes: int) -> Calibration:
    """Of so many classes: logits as they are."""
    return Calibration(1.0, np.zeros(classes))


def fit_calibration(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Calibration:
    """The calibration with the least negative log-likelihood; of nothing none.

    Args:
        logits: (N, K).
        labels: (N,) what is right.
    """
    count, classes = logits.shape
    if not count:
        return no_calibration(classes)
    known = logits.astype(np.float64)
    right = np.eye(classes)[labels]

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scaled, bias = known / np.exp(values[0]), values[1:]
        logs = log_softmax(scaled + np.append(bias, 0.0), axis=1)
        off = (np.exp(logs) - right) / count
        slope = np.append(-(off * scaled).sum(), off.sum(axis=0)[:-1] + 2 * RIDGE * bias)
        return float(-(right * logs).sum() / count + RIDGE * (bias**2).sum()), slope

    low, high = np.log(RANGE)
    bounds = [(low, high)] + [(None, None)] * (classes - 1)
    found = minimize(loss, np.zeros(classes), jac=True, method="L-BFGS-B", bounds=bounds).x
    return Calibration(float(np.exp(found[0])), np.append(found[1:], 0.0))

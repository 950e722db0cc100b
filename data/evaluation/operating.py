"""The score from which on detections count, for a wanted sensitivity or precision."""

from __future__ import annotations

import numpy as np

from configs import ConfigError
from data.evaluation.curves import Curve, trace
from data.evaluation.matching import Matches

DECIMALS = 4
"""Of a threshold, rounded down, as it is written into a model's sidecar."""

FEW_CELLS = 20
"""Where each abnormal class is to get a threshold of its own, one with fewer cells takes that of
all abnormal ones merged: a few cells tell nothing."""

ROUNDING = 1e-9


def threshold_for_sensitivity(matched: Matches, wanted: float) -> float:
    """The highest threshold that finds a share ``wanted`` of the cells.

    Raises:
        ConfigError: there are no cells, or no threshold finds as many; the message tells the best.
    """
    curve = _rounded(matched)
    enough = np.flatnonzero(curve.sensitivity >= wanted - ROUNDING)
    if not len(enough):
        best = curve.sensitivity.max(initial=0.0)
        at = f", from score {curve.thresholds[-1]:g} on" if len(curve.thresholds) else ""
        raise ConfigError(
            f"a sensitivity of {wanted:g} is out of reach; the best is {best:.4f}{at}"
        )
    return float(curve.thresholds[enough[0]])


def threshold_for_precision(matched: Matches, wanted: float) -> float:
    """The lowest threshold from which on a share ``wanted`` of the detections are right.

    Raises:
        ConfigError: as `threshold_for_sensitivity`.
    """
    curve = _rounded(matched)
    enough = np.flatnonzero((curve.precision >= wanted - ROUNDING) & (curve.hits > 0))
    if not len(enough):
        at = int(np.argmax(curve.precision)) if len(curve.thresholds) else None
        best = "0" if at is None else f"{curve.precision[at]:.4f}, at {curve.thresholds[at]:g}"
        raise ConfigError(f"a precision of {wanted:g} is out of reach; the best is {best}")
    return float(curve.thresholds[enough[-1]])


def _rounded(matched: Matches) -> Curve:
    """The curve at thresholds that a sidecar can hold; what lies between two comes together."""
    if not matched.cells:
        raise ConfigError("no such cell is annotated")
    scale = 10**DECIMALS
    scores = np.floor(matched.scores * scale) / scale
    return trace(Matches(scores, matched.hits, matched.cells))

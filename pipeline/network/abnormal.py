"""What a model's abnormal head makes of its class scores, by numpy.

The same as `models.detectors.abnormal.AbnormalHead.scores`, which says why.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.config import DetectorConfig


def with_abnormal(
    config: DetectorConfig, classes: NDArray[np.float64], head: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N, C) scores from (N, C) probabilities of classes and (N,) of "abnormal".

    The abnormal ones are scaled so that the highest of them is the geometric mean of both answers.

    Args:
        config: of a detector with an abnormal head.
        classes: as the class logits say.
        head: as the abnormal one says.
    """
    assert config.abnormal_head is not None
    abnormal = np.array(config.is_abnormal)
    highest = classes[:, abnormal].max(axis=1)
    pooled = highest
    if config.abnormal_head.pooled == "noisy_or":
        pooled = 1 - (1 - classes[:, abnormal]).prod(axis=1)
    factor = np.sqrt(pooled * head) / np.maximum(highest, np.finfo(np.float64).tiny)
    return np.where(abnormal, np.minimum(classes * factor[:, None], 1), classes)


def may_reach(
    config: DetectorConfig, logits: NDArray[np.float32], least: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(A,) places at which a class may reach its least score; by logits alone, so cheap.

    A probability is at most exp(logit), so the geometric mean of two at most the mean of their
    logits, exponentiated. By noisy or, n classes say at most n times what the likeliest does.

    Args:
        config: of a detector with an abnormal head.
        logits: (A, C + 1), the abnormal one last.
        least: (C,) in 0..1.
    """
    assert config.abnormal_head is not None
    abnormal = np.array(config.is_abnormal)
    # Of the logarithm, a little lower than it is: what rounding could lose is computed exactly.
    lowest = np.log(np.maximum(least, 1e-300)) - 1e-4
    several = abnormal.sum() if config.abnormal_head.pooled == "noisy_or" else 1
    both = np.minimum(logits[:, :-1][:, abnormal].max(axis=1), 0) + np.minimum(logits[:, -1], 0)
    reach = both + np.log(several) >= 2 * lowest[abnormal].min()
    for label in np.flatnonzero(~abnormal):
        reach |= np.minimum(logits[:, label], 0) >= lowest[label]
    return np.asarray(reach)

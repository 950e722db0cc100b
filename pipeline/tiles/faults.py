"""What hinders the view of a slide, square by square."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Faults:
    """What was seen of a slide's picture; squares are the deposit's, or `pipeline.tiles.focus`'s.

    Attributes:
        ink, bubbles: (H, W) as of `Foreground`; None where nobody looked.
        sharpness: (H', W') of squares of twice the side, NaN of those that say nothing; None where
            the slide is too coarse.
    """

    ink: Mask | None = None
    bubbles: Mask | None = None
    sharpness: NDArray[np.float16] | None = None

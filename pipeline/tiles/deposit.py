"""Where the specimen lies on the glass, and how much of it can't be seen through.

Adequacy asks for both: cells are counted in fields along a diameter of the deposit, and a specimen
is unsatisfactory where most of it is obscured by blood, inflammation or thickness. Both are judged
on squares of `SQUARE` µm: coarser than a cell, finer than what a microscope's field shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

SQUARE = 64.0
"""Side in µm of the squares."""

GAP = 1000.0
"""Gaps in µm between cells that belong to the deposit: at 1,000 cells on 133 mm², the sparsest that
matters, neighbours lie a third of that apart."""

THICK = 0.55
"""Optical density in the clearest colour above which half of a square lets too little light pass.
No one of 2,220 squares of 185 CRIC fields, whose cells all can be judged, is beyond 0.52."""


@dataclass(frozen=True)
class Deposit:
    """The specimen, in squares.

    Attributes:
        mask: (H, W) which squares belong to it; square (row, column) stands for the level-0 area
            that starts at (column, row) * ``side``.
        thick: (H, W) which of these let too little light pass; None where nobody looked.
        side: of a square, in level-0 pixels.
    """

    mask: Mask
    thick: Mask | None
    side: float

    @property
    def area_px0(self) -> float:
        """In level-0 pixels."""
        return float(self.mask.sum()) * self.side**2

    @property
    def thick_share(self) -> float | None:
        """Share of the deposit that is too thick; None of nothing, or where nobody looked."""
        if self.thick is None or not self.mask.any():
            return None
        return float((self.thick & self.mask).sum() / self.mask.sum())

    def diameter(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """A line through the middle of the deposit from edge to edge, in level-0 pixels.

        Along the slide's rows or columns, whichever is the longer; None of no deposit.
        """
        if not self.mask.any():
            return None
        rows, columns = np.nonzero(self.mask)
        row, column = round(float(rows.mean())), round(float(columns.mean()))
        across, down = (np.flatnonzero(line) for line in (self.mask[row], self.mask[:, column]))
        if len(across) and (not len(down) or np.ptp(across) >= np.ptp(down)):
            y = (row + 0.5) * self.side
            return (across[0] * self.side, y), ((across[-1] + 1) * self.side, y)
        if not len(down):
            return None  # a ring, or so: its middle is bare
        x = (column + 0.5) * self.side
        return (x, down[0] * self.side), (x, (down[-1] + 1) * self.side)


def find_deposit(foreground: Mask, thick: Mask | None, downsample: float, mpp: float) -> Deposit:
    """The deposit around what a foreground mask shows.

    Args:
        foreground: (H, W), where cells may be.
        thick: `thick_squares` of the same picture; None where nobody looked.
        downsample: level-0 pixels per pixel of the foreground.
        mpp: µm per level-0 pixel.
    """
    pixels = _pixels_of_a_square(downsample * mpp)
    squares = _blocks(foreground, pixels).any(axis=(2, 3))
    width = 2 * round(GAP / 2 / SQUARE) + 1
    window = np.ones((width, width), np.uint8)
    # Beyond the picture is no specimen, and no gap either: a border keeps the closing honest.
    padded = np.pad(squares.view(np.uint8), width)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, window)[width:-width, width:-width]
    return Deposit(closed.astype(bool), thick, pixels * downsample)


def square_side(downsample: float, mpp: float) -> float:
    """Level-0 pixels of a square's side: a whole number of an overview's pixels.

    Args:
        downsample: level-0 pixels per pixel of the overview.
        mpp: µm per level-0 pixel.
    """
    return _pixels_of_a_square(downsample * mpp) * downsample


def thick_squares(image: NDArray[np.uint8], clear: float, mpp: float) -> Mask:
    """Which squares let too little light pass to see cells in them.

    Args:
        image: (H, W, 3) RGB of low resolution.
        clear: brightness of the glass, 0..255.
        mpp: µm per pixel of the image.
    """
    darker = (clear + 1) * 10**-THICK - 1
    return share_of_squares(image.max(axis=2) <= darker, mpp) > 0.5


def share_of_squares(mask: Mask, mpp: float) -> NDArray[np.float64]:
    """Share (H, W) of each square that a mask has; of those at its far borders of the whole square.

    Args:
        mask: (H, W) of low resolution.
        mpp: µm per pixel of it.
    """
    return np.asarray(_blocks(mask, _pixels_of_a_square(mpp)).mean(axis=(2, 3)))


def _pixels_of_a_square(mpp: float) -> int:
    return max(1, round(SQUARE / mpp))


def _blocks(mask: Mask, pixels: int) -> Mask:
    """(H, W, pixels, pixels) of a mask, filled up at its right and bottom."""
    height, width = (-(-side // pixels) for side in mask.shape)
    more = ((0, height * pixels - mask.shape[0]), (0, width * pixels - mask.shape[1]))
    whole = np.pad(mask, more, constant_values=False)
    return np.asarray(whole.reshape(height, pixels, width, pixels).transpose(0, 2, 1, 3))

"""Pictures of single cells, drawn for tests of how cells look."""

import numpy as np

from pipeline.cells.looks import SIDE

Y, X = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
NUCLEUS, CELL = (90, 60, 120), (150, 200, 190)


def cell(nucleus=NUCLEUS, around=CELL, seed=0):
    """A round nucleus of 8 px radius on a grainy cell that fills the picture."""
    picture = np.empty((SIDE, SIDE, 3))
    picture[:] = around
    picture[np.hypot(Y, X) <= 9] = nucleus
    picture += np.random.default_rng(seed).normal(0, 4, picture.shape)
    return picture.clip(0, 255).astype(np.uint8)

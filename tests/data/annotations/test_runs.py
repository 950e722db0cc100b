"""Boxes of masks that are given by runs, against pycocotools and a mask drawn out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as oracle

from data.annotations.runs import box_of_columns, box_of_rows, runs_of_text

MASKS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda size: arrays(np.uint8, size, elements=st.integers(0, 1))
)


def drawn_box(mask):
    ys, xs = np.nonzero(mask)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else None


def runs_of(pixels):
    """Lengths of runs of 0 and 1 in turn, counted one by one."""
    runs, value = [0], 0
    for pixel in pixels:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@given(MASKS)
def test_boxes_are_those_of_the_mask(mask):
    height, width = mask.shape
    text = oracle.encode(np.asfortranarray(mask))["counts"].decode()
    columns = box_of_columns(runs_of_text(text), width, height)
    rows = box_of_rows(runs_of(mask.ravel()), width, height)
    expected = drawn_box(mask)
    for found in (columns, rows):
        assert (None if found is None else found.tolist()) == expected


@pytest.mark.parametrize("runs", [[3, 4], [12, 1], [-1, 13], [5.5, 6.5], [], [float("nan")]])
def test_runs_that_do_not_fill_the_picture_are_told(runs):
    with pytest.raises(ValueError, match="the runs of a mask don't fill 4x3 px"):
        box_of_columns(runs, 4, 3)


@pytest.mark.parametrize("text", ["é", "oooooooooooooooooooo0", "o", "\n"])
def test_text_that_is_no_code_is_told(text):
    with pytest.raises(ValueError, match="the text of a mask"):
        runs_of_text(text)

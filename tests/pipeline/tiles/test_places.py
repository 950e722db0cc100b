"""Which places of a slide are looked at."""

import numpy as np
import pytest

from pipeline.geometry import Rect
from pipeline.tiles.foreground import Foreground
from pipeline.tiles.places import covering, fullest


def test_squares_cover_an_area_from_border_to_border():
    corners = covering(Rect(100, 50, 250, 100), 100.0)
    assert corners.tolist() == [[100, 50], [175, 50], [250, 50]]


def test_squares_that_fit_exactly_do_not_overlap():
    assert covering(Rect(0, 0, 300, 200), 100.0).tolist() == [
        [x, y] for y in (0, 100) for x in (0, 100, 200)
    ]


def test_a_square_may_reach_beyond_a_narrow_area():
    assert covering(Rect(7, 9, 60, 300), 100.0).tolist() == [[7, 9], [7, 109], [7, 209]]


@pytest.fixture
def mask():
    """A row of ten squares of 10 px, filled to 0, 10, 20, ... 90%."""
    mask = np.zeros((10, 100), bool)
    for column in range(10):
        mask[:column, 10 * column : 10 * column + 10] = True
    return Foreground(mask, 1.0)


def test_the_fuller_half_is_taken_evenly_thinned(mask):
    corners = covering(Rect(0, 0, 100, 10), 10.0)
    assert fullest(corners, 10.0, mask, 99)[:, 0].tolist() == [50, 60, 70, 80, 90]
    assert fullest(corners, 10.0, mask, 3)[:, 0].tolist() == [50, 70, 90]


def test_places_that_hold_too_little_are_none(mask):
    corners = covering(Rect(0, 0, 100, 10), 10.0)
    assert fullest(corners[:4], 10.0, mask, 9, least=0.25)[:, 0].tolist() == [30]
    assert len(fullest(corners[:3], 10.0, mask, 9, least=0.25)) == 0
    assert len(fullest(corners[:1], 10.0, mask, 9)) == 0

"""Maps of where crops are worth while: on what may be cells, whatever else a scan shows."""

from pathlib import Path

import numpy as np
import pytest

from data.fields import places as module
from data.fields.fieldset import Field
from data.fields.places import Places, survey_of

GLASS, SIDE = 232, 100
STEP = np.array([16.0, 16.0])
CELL = (slice(20, 24), slice(30, 34))
"""Rows and columns of a dark spot on an overview."""


def overview(margin=None):
    image = np.full((SIDE, SIDE, 3), GLASS, np.uint8)
    image[CELL] = 110
    if margin is not None:
        image[60:] = margin
    return image


def cellular():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[16:28, 26:38] = True  # with a margin of glass, as the screening's mask has it
    return mask


def places(survey, boxes=(), crowd=(), side=160.0):
    both = np.array([*boxes, *crowd], np.float32).reshape(-1, 4)
    length = int(SIDE * STEP[0])
    is_crowd = np.arange(len(both)) >= len(boxes)
    labels = np.zeros(len(both), np.int64)
    field = Field(Path("a"), length, length, 0.5, both, both[:, :2], labels, is_crowd)
    return Places(field, survey, side, side)


def draws(draw, count=100):
    return np.array([draw(np.random.default_rng(i)) for i in range(count)])


@pytest.mark.parametrize("margin", [None, 255, 0], ids=["glass", "white", "black"])
def test_what_was_never_scanned_draws_nothing(margin):
    """White padding is no glass, and black is no cell."""
    there = places(survey_of(overview(margin), STEP, cellular()))
    middle = np.array([32, 22]) * STEP  # of the spot
    for draw in (there.draw, there.draw_background):
        assert (
            np.abs(draws(draw) - middle).max() <= 80 + 6 * 16 + 16
        )  # its margin, seen by a window


def test_glass_around_a_cell_weighs_little_beside_it():
    darkness = survey_of(overview(255), STEP, cellular()).darkness
    assert darkness[CELL].min() > 20 * darkness[17, 27] > 0
    assert not darkness[~cellular()].any()


def test_without_a_mask_what_is_darker_than_glass_counts():
    darkness = survey_of(overview(), STEP).darkness
    assert darkness[CELL].all()
    darkness[CELL] = 0
    assert not darkness.any()


def test_background_shows_no_annotated_cell_not_even_at_its_border():
    box = (30 * 16, 20 * 16, 34 * 16, 24 * 16)
    whole = places(survey_of(overview(), STEP, np.ones((SIDE, SIDE), bool)), [box])
    drawn = draws(whole.draw_background, 400)
    low, high = drawn - 80, drawn + 80
    assert not ((low < box[2:]) & (high > box[:2])).all(axis=1).any()


def test_nothing_is_drawn_where_nothing_is_or_all_is_ignored():
    blank = survey_of(np.full((SIDE, SIDE, 3), GLASS, np.uint8), STEP, np.zeros((SIDE, SIDE), bool))
    assert places(blank).draw(np.random.default_rng(0)) is None
    everything = [(0, 0, SIDE * 16, SIDE * 16)]
    seen = survey_of(overview(), STEP, cellular())
    assert places(seen, crowd=everything).draw(np.random.default_rng(0)) is None
    assert places(seen, crowd=everything).draw_background(np.random.default_rng(0)) is None


def test_surveys_of_large_slides_are_coarser_and_lose_no_cell(monkeypatch):
    fine = survey_of(overview(), STEP, cellular()).darkness
    monkeypatch.setattr(module, "MOST_PIXELS", 1000)
    survey = survey_of(overview(), STEP, cellular())
    assert survey.darkness.size <= 1000
    np.testing.assert_array_equal(survey.step, STEP * 4)
    assert survey.darkness[20 // 4, 30 // 4] == fine[CELL].max()

"""Looks of cells: each figure against pictures that are drawn to have it."""

import cv2
import numpy as np
import pytest
from drawncells import CELL, NUCLEUS, cell

from pipeline.cells.looks import ASPECTS, LOOKS, SIDE, measure_looks


def look(picture):
    return dict(zip(LOOKS, measure_looks(picture[None])[0].tolist(), strict=True))


def density(color):
    return -np.log10((np.array(color) + 1) / 256)


def test_colours_and_densities_by_hand():
    found = look(cell())
    for part, color in (("nuclear", NUCLEUS), ("cell", CELL)):
        wanted = density(color)
        assert found[f"{part}_density"] == pytest.approx(np.log(wanted.sum() + 0.05), abs=0.03)
        for name, channel in (("red", 0), ("blue", 2)):
            share = wanted[channel] / (wanted.sum() + 0.05)
            assert found[f"{part}_{name}"] == pytest.approx(share, abs=0.01)


def test_blur_takes_sharpness():
    sharp = cell()
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2)
    assert look(blurred)["sharpness"] < look(sharp)["sharpness"] - 0.5


def test_a_nucleus_in_the_middle_is_round_and_one_beside_it_less():
    found, shifted = look(cell()), look(np.roll(cell(), 16, axis=1))
    assert found["roundness"] > 0.8
    assert shifted["roundness"] < 0.4


def test_streaks_are_fibres():
    streaks = np.repeat(cell()[:, :1], SIDE, axis=1).copy()
    streaks[::8] = NUCLEUS
    assert look(streaks)["fibres"] > 0.95
    assert look(cell())["fibres"] < 0.85


@pytest.mark.parametrize("value", [0, 128, 255])
def test_what_is_flat_has_finite_looks(value):
    flat = np.full((1, SIDE, SIDE, 3), value, np.uint8)
    assert np.isfinite(measure_looks(flat)).all()


def test_no_pictures_have_no_looks():
    assert measure_looks(np.zeros((0, SIDE, SIDE, 3), np.uint8)).shape == (0, len(LOOKS))


def test_each_look_is_of_one_aspect():
    assert [look for looks in ASPECTS.values() for look in looks] == list(LOOKS)

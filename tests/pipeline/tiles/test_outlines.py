"""Bubbles and edges of coverslips are told from cells."""

import cv2
import numpy as np
import pytest

from pipeline.tiles.outlines import find_bubbles

MPP = 8.0
SHAPE = (300, 400)


def cells(count=900, seed=1):
    """Dark nuclei in pale cytoplasm on glass, as dense as a smear."""
    rng = np.random.default_rng(seed)
    scene = np.full((*SHAPE, 3), 238.0)
    for x, y in zip(rng.integers(4, 396, count), rng.integers(4, 296, count), strict=True):
        scene[y - 2 : y + 3, x - 2 : x + 3] *= (0.8, 0.88, 0.95)
        scene[y, x] *= 0.5
    return scene


def away():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(x - 200, y - 150)


def found_in(scene):
    return find_bubbles(np.clip(scene, 0, 255).astype(np.uint8), MPP)


def test_cells_and_glass_are_no_bubbles():
    assert not found_in(cells()).any()
    assert not found_in(np.full((*SHAPE, 3), 238.0)).any()


@pytest.mark.parametrize("background", [cells, lambda: np.full((*SHAPE, 3), 238.0)])
@pytest.mark.parametrize("radius", [22, 60, 120])
def test_a_bubble_is_found_with_all_that_lies_in_it(background, radius):
    scene = background()
    scene[(away() >= radius) & (away() < radius + 4)] *= 0.45
    found = found_in(scene)
    assert found[away() < radius].all()
    assert not found[away() > radius + 12].any()


def test_a_rim_with_a_glint_in_it_is_whole_and_one_half_open_encloses_nothing():
    rim = (away() >= 60) & (away() < 64)
    glint, half = np.full((*SHAPE, 3), 238.0), np.full((*SHAPE, 3), 238.0)
    glint[rim] *= 0.45
    glint[148:150, 255:270] = 238
    half[rim & (np.mgrid[: SHAPE[0], : SHAPE[1]][1] < 200)] *= 0.45
    assert found_in(glint)[away() < 60].all()
    assert not found_in(half).any()


def test_a_cell_s_own_outline_is_too_small():
    scene = np.full((*SHAPE, 3), 238.0)
    scene[(away() >= 8) & (away() < 10)] *= 0.45  # 160 µm
    assert not found_in(scene).any()


def test_stain_of_one_colour_is_no_outline():
    """A ring of eosin, as of cells around a gap, lets red light pass."""
    scene = np.full((*SHAPE, 3), 238.0)
    scene[(away() >= 60) & (away() < 64)] *= (0.9, 0.4, 0.4)
    assert not found_in(scene).any()


@pytest.mark.parametrize("slope", [0, 12])
def test_the_edge_of_a_coverslip_is_found_and_a_short_streak_is_none(slope):
    scene = np.full((*SHAPE, 3), 238.0)
    image = scene.astype(np.uint8)
    cv2.line(image, (20, 100), (380, 100 + slope), (120, 120, 120), 3)
    cv2.line(image, (20, 200), (200, 200), (120, 120, 120), 3)  # 1.4 mm
    found = found_in(image)
    assert found[98 : 104 + slope, 25:375].any(axis=0).all()
    assert not found[190:210].any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (20, 20)])
def test_pictures_of_any_size_are_looked_at(shape):
    assert find_bubbles(np.full((*shape, 3), 30, np.uint8), MPP).shape == shape


def test_real_fields_side_by_side_have_none(shared):
    fields = []
    for path in sorted((shared / "cric" / "val").iterdir())[:12]:
        image = cv2.imread(str(path))
        small = cv2.resize(image, None, fx=0.2465 / MPP, fy=0.2465 / MPP, interpolation=3)
        fields.append(small[:28, :38])
    rows = [np.concatenate(fields[row : row + 4], axis=1) for row in (0, 4, 8)]
    assert not find_bubbles(np.concatenate(rows), MPP).any()

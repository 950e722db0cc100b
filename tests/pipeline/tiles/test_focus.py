"""Each square is measured once, by the tile that owns its middle, at the scale of the limits."""

import cv2
import numpy as np
import pytest
from slidefiles import array_slide

from data.synth import draw_field
from pipeline.geometry import Rect
from pipeline.tiles.focus import FocusSquares
from pipeline.tiles.foreground import Foreground
from pipeline.tiles.sharpness import LEAST_SHARP
from pipeline.tiles.tiler import TileGrid, TilerSettings
from pipeline.tiles.tilereader import read_tile

SETTINGS = TilerSettings(size=512, overlap=128)


def squares_of(bounds, mpp=0.25, model_mpp=0.5, mask=None, size=(4000, 3000)):
    grid = TileGrid(bounds, model_mpp / mpp, SETTINGS)
    mask = np.ones((size[1] // 32 + 1, size[0] // 32 + 1), bool) if mask is None else mask
    return FocusSquares(grid, Foreground(mask, 32.0), 128 / mpp, mpp)


@pytest.mark.parametrize("bounds", [(0, 0, 4000, 3000), (700, 300, 2100, 1900), (10, 10, 90, 90)])
def test_every_square_whose_middle_was_scanned_is_one_tile_s(bounds):
    squares = squares_of(Rect(*bounds))
    owned = np.concatenate([squares.of_tile(index) for index in range(len(squares.tiles))])
    found = {tuple(place) for place in owned.tolist()}
    rows, columns = squares.shape
    x, y, width, height = bounds
    expected = {
        (row, column)
        for row in range(rows)
        for column in range(columns)
        if x <= (column + 0.5) * 512 < x + width and y <= (row + 0.5) * 512 < y + height
    }
    assert len(owned) == len(found)
    assert found == expected


def test_squares_without_foreground_are_passed_over():
    mask = np.zeros((94, 126), bool)
    mask[40, 40] = True  # level-0 pixels 1280 to 1312
    squares = squares_of(Rect(0, 0, 4000, 3000), mask=mask)
    owned = np.concatenate([squares.of_tile(index) for index in range(len(squares.tiles))])
    assert owned.tolist() == [[2, 2]]


@pytest.fixture(scope="module")
def drawn():
    """Drawn cells at 0.25 µm/px whose left 1024 pixels, two squares, are blurred by 1.5 µm."""
    image = draw_field(11, (2048, 1024), 0.25)[0]
    image[:, :1024] = cv2.GaussianBlur(image, (0, 0), 6)[:, :1024]
    return np.ascontiguousarray(image)


def map_of(image, mpp, model_mpp):
    slide = array_slide(image, mpp=mpp)
    size = (slide.size.width, slide.size.height)
    squares = squares_of(Rect(0, 0, *size), mpp, model_mpp, size=size)
    found = np.full(squares.shape, np.nan, np.float16)
    for index in range(len(squares.tiles)):
        read_tile(slide, squares.tiles, index, squares).sharpness.put_into(found)
    return found


@pytest.mark.parametrize(
    ("mpp", "model_mpp"), [(0.25, 0.5), (0.25, 0.25), (0.25, 0.4), (0.5, 0.5), (0.5, 0.6)]
)
def test_the_blurred_half_is_told_whatever_slide_and_model_look_at(drawn, mpp, model_mpp):
    scale = 0.25 / mpp
    image = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    found = map_of(image, mpp, model_mpp)
    assert found.shape == (2, 4)
    assert (found < LEAST_SHARP).tolist() == [[True, True, False, False]] * 2


def test_what_could_not_be_read_is_not_measured(drawn):
    slide = array_slide(drawn, mpp=0.25)
    squares = squares_of(Rect(0, 0, 2048, 1024), size=(2048, 1024))
    tile = read_tile(slide, squares.tiles, 0)
    unread = np.array([[600.0, 100, 700, 200]])
    places = squares.measure(0, tile.pixels, unread).places.tolist()
    assert [0, 1] not in places
    assert [0, 0] in places


@pytest.mark.parametrize(
    ("mpp", "model_mpp", "tells"),
    [(0.25, 0.5, True), (0.5, 0.625, True), (0.25, 1.0, False), (0.65, 0.5, False)],
)
def test_of_coarse_slides_and_models_nothing_is_said(mpp, model_mpp, tells):
    assert squares_of(Rect(0, 0, 4000, 3000), mpp, model_mpp).tells is tells

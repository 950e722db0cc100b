"""Where a coarser level shows a tile's place, and what is told of tiles that aren't stored."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.geometry import Rect, Size
from pipeline.slides.readers.grids import Grid, on_coarser, shows_something, told_of_gaps

BORDER, BLOCK = 2, 16


def pure(first, last, whole, factor, tile):
    """Along an axis: pixels of a level ``factor`` times coarser that show nothing of what lies
    beside a place, one by one."""
    count = whole // factor
    beside = [not first <= factor * n <= factor * (n + 1) - 1 < last for n in range(count)]
    if tile:  # all pixels of a block say something of all others
        blocks = [(n // tile, n % tile // BLOCK) for n in range(count)]
        spoilt = {block for block, one in zip(blocks, beside, strict=True) if one}
        beside = [block in spoilt for block in blocks]
    near = [any(beside[max(0, n - BORDER) : n + BORDER + 1]) for n in range(count)]
    return [n for n in range(count) if not near[n]]


@pytest.mark.parametrize("tile", [None, 240, 100, 16])
def test_a_place_on_a_coarser_level(tile):
    rng = np.random.default_rng(0)
    for _ in range(300):
        factor = int(rng.choice([2, 3, 4, 16]))
        seen = factor * int(rng.integers(20, 400))
        whole = seen + int(rng.integers(factor))  # what is left over is on the finer level alone
        first = int(rng.integers(0, seen - 1))
        last = int(rng.integers(first, seen - 1)) + 1
        first, last = (0 if rng.random() < 0.2 else first), (whole if rng.random() < 0.2 else last)
        size, coarser = Size(whole, factor * 9), Size(whole // factor, 9)
        place = Rect(first, 0, last - first, factor * 9)
        found = on_coarser(place, size, coarser, tile and Size(tile, tile))
        expected = pure(first, last, whole, factor, tile)
        assert (list(range(found.x, found.right)) if found else []) == expected
        assert found is None or (found.y, found.height) == (0, 9)


@pytest.mark.parametrize("fill", [0, 128, 255])
def test_what_is_of_one_colour_shows_nothing_whatever_the_colour(fill):
    pixels = np.full((20, 30, 3), fill, np.uint8)
    pixels[..., 1] //= 2
    assert not shows_something(pixels)
    pixels[3, 4, 2] = 100
    assert shows_something(pixels)


def test_places_without_a_tile():
    stored = np.ones((3, 4), bool)
    stored[1, 2] = stored[2, 3] = False
    grid = Grid(stored, Size(50, 40), Size(180, 100))
    assert grid.gaps == 2
    assert grid.place(2, 3) == Rect(150, 80, 30, 20)
    assert list(grid.gaps_in(Rect(0, 0, 180, 100))) == [(1, 2), (2, 3)]
    assert list(grid.gaps_in(Rect(149, 79, 1, 1))) == [(1, 2)]
    assert list(grid.gaps_in(Rect(150, 79, 9, 1))) == []


@pytest.mark.parametrize(
    ("coarser", "told"),
    [(None, True), (Size(45, 25), False), (Size(3, 2), True)],
    ids=["none", "a finer one", "too small to tell"],
)
def test_what_is_told_of_gaps(coarser, told):
    stored = np.ones((3, 4), bool)
    whole = Grid(stored, Size(50, 40), Size(180, 100))
    level = coarser and SimpleNamespace(size=coarser, lossy=None)
    assert told_of_gaps(whole, level) == ((), ())
    stored[0, 0] = False
    (fact,), doubts = told_of_gaps(whole, level)
    assert fact.value.startswith("1 of 12 of the finest level")
    assert [doubt.code for doubt in doubts] == (["tiles-missing"] if told else [])

"""Areas as maximal rectangles, against slow and obvious ways to find them."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from data.annotations.areas import covering, maximal_rectangles, outside

SIDE = 40


def slow_maximal_rectangles(mask):
    rows, columns = mask.shape
    spans = [
        (x0, y0, x1, y1)
        for x0, x1 in itertools.combinations(range(columns + 1), 2)
        for y0, y1 in itertools.combinations(range(rows + 1), 2)
        if mask[y0:y1, x0:x1].all()
    ]

    def within(a, b):
        return a != b and b[0] <= a[0] and b[1] <= a[1] and b[2] >= a[2] and b[3] >= a[3]

    return {a for a in spans if not any(within(a, b) for b in spans)}


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=5)))
def test_maximal_rectangles_are_all_that_cannot_grow(mask):
    found = [tuple(row) for row in maximal_rectangles(mask).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == slow_maximal_rectangles(mask)


whole = st.integers(-5, SIDE + 5)
box = st.tuples(whole, whole, st.integers(1, 30), st.integers(1, 30))


def outline(left, top, width, height):
    right, bottom = left + width, top + height
    return (np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float),)


@given(st.lists(box, min_size=1, max_size=4))
def test_outside_of_boxes_is_exact(boxes):
    """Pixel by pixel."""
    expected = np.ones((SIDE, SIDE), bool)
    for left, top, width, height in boxes:
        rows = slice(max(top, 0), max(top + height, 0))
        expected[rows, max(left, 0) : max(left + width, 0)] = False
    found = np.zeros((SIDE, SIDE), bool)
    for x0, y0, x1, y1 in outside([outline(*b) for b in boxes], SIDE, SIDE).astype(int).tolist():
        found[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(found, expected)


def star(rng, corners=9):
    """An outline of any form that does not cross itself."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(5, 19, corners)
    return np.column_stack([20 + radii * np.cos(angles), 20 + radii * np.sin(angles)])


def is_inside(ring, points):
    """Ray casting: an odd number of edges to the right."""
    inside = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, 0), strict=True):
        crosses = (y0 > points[:, 1]) != (y1 > points[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            x = x0 + (points[:, 1] - y0) / (y1 - y0) * (x1 - x0)
        inside ^= crosses & (points[:, 0] < x)
    return inside


def is_covered(rectangles, points):
    low, high = rectangles[:, None, :2], rectangles[:, None, 2:]
    return ((low <= points) & (points <= high)).all(2).any(0)


@given(st.integers(0, 10_000), st.integers(3, 120))
def test_nothing_outside_of_an_outline_is_missed(seed, corners):
    rng = np.random.default_rng(seed)
    ring, points = star(rng, corners), rng.uniform(0, SIDE, (500, 2))
    covered = is_covered(outside([(ring,)], SIDE, SIDE), points)
    assert covered[~is_inside(ring, points)].all()


@given(st.integers(0, 10_000), st.integers(3, 120))
def test_nothing_inside_of_an_area_is_missed(seed, corners):
    rng = np.random.default_rng(seed)
    ring, points = star(rng, corners), rng.uniform(0, SIDE, (500, 2))
    covered = is_covered(covering((ring,), SIDE, SIDE), points)
    assert covered[is_inside(ring, points)].all()


def test_little_of_a_curved_region_is_lost():
    angles = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    circle = 5000 + 4000 * np.column_stack([np.cos(angles), np.sin(angles)])
    points = np.random.default_rng(0).uniform(0, 10_000, (4000, 2))
    covered = is_covered(outside([(circle,)], 10_000, 10_000), points)
    inside = is_inside(circle, points)
    assert covered[~inside].all()
    assert covered[inside].mean() < 0.04


def test_a_box_that_lies_outside_lies_in_one_rectangle():
    """Which is what COCO's rule for crowds needs, at any threshold."""
    regions = [outline(8, 8, 14, 10), outline(15, 25, 20, 10)]
    rectangles = outside(regions, SIDE, SIDE)
    rng = np.random.default_rng(0)
    tried = 0
    for x, y, w, h in rng.uniform(0, [40, 40, 15, 15], (3000, 4)):
        a = np.array([x, y, min(x + w, 40), min(y + h, 40)])
        hits = [(a[:2] < r[0][2]).all() and (a[2:] > r[0][0]).all() for r in regions]
        if not any(hits):
            tried += 1
            inside = (rectangles[:, :2] <= a[:2]).all(1) & (rectangles[:, 2:] >= a[2:]).all(1)
            assert inside.any()
    assert tried > 500

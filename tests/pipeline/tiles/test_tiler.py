"""The grid's promises, for any slide, size, overlap, offset and scale."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from configs import ConfigError, load_config
from pipeline.geometry import Rect
from pipeline.tiles.foreground import Foreground
from pipeline.tiles.tiler import TileGrid, TilerSettings, plan_tiles, settle_downsample

ROUNDING = 1e-6
"""Level-0 pixels that may be lost between two ways to compute one coordinate."""


@st.composite
def tiler_settings(draw):
    size = draw(st.integers(1, 300))
    overlap = draw(st.integers(0, size - 1))
    stride = size - overlap
    offset = draw(st.tuples(*[st.integers(-2 * stride, 2 * stride)] * 2))
    return TilerSettings(size=size, overlap=overlap, offset=offset)


@st.composite
def grids(draw):
    """Grids of up to some thousand tiles over any bounds, enlarging and reducing."""
    chosen = draw(tiler_settings())
    stride = chosen.stride
    downsample = draw(st.floats(0.05, 20))
    longest = max(2, int(50 * stride * downsample))
    sides = st.integers(1, longest)
    corner = st.integers(0, 10_000)
    bounds = Rect(draw(corner), draw(corner), draw(sides), draw(sides))
    return TileGrid(bounds, downsample, chosen)


@st.composite
def grids_and_points(draw, beyond=0.0):
    """A grid with points in its bounds, or up to ``beyond`` times its size outside them."""
    grid = draw(grids())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bounds = grid.bounds
    low, high = -beyond, 1 + beyond
    unit = rng.uniform(low, high, (50, 2))
    points = unit * (bounds.width, bounds.height) + (bounds.x, bounds.y)
    return grid, points


def all_tiles(grid):
    return np.arange(len(grid))


def contains(boxes, points, tolerance=0.0):
    """(N, M): whether box n holds point m, borders included."""
    x, y = points.T
    left, top, right, bottom = boxes.T[:, :, None]
    return (
        (left - tolerance <= x)
        & (x <= right + tolerance)
        & (top - tolerance <= y)
        & (y <= bottom + tolerance)
    )


@given(grids_and_points())
def test_every_point_of_the_bounds_is_seen_by_its_owner(case):
    grid, points = case
    seen = contains(grid.regions(grid.owner(points)), points, ROUNDING)
    assert np.diag(seen).all()


@given(grids_and_points())
def test_the_owner_sees_half_the_overlap_around_a_point(case):
    grid, points = case
    margin = grid.settings.overlap / 2 * grid.downsample
    left, top, right, bottom = grid.regions(grid.owner(points)).T
    bounds = grid.bounds
    x, y = points.T
    assert (np.maximum(x - margin, bounds.x) >= left - ROUNDING).all()
    assert (np.maximum(y - margin, bounds.y) >= top - ROUNDING).all()
    assert (np.minimum(x + margin, bounds.right) <= right + ROUNDING).all()
    assert (np.minimum(y + margin, bounds.bottom) <= bottom + ROUNDING).all()


@given(grids_and_points())
def test_a_point_lies_in_the_core_of_its_owner_and_in_no_other(case):
    grid, points = case
    left, top, right, bottom = grid.cores(all_tiles(grid)).T[:, :, None]
    x, y = points.T
    in_core = (left <= x) & (x < right) & (top <= y) & (y < bottom)
    assert (in_core.sum(axis=0) == 1).all()
    assert (in_core.argmax(axis=0) == grid.owner(points)).all()


@given(grids())
def test_cores_divide_the_bounds_and_none_is_empty(grid):
    cores = grid.cores(all_tiles(grid)).reshape(grid.rows, grid.columns, 4)
    bounds = grid.bounds
    assert (cores[:, 0, 0] == bounds.x).all()
    assert (cores[:, -1, 2] == bounds.right).all()
    assert (cores[0, :, 1] == bounds.y).all()
    assert (cores[-1, :, 3] == bounds.bottom).all()
    assert (cores[:, 1:, 0] == cores[:, :-1, 2]).all()
    assert (cores[1:, :, 1] == cores[:-1, :, 3]).all()
    assert (cores[..., :2] < cores[..., 2:]).all()


@given(grids())
def test_tiles_stand_at_a_uniform_stride_and_have_one_size(grid):
    regions = grid.regions(all_tiles(grid)).reshape(grid.rows, grid.columns, 4)
    stride = grid.settings.stride * grid.downsample
    side = grid.settings.size * grid.downsample
    assert regions[:, 1:, 0] - regions[:, :-1, 0] == pytest.approx(stride)
    assert regions[1:, :, 1] - regions[:-1, :, 1] == pytest.approx(stride)
    assert regions[..., 2:] - regions[..., :2] == pytest.approx(side)
    assert grid.origin(len(grid) - 1) == tuple(regions[-1, -1, :2])


@given(grids_and_points(beyond=0.5), st.floats(0, 100))
def test_near_core_is_the_core_grown_by_the_slack(case, slack):
    grid, points = case
    cores = grid.cores(all_tiles(grid)).reshape(grid.rows, grid.columns, 4)
    cores[:, 0, 0] = cores[0, :, 1] = -np.inf
    cores[:, -1, 2] = cores[-1, :, 3] = np.inf
    grown = cores.reshape(-1, 4) + np.array([-slack, -slack, slack, slack])
    near = np.stack([grid.near_core(i, points, slack) for i in all_tiles(grid)])
    assert (near <= contains(grown, points, ROUNDING)).all()
    assert (near >= contains(grown, points, -ROUNDING)).all()


@given(grids_and_points(beyond=0.5))
def test_near_core_without_slack_is_ownership(case):
    grid, points = case
    near = np.stack([grid.near_core(i, points, 0.0) for i in all_tiles(grid)])
    assert (near == (all_tiles(grid)[:, None] == grid.owner(points))).all()


@given(grids())
def test_the_offset_moves_the_grid(grid):
    plain = TileGrid(
        grid.bounds, grid.downsample, grid.settings.model_copy(update={"offset": (0, 0)})
    )
    stride = grid.settings.stride
    for moved, still, shift in zip(
        grid.origin(0), plain.origin(0), grid.settings.offset, strict=True
    ):
        steps = ((moved - still) / grid.downsample - shift) / stride
        assert steps == pytest.approx(round(steps), abs=1e-6)
        assert moved <= still


@pytest.mark.parametrize("downsample", [0.5, 1.0, 2.0])
def test_a_slide_smaller_than_a_tile_gives_one_tile(downsample):
    bounds = Rect(0, 0, int(100 * downsample), int(40 * downsample))
    grid = TileGrid(bounds, downsample, TilerSettings(size=100, overlap=20))
    assert len(grid) == 1
    assert grid.origin(0) == (0, 0)


def test_one_pixel_more_than_a_tile_gives_a_second():
    grid = TileGrid(Rect(0, 0, 101, 100), 1.0, TilerSettings(size=100, overlap=20))
    assert (grid.rows, grid.columns) == (1, 2)
    assert grid.cores([0, 1]).tolist() == [[0, 0, 90, 100], [90, 0, 101, 100]]
    assert grid.regions([1]).tolist() == [[80, 0, 180, 100]]


def test_a_plan_scales_tiles_by_the_mpps_and_keeps_all_without_foreground():
    plan = plan_tiles(Rect(7, 9, 4000, 2000), 0.25, 0.5, TilerSettings(size=500, overlap=100))
    assert plan.grid.downsample == 2.0
    assert (plan.grid.rows, plan.grid.columns) == (3, 5)
    assert plan.indices.tolist() == list(range(15))
    assert plan.grid.origin(0) == (7, 9)


@given(grids(), st.integers(0, 2**32 - 1))
@example(TileGrid(Rect(0, 0, 1, 159), 7.03125, TilerSettings(size=1, overlap=0)), 0)
def test_a_plan_keeps_the_tiles_whose_core_meets_the_foreground(grid, seed):
    rng = np.random.default_rng(seed)
    bounds = grid.bounds
    downsample = max(bounds.right, bounds.bottom) / rng.uniform(1, 20)
    shape = np.ceil(np.array([bounds.bottom, bounds.right]) / downsample).astype(int)
    foreground = Foreground(rng.random(shape) < 0.3, downsample)
    plan = plan_tiles(bounds, 1.0, grid.downsample, grid.settings, foreground)
    grid = plan.grid  # the plan settles a scale that is nearly a whole factor
    expected = [i for i in all_tiles(grid) if meets_slowly(foreground, grid.cores([i])[0])]
    assert plan.indices.tolist() == expected


def meets_slowly(foreground, box):
    rows, columns = np.nonzero(foreground.mask)
    side = foreground.downsample
    left, top, right, bottom = box
    return any(
        left < (column + 1) * side
        and column * side < right
        and top < (row + 1) * side
        and row * side < bottom
        for row, column in zip(rows, columns, strict=True)
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("overlap=1536", ["overlap", "1536"]),
        ("overlap=-1", ["overlap", "-1"]),
        ("size=0", ["size", "0"]),
        ("stride=5", ["stride", "overlap"]),
    ],
)
def test_settings_that_make_no_grid_are_refused_with_their_key(override, words):
    with pytest.raises(ConfigError) as refusal:
        load_config(None, TilerSettings, [override])
    assert all(word in str(refusal.value) for word in words)


@pytest.mark.parametrize(("widest", "overlap"), [(41.0, 128), (112.0, 128), (113.0, 160)])
def test_the_widest_cell_with_its_slack_fits_into_the_overlap(widest, overlap):
    assert TilerSettings().for_cells(widest, slack=8).stride == 1536 - overlap


def test_an_overlap_that_was_asked_for_stays():
    assert TilerSettings(overlap=16).for_cells(500, slack=8).overlap == 16


def test_tiles_too_small_for_the_cells_are_refused():
    with pytest.raises(ConfigError, match=r"tiler.size = 128.*overlap of 128"):
        TilerSettings(size=128).for_cells(41, slack=8)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (2.0016, 2.0),
        (1.996, 2.0),
        (3.99, 4.0),
        (1.002, 1.0),
        (0.998, 1.0),
        (2.0284, 2.0284),
        (1.98, 1.98),
        (0.5, 0.5),
    ],
)
def test_a_scale_that_is_nearly_a_whole_factor_is_one(ratio, expected):
    assert settle_downsample(ratio) == expected
    plan = plan_tiles(Rect(0, 0, 4000, 2000), 0.5 / ratio, 0.5, TilerSettings(overlap=128))
    assert plan.grid.downsample == pytest.approx(expected)

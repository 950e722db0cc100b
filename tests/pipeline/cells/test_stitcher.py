"""Cells are found once and whole, wherever the seams fall and in whatever order tiles come."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_nms import greedy_nms_slowly

from pipeline.cells.stitcher import Stitcher, StitcherSettings
from pipeline.geometry import Detections, Rect
from pipeline.tiles.tiler import TileGrid, TilerSettings

SETTINGS = StitcherSettings(slack=4)
BOUNDS = Rect(0, 0, 1000, 700)
SEAM = 90
"""Where the first seam of `grid` runs, in x and in y."""


def grid(bounds=BOUNDS, downsample=1.0, **settings):
    return TileGrid(bounds, downsample, TilerSettings(**{"size": 100, "overlap": 20, **settings}))


def cells(boxes, scores=None, labels=None):
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    count = len(boxes)
    return Detections(
        boxes,
        np.full(count, 0.5, np.float32) if scores is None else np.array(scores, np.float32),
        np.zeros(count, np.int64) if labels is None else np.array(labels, np.int64),
    )


def box_around(x, y, side=16.0):
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def in_tile(grid, index, level0):
    """What a perfect detector would say of level-0 cells in one tile's own pixels."""
    boxes = (level0.boxes - np.tile(grid.origin(index), 2)) / grid.downsample
    return Detections(boxes, level0.scores, level0.labels)


def stitched(grid, found, settings=SETTINGS):
    """Merges ``found``: pairs of a tile's index and its detections in level-0 pixels."""
    stitcher = Stitcher(grid, settings)
    for index, level0 in found:
        stitcher.add(index, in_tile(grid, index, level0))
    return stitcher.merge()


def as_bytes(detections):
    return [x.tobytes() for x in vars(detections).values() if x is not None]


def random_found(rng, grid, per_tile=12):
    """Detections of every tile, anywhere in it, few scores and classes, so that many tie."""
    found = []
    for index in range(len(grid)):
        left, top, right, bottom = grid.regions(index)
        centers = rng.uniform((left, top), (right, bottom), (per_tile, 2))
        sides = rng.uniform(10, 30, (per_tile, 2)) * grid.downsample
        boxes = np.hstack([centers - sides / 2, centers + sides / 2])
        scores, labels = rng.integers(1, 5, per_tile) / 4, rng.integers(0, 3, per_tile)
        found.append((index, cells(boxes, scores, labels)))
    return found


def stitched_slowly(grid, found, settings):
    """The same, told step by step: own, clip, sort, then the textbook's NMS."""
    bounds, slack = grid.bounds, settings.slack * grid.downsample
    rows = []
    for index, level0 in sorted(found, key=lambda pair: pair[0]):
        row, column = divmod(index, grid.columns)
        left, top, right, bottom = grid.cores(index)
        left = -np.inf if column == 0 else left - slack
        right = np.inf if column == grid.columns - 1 else right + slack
        top = -np.inf if row == 0 else top - slack
        bottom = np.inf if row == grid.rows - 1 else bottom + slack
        placed = in_tile(grid, index, level0)
        boxes = np.tile(grid.origin(index), 2) + placed.boxes * grid.downsample
        for box, score, label in zip(boxes, level0.scores, level0.labels, strict=True):
            x, y = (box[:2] + box[2:]) / 2
            if not (left <= x < right and top <= y < bottom):
                continue
            box = np.array(
                [
                    min(max(box[0], bounds.x), bounds.right),
                    min(max(box[1], bounds.y), bounds.bottom),
                    min(max(box[2], bounds.x), bounds.right),
                    min(max(box[3], bounds.y), bounds.bottom),
                ]
            )
            if box[0] < box[2] and box[1] < box[3]:
                rows.append((box, score, label))
    rows.sort(key=lambda row: (row[0][1], row[0][0]))
    merged = cells([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
    return merged[greedy_nms_slowly(merged, settings.nms_iou)]


@settings(max_examples=30)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 2.03]), st.sampled_from([0.3, 0.5, 0.8])
)
def test_agrees_with_the_slow_stitcher(seed, downsample, iou):
    rng = np.random.default_rng(seed)
    area = grid(Rect(30, 50, 310, 170), downsample, offset=(int(seed % 80), 0))
    found = random_found(rng, area)
    chosen = StitcherSettings(nms_iou=iou, slack=4)
    assert as_bytes(stitched(area, found, chosen)) == as_bytes(stitched_slowly(area, found, chosen))


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_tiles_changes_no_byte(seed):
    rng = np.random.default_rng(seed)
    found = random_found(rng, grid(Rect(0, 0, 400, 300)))
    found[1] = (1, found[0][1])  # the same cells from two tiles: ties everywhere
    shuffled = [found[i] for i in rng.permutation(len(found))]
    area = grid(Rect(0, 0, 400, 300))
    assert as_bytes(stitched(area, found)) == as_bytes(stitched(area, shuffled))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(90, 300),
    offset=st.tuples(st.integers(-500, 500), st.integers(-500, 500)),
    downsample=st.sampled_from([0.5, 1.0, 2.03]),
)
def test_cells_do_not_depend_on_where_the_seams_fall(seed, size, offset, downsample):
    """Each tile sees the cells that lie wholly in it; each cell is found once, in place."""
    rng = np.random.default_rng(seed)
    bounds = Rect(20, 10, 500, 330)
    truth = apart(rng, bounds, downsample)
    area = grid(bounds, downsample, size=size, overlap=40, offset=offset)
    stitcher = Stitcher(area, SETTINGS)
    for index in range(len(area)):
        region = area.regions(index)
        whole = (truth.boxes[:, :2] >= region[:2]) & (truth.boxes[:, 2:] <= region[2:])
        stitcher.add(index, in_tile(area, index, truth[whole.all(axis=1)]))
    found = stitcher.merge()
    assert found.boxes == pytest.approx(truth.boxes, abs=1e-6)
    assert (found.labels == truth.labels).all()


def apart(rng, bounds, downsample):
    """Cells up to 30 model px wide that don't touch, on a lattice, from top to bottom."""
    pitch = 34 * downsample
    columns, rows = int(bounds.width // pitch), int(bounds.height // pitch)
    lattice = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2)
    corners = (bounds.x, bounds.y) + lattice * pitch + rng.uniform(0, 2, lattice.shape)
    sides = rng.uniform(10, 30, lattice.shape) * downsample
    boxes = np.hstack([corners, corners + sides])
    boxes = boxes[np.lexsort((boxes[:, 0], boxes[:, 1]))]
    return cells(boxes, rng.random(len(boxes)), rng.integers(0, 3, len(boxes)))


def test_boxes_are_placed_in_level_0_pixels():
    area = grid(Rect(100, 200, 1000, 700), downsample=2.0)
    stitcher = Stitcher(area, SETTINGS)
    stitcher.add(area.columns + 1, cells([[30, 40, 50, 70]]))
    assert stitcher.merge().boxes.tolist() == [[320, 440, 360, 500]]


def test_a_tile_drops_what_its_neighbour_owns():
    beyond = cells([box_around(SEAM + 5, 50)])
    assert len(stitched(grid(), [(0, beyond)])) == 0
    assert len(stitched(grid(), [(1, beyond)])) == 1


def test_a_cell_on_a_seam_that_each_tile_places_beyond_it_is_found_once():
    left_sees, right_sees = box_around(SEAM + 1, 50), box_around(SEAM - 1, 50)
    found = [(0, cells([left_sees])), (1, cells([right_sees]))]
    assert len(stitched(grid(), found)) == 1
    assert len(stitched(grid(), found, StitcherSettings(slack=0))) == 0


def test_a_double_across_a_seam_keeps_the_better_box():
    better, worse = box_around(SEAM + 1, 50), box_around(SEAM - 1, 50)
    found = [(0, cells([worse], [0.4])), (1, cells([better], [0.6]))]
    result = stitched(grid(), found)
    assert result.boxes.tolist() == [better]
    assert result.scores.tolist() == [np.float32(0.6)]


def test_two_names_on_one_cell_are_left_to_naming():
    one_cell = cells([box_around(50, 50), box_around(51, 50)], [0.4, 0.6], [1, 2])
    assert stitched(grid(), [(0, one_cell)]).labels.tolist() == [1, 2]


def test_cells_are_clipped_to_the_bounds_and_those_outside_dropped():
    bounds = Rect(10, 10, 50, 50)
    found = cells([[0, 0, 25, 25], [50, 40, 70, 55], [61, 20, 80, 30]])
    assert stitched(grid(bounds), [(0, found)]).boxes.tolist() == [
        [10, 10, 25, 25],
        [50, 40, 60, 55],
    ]


def test_a_tile_that_comes_again_replaces_itself():
    stitcher = Stitcher(grid(), SETTINGS)
    stitcher.add(0, cells([box_around(20, 20)]))
    stitcher.add(0, cells([box_around(60, 60)]))
    assert stitcher.merge().boxes.tolist() == [box_around(60, 60)]


def test_nothing_found_is_an_empty_result():
    assert len(Stitcher(grid(), SETTINGS).merge()) == 0
    assert len(stitched(grid(), [(0, Detections.empty())])) == 0

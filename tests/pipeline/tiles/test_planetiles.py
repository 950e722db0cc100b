"""The sharpest plane of each tile is read, and what can't be read of which is known."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from planefiles import damage_plane, write_planes
from slidefiles import picture

from pipeline.slides.slide import open_slide
from pipeline.tiles.focal import plan_planes
from pipeline.tiles.foreground import Foreground
from pipeline.tiles.planetiles import PlaneTiles, UnreadAreas, common_parts, squared_gradient
from pipeline.tiles.tiler import TilerSettings, plan_tiles

SHARP = picture(1024, 512, seed=1)
SOFT = np.asarray(Image.fromarray(SHARP).filter(ImageFilter.GaussianBlur(3)))


def halves(left, right):
    """One picture to the left, another to the right."""
    return np.concatenate([left[:, :512], right[:, 512:]], axis=1)


IMAGES = [halves(SOFT, SHARP), halves(SHARP, SOFT), SOFT]
"""The left half is sharp in the second plane, the right one in the first."""


def reading(slide, choice, mask=None):
    slide, planes = plan_planes(slide, choice)
    mask = np.ones((16, 32), bool) if mask is None else mask
    foreground = Foreground(mask, 32.0)
    settings = TilerSettings(size=256, overlap=64)
    tiles = plan_tiles(slide.bounds, slide.mpp, 2 * slide.mpp, settings, foreground)
    return PlaneTiles(slide, planes, tiles.grid, foreground), tiles, planes


@pytest.fixture
def slide(tmp_path):
    with open_slide(write_planes(tmp_path / "a.ome.tif", IMAGES)) as opened:
        yield opened


def test_each_tile_is_read_in_its_sharpest_plane(slide):
    reader, tiles, _ = reading(slide, "best")
    jobs = reader.jobs(tiles.indices)
    assert len(jobs) == len(tiles)
    read = {job.index: reader.read(job) for job in jobs}
    lefts = {index: tiles.grid.cores([index])[0] for index in read}
    chosen = {(core[0] < 400, read[index].plane) for index, core in lefts.items()}
    assert chosen == {(True, 1), (False, 0)}
    for index, tile in read.items():
        alone, _, _ = reading(slide, tile.plane + 1)
        (job,) = alone.jobs([index])
        np.testing.assert_array_equal(tile.pixels, alone.read(job).pixels)
        assert not len(tile.unread)


def test_only_what_may_hold_cells_counts(slide):
    """A tile across both halves goes by the half that is foreground."""
    for columns, plane in ((slice(0, 16), 1), (slice(16, 32), 0)):
        mask = np.zeros((16, 32), bool)
        mask[:, columns] = True
        reader, tiles, _ = reading(slide, "best", mask)
        cores = tiles.grid.cores(tiles.indices)
        across = tiles.indices[(cores[:, 0] < 512) & (cores[:, 2] > 512)]
        assert len(across)
        assert {reader.read(job).plane for job in reader.jobs(across)} == {plane}


def test_a_speck_in_focus_decides_nothing(tmp_path):
    dusty = SOFT.copy()
    dusty[200:206, 200:206] = 0
    with open_slide(write_planes(tmp_path / "a.ome.tif", [dusty, SHARP])) as slide:
        reader, tiles, _ = reading(slide, "best")
        assert {reader.read(job).plane for job in reader.jobs(tiles.indices)} == {1}


def test_all_planes_are_read_one_after_the_other(slide):
    reader, tiles, _ = reading(slide, "all")
    jobs = reader.jobs(tiles.indices)
    assert [job.planes for job in jobs] == [(p,) for p in (0, 1, 2) for _ in range(len(tiles))]
    assert reader.read(jobs[-1]).plane == 2


def test_where_the_sharpest_is_damaged_the_next_is_read(tmp_path):
    path = write_planes(tmp_path / "a.ome.tif", [SOFT, SHARP, SOFT])
    damaged = damage_plane(path, 1, tiles=[0, 1, 16, 17])  # the top left 128 px
    with open_slide(damaged) as slide:
        reader, tiles, plan = reading(slide, "best")
        read = [reader.read(job) for job in reader.jobs(tiles.indices)]
        assert read[0].plane in (0, 2)
        assert read[-1].plane == 1
        unread = UnreadAreas(plan)
        for tile in read:
            unread.add(tile)
    assert not len(unread.nowhere())
    assert read[0].missed == () or list(unread.by_plane()) == [1]


def test_where_each_plane_is_damaged_somewhere_they_mend_one_another(tmp_path):
    whole = write_planes(tmp_path / "whole.ome.tif", [SOFT, SHARP, SOFT])
    path = write_planes(tmp_path / "a.ome.tif", [SOFT, SHARP, SOFT])
    damage_plane(path, 1, tiles=[0])  # in the top left quarter of the first tile
    for plane in (0, 2):
        damage_plane(path, plane, tiles=[7 * 16 + 7])  # in its bottom right one
    damage_plane(path, 2, tiles=[7])
    with open_slide(path) as slide, open_slide(whole) as intact:
        reader, tiles, plan = reading(slide, "best")
        job, other = reader.jobs(tiles.indices)[0], reading(intact, "best")[0]
        read = reader.read(job)
        sharp, soft = (other._read(job.index, plane).pixels for plane in (1, 0))
        unread = UnreadAreas(plan)
        unread.add(read)
    assert read.plane == 0  # none can be compared as a whole: the first with the least damage
    np.testing.assert_array_equal(read.pixels[128:, 128:], sharp[128:, 128:])
    np.testing.assert_array_equal(read.pixels[:128], soft[:128])
    np.testing.assert_array_equal(read.pixels[:, :128], soft[:, :128])
    assert [(plane, boxes.tolist()) for plane, boxes in read.patches] == [
        (1, [[256, 256, 512, 512]])
    ]
    assert not len(unread.nowhere())
    assert list(unread.by_plane()) == [0, 1, 2]


def test_unread_is_what_no_plane_shows(tmp_path):
    path = write_planes(tmp_path / "a.ome.tif", IMAGES)
    for plane in range(3):
        damage_plane(path, plane, tiles=range(8) if plane < 2 else [0])
    with open_slide(path) as slide:
        reader, tiles, plan = reading(slide, "all")
        unread = UnreadAreas(plan)
        for job in reader.jobs(tiles.indices):
            unread.add(reader.read(job))
    nowhere, by_plane = unread.nowhere(), unread.by_plane()
    assert list(by_plane) == [0, 1, 2]
    assert nowhere[:, :2].min() == 0
    assert nowhere[:, 2].max() < 512  # the first tile of 64 px, in pieces of 128 model px
    assert by_plane[0][:, 2].max() >= 512


def test_common_parts():
    one = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], float)
    other = np.array([[5, 5, 25, 8]], float)
    assert common_parts([one, other]).tolist() == [[5, 5, 10, 8], [20, 5, 25, 8]]
    assert common_parts([one]).tolist() == one.tolist()
    assert len(common_parts([one, other, np.zeros((0, 4))])) == 0


def test_squared_gradient_falls_with_blur():
    for radius in (1, 2, 4):
        soft = np.asarray(Image.fromarray(SHARP[:, :512]).filter(ImageFilter.GaussianBlur(radius)))
        assert (squared_gradient(soft, 8) < squared_gradient(SHARP[:, :512], 8)).all()

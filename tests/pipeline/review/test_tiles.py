"""Tiles show what the slide shows, at every level, and what can't be read is seen to be so."""

import io
import threading

import numpy as np
import pytest
from PIL import Image
from slidefiles import array_slide, break_tiles, halved, picture, write_pyramid

from pipeline.errors import ReadError
from pipeline.geometry import Rect, Size
from pipeline.review.bounded import BoundedCache
from pipeline.review.ground import Ground
from pipeline.review.shelf import Shelf
from pipeline.review.tiles import Pyramid, encode, hatching, read_marked


def test_the_levels_are_deepzooms():
    pyramid = Pyramid(Size(1200, 900))
    assert pyramid.max_level == 11
    assert pyramid.level_size(11) == Size(1200, 900)
    assert pyramid.level_size(10) == Size(600, 450)
    assert pyramid.level_size(0) == Size(1, 1)
    assert pyramid.tile(11, 4, 3) == Rect(1024, 768, 176, 132)
    assert pyramid.tile(11, 5, 0) is None
    assert pyramid.tile(12, 0, 0) is None
    assert pyramid.tile(-1, 0, 0) is None
    assert pyramid.tile(11, -1, 0) is None
    assert Pyramid(Size(1, 1)).max_level == 0


@pytest.mark.parametrize("level", [11, 10, 9])
def test_tiles_laid_side_by_side_are_the_slide(level):
    image = picture(1200, 900)
    pyramid = Pyramid(Size(1200, 900))
    ground = Ground(array_slide(image), lambda: None)
    size, step = pyramid.level_size(level), pyramid.downsample(level)
    canvas = np.zeros((size.height, size.width, 3), np.uint8)
    for row in range(4):
        for column in range(5):
            place = pyramid.tile(level, column, row)
            if place:
                part, whole = read_marked(
                    ground, place.x * step, place.y * step, Size(place.width, place.height), step
                )
                assert whole
                canvas[place.y : place.bottom, place.x : place.right] = part
    wanted = halved(image, 11 - level)
    difference = np.abs(canvas.astype(int) - wanted[: size.height, : size.width])
    assert difference.mean() < 2


class _Broken:
    """Pixels of which a square can't be read."""

    def __init__(self, bad: Rect) -> None:
        self._bad = bad

    def read_region(self, x, y, size, downsample):
        whole = Rect(int(x), int(y), size.width * downsample, size.height * downsample)
        if whole.intersection(self._bad):
            raise ReadError("broken")
        return np.full((size.height, size.width, 3), 77, np.uint8)


def test_what_can_not_be_read_is_hatched_and_the_rest_shown():
    pixels, whole = read_marked(_Broken(Rect(64, 0, 32, 32)), 0, 0, Size(256, 256), 1)
    assert not whole
    stripes = hatching(0, 0, Size(256, 256))
    assert (pixels[:32, 64:96] == stripes[:32, 64:96]).all()
    assert (pixels[:, :64] == 77).all()
    assert (pixels[64:] == 77).all()
    assert len(np.unique(pixels[:32, 64:96])) == 2, "stripes, not a plain colour"


def test_hatching_goes_on_from_tile_to_tile():
    both = hatching(0, 0, Size(512, 256))
    assert (both[:, 256:] == hatching(256, 0, Size(256, 256))).all()


def test_tiles_of_a_damaged_file_are_hatched(tmp_path):
    path = write_pyramid(tmp_path / "a.tif", picture(1024, 1024), levels=1, tile=256)
    break_tiles(path, [0])
    with Shelf().lend(path, 0.25, lambda: None) as held:
        pixels, whole = read_marked(held.ground, 0, 0, Size(256, 256), 1)
        assert not whole
        assert (pixels == hatching(0, 0, Size(256, 256))).all()
        assert read_marked(held.ground, 512, 512, Size(256, 256), 1)[1]


class _Counting:
    """A slide that counts what is read of it."""

    def __init__(self, image, levels=1):
        self.slide = array_slide(image, levels)
        self.read = []
        inner = self.slide.read_region

        def counted(x, y, size, downsample):
            self.read.append(downsample)
            return inner(x, y, size, downsample)

        self.slide.read_region = counted


def test_far_scales_come_from_one_overview():
    counting = _Counting(picture(2000, 1600), levels=2)
    ground = Ground(counting.slide, lambda: None)
    tile = ground.read_region(0, 0, Size(125, 100), 16)
    assert counting.read == []
    wanted = Image.fromarray(picture(2000, 1600)).resize((125, 100), Image.Resampling.BILINEAR)
    assert np.abs(tile.astype(int) - np.asarray(wanted)).mean() < 4
    ground.read_region(0, 0, Size(250, 200), 8)
    assert counting.read == [8], "up to four times the coarsest the file's own pixels are read"
    beyond = ground.read_region(0, 0, Size(130, 100), 16)
    assert (beyond[:, 127:] == 255).all(), "beyond the slide lies background"


def test_of_a_slide_without_small_levels_the_reports_overview_is_shown_at_once(monkeypatch):
    monkeypatch.setattr("pipeline.review.ground.CHEAP_PX", 1000)
    counting = _Counting(picture(2000, 1600))
    picture_of_report = encode(np.full((80, 100, 3), 120, np.uint8))
    ground = Ground(counting.slide, lambda: picture_of_report)
    tile = ground.read_region(0, 0, Size(63, 50), 32)
    assert counting.read == []
    assert np.abs(tile[:49, :62].astype(int) - 120).max() <= 3
    ground.read_region(0, 0, Size(125, 100), 8)
    assert counting.read == [8], "it is too coarse for that"


@pytest.mark.parametrize("jpeg", [None, b"no picture", encode(np.zeros((100, 100, 3), np.uint8))])
def test_an_overview_of_another_shape_or_none_is_not_shown(monkeypatch, jpeg):
    monkeypatch.setattr("pipeline.review.ground.CHEAP_PX", 1000)
    counting = _Counting(picture(400, 320))
    Ground(counting.slide, lambda: jpeg).read_region(0, 0, Size(13, 10), 32)
    assert counting.read == [32]


def test_slides_are_closed_when_others_are_opened_but_never_under_a_reader(tmp_path):
    paths = [write_pyramid(tmp_path / f"{n}.tif", picture(300, 300, n), levels=1) for n in range(3)]
    shelf = Shelf(most=1)
    with shelf.lend(paths[0], 0.25, lambda: None) as first:
        closed = []
        first.slide.close = lambda: closed.append(0)
        with shelf.lend(paths[1], 0.25, lambda: None) as second:
            second.slide.close = lambda: closed.append(1)
        assert closed == [], "the first is still read, the second is the one that stays"
        with shelf.lend(paths[2], 0.25, lambda: None):
            assert closed == [1]
    assert closed == [1, 0]


def test_a_slide_is_opened_once_for_readers_who_come_together(tmp_path, monkeypatch):
    path, opened = write_pyramid(tmp_path / "a.tif", picture(300, 300), levels=1), []
    from pipeline.review import shelf as module

    real = module.open_slide
    monkeypatch.setattr(module, "open_slide", lambda *a: opened.append(1) or real(*a))
    shelf, start = Shelf(), threading.Barrier(4)

    def read():
        start.wait()
        with shelf.lend(path, 0.25, lambda: None) as held:
            held.slide.read_region(0, 0, Size(10, 10), 1)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [1]


def test_a_cache_holds_no_more_than_it_may():
    dropped = []
    cache = BoundedCache(10, len, dropped.append)
    for name in ("aaaa", "bbbb"):
        cache.put(name, name)
    assert cache.get("aaaa") == "aaaa"
    cache.put("cccc", "cccc")  # bbbb was used longest ago
    assert dropped == ["bbbb"]
    assert cache.weight == 8
    cache.put("large", "x" * 50)
    assert len(cache) == 1
    assert cache.weight == 50
    with pytest.raises(ValueError, match="none"):
        cache.make("bad", _fail)
    assert cache.make("bad", lambda: "good") == "good"


def _fail() -> str:
    raise ValueError("none")


def test_jpegs_are_what_browsers_read():
    with Image.open(io.BytesIO(encode(picture(64, 48)))) as image:
        assert (image.format, image.size) == ("JPEG", (64, 48))

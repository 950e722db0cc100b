"""Pyramids that other readers open, written with flat memory."""

import tracemalloc
from collections.abc import Iterable, Iterator

import numpy as np
import openslide
import pytest
import tifffile

from data.synth import writer
from data.synth.region import Region
from data.synth.writer import BLOCK, TILE, blocks_of, write_pyramid

MPP = 0.2465


def wave(region: Region) -> np.ndarray:
    """A smooth picture that JPEG hardly changes, each place its own."""
    x = np.arange(region.x, region.right)[None, :]
    y = np.arange(region.y, region.bottom)[:, None]
    planes = [120 + 80 * np.sin(x / 61 + y / 97), 128 + 90 * np.cos(x / 83), 100 + y % 4096 / 40]
    return np.stack(np.broadcast_arrays(*planes), 2).astype(np.uint8)


def draw_waves(regions: Iterable[Region]) -> Iterator[np.ndarray]:
    return map(wave, regions)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("pyramid") / "waves.tif"
    write_pyramid(path, (2300, 2150), MPP, draw_waves)
    return path


def test_openslide_reads_size_levels_and_scale(slide):
    with openslide.OpenSlide(slide) as opened:
        assert opened.dimensions == (2300, 2150)
        assert opened.level_dimensions == ((2300, 2150), (575, 538))
        assert opened.level_downsamples == pytest.approx((1.0, 4.0), rel=1e-3)
        assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(MPP, rel=1e-6)
        assert float(opened.properties["openslide.mpp-y"]) == pytest.approx(MPP, rel=1e-6)


def test_openslide_reads_the_pixels_across_blocks_and_at_the_border(slide):
    with openslide.OpenSlide(slide) as opened:
        for x, y in ((0, 0), (BLOCK - 60, BLOCK - 70), (2300 - 130, 2150 - 120)):
            read = np.asarray(opened.read_region((x, y), 0, (130, 120)).convert("RGB"))
            expected = wave(Region(x, y, 130, 120))
            assert np.abs(read.astype(int) - expected).max() <= 14
            assert np.abs(read.astype(int) - expected).mean() < 2


def test_tifffile_reads_the_same(slide):
    with tifffile.TiffFile(slide) as file:
        assert [page.shape for page in file.pages] == [(2150, 2300, 3), (538, 575, 3)]
        assert all(page.tile == (TILE, TILE) for page in file.pages)
        assert not file.is_bigtiff
        pixels = file.pages[0].asarray()
    assert np.abs(pixels.astype(int) - wave(Region(0, 0, 2300, 2150))).mean() < 2


def test_a_level_is_the_mean_of_squares_of_the_one_below(slide):
    full = wave(Region(0, 0, 2300, 2148)).astype(np.float32)
    mean = full.reshape(537, 4, 575, 4, 3).mean((1, 3))
    with tifffile.TiffFile(slide) as file:
        level = file.pages[1].asarray()[:537]
    assert np.abs(level - mean).mean() < 2


@pytest.mark.parametrize("size", [(64, 64), (511, 513), (2051, 300)])
def test_odd_sizes_open(tmp_path, size):
    path = tmp_path / "odd.tif"
    write_pyramid(path, size, 0.5, draw_waves)
    with openslide.OpenSlide(path) as opened:
        assert opened.dimensions == size
        for level, (width, height) in enumerate(opened.level_dimensions):
            assert (width, height) == tuple(-(-n // 4**level) for n in size)
    with tifffile.TiffFile(path) as file:
        last = file.pages[-1].asarray()
    assert last[-1, -1] == pytest.approx(wave(Region(size[0] - 1, size[1] - 1, 1, 1))[0, 0], abs=25)


def test_a_large_slide_is_bigtiff(tmp_path, monkeypatch):
    assert writer.needs_bigtiff((60_000, 60_000))
    assert not writer.needs_bigtiff((40_000, 30_000))
    monkeypatch.setattr(writer, "needs_bigtiff", lambda *_: True)
    path = tmp_path / "big.tif"
    write_pyramid(path, (2100, 900), MPP, draw_waves)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        assert (
            np.abs(file.pages[0].asarray().astype(int) - wave(Region(0, 0, 2100, 900))).mean() < 2
        )
    with openslide.OpenSlide(path) as opened:
        assert opened.level_dimensions == ((2100, 900), (525, 225))
        assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(MPP, rel=1e-6)


def test_blocks_cover_the_slide_once():
    size = (BLOCK * 5 + 3, BLOCK * 4 + 1)
    covered = np.zeros((size[1] // 7 + 1, size[0] // 7 + 1), int)
    blocks = blocks_of(size)
    for block in blocks:
        assert block.width <= BLOCK
        assert block.height <= BLOCK
        rows = slice(-(-block.y // 7), -(-block.bottom // 7))
        covered[rows, -(-block.x // 7) : -(-block.right // 7)] += 1
    assert (covered[: size[1] // 7, : size[0] // 7] == 1).all()
    assert sum(block.width * block.height for block in blocks) == size[0] * size[1]


def test_memory_does_not_grow_with_the_slide(tmp_path):
    def peak(size: tuple[int, int]) -> int:
        blank = np.full((BLOCK, BLOCK, 3), 240, np.uint8)
        tracemalloc.start()
        write_pyramid(
            tmp_path / "flat.tif",
            size,
            MPP,
            lambda regions: (blank[: r.height, : r.width] for r in regions),
        )
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    small, large = peak((2 * BLOCK, BLOCK)), peak((6 * BLOCK, 3 * BLOCK))
    block = BLOCK * BLOCK * 3
    assert large - small < 1.5 * block  # one more level, though nine times the pixels
    assert large < 6 * BLOCK * 3 * BLOCK * 3 / 4


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    def fail(regions: Iterable[Region]) -> Iterator[np.ndarray]:
        yield wave(next(iter(regions)))
        raise OSError("no space left on device")

    path = tmp_path / "slide.tif"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="no space"):
        write_pyramid(path, (3 * BLOCK, BLOCK), MPP, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]

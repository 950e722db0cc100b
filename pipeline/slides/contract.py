"""What every reader keeps to, as tests: ours run them, and so should yours.

from pipeline.slides.contract import ReaderContract

class TestMine(ReaderContract):
    def open(self, folder):
        return MyReader(write_a_slide(folder / "slide.mine"))
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.geometry import Rect, Size
from pipeline.slides.readers.base import Reader

SIDE = 64
"""Of the regions that are read, in px, where a level has as many."""


class ReaderContract:
    """A header that holds together, and pixels that don't depend on how they are asked for."""

    @abstractmethod
    def open(self, folder: Path) -> Reader:
        """A reader of a slide that is written into a folder; of a few hundred pixels a side."""

    @contextmanager
    def opened(self, folder: Path) -> Iterator[Reader]:
        """The reader, closed at the end."""
        reader = self.open(folder)
        try:
            yield reader
        finally:
            reader.close()

    def test_its_header_holds_together(self, tmp_path: Path) -> None:
        """Levels finest first, each as much smaller as it says, to the pixel; a sane scale."""
        with self.opened(tmp_path) as reader:
            header, finest = reader.header, reader.header.levels[0]
        assert header.format
        assert reader.library
        assert finest.downsample == 1
        downsamples = [level.downsample for level in header.levels]
        assert downsamples == sorted(downsamples)
        for level in header.levels:
            assert abs(finest.size.width / level.downsample - level.size.width) < 1
            assert abs(finest.size.height / level.downsample - level.size.height) < 1
        assert header.mpp is None or all(0 < value < 100 for value in header.mpp)
        if header.bounds is not None:
            assert header.bounds == header.bounds.intersection(_all_of(finest.size))

    def test_a_region_is_what_the_whole_shows_there(self, tmp_path: Path) -> None:
        """On each level, wherever its tiles begin and end.

        To the bit where a level's size is a whole part of the finest one's. Where it was rounded,
        libraries that count in pixels of the finest level, as OpenSlide does, place a region up to
        a pixel off: within 4 of 255 in the mean, of a picture that is smooth.
        """
        with self.opened(tmp_path) as reader:
            finest = reader.header.levels[0].size
            for index, level in enumerate(reader.header.levels):
                whole = reader.read(index, _all_of(level.size))
                assert whole.shape == (level.size.height, level.size.width, 3)
                assert whole.dtype == np.uint8
                rounded = (level.size.width, level.size.height) != (
                    finest.width / level.downsample,
                    finest.height / level.downsample,
                )
                for region in _regions(level.size):
                    part = whole[region.y : region.bottom, region.x : region.right]
                    off = np.abs(reader.read(index, region).astype(int) - part)
                    assert off.mean() < 4
                    assert rounded or not off.any()

    def test_threads_read_what_one_reads(self, tmp_path: Path) -> None:
        """Several may read at once."""
        with self.opened(tmp_path) as reader:
            regions = _regions(reader.header.levels[0].size) * 8
            alone = [reader.read(0, region) for region in regions]
            with ThreadPoolExecutor(4) as pool:
                together = list(pool.map(lambda region: reader.read(0, region), regions))
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_levels_show_one_picture(self, tmp_path: Path) -> None:
        """A coarser level is the finest in the mean of its pixels: within 4 of 255."""
        with self.opened(tmp_path) as reader:
            means = [
                reader.read(index, _all_of(level.size)).mean(axis=(0, 1))
                for index, level in enumerate(reader.header.levels)
            ]
        for mean in means[1:]:
            np.testing.assert_allclose(mean, means[0], atol=4)

    def test_shrunk_pixels_are_means_of_squares(self, tmp_path: Path) -> None:
        """Of what a reader decodes smaller: whole squares only, and like their means."""
        with self.opened(tmp_path) as reader:
            for index, level in enumerate(reader.header.levels):
                for factor in reader.shrinks(index):
                    size = Size(level.size.width // factor, level.size.height // factor)
                    shrunk = reader.read(index, _all_of(size), factor)
                    assert shrunk.shape == (size.height, size.width, 3)
                    full = reader.read(index, Rect(0, 0, size.width * factor, size.height * factor))
                    squares = full.reshape(size.height, factor, size.width, factor, 3)
                    assert np.abs(squares.mean(axis=(1, 3)) - shrunk).mean() < 4


def _all_of(size: Size) -> Rect:
    return Rect(0, 0, size.width, size.height)


def _regions(size: Size) -> list[Rect]:
    """Corners, the middle, and one of a single pixel."""
    width, height = min(SIDE, size.width), min(SIDE, size.height)
    right, bottom = size.width - width, size.height - height
    return [
        Rect(0, 0, width, height),
        Rect(right, bottom, width, height),
        Rect(right // 2, bottom // 3, width, height),
        Rect(size.width - 1, size.height // 2, 1, 1),
    ]

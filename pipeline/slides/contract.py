"""What every reader keeps to, as tests: ours run them, and so should yours.

```python
from pipeline.slides.contract import ReaderContract

class TestMine(ReaderContract):
    mpp = (0.25, 0.25)

    def open(self, folder):
        return MyReader(write_a_slide(folder / "slide.mine", pixels()))

    def oracle(self):
        return pixels()
```

What a class doesn't give is not tested, and pytest says so: the scale and the pixels that its slide
was written with, a slide that states no scale, and a damaged one.
"""

from __future__ import annotations

import os
import pickle
from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.base import Level, Reader

SIDE = 64
"""Of the regions that are read, in px, where a level has as many."""


COARSER = 8.0
"""How far coarser levels may be off more, of 255: sizes rounded twice move them by a pixel."""

OPEN_FILES = Path("/proc/self/fd")
"""Where Linux lists what a process has open."""


class ReaderContract:
    """A header that holds together, and pixels that don't depend on how they are asked for."""

    mpp: ClassVar[tuple[float, float] | None] = None
    """µm per pixel in x and y that the slide of `open` was written with."""

    tolerance: ClassVar[float] = 0.0
    """How far pixels may be off those of `oracle` in the mean, of 255; JPEG needs some 2."""

    @abstractmethod
    def open(self, folder: Path) -> Reader:
        """A reader of a slide that is written into a folder; of a few hundred pixels a side."""

    def oracle(self) -> NDArray[np.uint8] | None:
        """(H, W, 3) RGB of level 0 of that slide, as it was written."""
        return None

    def open_without_mpp(self, folder: Path) -> Reader | None:
        """A reader of a slide that states no µm per pixel, but a magnification, if it can."""
        return None

    def open_damaged(self, folder: Path) -> Reader | None:
        """A reader of a slide whose pixels are damaged in part, as by a broken copy.

        Its opening may be refused: what it raises is part of the test.
        """
        return None

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
                    if rounded and 1 in (region.width, region.height):
                        continue  # a pixel off, it would be another line
                    part = whole[region.y : region.bottom, region.x : region.right]
                    off = np.abs(reader.read(index, region).astype(int) - part)
                    assert off.mean() < 4
                    assert rounded or not off.any()

    def test_regions_are_what_was_written(self, tmp_path: Path) -> None:
        """On level 0 to the tolerance; on coarser ones means of squares, within `COARSER` more.

        A level whose size was rounded may be cut at its ends, or stretched to fit.
        """
        written = self.oracle()
        if written is None:
            pytest.skip("oracle() gives no pixels that the slide was written with")
        with self.opened(tmp_path) as reader:
            finest = reader.header.levels[0].size
            assert (finest.height, finest.width) == written.shape[:2]
            for region in _regions(finest):
                part = written[region.y : region.bottom, region.x : region.right].astype(int)
                assert np.abs(reader.read(0, region) - part).mean() <= self.tolerance, region
            for index, level in enumerate(reader.header.levels[1:], start=1):
                whole = reader.read(index, _all_of(level.size))
                off = min(_off(whole, made) for made in _smaller(written, level))
                assert off <= self.tolerance + COARSER, index

    def test_its_scale_is_what_was_written(self, tmp_path: Path) -> None:
        """Within a part in a thousand, in x and y apart."""
        if self.mpp is None:
            pytest.skip("mpp says no scale that the slide was written with")
        with self.opened(tmp_path) as reader:
            stated = reader.header.mpp
        assert stated is not None
        np.testing.assert_allclose(stated, self.mpp, rtol=1e-3)

    def test_a_scale_that_is_not_stated_is_none(self, tmp_path: Path) -> None:
        """Never guessed, of the magnification or anything else."""
        reader = self.open_without_mpp(tmp_path)
        if reader is None:
            pytest.skip("open_without_mpp() gives no slide without a scale")
        stated = reader.header.mpp
        reader.close()
        assert stated is None

    def test_damage_is_told(self, tmp_path: Path) -> None:
        """By a refusal at opening, or by `ReadError` where it lies; never by pixels or a crash."""
        try:
            reader = self.open_damaged(tmp_path)
        except SlideError:
            return
        if reader is None:
            pytest.skip("open_damaged() gives no damaged slide")
        try:
            unread = [region for region in _squares(reader) if not _is_read(reader, region)]
        finally:
            reader.close()
        assert unread

    def test_it_does_not_pickle_to_something_else(self, tmp_path: Path) -> None:
        """A reader that pickles shows the same in another process; most refuse, which is fine."""
        with self.opened(tmp_path) as reader:
            try:
                copy = pickle.loads(pickle.dumps(reader))
            except (TypeError, AttributeError, ValueError, pickle.PicklingError):
                return
            region = _regions(reader.header.levels[0].size)[1]
            np.testing.assert_array_equal(copy.read(0, region), reader.read(0, region))
            copy.close()

    @pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="this system lists no open files")
    def test_its_files_are_closed(self, tmp_path: Path) -> None:
        """As many as it opened, and of its folder none; a second close does nothing."""
        reader = self.open(tmp_path)
        reader.read(0, _regions(reader.header.levels[0].size)[0])
        reader.close()
        reader.close()
        assert not [name for name in _open_files() if name.startswith(str(tmp_path))]

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


def _smaller(pixels: NDArray[np.uint8], level: Level) -> list[NDArray[np.float64]]:
    """A picture as a level may show it: means of whole squares, or all of it fitted to the size."""
    whole = round(level.downsample)
    height, width = (side // whole for side in pixels.shape[:2])
    cut = pixels[: height * whole, : width * whole].astype(float)
    size = (level.size.width, level.size.height)
    fitted = Image.fromarray(pixels).resize(size, Image.Resampling.BOX)
    squares = cut.reshape(height, whole, width, whole, 3).mean(axis=(1, 3))
    return [squares, np.asarray(fitted, float)]


def _off(pixels: NDArray[np.uint8], expected: NDArray[np.float64]) -> float:
    """Mean difference of what both pictures have."""
    height, width = (min(a, b) for a, b in zip(pixels.shape[:2], expected.shape[:2], strict=True))
    return float(np.abs(pixels[:height, :width] - expected[:height, :width]).mean())


def _squares(reader: Reader) -> Iterator[Rect]:
    """All of level 0, in squares."""
    size = reader.header.levels[0].size
    for y in range(0, size.height, SIDE):
        for x in range(0, size.width, SIDE):
            yield Rect(x, y, min(SIDE, size.width - x), min(SIDE, size.height - y))


def _is_read(reader: Reader, region: Rect) -> bool:
    try:
        reader.read(0, region)
    except SlideError:
        return False
    return True


def _open_files() -> list[str]:
    """What this process has open."""
    names = []
    for link in OPEN_FILES.iterdir():
        with suppress(OSError):  # the look at the folder is one of them
            names.append(os.readlink(link))
    return names


def _regions(size: Size) -> list[Rect]:
    """Corners, the middle, one of a single pixel, and the last row and column."""
    width, height = min(SIDE, size.width), min(SIDE, size.height)
    right, bottom = size.width - width, size.height - height
    return [
        Rect(0, 0, width, height),
        Rect(right, bottom, width, height),
        Rect(right // 2, bottom // 3, width, height),
        Rect(size.width - 1, size.height // 2, 1, 1),
        Rect(0, size.height - 1, size.width, 1),
        Rect(size.width - 1, 0, 1, size.height),
    ]

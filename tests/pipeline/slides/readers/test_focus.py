"""Which picture is sharpest, and whether two show one place, by a few regions of them."""

import cv2
import numpy as np
import pytest
from slidefiles import ArrayReader, halved, picture

from data.synth import draw_field
from pipeline.errors import ReadError
from pipeline.slides.readers.focus import GRID, PLACES, Sharpest, same_place, sharpest
from pipeline.slides.readers.focus import telling_places as places


@pytest.fixture(scope="module")
def fields():
    """Two fields of drawn cells at 0.25 µm/px."""
    return [draw_field(seed, (1400, 1000), 0.25)[0] for seed in (1, 2)]


def blurred(image, sigma):
    return cv2.GaussianBlur(image, (0, 0), sigma)


def noisy(image, sigma=4):
    noise = np.random.default_rng(0).normal(0, sigma, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


class TestSharpest:
    @pytest.mark.parametrize("sigmas", [(8, 3, 0.1), (0.1, 2, 4), (3, 1.5, 2), (1, 0.1, 1)])
    def test_is_the_least_blurred(self, fields, sigmas):
        planes = [ArrayReader(blurred(fields[0], sigma)) for sigma in sigmas]
        assert sharpest(planes) == Sharpest(int(np.argmin(sigmas)), measured=True)

    @pytest.mark.parametrize("level", [1, 2])
    def test_on_a_coarser_level(self, fields, level):
        planes = [ArrayReader(blurred(fields[0], sigma), levels=3) for sigma in (9, 0.1)]
        assert sharpest(planes, level).index == 1

    def test_noise_is_not_sharpness(self, fields):
        planes = [ArrayReader(noisy(blurred(fields[0], 6))), ArrayReader(fields[0])]
        assert sharpest(planes).index == 1

    def test_dust_on_one_plane_does_not_outweigh_the_cells(self, fields):
        dusty = blurred(fields[0], 5)
        dusty[100:140:2, 100:140] = 0
        assert sharpest([ArrayReader(dusty), ArrayReader(fields[0])]).index == 1

    @pytest.mark.parametrize("first", [0, 1, 2])
    def test_of_equals_the_first(self, fields, first):
        planes = [ArrayReader(fields[0]) for _ in range(3)]
        assert sharpest(planes, first=first) == Sharpest(first, measured=True)

    def test_nothing_to_see(self):
        planes = [ArrayReader(np.full((900, 900, 3), 240, np.uint8)) for _ in range(2)]
        assert sharpest(planes, first=1) == Sharpest(1, measured=False)

    def test_places_that_can_not_be_read_are_passed_over(self, fields):
        class Broken(ArrayReader):
            def read(self, level, region, shrink=1):
                if region.x < 400:
                    raise ReadError("broken")
                return super().read(level, region, shrink)

        planes = [ArrayReader(blurred(fields[0], 5)), Broken(fields[0])]
        assert sharpest(planes) == Sharpest(1, measured=True)

    def test_reads_little_of_a_large_slide(self):
        class Counting(ArrayReader):
            pixels = 0

            def read(self, level, region, shrink=1):
                Counting.pixels += region.area
                return super().read(level, region, shrink)

        image = np.tile(picture(250, 250), (12, 12, 1))
        reader = Counting(image, levels=5)
        assert sharpest([reader, reader]).measured
        assert Counting.pixels < 2 * PLACES * 512**2 + GRID**2 * 32**2 + 1


class TestSamePlace:
    @pytest.mark.parametrize("sigma", [0.1, 3, 8])
    def test_in_and_out_of_focus(self, fields, sigma):
        one, other = ArrayReader(fields[0]), ArrayReader(noisy(blurred(fields[0], sigma)))
        assert same_place(one, other)
        assert same_place(other, one)

    def test_darker(self, fields):
        assert same_place(ArrayReader(fields[0]), ArrayReader((fields[0] * 0.7).astype(np.uint8)))

    @pytest.mark.parametrize("times", [1, 2, 3])
    def test_smaller(self, fields, times):
        assert same_place(ArrayReader(fields[0]), ArrayReader(halved(fields[0], times)))

    def test_of_other_cells(self, fields):
        assert not same_place(*(ArrayReader(image) for image in fields))

    def test_of_other_cells_in_a_round_preparation(self, fields):
        y, x = np.mgrid[:1000, :1400]
        outside = np.hypot(x - 700, y - 500) > 480
        round_ones = [np.where(outside[..., None], 250, image) for image in fields]
        assert not same_place(*(ArrayReader(image.astype(np.uint8)) for image in round_ones))

    def test_of_mirrored_cells(self, fields):
        mirrored = np.ascontiguousarray(fields[0][:, ::-1])
        assert not same_place(ArrayReader(fields[0]), ArrayReader(mirrored))

    def test_of_nothing(self, fields):
        blank = ArrayReader(np.full_like(fields[0], 240))
        assert not same_place(blank, blank)
        assert not same_place(ArrayReader(fields[0]), blank)

    def test_of_a_pixel(self):
        dot = ArrayReader(np.zeros((1, 1, 3), np.uint8))
        assert not same_place(dot, dot)


def test_places_are_where_the_cells_are():
    image = np.full((3000, 4000, 3), 240, np.uint8)
    image[2000:2600, 3000:3700] = picture(700, 600)
    found = places(ArrayReader(image, levels=4))
    assert 0 < len(found) <= PLACES
    for place in found:
        part = image[place.y : place.bottom, place.x : place.right]
        assert part.shape == (512, 512, 3)
        assert part.std() > 5

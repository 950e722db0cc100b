"""No cell is left out; empty glass, ink and the surroundings of the scan are."""

import io
import json
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from slidefiles import array_slide

from configs import ConfigError, load_config
from data.resample import resample
from pipeline.geometry import Rect, Size
from pipeline.slides.slide import open_slide
from pipeline.tiles.foreground import (
    Foreground,
    ForegroundSettings,
    find_foreground,
    foreground_mask,
)

MPP = 8.0
GLASS = (238, 238, 234)
CYTOPLASM = 0.9  # share of the light that a pale cell lets through
NUCLEUS = 0.6  # of a small nucleus, blurred over pixels of 8 µm
INKS = {
    "blue": (40, 55, 160),
    "green": (25, 130, 75),
    "black": (30, 30, 33),
    "red": (190, 35, 45),
}


def glass(height=200, width=300, color=GLASS, noise=1.0):
    rng = np.random.default_rng(0)
    return np.array(color) + rng.normal(0, noise, (height, width, 3))


def with_cell(scene, x, y):
    """A pale cell of 40 µm with a nucleus in one pixel."""
    scene[y - 2 : y + 3, x - 2 : x + 3] *= CYTOPLASM
    scene[y, x] *= NUCLEUS
    return scene


def with_ink(scene, rows, columns, color, cover=0.95):
    """A pen stroke with soft edges, through which a share of the light below it is seen."""
    stroke = np.zeros(scene.shape[:2])
    stroke[rows, columns] = cover
    stroke = ndimage.gaussian_filter(stroke, 1.5)[..., None]
    return scene * (1 - stroke) + np.array(color) * stroke


def mask_of(scene):
    return foreground_mask(np.clip(np.rint(scene), 0, 255).astype(np.uint8), MPP)


# --- the mask as an object -----------------------------------------------------------------


def test_fraction_and_area_are_those_of_the_mask():
    mask = np.zeros((4, 5), bool)
    mask[1, 1:4] = True
    foreground = Foreground(mask, 10.0)
    assert foreground.fraction() == pytest.approx(3 / 20)
    assert foreground.area_px0() == 300


def meets_slowly(foreground, box):
    side = foreground.downsample
    left, top, right, bottom = box
    return (
        left < right
        and top < bottom
        and any(
            max(left, column * side) < min(right, (column + 1) * side)
            and max(top, row * side) < min(bottom, (row + 1) * side)
            for row, column in np.argwhere(foreground.mask)
        )
    )


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 2.5, 32.0]))
def test_boxes_meet_the_foreground_where_they_touch_one_of_its_pixels(seed, downsample):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 12, 2)
    foreground = Foreground(rng.random((height, width)) < 0.2, downsample)
    corners = rng.uniform(-3, 14, (20, 2))
    boxes = np.hstack([corners, corners + rng.uniform(-0.5, 4, (20, 2))]) * downsample
    boxes[::2] = np.rint(boxes[::2] / downsample) * downsample  # borders on pixels' borders
    expected = [meets_slowly(foreground, box) for box in boxes]
    assert foreground.any_in(boxes).tolist() == expected


# --- glass without cells -------------------------------------------------------------------


@pytest.mark.parametrize(
    "color", [(255, 255, 255), GLASS, (245, 240, 214), (219, 250, 252), (190, 190, 195)]
)
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_glass_of_any_light_is_left_out(color, noise):
    assert not mask_of(glass(color=color, noise=noise)).any()


def test_light_that_falls_off_is_no_foreground():
    across = np.linspace(1, 0.75, 300)[None, :, None] * np.array([1, 1, 0.95])
    down = np.linspace(1, 0.95, 200)[:, None, None]
    assert not mask_of(glass(noise=1.5) * across * down).any()


def test_noise_of_a_strong_compression_is_no_foreground():
    scene = np.clip(with_cell(glass(noise=3.0), 150, 100), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(scene).save(file, "JPEG", quality=40)
    mask = foreground_mask(np.asarray(Image.open(file)), MPP)
    assert mask[100, 150]
    assert mask.mean() < 0.01


def test_the_black_and_the_white_around_a_scan_are_left_out():
    scene = glass(color=(205, 205, 200)) * np.linspace(1, 0.78, 300)[:, None]
    scene[:, :40] = 3
    scene[:, 40] = 120  # the border of the scan, blurred
    scene[150:] = 255
    cell = with_cell(scene, 60, 80)
    mask = mask_of(cell)
    assert mask[80, 60]
    mask[70:91, 50:71] = False
    assert not mask.any()


def test_the_inside_of_a_bubble_and_the_glass_beyond_the_coverslip_are_left_out():
    scene = glass(300, 300, noise=1.0)
    y, x = np.mgrid[:300, :300]
    distance = np.hypot(x - 100, y - 150)
    scene[(distance > 60) & (distance < 64)] *= 0.4
    scene[:, 220:222] *= 0.6
    scene[:, 222:] *= 0.93
    mask = mask_of(scene)
    assert not mask[distance < 50].any()
    assert not mask[:, 232:].any()


# --- cells ---------------------------------------------------------------------------------


def test_a_pale_cell_is_kept_with_a_margin_and_little_else():
    mask = mask_of(with_cell(glass(), 150, 100))
    assert mask[95:106, 145:156].all()
    assert mask.sum() <= 11 * 11


def test_sparse_cells_of_a_round_deposit_are_kept():
    scene = glass(600, 600, noise=1.5)
    rng = np.random.default_rng(3)
    angle, radius = rng.uniform(0, 2 * np.pi, 200), 200 * np.sqrt(rng.random(200))
    points = np.rint(300 + radius * np.stack([np.cos(angle), np.sin(angle)])).astype(int)
    for x, y in points.T:
        with_cell(scene, x, y)
    mask = mask_of(scene)
    assert mask[points[1], points[0]].all()
    y, x = np.mgrid[:600, :600]
    assert not mask[np.hypot(x - 300, y - 300) > 220].any()


@pytest.mark.parametrize("color", [(200, 150, 180), (120, 110, 125), (225, 150, 70), (90, 60, 70)])
@pytest.mark.parametrize("noise", [0.0, 8.0])
def test_a_slide_without_any_glass_is_kept_whole(color, noise):
    assert mask_of(glass(color=color, noise=noise)).all()


def test_a_dense_slide_is_not_split_into_lighter_and_darker_cells():
    texture = np.random.default_rng(1).uniform(0.8, 1.2, (360, 360, 1))
    scene = glass(400, 400)
    scene[20:380, 20:380] *= texture
    scene[20:380, 20:200] *= (0.55, 0.6, 0.55)
    scene[20:380, 200:380] *= (0.3, 0.2, 0.3)
    assert mask_of(scene)[20:380, 20:380].all()


def test_the_black_around_a_slide_without_any_glass_is_left_out():
    scene = glass(color=(200, 150, 180), noise=8.0)
    scene[:, :40] = 3
    mask = mask_of(scene)
    assert not mask[:, :40].any()
    assert mask[:, 40:].all()


def test_a_smooth_sheet_wider_than_any_cell_is_kept():
    scene = glass()
    scene[50:150, 100:200] = (225, 150, 70)
    assert mask_of(scene)[50:150, 100:200].all()


@pytest.mark.parametrize("color", INKS.values(), ids=INKS)
def test_a_pen_mark_is_left_out_and_the_cells_beside_and_below_it_kept(color):
    scene = with_cell(with_cell(glass(noise=0), 150, 60), 75, 100)
    scene = with_ink(scene, slice(20, 180), slice(30, 120), color, cover=0.85)
    scene = with_ink(scene, slice(20, 180), slice(200, 260), color)
    mask = mask_of(scene + np.random.default_rng(0).normal(0, 1, scene.shape))
    assert mask[60, 150]
    assert mask[100, 75]
    mask[55:66, 145:156] = mask[95:106, 70:81] = False
    assert not mask.any()


# --- slides --------------------------------------------------------------------------------


@dataclass
class FakeSlide:
    """A slide of 4 µm/px that is the scene enlarged twice, one block of it unreadable."""

    scene: np.ndarray
    mpp: float = 4.0
    bounds: ClassVar = Rect(30, 50, 201, 121)
    unreadable: tuple[slice, slice] = (slice(0, 0), slice(0, 0))

    @property
    def size(self):
        return Size(self.scene.shape[1] * 2 - 1, self.scene.shape[0] * 2 - 1)

    def overview(self, downsample):
        assert downsample == MPP / self.mpp
        readable = np.ones(self.scene.shape[:2], bool)
        readable[self.unreadable] = False
        return self.scene.astype(np.uint8), readable


def test_the_mask_covers_the_slide_at_the_settings_scale():
    slide = FakeSlide(with_cell(glass(), 150, 100))
    foreground = find_foreground(slide, ForegroundSettings())
    assert foreground.downsample == 2.0
    assert foreground.mask.shape == (200, 300)
    assert foreground.any_in(np.array([[300.0, 200, 302, 202], [20, 20, 40, 40]])).tolist() == [
        True,
        False,
    ]


def test_what_cannot_be_read_is_foreground():
    block = (slice(20, 40), slice(60, 90))
    foreground = find_foreground(FakeSlide(glass(), unreadable=block), ForegroundSettings())
    assert foreground.mask[block].all()
    assert foreground.mask.sum() == 20 * 30


def test_without_it_all_that_was_scanned_is_foreground():
    slide = FakeSlide(glass())
    foreground = find_foreground(slide, ForegroundSettings(enabled=False))
    expected = np.zeros((200, 300), bool)
    expected[25 : math.ceil(171 / 2), 15 : math.ceil(231 / 2)] = True
    assert (foreground.mask == expected).all()


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"mpp = 100"):
        load_config(None, ForegroundSettings, ["mpp=100"])


# --- real cells ----------------------------------------------------------------------------


def read_fields(shared, split, step):
    """Pairs of a field at 8 µm/px and its nuclei (N, 2) in pixels of it."""
    folder = shared / "cric"
    table = json.loads((folder / f"{split}.json").read_text())
    for entry in table["images"][::step]:
        field = np.asarray(Image.open(folder / split / entry["file_name"]).convert("RGB"))
        height, width = field.shape[:2]
        scale = entry["mpp"] / MPP
        small = resample(field, (round(width * scale), round(height * scale)))
        nuclei = [a["nucleus"] for a in table["annotations"] if a["image_id"] == entry["id"]]
        scales = (small.shape[1] / width, small.shape[0] / height)
        yield small, np.array(nuclei).reshape(-1, 2) * scales


def lay_out(fields, gap=25, columns=6):
    """A mosaic with gaps of glass: the picture, all nuclei in it, and where the gaps are."""
    height, width = (max(field.shape[axis] for field, _ in fields) + gap for axis in (0, 1))
    rows = math.ceil(len(fields) / columns)
    mosaic, gaps = glass(rows * height + gap, columns * width + gap), None
    gaps = np.ones(mosaic.shape[:2], bool)
    nuclei = []
    for place, (field, points) in enumerate(fields):
        y, x = gap + place // columns * height, gap + place % columns * width
        area = np.s_[y : y + field.shape[0], x : x + field.shape[1]]
        mosaic[area], gaps[area] = field, False
        nuclei.append(points + np.array([x, y]))
    return mosaic, np.concatenate(nuclei), gaps


def test_real_nuclei_are_kept_and_the_gaps_between_fields_are_not(shared):
    fields = [*read_fields(shared, "val", 1), *read_fields(shared, "train", 4)]
    mosaic, nuclei, gaps = lay_out(fields)
    mask = mask_of(mosaic)
    x, y = nuclei.astype(int).T
    assert len(nuclei) > 1500
    assert mask[y, x].mean() >= 0.995
    assert mask[~gaps].mean() < 0.9
    away = ndimage.binary_erosion(gaps, iterations=5, border_value=1)
    assert mask[away].mean() < 0.005


def test_tissue_of_a_histology_slide_is_kept_and_its_glass_left_out(shared):
    with open_slide(shared / "slides" / "CMU-1-Small-Region.svs") as slide:
        foreground = find_foreground(slide, ForegroundSettings())
    tissue = [[1100.0, 2000, 1300, 2200], [1800, 2800, 1900, 2900]]
    empty = [[50.0, 1600, 400, 2900], [1700, 100, 2150, 500]]
    assert foreground.any_in(np.array(tissue + empty)).tolist() == [True, True, False, False]
    assert 0.4 < foreground.fraction() < 0.6


# --- what is told of the rest --------------------------------------------------------------


def squares_told(scene, mpp=8.0):
    slide = array_slide(np.clip(np.rint(scene), 0, 255).astype(np.uint8), mpp=mpp)
    return find_foreground(slide, ForegroundSettings())


@pytest.mark.parametrize("ink", INKS)
def test_ink_is_told_in_squares(ink):
    scene = with_ink(glass(320, 320), slice(80, 160), slice(0, 320), INKS[ink])
    found = squares_told(with_cell(scene, 40, 40)).ink
    assert found.shape == (40, 40)
    assert found[11:19, 2:38].all()
    assert not found[:9].any()
    assert not found[21:].any()


def test_the_black_beyond_a_scan_is_no_ink_and_a_black_pen_at_its_border_is():
    scene = glass(320, 320)
    scene[:, :64] = 3
    scene[:, 64] = 120
    assert not squares_told(scene).ink.any()
    pen = with_ink(glass(320, 320), slice(80, 160), slice(0, 320), INKS["black"])
    assert squares_told(pen).ink[12:18, :38].all()


def test_without_glass_nobody_knows_what_is_ink():
    assert squares_told(np.full((320, 320, 3), 90.0)).ink is None
    assert squares_told(np.full((320, 320, 3), 90.0)).bubbles is not None


def test_a_bubble_is_told_in_squares():
    y, x = np.mgrid[:320, :320]
    scene = glass(320, 320)
    scene[np.abs(np.hypot(x - 160, y - 160) - 82) < 2] *= 0.45
    found = squares_told(scene).bubbles
    inside = np.hypot(*(np.mgrid[:40, :40] - 19.5)) < 9
    assert found[inside].all()
    assert found.sum() < 1.4 * np.pi * 10.5**2
    assert not find_foreground(
        array_slide(scene.astype(np.uint8), mpp=8.0), ForegroundSettings(enabled=False)
    ).bubbles

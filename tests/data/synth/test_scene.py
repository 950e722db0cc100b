"""A scene is a function of place, and its truth is what is drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.synth import CLASSES, Scene, draw_field
from data.synth.placement import NUCLEUS_GAP_UM
from data.synth.region import Region
from data.synth.scene import BOX_UM

SIZE = (620, 500)
MPP = 0.5


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(5, SIZE, MPP, "conventional", cells_per_mm2=500.0, abnormal=0.4)


@pytest.fixture(scope="module")
def whole(scene) -> np.ndarray:
    return scene.draw(Region(0, 0, *SIZE))


@settings(max_examples=15)
@given(data=st.data())
def test_a_region_drawn_alone_is_that_part_of_the_whole(scene, whole, data):
    x = data.draw(st.integers(0, SIZE[0] - 1))
    y = data.draw(st.integers(0, SIZE[1] - 1))
    width = data.draw(st.integers(1, min(200, SIZE[0] - x)))
    height = data.draw(st.integers(1, min(200, SIZE[1] - y)))
    part = scene.draw(Region(x, y, width, height))
    np.testing.assert_array_equal(part, whole[y : y + height, x : x + width])


@pytest.mark.parametrize("kind", ["liquid", "field"])
def test_the_other_kinds_have_no_seams_either(kind):
    scene = Scene(2, (300, 240), 0.8, kind, 400.0, 0.3)
    whole = scene.draw(Region(0, 0, 300, 240))
    left = scene.draw(Region(0, 0, 137, 240))
    right = scene.draw(Region(137, 0, 163, 240))
    np.testing.assert_array_equal(np.concatenate([left, right], 1), whole)


def test_the_seed_decides_everything():
    one, again, other = (draw_field(seed, (200, 160), MPP) for seed in (3, 3, 4))
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one[0] != other[0]).any()


def test_truth_in_parts_is_the_truth(scene):
    boxes, nuclei, labels = scene.truth(Region(0, 0, *SIZE))
    parts = [scene.truth(Region(0, y, SIZE[0], 70)) for y in range(0, SIZE[1], 70)]
    together = np.concatenate([p[1] for p in parts])
    assert len(nuclei) > 10
    assert sorted(map(tuple, together)) == sorted(map(tuple, nuclei))
    assert sorted(np.concatenate([p[2] for p in parts])) == sorted(labels)
    assert len(boxes) == len(labels)


def test_truth_lies_on_the_slide_in_boxes_as_crics(scene):
    boxes, nuclei, _ = scene.truth(Region(-1000, -1000, 5000, 5000))
    size = np.array(SIZE)
    assert ((nuclei >= 0) & (nuclei < size)).all()
    half = BOX_UM / MPP / 2
    expected = np.concatenate([nuclei - half, nuclei + half], 1)
    np.testing.assert_allclose(boxes, np.clip(expected, 0, np.tile(size, 2)))


def test_what_is_in_the_truth_is_dark_in_the_picture():
    darker = []
    for seed in range(8):
        image, boxes, labels = draw_field(seed, (500, 400), MPP, cells_per_mm2=250.0)
        light = image.mean(2)
        rows, columns = np.mgrid[:400, :500] + 0.5
        inside = (np.diff(boxes[:, ::2]) == BOX_UM / MPP).ravel()
        inside &= (np.diff(boxes[:, 1::2]) == BOX_UM / MPP).ravel()
        for box in boxes[inside & (labels != CLASSES.index("LSIL"))]:  # two nuclei leave a gap
            x, y = (box[:2] + box[2:]) / 2
            distance = np.hypot(columns - x, rows - y) * MPP
            around = np.median(light[(distance > 6) & (distance < 10)])
            darker.append(np.median(light[distance < 1.5]) < 0.85 * around)
    assert len(darker) > 40
    assert np.mean(darker) > 0.95


def test_abnormal_as_a_count_is_exact_and_as_a_share_nearly():
    for wanted in (0, 1, 37):
        assert len(Scene(1, (2000, 2000), MPP, abnormal=wanted).lesions) == wanted
    scene = Scene(1, (4000, 4000), MPP, "conventional", 150.0, 0.1)
    _, _, labels = scene.truth(Region(0, 0, 4000, 4000))
    assert (labels > 0).mean() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("kind", ["liquid", "conventional", "field"])
def test_the_deposit_is_as_dense_as_asked(kind):
    found = []
    for seed in range(4):
        scene = Scene(seed, (6000, 6000), MPP, kind, 150.0, 0.05)
        covered = {"liquid": np.pi * 0.44**2, "conventional": 0.92 * 0.88, "field": 1.0}[kind]
        found.append(len(scene.cells(Region(0, 0, 6000, 6000))) / (9.0 * covered))
    assert np.mean(found) == pytest.approx(150.0, rel=0.2)


def test_a_liquid_based_deposit_is_round():
    scene = Scene(0, (4000, 3000), MPP, "liquid", 300.0, 0.2)
    _, nuclei, labels = scene.truth(Region(0, 0, 4000, 3000))
    from_middle = np.hypot(*(nuclei - (2000, 1500)).T)
    assert from_middle.max() < 0.5 * 3000
    assert (labels > 0).any()


def test_the_gravest_class_leads():
    scene = Scene(0, (4000, 4000), MPP, "conventional", 300.0, 300, worst=CLASSES.index("ASC-H"))
    counts = np.bincount(scene.lesions.labels, minlength=6)
    assert counts[CLASSES.index("ASC-H")] > 0.4 * counts.sum()
    assert counts[CLASSES.index("HSIL") :].sum() == 0
    assert counts[0] == 0


def test_abnormal_nuclei_keep_their_distance():
    scene = Scene(7, (1500, 1500), MPP, "field", 900.0, 0.5)
    cells = scene.cells(Region(0, 0, 1500, 1500))
    centers = cells.centers()
    apart = np.hypot(*(centers[:, None] - centers[None]).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    assert apart[cells.labels > 0].min() >= NUCLEUS_GAP_UM


def test_draw_field_gives_what_training_takes():
    image, boxes, labels = draw_field(11, (320, 256), MPP, cells_per_mm2=400.0)
    assert image.shape == (256, 320, 3)
    assert image.dtype == np.uint8
    assert boxes.shape == (len(labels), 4)
    assert labels.dtype == np.int64
    assert set(labels) <= set(range(len(CLASSES)))
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert np.percentile(image, 95) > 200  # pale glass

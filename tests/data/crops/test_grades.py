"""Crops for a grader: which places, how they are drawn, and that they show the right thing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import ConfigError
from data.crops.augment import AugmentSettings
from data.crops.grades import (
    BACKGROUND,
    UNKNOWN,
    GradeDataset,
    GradeSamples,
    GradeSettings,
    Places,
    PlacesDataset,
    box_iou,
    collate_grades,
    draw_shares,
    gather_samples,
    label_places,
    turn,
)
from data.fields.fieldset import Field, FieldSet
from data.fields.images import FieldImages

CLASSES = ("NILM", "HSIL")
STILL = {"shift": 0, "background_shift": 0, "rotation": 0, "scale": 0}
PLAIN = AugmentSettings(flips=False, stain=0, brightness=0, contrast=0, blur=0, jpeg=0, noise=0)


def field(path="a.png", boxes=((10, 10, 30, 30), (60, 10, 80, 30)), labels=(0, 1), crowd=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd)
    nuclei = (boxes[:, :2] + boxes[:, 2:]) / 2
    return Field(Path(path), 100, 80, 0.25, boxes, nuclei, np.array(labels, np.int64), crowd)


def places(*rows):
    rows = np.array(rows, float).reshape(-1, 5)
    return Places(rows[:, :4], rows[:, 4])


def test_overlaps_by_hand():
    found = box_iou(np.array([[0, 0, 10, 10.0]]), np.array([[5, 0, 15, 10.0], [20, 0, 30, 10]]))
    np.testing.assert_allclose(found, [[1 / 3, 0]])
    assert box_iou(np.zeros((0, 4)), np.zeros((2, 4))).shape == (0, 2)


def test_places_are_of_the_cell_that_they_overlap_most_or_background_or_unknown():
    boxes = [(12, 10, 32, 30), (60, 10, 80, 30), (40, 50, 60, 70), (18, 10, 38, 30)]
    found = label_places(field(), np.array(boxes, float), 0.3)
    assert found.tolist() == [0, 1, BACKGROUND, UNKNOWN]  # the last has an IoU of 12 / 28


def test_nobody_knows_what_lies_in_an_ignored_area():
    ignored = field(boxes=((10, 10, 30, 30), (0, 40, 100, 80)), labels=(0, 0), crowd=(False, True))
    boxes = np.array([(40, 50, 60, 70), (60, 10, 80, 30)], float)
    assert label_places(ignored, boxes, 0.3).tolist() == [UNKNOWN, BACKGROUND]


def test_samples_are_cells_and_the_surest_of_what_is_none():
    found = places(
        (10, 10, 30, 30, 0.9),  # the cell itself
        (40, 50, 60, 70, 0.3),
        (0, 50, 20, 70, 0.5),
        (80, 50, 100, 70, 0.07),  # too unsure
        (20, 50, 40, 70, 0.2),
    )
    fields = FieldSet(CLASSES, (field(), field("b.png", (), ())))
    settings = GradeSettings(background_a_field=2)
    samples = gather_samples(fields, [found, places((0, 0, 20, 20, 0.4))], settings)
    assert samples.counts() == [1, 1, 3]
    assert samples.fields.tolist() == [0, 0, 0, 0, 1]
    assert samples.centers.tolist() == [[20, 20], [70, 20], [10, 60], [50, 60], [10, 10]]


def test_without_a_cell_there_is_nothing_to_learn():
    with pytest.raises(ConfigError, match="no annotated cell to learn from"):
        gather_samples(
            FieldSet(CLASSES, (field(boxes=(), labels=()),)), [places()], GradeSettings()
        )


def test_classes_are_drawn_by_the_root_of_their_count_and_background_has_its_share():
    labels = np.repeat([0, 1, 2], [90, 10, 500])
    samples = GradeSamples(np.zeros(600, int), np.zeros((600, 2)), labels, 2)
    np.testing.assert_allclose(draw_shares(samples, GradeSettings()), [0.5625, 0.1875, 0.25])
    none = GradeSamples(np.zeros(100, int), np.zeros((100, 2)), labels[:100], 2)
    np.testing.assert_allclose(draw_shares(none, GradeSettings()), [0.75, 0.25, 0])


def test_a_place_of_a_source_of_weight_three_counts_as_three(drawn):
    fields = FieldSet(
        CLASSES,
        (replace(field(), source="a"), replace(field(labels=(1, 1)), source="b")),
        weights={"a": 1.0, "b": 3.0},
    )
    found = [places((40, 50, 60, 70, 0.5))] * 2
    weighed = gather_samples(fields, found, GradeSettings())
    assert weighed.counts() == [1, 3, 2]
    assert weighed.weighed_counts().tolist() == [1, 7, 4]
    again = FieldSet(CLASSES, (fields.fields[0], *[fields.fields[1]] * 3))
    repeated = gather_samples(again, found[:1] * 4, GradeSettings())
    for power in (0.0, 0.5, 1.0):
        settings = GradeSettings(class_power=power)
        np.testing.assert_allclose(draw_shares(weighed, settings), draw_shares(repeated, settings))


@pytest.mark.parametrize(("weight", "least", "most"), [(1 / 9, 0.06, 0.14), (9, 0.86, 0.94)])
def test_a_source_is_drawn_as_often_as_its_weight_says(drawn, weight, least, most):
    """Of two sources with the same cells and places."""
    (own,), _, found = drawn[0].fields, *drawn[1:]
    fields = tuple(replace(own, source=name) for name in "ab")
    both = FieldSet(CLASSES, fields, weights={"a": 1.0, "b": weight})
    crops = dataset((both, FieldImages(fields), found * 2), length=400)
    of_b = np.array([int(crops[i][1]["field"]) for i in range(400)])
    assert least < of_b.mean() < most


def test_without_weights_crops_are_drawn_as_ever(drawn):
    """Equal weights change nothing, so that a recipe goes on drawing what it drew."""
    own, _, found = drawn
    fields = tuple(replace(own.fields[0], source=name) for name in "ab")
    sets = [FieldSet(CLASSES, fields, weights=w) for w in ({}, {"a": 2.0, "b": 2.0})]
    plain, weighed = (dataset((one, FieldImages(fields), found * 2)) for one in sets)
    assert plain.samples.weights is None
    for index in range(20):
        (pixels, target), (others, same) = plain[index], weighed[index]
        assert (pixels == others).all()
        assert target == same
    rng = np.random.default_rng((0, 0, 5))
    label = int(rng.choice(3, p=draw_shares(plain.samples, GradeSettings())))
    rows = np.flatnonzero(plain.samples.labels == label)
    field_of = int(plain.samples.fields[rows[rng.integers(len(rows))]])
    assert (int(plain[5][1]["label"]), int(plain[5][1]["field"])) == (label, field_of)


def test_turned_by_right_angles_pixels_stay_what_they_are():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(turn(image, np.pi / 2, 8), np.rot90(image))
    np.testing.assert_array_equal(turn(image, 0.0, 4), image[2:6, 2:6])


@pytest.fixture
def drawn(tmp_path):
    """A field with two cells of known colours, and a place that is none."""
    pixels = np.full((80, 100, 3), 230, np.uint8)
    pixels[10:30, 10:30], pixels[10:30, 60:80] = (200, 0, 0), (0, 0, 200)
    pixels[50:70, 40:60] = (0, 200, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    fields = FieldSet(CLASSES, (field(tmp_path / "a.png"),))
    return fields, FieldImages(fields.fields), [places((40, 50, 60, 70, 0.5))]


def dataset(drawn, crop=(16, 0.25), length=60, seed=0, epoch=0, augment=PLAIN, **settings):
    fields, images, found = drawn
    settings = GradeSettings(**settings)
    samples = gather_samples(fields, found, settings)
    return GradeDataset(fields, images, samples, crop, settings, augment, length, seed, epoch)


COLOURS = [(200, 0, 0), (0, 0, 200), (0, 200, 0)]


def test_crops_show_the_place_that_their_label_says(drawn):
    labels = []
    for pixels, target in (dataset(drawn, **STILL)[i] for i in range(60)):
        label = int(target["label"])
        assert pixels.shape == (3, 16, 16)
        assert (pixels.permute(1, 2, 0).numpy() == COLOURS[label]).all()
        labels.append(label)
    assert set(labels) == {0, 1, 2}


def test_moved_turned_and_scaled_crops_still_show_it_in_their_middle(drawn):
    crops = dataset(drawn, (32, 0.25), shift=0.3, background_shift=0.3)
    seen = set()
    for pixels, target in (crops[i] for i in range(40)):
        middle = pixels[:, 14:18, 14:18].float().mean((1, 2)).numpy()
        assert np.abs(middle - COLOURS[int(target["label"])]).max() < 5
        seen.add(pixels.numpy().tobytes())
    assert len(seen) == 40


def test_the_scale_is_that_of_the_crop_not_of_the_field(drawn):
    (pixels, _) = dataset(drawn, (20, 0.5), **STILL)[
        0
    ]  # 40 px of the field: the cell is half of it
    inside = (pixels.permute(1, 2, 0).numpy() != 230).any(axis=2)
    assert inside[6:14, 6:14].all()
    assert not inside[1:4, 1:4].any()  # the outermost pixels see the white beyond the field


def test_an_item_is_a_function_of_seed_epoch_and_number(drawn):
    one, same = (dataset(drawn, augment=AugmentSettings())[7] for _ in range(2))
    np.testing.assert_array_equal(one[0], same[0])
    assert one[1] == same[1]
    for other in ({"seed": 1}, {"epoch": 1}):
        assert not np.array_equal(dataset(drawn, augment=AugmentSettings(), **other)[7][0], one[0])


def test_an_image_that_can_not_be_read_is_passed_over_and_told(drawn, tmp_path):
    fields, _, found = drawn
    (tmp_path / "b.png").write_bytes(b"no image")
    fields = FieldSet(CLASSES, (*fields.fields, field(tmp_path / "b.png")))
    crops = dataset((fields, FieldImages(fields.fields), [*found, places()]))
    targets = [crops[i][1] for i in range(60)]
    assert {int(target["field"]) for target in targets} == {0}
    assert {tuple(t["unreadable"].tolist()) for t in targets if "unreadable" in t} == {(1,)}


def test_places_come_as_screening_shows_them_white_beyond_the_image(drawn):
    fields, images, _ = drawn
    shown = PlacesDataset(fields, images, [np.array([[20.0, 20], [0, 0]])], (16, 0.25))
    pixels, target = shown[0]
    assert pixels.shape == (2, 3, 16, 16)
    assert int(target["index"]) == 0
    assert (pixels[0].permute(1, 2, 0).numpy() == COLOURS[0]).all()
    corner = pixels[1].permute(1, 2, 0).numpy()
    assert (corner[:8] == 255).all()
    assert (corner[8:, :8] == 255).all()
    assert (corner[8:, 8:] == 230).all()


def test_a_field_that_can_not_be_read_has_no_places_and_says_so(tmp_path):
    (tmp_path / "b.png").write_bytes(b"no image")
    fields = FieldSet(CLASSES, (field(tmp_path / "b.png"),))
    shown = PlacesDataset(fields, FieldImages(fields.fields), [np.zeros((3, 2))], (16, 0.25))
    pixels, target = shown[0]
    assert pixels.shape == (0, 3, 16, 16)
    assert target["unreadable"].tolist() == [0]


def test_batches_are_one_tensor(drawn):
    pixels, targets = collate_grades([dataset(drawn)[i] for i in range(3)])
    assert pixels.shape == (3, 3, 16, 16)
    assert [sorted(target) for target in targets] == [["field", "label"]] * 3

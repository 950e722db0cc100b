"""Cells of other fields, laid on a crop."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.crops.copypaste import CellPaster
from data.fields.fieldset import Field, FieldSet
from data.fields.images import FieldImages

CROP = np.full((100, 100, 3), 220, np.uint8)


def paster(tmp_path, *boxes, size=400):
    pixels = np.full((size, size, 3), 220, np.uint8)
    for x0, y0, x1, y1 in boxes:
        pixels[y0:y1, x0:x1] = 90
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    array = np.array(boxes, np.float32)
    labels, crowd = np.zeros(len(boxes), np.int64), np.zeros(len(boxes), bool)
    field = Field(Path(path), size, size, 0.5, array, array[:, :2], labels, crowd)
    return CellPaster(FieldSet(("a",), (field,)), FieldImages([field]), [1.0])


def paste(one, count=1):
    none = np.zeros((0, 4)), np.zeros(0, np.int64)
    return one.paste(CROP, *none, count, np.random.default_rng(0))


@pytest.mark.parametrize("side", [72, 120], ids=["as large as the crop", "larger"])
def test_a_cell_that_does_not_fit_the_crop_is_left_out(tmp_path, side):
    image, boxes, _ = paste(paster(tmp_path, (50, 50, 50 + side, 50 + side)), 3)
    assert not len(boxes)
    assert np.abs(image.astype(int) - CROP).max() <= 1


def test_a_pasted_cell_keeps_its_form_and_is_dark_within_its_box(tmp_path):
    image, boxes, labels = paste(paster(tmp_path, (100, 100, 114, 140)))
    ((x0, y0, x1, y1),) = boxes
    assert (x1 - x0, y1 - y0) == (14, 40)
    assert labels.tolist() == [0]
    dark = image.mean(axis=2) < 150
    rows, columns = np.nonzero(dark)
    assert x0 - 2 <= columns.min() <= columns.max() <= x1 + 1
    assert np.ptp(rows) > 1.8 * np.ptp(columns)
    assert y0 - 2 <= rows.min() <= rows.max() <= y1 + 1


def test_cells_whose_context_the_field_does_not_hold_are_never_copied(tmp_path):
    _, boxes, _ = paste(paster(tmp_path, (5, 5, 75, 75), size=80))
    assert not len(boxes)

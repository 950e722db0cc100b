"""Boxes that hold nothing are told; a cell is never taken for nothing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.fields.fieldset import Field, FieldSet
from data.fields.suspicion import MOST_BOXES, MOST_FIELDS, glass_doubts, is_even
from data.synth import draw_field


def field_of(image, boxes, width=1300, height=900, crowd=None):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.asarray(crowd)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    labels = np.zeros(len(boxes), np.int64)
    return Field(Path(image), width, height, None, boxes, middles, labels, crowd)


def told(*fields):
    return [doubt.code for doubt in glass_doubts(FieldSet(("HSIL",), fields))]


@pytest.fixture
def drawn(tmp_path):
    """A field of drawn cells; beside it glass with a sensor's noise."""
    pixels, boxes, _ = draw_field(3, (900, 900), 0.25)
    noise = np.random.default_rng(0).normal(235, 3, (900, 1300, 3)).clip(0, 255).astype(np.uint8)
    noise[:, :900] = pixels
    Image.fromarray(noise).save(tmp_path / "a.png")
    cells = boxes[boxes[:, 2] < 860]
    glass = [[930 + 60 * i, 100, 980 + 60 * i, 160] for i in range(5)]
    assert len(cells) >= 4
    return tmp_path / "a.png", cells.tolist(), glass


def test_drawn_cells_are_not_nothing(drawn):
    path, cells, _ = drawn
    assert told(field_of(path, cells)) == []


def test_a_third_on_glass_is_told(drawn):
    path, cells, glass = drawn
    assert told(field_of(path, cells[:4] + glass[:1])) == []
    found = glass_doubts(FieldSet(("HSIL",), (field_of(path, cells[:4] + glass[:2]),)))
    assert [doubt.code for doubt in found] == ["boxes-on-glass"]
    assert found[0].text.startswith("2 of 6 boxes")


def test_an_even_cell_shows_at_its_border(tmp_path):
    pixels = np.full((600, 800, 3), 230, np.uint8)
    pixels[100:180, 100:180] = 120
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert told(field_of(tmp_path / "a.png", [[100, 100, 180, 180]] * 3)) == []
    assert told(field_of(tmp_path / "a.png", [[400, 100, 480, 180]] * 3)) == ["boxes-on-glass"]


def test_of_fewer_than_three_boxes_nothing_is_said(drawn):
    path, _, glass = drawn
    assert told(field_of(path, glass[:2])) == []


def test_crowds_and_what_cannot_be_read_are_passed_over(drawn, tmp_path):
    path, cells, glass = drawn
    ignored = field_of(path, cells[:1] + glass, crowd=[False] + [True] * len(glass))
    gone = field_of(tmp_path / "gone.png", glass)
    assert told(ignored, gone) == []
    assert told() == []


def test_the_work_is_bounded(drawn, monkeypatch):
    path, _, glass = drawn
    looked = []

    def look(pixels):
        looked.append(pixels.shape)
        return is_even(pixels)

    monkeypatch.setattr("data.fields.suspicion.is_even", look)
    many = [field_of(path, glass * 20) for _ in range(40)]
    assert told(*many) == ["boxes-on-glass"]
    assert MOST_BOXES - MOST_FIELDS <= len(looked) <= MOST_BOXES
    assert max(max(shape[:2]) for shape in looked) <= 32

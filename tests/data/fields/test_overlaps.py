"""Captures of one place are found, however they were made; others of the same stain are not."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from annotatedfields import field
from PIL import Image

from data.fields.fieldset import FieldSet
from data.fields.overlaps import find_overlaps, overlap_doubts
from data.fields.splits import joined, split_fields
from data.synth import draw_field

HEIGHT, WIDTH = 750, 1000
STAIN = np.array([[0.7, 0.2, 0.2], [0.1, 1.1, 0.1], [0.3, 0.1, 0.5]])
"""Other inks: optical densities of R, G and B mixed anew."""


@pytest.fixture(scope="module")
def scenes():
    """Two drawn fields of the same stain and kind."""
    return [draw_field(seed, (HEIGHT, WIDTH), 0.25)[0] for seed in (2, 3)]


def restained(pixels):
    density = -np.log((pixels.astype(float) + 1) / 256) @ STAIN
    return (256 * np.exp(-density) - 1).clip(0, 255).astype(np.uint8)


VARIANTS = {
    "shifted": lambda one: one[180:, 250:],
    "a crop of half the sides": lambda one: one[100:475, 300:800],
    "a crop at another scale": lambda one: cv2.resize(one[100:540, 300:880], None, fx=1.6, fy=1.6),
    "in other stains": lambda one: restained(one[60:, 80:]),
    "turned": lambda one: np.rot90(one),
    "turned over": lambda one: one[:, ::-1],
    "compressed": lambda one: cv2.imdecode(cv2.imencode(".jpg", one, [1, 40])[1], 1),
}


def saved(folder, *pictures):
    fields = []
    for number, pixels in enumerate(pictures):
        path = folder / f"{number}.png"
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, compress_level=1)
        fields.append(replace(field(path), width=pixels.shape[1], height=pixels.shape[0]))
    return FieldSet(("NILM",), tuple(fields))


def pairs(compared):
    return [(one.one, one.other) for one in compared.overlaps]


@pytest.mark.parametrize("how", VARIANTS)
def test_captures_of_one_place_are_found(scenes, tmp_path, how):
    one, other = scenes
    compared = find_overlaps(saved(tmp_path, one, other, VARIANTS[how](one)))
    assert pairs(compared) == [(0, 2)]
    found = compared.overlaps[0]
    assert found.mirrored == (how == "turned over")
    assert found.agreeing >= 8
    assert found.alike > 0.9
    assert compared.bare == ()


def test_what_all_pictures_of_a_microscope_share_joins_none(scenes, tmp_path):
    """A scale bar with its letters, burned in at the same place of each."""
    marked = [one.copy() for one in scenes]
    for one in marked:
        for row in range(5):
            text = "50 um objective 40x NA 0.95"
            cv2.putText(one, text, (20, 60 + 30 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (0, 0, 0), 2)
    assert pairs(find_overlaps(saved(tmp_path, *marked))) == []


def test_empty_images_are_told_and_only_their_files_compared(scenes, tmp_path):
    empty = np.full((90, 120, 3), 230, np.uint8)
    fields = saved(tmp_path, scenes[0], empty, empty, empty[:80])
    compared = find_overlaps(fields)
    assert pairs(compared) == [(1, 2)]
    assert compared.bare == (1, 2, 3)
    overlap, bare = overlap_doubts(fields, compared)
    assert overlap.code == "fields-overlap"
    assert "2 images show the same place as others: 1.png and 2.png; they stay" in overlap.text
    assert "3 images can't be compared with others" in bare.text


def test_a_file_that_cannot_be_read_is_passed_over(scenes, tmp_path):
    fields = saved(tmp_path, *scenes)
    fields.fields[1].image.write_bytes(b"no image")
    assert find_overlaps(fields).bare == (1,)


def test_pairs_are_joined_through_others():
    assert joined(6, [(4, 5), (1, 4), (0, 2)]).tolist() == [0, 1, 0, 3, 1, 1]
    assert joined(3, []).tolist() == [0, 1, 2]


def test_what_shows_one_place_lands_in_one_part():
    fields = FieldSet(("a",), tuple(field(f"{i}.png", slide=f"s{i % 4}") for i in range(8)))
    parts = split_fields(fields, {"x": 0.5, "y": 0.5}, "slide", 0, [(0, 1), (6, 7)])
    where = {f.image.name: part for part, members in parts.items() for f in members}
    assert where["0.png"] == where["1.png"] == where["4.png"] == where["5.png"]
    assert where["6.png"] == where["7.png"] == where["2.png"] == where["3.png"]

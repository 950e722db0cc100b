"""Whatever a file holds: fields that make sense, or an error in words that names the file."""

import copy
import json
import random
import re

import numpy as np
import pytest
from annotationfiles import shape, write_blank, write_cvat, write_text, write_voc

from configs import ConfigError
from data.annotations import AnnotationSettings, read_fields

ROUNDS = 120
ODD = [
    *(None, True, -1, 0, 0.5, 1e308, float("nan"), float("inf"), 10**40, 2**63, "", "x", "1", "é"),
    *("\0", "../..", "http://[x/a.png", [], {}, [[]], [1, 2], {"a": 1}, [None], [[[1, 2], [3, 4]]]),
]
WORDS = re.compile(
    r"NoneType|truth value|broadcast|tuple|object is not|unsupported|argument|inhomogeneous|dtype|"
    r"invalid literal|could not convert|unhashable|interpreted|ndarray|unpack|reshape|too large"
)
"""Of Python and numpy, which mean nothing to people."""

RUNS = {"size": [900, 1200], "counts": [3010, 40, 860, 40, 1200 * 900 - 3950]}
COCO = {
    "images": [
        {"id": 1, "file_name": "a.png", "width": 1200, "height": 900, "mpp": 0.25, "slide": "s"},
        {"id": 2, "file_name": "b.png"},
    ],
    "categories": [{"id": 1, "name": "HSIL", "supercategory": "x"}, {"id": 2, "name": "x"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [10, 10, 40, 40],
            "iscrowd": 0,
            "nucleus": [20, 20],
            "segmentation": [[10, 10, 50, 10, 50, 50]],
        },
        {"id": 2, "image_id": 2, "category_id": 1, "bbox": None, "segmentation": RUNS},
    ],
}
LABELME = {
    "shapes": [
        shape("HSIL", [(1, 2), (30, 40)]),
        shape("HSIL", [(50, 50), (60, 50)], "circle"),
        shape("NILM", [(1, 2), (30, 40), (7, 60)], "polygon") | {"group_id": 3},
        shape("NILM", [(1, 2), (30, 40)], "mask") | {"group_id": 3, "difficult": True},
    ],
    "imagePath": "a.png",
    "imageData": None,
    "imageWidth": 1200,
    "imageHeight": 900,
}
VIA = {
    "a.png12": {
        "filename": "a.png",
        "regions": [
            {
                "shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 30, "height": 40},
                "region_attributes": {"class": "HSIL", "reader": "A"},
            },
            {
                "shape_attributes": {"name": "ellipse", "cx": 50, "cy": 60, "rx": 9, "ry": 5},
                "region_attributes": {"class": {"HSIL": True, "NILM": False}},
            },
        ],
    }
}
CSV = (
    "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
    'region_attributes\na.png,12,"{}",1,0,"{""name"":""circle"",""cx"":50,""cy"":60,""r"":9}",'
    '"{""class"":""HSIL""}"\n'
)
YOLO = "0 0.5 0.5 0.1 0.1\n1 0.1 0.9 0.2 0.9 0.2 0.95\n0 0.5 0.5 0.1 0.1 0.8\n"
CVAT = (
    '<mask label="HSIL" rle="0,3,1,4" left="5" top="6" width="4" height="2"/>'
    '<ellipse label="HSIL" cx="30" cy="40" rx="9" ry="5" rotation="9"/>'
    '<points label="NILM" points="5,5;6,6"/><polygon label="NILM" points="5,5;60,6;9,90"/>'
)


def places(value, way=()):
    """The ways to all values within a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in inner:
        yield (*way, key)
        if isinstance(one, dict | list):
            yield from places(one, (*way, key))


def spoil(value, rng):
    """JSON of which up to three values are gone, others, or elsewhere."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 2, 3])):
        ways = list(places(value))
        *way, last = rng.choice(ways)
        holder = value
        for key in way:
            holder = holder[key]
        what = rng.random()
        if what < 0.3:
            del holder[last]
        elif what < 0.9:
            holder[last] = copy.deepcopy(rng.choice(ODD))
        else:
            holder[last] = [holder[last]]
        if not any(True for _ in places(value)):
            break
    return json.dumps(value)


def scribble(text, rng):
    """Text with something in between."""
    signs = ["", "0", "-", "nan", "1e999", "<", '"', " ", "é", ";", ",", "\n", "9" * 30, "0.5 0.5"]
    for _ in range(rng.choice([1, 2, 3])):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(signs) + text[at + rng.choice([0, 1, 3]) :]
    return text


def retouch(text, rng):
    """XML with other values in it."""
    values = ["", "nan", "-5", "1e400", "x", "1,2;3", "9" * 400, "é", "../a", "1.5", "0"]
    for _ in range(rng.choice([1, 2])):
        spot = rng.choice(list(re.finditer(r'(?<=")[^"<>]*(?=")|(?<=>)[^<>\n]+(?=<)', text)))
        text = text[: spot.start()] + rng.choice(values) + text[spot.end() :]
    return text


@pytest.fixture
def folder(tmp_path):
    for name in "ab":
        write_blank(tmp_path / f"{name}.png", (1200, 900))
    return tmp_path


MAKERS = {
    "coco": ("c.json", lambda folder: COCO, spoil),
    "labelme": ("a.json", lambda folder: LABELME, spoil),
    "via": ("v.json", lambda folder: VIA, spoil),
    "via csv": ("v.csv", lambda folder: CSV, scribble),
    "yolo": ("a.txt", lambda folder: YOLO, scribble),
    "cvat": (
        "x.xml",
        lambda f: write_cvat(f / "t", "a.png", more=CVAT).read_text("utf-8"),
        retouch,
    ),
    "voc": ("a.xml", lambda f: write_voc(f / "t", "a.png").read_text("utf-8"), retouch),
}


def outcome(path, roots, settings):
    """The fields of a file, or what was said of it."""
    try:
        return read_fields(path, roots, None, settings), ""
    except ConfigError as error:
        return None, str(error)


@pytest.mark.parametrize("format", MAKERS)
def test_no_file_does_harm(folder, format):
    name, make, change = MAKERS[format]
    rng, content, read = random.Random(format), make(folder), 0
    for number in range(ROUNDS):
        text = change(content, rng)
        crowds = "cells" if number % 2 else "ignore"
        settings = AnnotationSettings(point_size=10, mpp=0.25, crowds=crowds)
        path = write_text(folder / name, text)
        found, said = outcome(path, [folder] if number % 5 else [], settings)
        if found is None:
            assert not WORDS.search(said), text
            assert name in said or re.search("have no class|are not among", said), text
            continue
        read += 1
        for field in found.fields:
            assert np.isfinite(field.boxes).all()
            assert (field.boxes >= 0).all()
            assert (field.boxes[:, 2:] <= [field.width, field.height]).all()
            assert (field.labels[~field.crowd] < len(found.classes)).all()
    assert 0 < read < ROUNDS

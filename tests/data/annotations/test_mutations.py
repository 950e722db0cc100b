"""Files of which something was changed at random: read, or refused in words that name the file."""

import json
import random
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
import pytest
from annotationfiles import HEIGHT, NDPI, WIDTH, WRITERS, cric_image, write_blank, write_text

from configs import ConfigError
from data.annotations import AnnotationSettings, ImageInfo, read_fields

NAME = "a.png"
ROUNDS = 120

ODD = [
    *(None, True, 0, -1, 1e308, -(10**400), float("nan"), float("inf"), "", "0", "1,5", "NaN"),
    *("\0", "é" * 300, [], [[]], [1], [[[1, 2]]], {}, {"type": "Feature"}, [None], [{}]),
]
"""What may stand where something else should."""

TEXTS = ["", " ", "x", "-1", "1e400", "nan", "1,5", "1.234,5", "0", "99999999", "é", "&#9;", "\t"]


def places(value: object) -> Iterator[tuple[object, object]]:
    """Every container within a JSON value, with each of its keys."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    )
    for key in list(keys):
        yield value, key
        yield from places(value[key])


def change_json(text: str, draw: random.Random) -> str:
    content = json.loads(text)
    for _ in range(draw.randint(1, 3)):
        holder, key = draw.choice(list(places(content)) or [([0], 0)])
        if draw.random() < 0.3:
            del holder[key]
        else:
            holder[key] = draw.choice(ODD)
    return json.dumps(content)


def change_xml(text: str, draw: random.Random) -> str:
    root = ElementTree.fromstring(text)
    for _ in range(draw.randint(1, 3)):
        parent = draw.choice(list(root.iter()))
        action = draw.random()
        if action < 0.4 and parent.attrib:
            parent.set(draw.choice(list(parent.attrib)), draw.choice(TEXTS))
        elif action < 0.5 and parent.attrib:
            del parent.attrib[draw.choice(list(parent.attrib))]
        elif action < 0.7:
            parent.text = draw.choice(TEXTS)
        elif len(parent):
            child = draw.choice(list(parent))
            parent.remove(child) if draw.random() < 0.6 else child.append(root)
            child.remove(root) if root in list(child) else None
    return ElementTree.tostring(root, "unicode")


def change_table(text: str, draw: random.Random) -> str:
    rows = [row.split(";") for row in text.lstrip("\ufeff").split("\r\n")]
    for _ in range(draw.randint(1, 3)):
        row = draw.choice(rows)
        where = draw.randrange(len(row))
        if draw.random() < 0.3:
            del row[where]
            row += [] if row else [""]
        else:
            row[where] = draw.choice([*TEXTS, '"', ";;;;", "x_center", "image", "bbox", "sep=,"])
    return "\r\n".join(";".join(row) for row in rows)


def change_bytes(data: bytes, draw: random.Random) -> bytes:
    where = draw.randrange(len(data))
    piece = draw.randbytes(draw.randint(0, 4))
    return data[:where] + piece + data[where + draw.randint(0, 6) :]


def write_cric(folder, image):
    cells = [("HSIL", 400, 300), ("SCC", 900, 700)]
    return write_text(folder / "cric.json", json.dumps([cric_image(image, cells)]))


PYTHONS = re.compile(r"NoneType|object is not|index out of|not in tuple|has no attribute")
"""Python's own words, which mean nothing to who reads them."""

CASES = {
    "geojson": (WRITERS["geojson"], change_json),
    "cric": (write_cric, change_json),
    "asap": (WRITERS["asap"], change_xml),
    "imagescope": (WRITERS["imagescope"], change_xml),
    "ndpa": (WRITERS["ndpa"], change_xml),
    "csv": (WRITERS["csv"], change_table),
}


@pytest.mark.parametrize("format", CASES)
def test_a_changed_file_is_read_or_refused_in_words(format, tmp_path):
    write, change = CASES[format]
    write_blank(tmp_path / NAME)
    path = write(tmp_path, NAME)
    whole, draw = path.read_bytes(), random.Random(format)
    refused = 0
    for number in range(ROUNDS):
        data = change_bytes(whole, draw) if number % 4 == 0 else None
        path.write_bytes(data or change(whole.decode(), draw).encode())
        for settings in (AnnotationSettings(format=format, point_size=10), AnnotationSettings()):
            message = outcome(path, settings)
            refused += bool(message)
            assert not message or path.name in message
            assert not PYTHONS.search(message), message
            assert len(message.splitlines()) <= 1, message
    assert refused > ROUNDS / 8


def outcome(path, settings):
    """Why a file is refused; of one that is read its fields are sound, and nothing is said."""
    info = ImageInfo(WIDTH, HEIGHT, 0.25, NDPI)
    try:
        found = read_fields(path, [path.parent], None, settings, lambda _: info)
    except ConfigError as error:
        return str(error)
    for field in found.fields:
        assert np.isfinite(field.boxes).all()
        assert (field.boxes[:, 2:] > field.boxes[:, :2]).all()
        assert (field.boxes >= 0).all()
        assert (field.boxes <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
    return ""

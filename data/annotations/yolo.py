"""YOLO: one text file an image, a cell a line: ``class x y width height``, as shares of the image.

Lines of more numbers are outlines, ``class x1 y1 x2 y2 ...``, but for a sixth: a confidence, which
is not looked at. What the numbers of the classes mean stands in ``classes.txt`` or ``obj.names``, a
name a line, or in a YAML file with ``names`` (Ultralytics), beside the labels or up to two folders
above; else the numbers are the names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import yaml

from configs import ConfigError, load_yaml
from data.annotations.drawing import Drawing, Placement, Shape, box, draw, outline
from data.annotations.files import Content, own_name
from data.annotations.images import ImageInfo

SUFFIXES = (".txt",)

CLASS_FILES = ("classes.txt", "obj.names")


def matches(path: Path, content: Content) -> bool:
    """Whether each line is an integer and four numbers or more; there may be none."""
    if path.suffix.lower() != ".txt" or not isinstance(content, str):
        return False
    return all(_is_cell(line.split()) for line in content.splitlines() if line.strip())


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws on the image of its name."""
    names = _class_names(path.parent)
    lines = [line.split() for line in content.splitlines() if line.strip()]
    declared = tuple(names[key] for key in sorted(names))
    shapes = [_shape(line, names) for line in lines]
    yield draw(own_name(path, SUFFIXES), shapes, place=place, declared=declared)


def place(info: ImageInfo) -> Placement:
    """Scale and offset from shares of the image to its pixels."""
    return np.array([info.width, info.height], np.float64), np.zeros(2)


def _shape(line: list[str], names: Mapping[int, str]) -> Shape:
    number = int(line[0])
    if names and number not in names:
        raise ValueError(f"class {number} has no name: there are {len(names)}")
    name = names.get(number, str(number))
    values = np.array(line[1:], np.float64)
    if np.abs(values).max() > 2:
        raise ValueError(f"{line}: these are pixels, not shares of the image")
    if len(values) > 5:
        return outline(name, values.reshape(-1, 2))
    center, half = values[:2], values[2:4] / 2
    return box(name, [center - half, center + half])


def _is_cell(words: list[str]) -> bool:
    try:
        [float(word) for word in words[1:]]
        return words[0].isdigit() and len(words) >= 5
    except ValueError:
        return False


def _class_names(folder: Path) -> dict[int, str]:
    for place in (folder, folder.parent, folder.parent.parent):
        for name in CLASS_FILES:
            if (place / name).is_file():
                lines = (place / name).read_text(encoding="utf-8-sig").splitlines()
                return {i: line.strip() for i, line in enumerate(lines) if line.strip()}
        for path in sorted([*place.glob("*.yaml"), *place.glob("*.yml")]):
            names = _names_in(path)
            if names:
                return names
    return {}


def _names_in(path: Path) -> dict[int, str]:
    """Ultralytics' ``names``, a list or a mapping; none where it is another YAML file."""
    try:
        names = load_yaml(path).get("names")
    except (ConfigError, yaml.YAMLError):
        return {}
    if isinstance(names, list):
        names = dict(enumerate(names))
    return {int(key): str(name) for key, name in names.items()} if isinstance(names, dict) else {}

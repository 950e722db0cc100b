"""COCO: JSON with ``images``, ``categories`` and ``annotations`` (cocodataset.org/#format-data).

Beside the standard an image may carry ``mpp`` (µm per pixel), ``slide`` and ``patient`` (or
``slide_id``, ``patient_id``), an annotation ``nucleus`` (x, y). Ids are the same whether written as
numbers or as text. An image without a size has that of its file. Where there is no box, it is that
of the outline or of the mask. A category that only stands above others is no class.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from data.annotations.classes import IGNORE
from data.annotations.coco_shapes import mask_size, shape_of
from data.annotations.drawing import Drawing, Remark, draw
from data.annotations.files import Content
from data.annotations.values import as_list, as_number, as_record, as_text, shown
from data.fields.fieldset import Field, FieldSet

SUFFIXES = (".json", ".json.gz")

_PARTS = {"images", "annotations", "categories"}
_PLAIN_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")
"""Text that is a number; ``007`` is not, as it may stand beside ``7``."""

_RESULT = {"image_id", "category_id", "score"}

Record: TypeAlias = Mapping[str, Any]
Key: TypeAlias = int | str


def matches(path: Path, content: Content) -> bool:
    """Whether a file looks like COCO."""
    if isinstance(content, list):
        return bool(content) and isinstance(content[0], dict) and set(content[0]) >= _RESULT
    return isinstance(content, dict) and len(_PARTS & set(content)) > 1


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What a file draws, image by image."""
    images, annotations, categories = _parts(content)
    _check_ids(images)
    names = _names(categories)
    by_image = _by_image(annotations, {_key(one["id"], "an id") for one in images})
    used = {
        _key(one["category_id"], "a category_id")
        for one in annotations
        if one.get("category_id") is not None
    }
    above = _headings(categories, names, used)
    declared = tuple(names[key] for key in sorted(names, key=_order) if key not in above)
    remarks = [*_mixed(images, annotations, categories), *_told_categories(names, above)]
    for record in images:
        key = _key(record["id"], "an id")
        what = f"image {shown(record['id'])}"
        size = _size(record, what) or mask_size(by_image.get(key, []))
        yield draw(
            _file_name(record, what),
            [
                shape_of(one, _name(one, names), size, f"annotation {shown(one.get('id'))}")
                for one in by_image.get(key, [])
            ],
            size=size,
            mpp=record.get("mpp"),
            declared=declared,
            slide=_first(record, "slide", "slide_id"),
            patient=_first(record, "patient", "patient_id"),
            remarks=remarks,
        )
        remarks = []  # of the file as a whole, so told with its first image


def _parts(content: Content) -> tuple[list[Record], list[Record], list[Record]]:
    """Images, annotations and categories.

    Raises:
        ValueError: one is missing, or the file is one of COCO's other kinds.
    """
    if isinstance(content, list):
        raise ValueError("these are detections (COCO's results) without images and categories")
    missing = _PARTS - set(content)
    if missing:
        raise ValueError(f"{', '.join(sorted(missing))} missing")
    images, annotations, categories = (
        [as_record(one, f"an entry of {part}") for one in as_list(content[part], part)]
        for part in ("images", "annotations", "categories")
    )
    if not images:
        raise ValueError("it lists no images")
    if any("segments_info" in one for one in annotations):
        raise ValueError("this is COCO's panoptic form; export instances (object detection)")
    if annotations and all("caption" in one for one in annotations):
        raise ValueError("these are captions; export instances (object detection)")
    return images, annotations, categories


def _key(value: object, what: str) -> Key:
    """An id; text that is a plain number is that number.

    Raises:
        ValueError: it is no id.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip():
        text = value.strip()
        return int(text) if _PLAIN_NUMBER.fullmatch(text) else text
    raise ValueError(f"{what} is {shown(value)}: an id is a number or text")


def _check_ids(images: Sequence[Record]) -> None:
    for one in images:
        if "id" not in one:
            raise ValueError(f"the image {shown(one.get('file_name'))} has no id")
    counts = Counter(_key(one["id"], f"the id of {one.get('file_name')}") for one in images)
    key, count = counts.most_common(1)[0]
    if count > 1:
        named = [shown(one.get("file_name")) for one in images if _key(one["id"], "id") == key]
        raise ValueError(f"{count} images have the id {shown(key)}: {', '.join(named[:3])}")


def _names(categories: Sequence[Record]) -> dict[Key, str]:
    """The name of each category by its id.

    Raises:
        ValueError: one has none, or two of different names have one id.
    """
    names: dict[Key, str] = {}
    for one in categories:
        if "id" not in one:
            raise ValueError(f"the category {shown(one.get('name'))} has no id")
        key = _key(one["id"], "the id of a category")
        what = f"the name of category {shown(one['id'])}"
        if one.get("name") is None:
            raise ValueError(f"{what} is missing")
        name = as_text(one["name"], what)
        if names.setdefault(key, name) != name:
            raise ValueError(f"two categories have the id {key}: {names[key]} and {name}")
    return names


def _by_image(annotations: Sequence[Record], images: set[Key]) -> dict[Key, list[Record]]:
    found: dict[Key, list[Record]] = defaultdict(list)
    for one in annotations:
        what = f"annotation {shown(one.get('id'))}"
        if one.get("image_id") is None:
            raise ValueError(f"{what} has no image_id")
        key = _key(one["image_id"], f"the image_id of {what}")
        if key not in images:
            raise ValueError(f"{what} has the image_id {shown(one['image_id'])}: no such image")
        found[key].append(one)
    return found


def _name(annotation: Record, names: Mapping[Key, str]) -> str:
    what = f"annotation {shown(annotation.get('id'))}"
    if annotation.get("category_id") is None:
        raise ValueError(f"{what} has no category_id")
    key = _key(annotation["category_id"], f"the category_id of {what}")
    if key not in names:
        listed = ", ".join(f"{k}: {names[k]}" for k in sorted(names, key=_order)[:10]) or "none"
        raise ValueError(
            f"{what} has the category_id {shown(annotation['category_id'])}, which "
            f"is not among the categories ({listed})"
        )
    return names[key]


def _headings(categories: Sequence[Record], names: Mapping[Key, str], used: set[Key]) -> set[Key]:
    """Categories that others name as what they belong to, and of which nothing is."""
    above = {
        str(one.get("supercategory"))
        for one in categories
        if one.get("supercategory") not in (None, "", one.get("name"))
    }
    return {key for key, name in names.items() if name in above and key not in used}


def _told_categories(names: Mapping[Key, str], above: set[Key]) -> Iterator[Remark]:
    for key in sorted(above, key=_order):
        yield Remark(
            "category-unused",
            f"the category {names[key]} stands above others and has no cell of its own: no class",
        )
    alike = [name for name, count in Counter(names.values()).items() if count > 1]
    for name in alike:
        yield Remark("category-twice", f"several categories are called {name}: one class")


def _mixed(*parts: Iterable[Record]) -> Iterator[Remark]:
    """A remark where ids of one kind are numbers here and text there."""
    images, annotations, categories = parts
    for what, declared, key in (
        ("image", images, "image_id"),
        ("category", categories, "category_id"),
    ):
        kinds = {isinstance(one["id"], str) for one in declared}
        kinds |= {isinstance(one.get(key), str) for one in annotations}
        if len(kinds) > 1:
            yield Remark(
                "ids-mixed",
                f'the {what} ids are numbers in one place and text in another: 1 and "1" are one',
            )


def _size(record: Record, what: str) -> tuple[float, float] | None:
    """Width and height; None where one is missing, null or 0."""
    sides = [as_number(record.get(key) or 0, f"the {key} of {what}") for key in ("width", "height")]
    return (sides[0], sides[1]) if all(sides) else None


def _file_name(record: Record, what: str) -> str:
    name = record.get("file_name") or record.get("coco_url")  # LVIS has URLs only
    if name is None:
        raise ValueError(f"{what} has no file_name")
    return as_text(name, f"the file_name of {what}")


def _order(key: Key) -> tuple[bool, Key]:
    """Numbers before text, so that ids of both kinds have one order."""
    return isinstance(key, str), key


def _first(record: Record, *keys: str) -> str:
    """The first of some values that is there, as text."""
    return next((str(record[key]) for key in keys if record.get(key) not in (None, "")), "")


def to_coco(fields: FieldSet, name_of: Callable[[Path], str]) -> dict[str, Any]:
    """Fields as the content of a COCO file.

    A crowd is written once for each category, as evaluations by COCO's rules ignore it only for
    its own. Where there is no class at all, it is of one that `read` takes for none: `IGNORE`.

    Args:
        fields: what to write.
        name_of: gives the ``file_name`` of an image.
    """
    names = fields.classes
    if not names and any(field.crowd.any() for field in fields.fields):
        names = (IGNORE,)
    annotations: list[dict[str, Any]] = []
    for image_id, field in enumerate(fields.fields, 1):
        for annotation in _annotations(field, len(names)):
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
    return {
        "images": [_image(i, f, name_of(f.image)) for i, f in enumerate(fields.fields, 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
    }


def _image(key: int, field: Field, name: str) -> dict[str, Any]:
    size = {"width": field.width, "height": field.height}
    scale = {} if field.mpp is None else {"mpp": round(field.mpp, 6)}
    groups = {"slide": field.slide, "patient": field.patient}
    known = {what: value for what, value in groups.items() if value}
    return {"id": key, "file_name": name, **size, **scale, **known}


def _annotations(field: Field, classes: int) -> Iterator[dict[str, Any]]:
    boxes = np.round(field.boxes.astype(np.float64), 2)
    nuclei = np.round(field.nuclei.astype(np.float64), 2)
    for row, (x, y, right, bottom) in enumerate(boxes.tolist()):
        crowd = bool(field.crowd[row])
        width, height = round(right - x, 2), round(bottom - y, 2)
        shape = {"bbox": [x, y, width, height], "area": round(width * height, 2)}
        marked = {} if crowd else {"nucleus": nuclei[row].tolist()}
        for label in range(classes) if crowd else [int(field.labels[row])]:
            yield {"category_id": label + 1, **shape, "iscrowd": int(crowd), **marked}

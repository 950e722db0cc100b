"""COCO: JSON with ``images``, ``categories`` and ``annotations`` (cocodataset.org/#format-data).

Beside the standard an image may carry ``mpp`` (µm per pixel), ``slide`` and ``patient`` (or
``slide_id``, ``patient_id``), an annotation ``nucleus`` (x, y).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.annotations.drawing import Drawing, Shape, box, draw, outline
from data.annotations.files import Content
from data.fields.fieldset import Field, FieldSet

SUFFIXES = (".json", ".json.gz")

_PARTS = {"images", "annotations", "categories"}


def matches(path: Path, content: Content) -> bool:
    """Whether a file looks like COCO."""
    return isinstance(content, dict) and len(_PARTS & set(content)) > 1


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What a file draws, image by image."""
    missing = _PARTS - set(content)
    if missing:
        raise ValueError(f"{', '.join(sorted(missing))} missing")
    if not content["images"]:
        raise ValueError("it lists no images")
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    by_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    strangers = set(by_image) - {record["id"] for record in content["images"]}
    if strangers:
        raise ValueError(f"annotations name the image_id {min(map(str, strangers))}: no such image")
    declared = tuple(names[key] for key in sorted(names))
    for record in content["images"]:
        yield draw(
            record["file_name"],
            (_shape(annotation, names) for annotation in by_image[record["id"]]),
            size=(record["width"], record["height"]),
            mpp=record.get("mpp"),
            declared=declared,
            slide=_first(record, "slide", "slide_id"),
            patient=_first(record, "patient", "patient_id"),
        )


def _first(record: Mapping[str, Any], *keys: str) -> str:
    """The first of some values that is there, as text."""
    return next((str(record[key]) for key in keys if record.get(key) not in (None, "")), "")


def _shape(annotation: Mapping[str, Any], names: Mapping[Any, str]) -> Shape:
    if annotation["category_id"] not in names:
        raise ValueError(f"category_id {annotation['category_id']} is not among the categories")
    name = names[annotation["category_id"]]
    crowd = bool(annotation.get("iscrowd", 0) or annotation.get("ignore", 0))
    segmentation = annotation.get("segmentation")
    if "bbox" not in annotation and isinstance(segmentation, list):
        return outline(name, *segmentation, crowd=crowd)
    x, y, width, height = np.array(annotation["bbox"], np.float64)
    nucleus = annotation.get("nucleus")
    if nucleus is not None and np.shape(nucleus) != (2,):
        raise ValueError(f"the nucleus {nucleus} is not a pair of numbers")
    return box(name, [x, y, x + width, y + height], crowd, nucleus)


def to_coco(fields: FieldSet, name_of: Callable[[Path], str]) -> dict[str, Any]:
    """Fields as the content of a COCO file.

    A crowd is written once for each category, as evaluations by COCO's rules ignore it only for
    its own.

    Args:
        fields: what to write.
        name_of: gives the ``file_name`` of an image.
    """
    annotations: list[dict[str, Any]] = []
    for image_id, field in enumerate(fields.fields, 1):
        for annotation in _annotations(field, len(fields.classes)):
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
    return {
        "images": [_image(i, f, name_of(f.image)) for i, f in enumerate(fields.fields, 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(fields.classes, 1)],
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

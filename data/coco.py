"""Annotated fields from COCO JSON, as arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError


@dataclass(frozen=True)
class Field:
    """One annotated image.

    Attributes:
        image: its file.
        width, height: its size in pixels.
        mpp: µm per pixel, None where the file does not say.
        boxes: (N, 4) float32, xyxy in pixels.
        labels: (N,) int64, indices into the classes of the set.
        crowd: (N,) bool, regions that count neither as cell nor as background.
    """

    image: Path
    width: int
    height: int
    mpp: float | None
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]


@dataclass(frozen=True)
class FieldSet:
    """Annotated fields and the classes that their labels index."""

    classes: tuple[str, ...]
    fields: tuple[Field, ...]

    def class_counts(self) -> list[int]:
        """Number of cells of each class, in the order of the classes."""
        labels = np.concatenate([f.labels[~f.crowd] for f in self.fields])
        return np.bincount(labels, minlength=len(self.classes)).tolist()


def read_coco(path: Path, images: Path, classes: Sequence[str] | None = None) -> FieldSet:
    """Reads a COCO file of annotated fields.

    Args:
        path: the JSON file; an image may carry ``mpp``.
        images: the folder that ``file_name`` is relative to.
        classes: the names, in the order of the labels; by default the file's categories by id.

    Raises:
        ConfigError: the file is missing or not COCO, an image file is missing, or an annotation
            has a category that is not among ``classes`` or a box without area.
    """
    content = _read_json(path)
    names = _category_names(content, path)
    if classes is None:
        classes = [names[key] for key in sorted(names)]
    unknown = sorted(set(names.values()) - set(classes))
    if unknown:
        raise ConfigError(
            f"{path}: categories {', '.join(unknown)} are not among the classes "
            f"{', '.join(classes)}"
        )
    labels = {key: list(classes).index(name) for key, name in names.items()}
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in content["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    try:
        fields = tuple(
            _field(record, by_image.get(record["id"], []), labels, images)
            for record in content["images"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not a COCO file of detections: {error!r}") from error
    if not fields:
        raise ConfigError(f"{path}: it lists no images")
    return FieldSet(tuple(classes), fields)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from error
    missing = {"images", "annotations", "categories"} - set(content)
    if not isinstance(content, dict) or missing:
        raise ConfigError(f"{path}: not a COCO file: {', '.join(sorted(missing))} missing")
    return content


def _category_names(content: dict[str, Any], path: Path) -> dict[Any, str]:
    try:
        return {category["id"]: category["name"] for category in content["categories"]}
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path}: categories need an id and a name each") from error


def _field(
    record: dict[str, Any],
    annotations: list[dict[str, Any]],
    labels: dict[Any, int],
    images: Path,
) -> Field:
    image = images / record["file_name"]
    if not image.is_file():
        raise ConfigError(f"{image}: no such file, though the annotations name it")
    boxes = np.array([a["bbox"] for a in annotations], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    limits = np.array([record["width"], record["height"]] * 2, np.float32)
    boxes = boxes.clip(0, limits)
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ConfigError(f"{image}: an annotation's box has no area inside the image")
    return Field(
        image=image,
        width=record["width"],
        height=record["height"],
        mpp=record.get("mpp"),
        boxes=boxes,
        labels=np.array([labels[a["category_id"]] for a in annotations], np.int64),
        crowd=np.array([bool(a.get("iscrowd", 0)) for a in annotations], bool),
    )

"""Reviewed slides as files: COCO and QuPath's GeoJSON for training, labels.csv for calibration.

Both kinds carry regions and ignored places as objects of the classes ``region`` and ``ignore``
(``Region*`` and ``Ignore*`` in QuPath), which `data.annotations` reads as what they are.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs import ConfigError
from data.annotations.classes import IGNORE, REGION
from pipeline.cells.classes import Color, class_colors
from pipeline.geometry import Boxes
from pipeline.reports.report import encodable
from pipeline.reports.tables import PLAIN, write_csv
from pipeline.reports.writers import make_whole, to_json, write_whole
from pipeline.review.exchange.truth import SlideFrame, SlideTruth
from pipeline.review.store import SlideDecision

_GREY = (128, 128, 128)
_BEGINNING = b'{"type": "FeatureCollection", "frame": "bounds", "features": ['
"""Of a GeoJSON that `write_qupath` wrote; nothing else that we know of writes this frame."""

_NAMESPACE = uuid.UUID("8d9f2c1e-5f0b-4c55-9a57-2f6f8f1c7a10")


def write_coco(truths: Sequence[SlideTruth], path: Path) -> Path:
    """Writes all slides into one COCO file.

    Gives the folder from which its images are named, the innermost that holds all of them: it is
    what training has to be told as ``images``.

    Raises:
        OSError: it can't be written.
    """
    folder = common_folder(truths)
    write_whole(path, to_json(to_coco(truths, folder)))
    return folder


def common_folder(truths: Sequence[SlideTruth]) -> Path:
    """The innermost folder that holds all slides; the root where they have none in common."""
    parents = [str(truth.frame.path.parent) for truth in truths]
    try:
        return Path(os.path.commonpath(parents))
    except ValueError:  # on several drives
        return truths[0].frame.path.parent


def to_coco(truths: Sequence[SlideTruth], folder: Path) -> dict[str, Any]:
    """The content of a COCO file whose images are named from a folder."""
    names = [c.name for truth in truths for c in truth.frame.classes]
    names += [label for truth in truths for label in truth.labels]
    categories = [*dict.fromkeys(names), REGION, IGNORE]
    ids = {name: number for number, name in enumerate(categories, 1)}
    annotations: list[dict[str, Any]] = []
    for image, truth in enumerate(truths, 1):
        for name, (x0, y0, x1, y1) in _objects(truth):
            size = [round(x1 - x0, 2), round(y1 - y0, 2)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": ids[name],
                    "bbox": [round(x0, 2), round(y0, 2), *size],
                    "area": round(size[0] * size[1], 2),
                    "iscrowd": 0,
                }
            )
    images = [
        {
            "id": number,
            "file_name": _from(folder, truth.frame.path),
            "width": truth.frame.size[0],
            "height": truth.frame.size[1],
            "mpp": truth.frame.mpp,
            "slide": truth.frame.name,
        }
        for number, truth in enumerate(truths, 1)
    ]
    listed = [{"id": number, "name": name} for name, number in ids.items()]
    return {"images": images, "annotations": annotations, "categories": listed}


def write_qupath(truths: Sequence[SlideTruth], folder: Path) -> list[Path]:
    """Writes a GeoJSON a slide, called as the slide is; in QuPath's frame.

    Where slides of several folders have the same name, all lie in folders called as theirs.

    Raises:
        ConfigError: files of an earlier export lie there that this one would not write. Training
            takes all of a folder. Nothing is written then.
        OSError: one can't be written.
    """
    names = [Path(truth.frame.name) for truth in truths]
    alone = len({name.name.casefold() for name in names}) == len(names)
    paths = [folder / f"{name.name if alone else name}.geojson" for name in names]
    _refuse_others(folder, paths)
    for truth, path in zip(truths, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        classes = truth.frame.classes
        colors = dict(zip((c.name for c in classes), class_colors(classes), strict=True))
        features = [_feature(truth.frame, colors, *one) for one in _objects(truth)]
        collection = {"type": "FeatureCollection", "frame": "bounds", "features": features}
        write_whole(path, json.dumps(collection, ensure_ascii=False))
    return paths


def write_labels(decided: Iterable[tuple[str, SlideDecision]], path: Path) -> int:
    """Writes the categories of slides as ``cytolibra calibrate --labels`` reads them.

    Gives how many; a slide without a category has no line.

    Raises:
        OSError: it can't be written.
    """
    rows = [(encodable(name), d.category) for name, d in decided if d.category]

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="") as stream:
            stream.write(PLAIN.start(*(name for name, _ in rows)))
            write_csv(stream, [["slide", "label"], *([name, label] for name, label in rows)])

    make_whole(path, write)
    return len(rows)


def _refuse_others(folder: Path, paths: Sequence[Path]) -> None:
    """Refuses a folder with files of earlier exports that are not among those to be written.

    They are not removed: they may be another export's, of a folder below.
    """
    others = sorted(path for path in {*folder.rglob("*.geojson")} - {*paths} if _is_ours(path))
    if others:
        first = others[0].relative_to(folder)
        raise ConfigError(
            f"{folder}: holds {len(others)} GeoJSON files of an earlier export that this one would "
            f"not write, {first} first: training would take them, too; remove them, or name "
            "another folder by --out"
        )


def _is_ours(path: Path) -> bool:
    """Whether an export wrote a file; one that can't be read isn't taken for ours."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(_BEGINNING)) == _BEGINNING
    except OSError:
        return False


def _objects(truth: SlideTruth) -> Iterator[tuple[str, list[float]]]:
    """Names and boxes; a box keeps to the slide, and what lies beyond it is none."""
    for name, boxes in (
        *((label, truth.boxes[i : i + 1]) for i, label in enumerate(truth.labels)),
        (REGION, truth.regions),
        (IGNORE, truth.ignored),
    ):
        yield from ((name, box) for box in _on_slide(boxes, truth.frame.size).tolist())


def _on_slide(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    clipped = boxes.clip(0, np.tile(size, 2))
    return clipped[(clipped[:, 2:] > clipped[:, :2]).all(axis=1)]


def _feature(
    frame: SlideFrame, colors: Mapping[str, Color], name: str, box: list[float]
) -> dict[str, Any]:
    shown = {REGION: "Region*", IGNORE: "Ignore*"}.get(name, name)
    x, y = frame.origin
    left, top, right, bottom = box[0] - x, box[1] - y, box[2] - x, box[3] - y
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, f"{encodable(frame.name)} {name} {box}")),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": shown, "color": list(colors.get(name, _GREY))},
        },
    }


def _from(folder: Path, path: Path) -> str:
    """A path as seen from a folder; the whole of it where they have no way between them."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()

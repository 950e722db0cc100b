"""Two models on the same fields: differences, with paired intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from configs import ConfigError
from data.evaluation import FieldCells, from_results, load_cells
from data.fields.fieldset import FieldSet
from scripts.candidates import truth_of
from scripts.evaluation.evidence import Draws, Evidence, finite
from scripts.evaluation.precision import ap50, ap50_rounds

SCALE_TOLERANCE = 0.01
"""Of a field's size: training keeps boxes in whole pixels of the model's scale."""


def is_kept(name: str) -> bool:
    """Whether ``--against`` names kept detections rather than a model."""
    return name.endswith((".npz", ".json")) and not name.endswith("model.json")


def read_kept(name: str, evidence: Evidence) -> Evidence:
    """Detections that an evaluation (detections.json) or training (validation.npz) kept.

    Raises:
        ConfigError: the file is missing or broken, or it is of other fields or classes.
    """
    path = Path(name)
    try:
        truth, found = load_cells(path) if path.suffix == ".npz" else _read_json(path, evidence)
    except ConfigError as error:
        raise ConfigError(f"--against {error}") from error
    except OSError as error:
        raise ConfigError(f"--against {error.filename or path}: {error.strerror}") from error
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"--against {path}: not what `cytolibra evaluate` or `train` kept"
        ) from error
    if not all((one.labels < len(evidence.classes)).all() for one in found):
        raise ConfigError(f"--against {path}: was found by a model of more classes")
    if not _same_fields(evidence.truth, truth):
        raise ConfigError(
            f"--against {path}: was found on other fields, or with other annotations or classes; "
            "evaluate both models on the same --data"
        )
    if path.suffix == ".npz":  # both in the model's pixels
        return replace(evidence, truth=truth, found=found)
    return replace(evidence, found=found)


def check_same_fields(kept: Sequence[FieldCells], fields: FieldSet, path: Path) -> None:
    """Makes sure that what a run kept is of the cells that its data has now.

    Kept fields have no names: they go with those of the data one by one, in order.

    Args:
        kept: the truth of each field that was judged, at whatever scale.
        fields: those that the run's data names now.
        path: of the file that kept it.

    Raises:
        ConfigError: it isn't.
    """
    if len(kept) != len(fields.fields):
        raise ConfigError(
            f"{path}: has {len(kept)} fields, the data of its run {len(fields.fields)}: images "
            "can't be read (take them out of the data), or annotations have changed since: train "
            "or judge anew"
        )
    for field, one, other in zip(fields.fields, kept, truth_of(fields), strict=True):
        ignored, ignored_now = (replace(cells, crowd=~cells.crowd) for cells in (one, other))
        if not (_same_cells(one, other) and _same_cells(ignored, ignored_now)):
            raise ConfigError(
                f"{path}: has other cells for {field.image} than the data of its run: annotations "
                "have changed since: train or judge anew"
            )


def rename(found: Sequence[FieldCells], names: Sequence[str], evidence: Evidence) -> Evidence:
    """The evidence with another model's detections, whose labels index ``names``.

    Raises:
        ConfigError: the models' classes differ.
    """
    if set(names) != set(evidence.classes):
        raise ConfigError(
            f"--against: its classes {', '.join(names)} are not those of the model, "
            f"{', '.join(evidence.classes)}"
        )
    label = np.array([list(evidence.classes).index(name) for name in names], np.int64)
    return replace(evidence, found=[replace(one, labels=label[one.labels]) for one in found])


def differences(evidence: Evidence, other: Evidence, draws: Draws) -> dict[str, Any]:
    """AP50 of both and their difference, by kind and name, as `ap50_rounds` has them.

    Both are judged by the same draws, so that the interval is of the difference: what makes a set
    of fields hard makes it hard for both.
    """
    figures = ap50(evidence), ap50(other)
    drawn = ap50_rounds(evidence, draws.times), ap50_rounds(other, draws.times)
    return {
        kind: {
            name: {
                "ap50": finite(value),
                "other": finite(figures[1][kind][name]),
                "difference": finite(value - figures[1][kind][name]),
                "difference_interval": draws.interval(drawn[0][kind][name] - drawn[1][kind][name]),
            }
            for name, value in values.items()
        }
        for kind, values in figures[0].items()
    }


def _read_json(path: Path, evidence: Evidence) -> tuple[list[FieldCells], list[FieldCells]]:
    beside = path.with_name(path.name.replace("detections.json", "truth.json"))
    content = json.loads(beside.read_text("utf-8"))
    cells = [{**cell, "score": 1.0} for cell in content["annotations"] if not cell["iscrowd"]]
    count = len(content["images"])
    names = [category["name"] for category in content["categories"]]
    found = from_results(json.loads(path.read_text("utf-8")), count)
    return tuple(  # type: ignore[return-value]
        list(rename(side, names, evidence).found) for side in (from_results(cells, count), found)
    )


def _same_fields(truth: Sequence[FieldCells], other: Sequence[FieldCells]) -> bool:
    return len(truth) == len(other) and all(map(_same_cells, truth, other))


def _same_cells(one: FieldCells, other: FieldCells) -> bool:
    """The same cells with the same names, at whatever scale."""
    one, other = one[~one.crowd], other[~other.crowd]
    if not np.array_equal(one.labels, other.labels):
        return False
    if not len(one):
        return True
    boxes, others = (cells.boxes / cells.boxes.max() for cells in (one, other))
    return bool(np.allclose(boxes, others, atol=SCALE_TOLERANCE))

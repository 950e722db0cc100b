"""``cytolibra evaluate``: how well a model finds and names the cells of annotated fields."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from configs import ConfigError

if TYPE_CHECKING:
    from data.evaluation import FieldCells
    from data.fieldset import FieldSet
    from pipeline.detector import TileDetector

LOWEST_SCORE = 0.01
"""Detections below it can't move average precision by a visible amount."""


def evaluate(
    model: Annotated[str, typer.Option(help="Shipped model's name, or a model's folder.")],
    data: Annotated[Path, typer.Option(help="Annotations: a file, folder or glob.")],
    images: Annotated[Path, typer.Option(help="Folder of the slides or images.")],
    out: Annotated[Path, typer.Option(help="Where metrics.json goes.")] = Path("metrics.json"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    runtime: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16 or int8.")] = "auto",
) -> None:
    """Average precision and FROC of a model on annotated fields."""
    from configs import validate
    from data.regions import cut_fields
    from models import load_detector
    from pipeline.detector import RuntimeSettings, TileDetector
    from scripts.slides import read_annotated

    options = {"device": device, "name": runtime, "precision": precision}
    settings = validate(options, RuntimeSettings, "options")
    detector = TileDetector(load_detector(model), settings, LOWEST_SCORE)
    fields = read_annotated(data, images, detector.card.detector.classes)
    fields = cut_fields(fields, detector.card.mpp)
    metrics = measure(detector, fields)
    if detector.runtime.fallback:
        typer.echo(f"note: {detector.runtime.fallback}", err=True)
    metrics["settings"] = {"model": detector.card.name, "sha256": detector.runtime.sha256}
    ran = {"runtime": detector.runtime.name, "precision": detector.runtime.precision}
    metrics["settings"] |= {"data": str(data)} | ran
    _write(metrics, out)
    for note in fields.notes:
        Console().print(note, markup=False, soft_wrap=True)
    Console().print(_table(metrics, fields))
    Console().print(f"All figures: {out}", soft_wrap=True)


def measure(detector: TileDetector, fields: FieldSet) -> dict[str, Any]:
    """All figures of a detector on annotated fields.

    Returns:
        ``classes`` {name: {cells, ap, ap50, ap75, recall50}}, ``pooled`` {abnormal, any: {cells,
        ap50, ap50_interval (90%), recall50, froc}}, ``map``, ``map50``, ``fields``; figures of
        absent classes are None.
    """
    from data.bootstrap import bootstrap_ap
    from data.evaluation import (
        FROC_RATES,
        ap_of_matches,
        average_precision,
        froc,
        join,
        match_fields,
        pool,
        pooled_classes,
    )

    truth, found = _detect(detector, fields)
    names, abnormal = fields.classes, detector.card.detector.is_abnormal
    per_class = average_precision(truth, found, len(names))
    counts = fields.class_counts()
    classes = {
        name: {"cells": counts[i], **{key: _finite(values[i]) for key, values in per_class.items()}}
        for i, name in enumerate(names)
    }
    pooled = {}
    for group, members in pooled_classes(abnormal).items():
        sides = pool(truth, found, members)
        by_field = match_fields(*sides, 1, 0)
        matched = join(by_field)
        pooled[group] = {
            "cells": matched.cells,
            "ap50": _finite(ap_of_matches(matched)),
            "ap50_interval": [_finite(bound) for bound in bootstrap_ap(by_field)],
            "recall50": _finite(matched.hits.sum() / max(matched.cells, 1)),
            "froc": {
                f"{rate:g}": round(sensitivity, 4)
                for rate, sensitivity in froc(matched, len(truth), FROC_RATES).items()
            },
        }
    return {
        "fields": len(truth),
        "classes": classes,
        "pooled": pooled,
        "map": _mean(entry["ap"] for entry in classes.values()),
        "map50": _mean(entry["ap50"] for entry in classes.values()),
    }


def _detect(detector: TileDetector, fields: FieldSet) -> tuple[list[FieldCells], list[FieldCells]]:
    """Truth and detections of every field, in the field's own pixels."""
    import numpy as np

    from data.evaluation import FieldCells
    from data.regions import downsample_of
    from scripts.slides import images_of

    images = images_of(fields)
    truth, found = [], []
    for index, field in enumerate(track(fields.fields, "Fields")):
        downsample = downsample_of(field, detector.card.mpp)
        size = (round(field.width / downsample), round(field.height / downsample))
        cells = detector.detect([images.whole(index, size)])[0]
        scale = np.tile([field.width / size[0], field.height / size[1]], 2)
        count = len(field.labels)
        truth.append(FieldCells(field.boxes, field.labels, np.ones(count), field.crowd))
        nowhere = np.zeros(len(cells), bool)
        found.append(FieldCells(cells.boxes * scale, cells.labels, cells.scores, nowhere))
    return truth, found


def _table(metrics: dict[str, Any], fields: FieldSet) -> Table:
    table = Table(title=f"{metrics['settings']['model']} on {len(fields.fields)} fields")
    table.add_column("class")
    for heading in ("cells", "AP50", "AP75", "AP", "recall at IoU 0.5"):
        table.add_column(heading, justify="right")
    for name, entry in metrics["classes"].items():
        figures = (entry[key] for key in ("ap50", "ap75", "ap", "recall50"))
        table.add_row(name, str(entry["cells"]), *map(_show, figures))
    table.add_row("mean of classes", "", _show(metrics["map50"]), "", _show(metrics["map"]), "")
    table.add_section()
    for name, entry in metrics["pooled"].items():
        recall = _show(entry["recall50"])
        low, high = map(_show, entry["ap50_interval"])
        ap50 = f"{_show(entry['ap50'])} ({low} to {high})"
        table.add_row(f"{name}, merged", str(entry["cells"]), ap50, "", "", recall)
    rates = ", ".join(f"{v:.2f} at {k}" for k, v in metrics["pooled"]["abnormal"]["froc"].items())
    table.caption = (
        "In brackets 90% intervals, by drawing fields anew. "
        f"FROC, abnormal: sensitivity {rates} false positives a field"
    )
    return table


def _write(metrics: dict[str, Any], out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {out}: can't be written: {error.strerror}") from error


def _finite(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None


def _mean(values: Any) -> float | None:
    present = [value for value in values if value is not None]
    return round(sum(present) / len(present), 4) if present else None


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"

"""Screened slides against their truth: ``python -m scripts.against_truth SLIDES REPORTS``."""

from __future__ import annotations

import argparse
import glob
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from configs import ConfigError
from data.evaluation import FieldCells, Matches, matches, pool
from pipeline.batch.output import REPORT
from pipeline.cells.classes import CellClass
from pipeline.reports import cells_table
from pipeline.reports.report import read_report
from scripts.telling import run_for_people


def main() -> None:
    """Prints recall and precision of every slide that has a truth."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("slides", type=Path, help="folder that `cytolibra synth` wrote")
    parser.add_argument("reports", type=Path, help="folder that `cytolibra screen` wrote")
    options = parser.parse_args()
    run_for_people(lambda: Console().print(compare(options.slides, options.reports)))


def compare(slides: Path, reports: Path) -> Table:
    """Recall and precision at the thresholds, of abnormal and of all cells, a row a slide.

    Raises:
        ConfigError: there is no truth, a slide of it has no report, or a file is not what it should
            be.
    """
    truth_files = sorted(slides.glob("*.truth.json"))
    if not truth_files:
        raise ConfigError(f"{slides}: has no NAME.truth.json, as `cytolibra synth` writes them")
    table = Table(title="cells found, matched at IoU 0.5")
    table.add_column("slide")
    for heading in ("abnormal cells", "recall", "precision", "all cells", "recall", "precision"):
        table.add_column(heading, justify="right")
    for truth_file in truth_files:
        name = truth_file.name.removesuffix(".truth.json")
        folder = _report_of(truth_file, name, reports)
        classes = read_report(folder / REPORT).model.classes
        names = [cell_class.name for cell_class in classes]
        abnormal = np.flatnonzero([cell_class.abnormal for cell_class in classes])
        truth = read_truth(truth_file, names)
        found = read_cells(folder / "cells.csv", classes)
        row = []
        for members in (abnormal, np.arange(len(names))):
            row += _rates(matches(*pool([truth], [found], members), 1, 0))
        table.add_row(name, *row)
    return table


def _report_of(truth_file: Path, name: str, reports: Path) -> Path:
    """The folder of the report of a truth's slide.

    Raises:
        ConfigError: there is none, or the truth doesn't say of which file it is, and several may be
            meant.
    """
    images = json.loads(truth_file.read_text(encoding="utf-8")).get("images", ())
    if images:
        found = [folder for image in images if (folder := reports / image["file_name"]).is_dir()]
    else:
        found = sorted(reports.glob(f"{glob.escape(name)}.*"))
    if not found:
        raise ConfigError(f"{reports}: has no report of {name}; screen it, too")
    if len(found) > 1:
        told = ", ".join(folder.name for folder in found)
        raise ConfigError(f"{truth_file}: may be of {told}; keep one of these reports")
    return found[0]


def read_truth(path: Path, names: Sequence[str]) -> FieldCells:
    """The cells of a slide's truth in COCO form; labels index ``names``.

    Raises:
        ConfigError: it has a class that is none of these.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if others := [c["name"] for c in content["categories"] if c["name"] not in names]:
        raise ConfigError(f"{path}: has {', '.join(others)}; the model tells {', '.join(names)}")
    categories = {c["id"]: names.index(c["name"]) for c in content["categories"]}
    boxes = np.array([a["bbox"] for a in content["annotations"]], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([categories[a["category_id"]] for a in content["annotations"]], int)
    return _cells(boxes, labels, np.ones(len(labels)))


def read_cells(path: Path, classes: Sequence[CellClass]) -> FieldCells:
    """The cells of a slide's ``cells.csv``; labels index ``classes``."""
    cells = cells_table.read_cells(path, classes)
    return _cells(cells.boxes, cells.labels, cells.scores.astype(np.float64))


def _cells(
    boxes: NDArray[np.float64], labels: NDArray[np.int64], scores: NDArray[np.float64]
) -> FieldCells:
    return FieldCells(boxes, labels, scores, np.zeros(len(labels), bool))


def _rates(matched: Matches) -> list[str]:
    hits = int(matched.hits.sum())
    recall = f"{hits / matched.cells:.2f}" if matched.cells else "–"
    precision = f"{hits / len(matched.hits):.2f}" if len(matched.hits) else "–"
    return [str(matched.cells), recall, precision]


if __name__ == "__main__":
    main()

"""``make demo``: the whole journey on slides whose truth is known."""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from data.evaluation import FieldCells, Matches, matches, pool
from models import DEFAULT_MODEL, list_models

SLIDES, SIZE, SEED = 3, "8192x8192", 7


def main() -> int:
    """Makes slides (one broken on purpose), screens them, compares with the truth."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    out = parser.parse_args().out
    console = Console()

    console.rule("1. Draw slides with known cells")
    slides = out / "slides"
    drawn = ["--slides", SLIDES, "--size", SIZE, "--seed", SEED, "--broken"]
    _cytolibra("synth", "--out", slides, *drawn)

    console.rule("2. Screen them with the shipped model; one is broken on purpose")
    reports = out / "reports"
    code = _cytolibra("screen", slides, "--out", reports)
    if code != 1:
        console.print(f"expected exit code 1, for the broken slide; got {code}")
        return 1

    console.rule("3. Compare with the truth")
    console.print(_compare(slides, reports))
    console.print(
        "The cells are drawn, not real: this shows that the journey works, not how good the model "
        "is. The README has its figures on real cells."
    )
    console.print(f"Reports: {reports.resolve() / 'summary.html'}", soft_wrap=True)
    return 0


def _cytolibra(command: str, *arguments: object) -> int:
    call = [sys.executable, "-m", "scripts", command, *map(str, arguments)]
    return subprocess.run(call, check=False).returncode


def _compare(slides: Path, reports: Path) -> Table:
    """Recall and precision of abnormal cells, and of all cells, a row a slide."""
    card = next(card for card in list_models() if card.name == DEFAULT_MODEL)
    names, abnormal = card.detector.classes, np.array(card.detector.is_abnormal)
    table = Table(title="found at IoU 0.5")
    table.add_column("slide")
    for heading in ("abnormal cells", "recall", "precision", "all cells", "recall", "precision"):
        table.add_column(heading, justify="right")
    for truth_file in sorted(slides.glob("*.truth.json")):
        name = truth_file.name.removesuffix(".truth.json")
        truth = read_truth(truth_file, names)
        found = read_cells(next(reports.glob(f"{name}.*")) / "cells.csv", names)
        row = []
        for members in (np.flatnonzero(abnormal), np.arange(len(names))):
            row += _rates(matches(*pool([truth], [found], members), 1, 0))
        table.add_row(name, *row)
    return table


def read_truth(path: Path, names: tuple[str, ...]) -> FieldCells:
    """The cells of a slide's truth in COCO form."""
    content = json.loads(path.read_text(encoding="utf-8"))
    categories = {c["id"]: names.index(c["name"]) for c in content["categories"]}
    boxes = np.array([a["bbox"] for a in content["annotations"]], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([categories[a["category_id"]] for a in content["annotations"]], int)
    return _cells(boxes, labels, np.ones(len(labels)))


def read_cells(path: Path, names: tuple[str, ...]) -> FieldCells:
    """The cells of a slide's ``cells.csv``."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    corners = [[float(row[k]) for k in ("x_min", "y_min", "x_max", "y_max")] for row in rows]
    labels = np.array([names.index(row["class"].lstrip("'")) for row in rows], int)
    scores = np.array([float(row["score"]) for row in rows])
    return _cells(np.array(corners).reshape(-1, 4), labels, scores)


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
    sys.exit(main())

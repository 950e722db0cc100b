"""Cells of a field from rows, for cases that are counted by hand."""

import numpy as np

from data.evaluation import FieldCells

HERE, THERE, NOWHERE = [0, 0, 10, 10], [50, 50, 60, 60], [80, 0, 90, 10]


def cells(*rows):
    """Rows of box, label and, for detections, score."""
    boxes = np.array([row[0] for row in rows], float).reshape(-1, 4)
    labels = np.array([row[1] for row in rows], int)
    scores = np.array([row[2] if len(row) > 2 else 1.0 for row in rows], float)
    return FieldCells(boxes, labels, scores, np.zeros(len(rows), bool))


def crowd(box, label=0):
    """A region that counts for nothing."""
    return FieldCells(np.array([box], float), np.array([label]), np.ones(1), np.ones(1, bool))


def join_cells(*parts):
    """The cells of one field from several."""
    names = ("boxes", "labels", "scores", "crowd")
    return FieldCells(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))


def random_fields(seed, count=6, classes=1):
    """Truth and detections of some fields: moved cells, false alarms, wrong names."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(count):
        corners = rng.uniform(0, 200, (int(rng.integers(0, 12)), 2))
        labels = rng.integers(0, classes, len(corners))
        rows = zip(corners, labels, strict=True)
        truth.append(cells(*[([x, y, x + 20, y + 20], label) for (x, y), label in rows]))
        places = [*(corners + rng.normal(0, 6, corners.shape)), *rng.uniform(0, 200, (5, 2))]
        kept = rng.random(len(corners)) < 0.8
        names = np.where(kept, labels, rng.integers(0, classes, len(corners)))
        names = [*names, *rng.integers(0, classes, 5)]
        rows = zip(places, names, rng.random(len(places)), strict=True)
        found.append(cells(*[([x, y, x + 20, y + 20], name, s) for (x, y), name, s in rows]))
    return truth, found

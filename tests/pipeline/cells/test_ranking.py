"""Ranked by ``score_abnormal``, what is reported gives the curve that ``evaluate`` draws."""

import numpy as np

from data.evaluation import FieldCells, average_precision, pool
from pipeline.cells.classes import CellClass, abnormal_scores
from pipeline.cells.naming import name_cells
from pipeline.cells.nms import greedy_nms
from pipeline.geometry import Detections

CLASSES = [CellClass(name=n, abnormal=n != "NILM") for n in ("NILM", "ASC-US", "LSIL", "HSIL")]
ABNORMAL = np.array([c.abnormal for c in CLASSES])
OWN = np.float32([0.6, 0.3, 0.45, 0.3])
"""Thresholds of such a model: those of rare classes are lower."""

LOW = np.full(4, 0.05, np.float32)


def detector_output(seed: int) -> tuple[FieldCells, Detections]:
    """400 cells, a quarter of them abnormal, each seen at 9 places; and 600 places of debris."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(np.arange(25), np.arange(40)), axis=-1).reshape(-1, 2)
    corner = rng.permutation(places) * 100.0
    truth = np.hstack([corner, corner + 80])
    labels = np.where(rng.random(1000) < 0.75, 0, rng.integers(1, 4, 1000))
    certain = rng.normal(0.4, 1.2, 1000) - 3 * (np.arange(1000) >= 400)
    logits = rng.normal(-3, 1, (1000, 4))
    logits[np.arange(1000), labels] = certain
    logits[:, 1:] += rng.normal(0, 1, (1000, 1))  # grades are taken for one another
    seen = np.repeat(np.arange(1000), 9)
    boxes = truth[seen] + np.tile(rng.normal(0, 6, (9000, 2)), 2)
    rows = 1 / (1 + np.exp(-(logits[seen] + rng.normal(0, 0.4, (9000, 4)) - 0.3)))
    place, label = np.nonzero(rows >= LOW)
    found = Detections(
        boxes[place], rows[place, label].astype(np.float32), label, rows[place].astype(np.float32)
    )
    cells = FieldCells(truth[:400], labels[:400], np.ones(400), np.zeros(400, bool))
    return cells, found[greedy_nms(found, 0.5)]


def ap50(truth: FieldCells, boxes: np.ndarray, scores: np.ndarray) -> float:
    count = len(scores)
    ranked = FieldCells(boxes, np.zeros(count, int), scores, np.zeros(count, bool))
    return float(average_precision([truth], [ranked], 1)["ap50"][0])


def test_abnormal_ap50_of_what_is_reported_is_that_of_all_detections() -> None:
    truth, found = detector_output(0)
    everything = FieldCells(found.boxes, found.labels, found.scores, np.zeros(len(found), bool))
    (abnormal,), (pooled,) = pool([truth], [everything], np.flatnonzero(ABNORMAL))
    expected = ap50(abnormal, pooled.boxes, pooled.scores)
    named = name_cells(found, LOW, ABNORMAL, 0.5, OWN)
    by_score = ap50(abnormal, named.boxes, abnormal_scores(named, CLASSES))
    assert 0.3 < expected < 0.9
    assert abs(by_score - expected) < 0.005

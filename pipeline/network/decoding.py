"""From an exported network's raw outputs to the cells of a tile, without torch.

The same as `models.DenseDetector.decode`, in another order: what can't reach its threshold is left
out first, by its logit alone, so that the rest is computed for some hundred places, not for a
hundred thousand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import ModelSource
from models.card import NoNumbersError
from models.config import DetectorConfig
from pipeline.cells.nms import greedy_nms
from pipeline.geometry import Boxes, Detections
from pipeline.network.abnormal import may_reach, with_abnormal

Outputs = Mapping[str, NDArray[np.float32]]
"""By name, with one tile: (1, A, ...)."""

Decode = Callable[[Outputs, tuple[int, int]], Detections]
"""From raw outputs of a tile and its (height, width) to cells in its pixels, best first."""

Rows = NDArray[np.intp]

DECODED = frozenset({"atss", "fcos", "retinanet", "yolof"})
"""Detectors whose boxes are decoded here."""

_LONGEST_STEP = math.log(1000 / 16)
"""Of R-CNN's box coding: by how much, as a logarithm, a box may differ from its anchor."""


def find_decoder(model: ModelSource, thresholds: Sequence[float]) -> Decode:
    """How a model's raw outputs are decoded.

    By numpy where the configuration says all that has to be known. RepPoints' boxes have a learned
    part, softmax losses a way of their own to scores, and detectors of other packages what they
    like: these need the detector, and torch.
    """
    config = model.card.detector
    if config.name in DECODED and not config.loss.softmax:
        return partial(decode, config, np.asarray(thresholds, np.float64))
    from pipeline.network.torch_runtime import decode_by_detector

    model.detector.use_thresholds(thresholds)
    return partial(decode_by_detector, model.detector)


def decode(
    config: DetectorConfig,
    thresholds: NDArray[np.float64],
    outputs: Outputs,
    size: tuple[int, int],
) -> Detections:
    """Cells of one tile.

    Args:
        config: of a detector with sigmoid classes, not RepPoints.
        thresholds: (C,) least score of each class.
        outputs: of the exported network.
        size: (height, width) of the tile in pixels.

    Returns:
        Boxes clipped to the tile, by falling score, with the scores of all classes.

    Raises:
        NoNumbersError: scores are NaN, or the boxes of what is found.
    """
    logits = outputs["cls_logits"][0]
    centerness = outputs.get("bbox_ctrness")
    for values in (logits, centerness):
        if values is not None and np.isnan(values.max()):  # NaN if one is, and fast
            raise NoNumbersError
    # A score is at most the root of the class's probability where centerness goes in, too.
    place, label, likely = _possible(
        config, logits, thresholds if centerness is None else thresholds**2
    )
    scores = _scores(likely, centerness, place)
    kept = scores >= thresholds[label]
    place, label, scores = place[kept], label[kept], scores[kept]
    deltas = outputs["bbox_regression"][0, place].astype(np.float64)
    boxes = _boxes(config, deltas, _anchors(config, place, size))
    if np.isnan(boxes).any():
        raise NoNumbersError
    boxes = np.clip(boxes, 0, [size[1], size[0], size[1], size[0]])
    order = np.argsort(-scores, kind="stable")
    found = Detections(boxes, scores.astype(np.float32), label.astype(np.int64))[order]
    best = np.flatnonzero(greedy_nms(found, config.nms_iou))
    if config.max_detections is not None:
        best = best[_ranks_in_class(found.labels[best]) < config.max_detections]
    place = place[order[best]]
    likely = _probabilities(config, logits[place])
    of_all = _scores(likely, centerness, place[:, None]).astype(np.float32)
    return replace(found[best], class_scores=of_all)


def _ranks_in_class(labels: NDArray[np.int64]) -> Rows:
    """(N,) how many before it are of the same class, for each of (N,) labels."""
    order = np.argsort(labels, kind="stable")
    firsts = np.searchsorted(labels[order], labels[order])
    ranks = np.empty(len(labels), np.intp)
    ranks[order] = np.arange(len(labels)) - firsts
    return ranks


def _possible(
    config: DetectorConfig, logits: NDArray[np.float32], least: NDArray[np.float64]
) -> tuple[Rows, NDArray[np.intp], NDArray[np.float64]]:
    """Places, classes and their probabilities, those that reach (C,) least ones."""
    if config.abnormal_head is None:
        place, label = np.nonzero(logits >= _logit(least).astype(np.float32))
        return place, label, _sigmoid(logits[place, label])
    rows = np.flatnonzero(may_reach(config, logits, least))
    probabilities = _probabilities(config, logits[rows])
    row, label = np.nonzero(probabilities >= least)
    return rows[row], label, probabilities[row, label]


def _probabilities(config: DetectorConfig, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, C) of (N, channels) logits."""
    if config.abnormal_head is None:
        return _sigmoid(logits)
    return with_abnormal(config, _sigmoid(logits[:, :-1]), _sigmoid(logits[:, -1]))


def _scores(
    probabilities: NDArray[np.float64], centerness: NDArray[np.float32] | None, place: Rows
) -> NDArray[np.float64]:
    """Scores at rows of the outputs, which have the probabilities' number of axes."""
    if centerness is None:
        return probabilities
    return np.asarray(np.sqrt(probabilities * _sigmoid(centerness[0, place, 0])))


def _anchors(config: DetectorConfig, rows: Rows, size: tuple[int, int]) -> Boxes:
    """The anchors of rows of the outputs, as torchvision's `AnchorGenerator` lays them."""
    height, width = (config.padded(side) for side in size)
    anchors = np.zeros((len(rows), 4))
    first = 0
    for level, sides in zip(config.pyramid.levels, config.anchor_sides, strict=True):
        shapes = _shapes(sides, config.anchor_ratios)
        across, stride = width >> level, 2**level
        end = first + (height >> level) * across * len(shapes)
        here = (rows >= first) & (rows < end)
        place, shape = np.divmod(rows[here] - first, len(shapes))
        y, x = np.divmod(place, across)
        anchors[here] = shapes[shape] + stride * np.stack([x, y, x, y], axis=1)
        first = end
    return anchors


def _shapes(sides: Sequence[float], ratios: Sequence[float]) -> Boxes:
    """Anchors around the origin; for each ratio of height to width those of all sides.

    In float32 and rounded to whole pixels, as torchvision does.
    """
    root = np.sqrt(np.asarray(ratios, np.float32))[:, None]
    scales = np.asarray(sides, np.float32)[None]
    width, height = (1 / root * scales).ravel(), (root * scales).ravel()
    return np.round(np.stack([-width, -height, width, height], axis=1) / 2).astype(np.float64)


def _boxes(config: DetectorConfig, deltas: NDArray[np.float64], anchors: Boxes) -> Boxes:
    """Boxes of raw regressions, coded as the detector's `decode_boxes` says."""
    extent = anchors[:, 2:] - anchors[:, :2]
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    if config.name == "fcos":  # distances to the sides, in anchors
        reach = deltas * np.tile(extent, 2)
        return np.concatenate([centre - reach[:, :2], centre + reach[:, 2:]], axis=1)
    shift, grow = deltas[:, :2], deltas[:, 2:]
    if config.name == "yolof":
        furthest = config.yolof.max_shift / extent
        shift = np.clip(shift, -furthest, furthest)
    elif config.name == "atss":
        shift, grow = shift / 10, grow / 5
    centre = centre + shift * extent
    half = np.exp(np.minimum(grow, _LONGEST_STEP)) * extent / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))))


def _logit(scores: NDArray[np.float64]) -> NDArray[Any]:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(scores) - np.log1p(-scores))

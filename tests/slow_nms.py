"""Greedy non-maximum suppression as the textbook has it: obvious, and quadratic."""

import numpy as np


def greedy_nms_slowly(detections, iou, per_class=True):
    """The rule as it is told: best first, each falls to any kept one that it overlaps."""
    arrays = (detections.boxes, detections.scores, detections.labels)
    boxes, scores, labels = (array.tolist() for array in arrays)
    kept = []
    for row in sorted(range(len(scores)), key=lambda row: (-scores[row], row)):
        rivals = [k for k in kept if not per_class or labels[k] == labels[row]]
        if not any(overlap_by_more(boxes[k], boxes[row], iou) for k in rivals):
            kept.append(row)
    return np.isin(np.arange(len(scores)), kept)


def overlap_by_more(one, other, iou):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    return common > iou * (area(one) + area(other) - common)


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])

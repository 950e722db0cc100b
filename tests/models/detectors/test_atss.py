"""ATSS's assignment against the paper's algorithm 1, written as loops."""

import math

import pytest
import torch
from torchvision.ops import box_iou

from models.detectors.atss import assign
from models.detectors.places import BACKGROUND


def anchors_of(side, strides=(8, 16, 32), scale=4.0):
    levels = []
    for stride in strides:
        ticks = torch.arange(0, side, stride, dtype=torch.float32)
        y, x = torch.meshgrid(ticks, ticks, indexing="ij")
        centre = torch.stack([x, y], dim=-1).reshape(-1, 2)
        half = scale * stride / 2
        levels.append(torch.cat([centre - half, centre + half], dim=1))
    return torch.cat(levels), [len(level) for level in levels]


def random_boxes(count, side):
    centre, size = torch.rand(count, 2) * side, 8 + torch.rand(count, 2) * 60
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def centre(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def algorithm_1(boxes, anchors, level_sizes, k):
    """The paper's algorithm 1 line by line, for one image."""
    iou = box_iou(boxes, anchors).tolist()
    boxes, anchors = boxes.tolist(), anchors.tolist()
    owner = [BACKGROUND] * len(anchors)
    for g, box in enumerate(boxes):
        candidates, first = [], 0
        for size in level_sizes:
            level = range(first, first + size)
            candidates += sorted(level, key=lambda a: math.dist(centre(anchors[a]), centre(box)))[
                :k
            ]
            first += size
        overlaps = [iou[g][a] for a in candidates]
        mean = sum(overlaps) / len(overlaps)
        variance = sum((o - mean) ** 2 for o in overlaps) / (len(overlaps) - 1)
        for a in candidates:
            x, y = centre(anchors[a])
            inside = box[0] < x < box[2] and box[1] < y < box[3]
            positive = iou[g][a] >= mean + math.sqrt(variance) and inside
            if positive and (owner[a] == BACKGROUND or iou[g][a] > iou[owner[a]][a]):
                owner[a] = g
    return owner


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("k", [3, 9])
def test_assigns_as_the_papers_algorithm(seed, k):
    torch.manual_seed(seed)
    anchors, level_sizes = anchors_of(96)
    boxes = random_boxes(1 + 3 * seed, 96)
    matched = assign(boxes, anchors, level_sizes, k)
    assert matched.tolist() == algorithm_1(boxes, anchors, level_sizes, k)
    assert (matched >= 0).any()


def test_an_image_without_cells_is_background():
    anchors, level_sizes = anchors_of(64)
    assert (assign(torch.zeros(0, 4), anchors, level_sizes, 9) == BACKGROUND).all()

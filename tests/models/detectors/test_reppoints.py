"""RepPoints' boxes and assignments against loops from the paper's text."""

import math
import statistics

import pytest
import torch
from torch.nn.functional import conv2d
from torchvision.ops import box_iou

from models.detectors.places import BACKGROUND, IGNORED
from models.detectors.reppoints import (
    PointConv,
    PointsToBox,
    assign_centres,
    assign_overlaps,
    damped,
    place_points,
)


def places(side, levels=(3, 4, 5)):
    squares = []
    for stride in (2.0**level for level in levels):
        ticks = torch.arange(0, side, stride)
        y, x = torch.meshgrid(ticks, ticks, indexing="ij")
        centre = torch.stack([x, y], dim=-1).reshape(-1, 2)
        squares.append(torch.cat([centre - stride / 2, centre + stride / 2], dim=1))
    return torch.cat(squares)


def random_boxes(count, side=96, largest=200):
    centre, size = torch.rand(count, 2) * side, 8 + torch.rand(count, 2) * largest
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def test_moments_make_a_box():
    points = torch.randn(20, 9, 2) * 10
    convert = PointsToBox("moment")
    torch.nn.init.constant_(convert.log_factors, math.log(1.7))
    for box, nine in zip(convert(points).tolist(), points.tolist(), strict=True):
        for axis in (0, 1):
            values = [point[axis] for point in nine]
            centre, half = statistics.mean(values), 1.7 * statistics.stdev(values)
            assert box[axis] == pytest.approx(centre - half, abs=1e-4)
            assert box[axis + 2] == pytest.approx(centre + half, abs=1e-4)


def test_extremes_make_a_box():
    points = torch.randn(20, 9, 2)
    for box, nine in zip(PointsToBox("minmax")(points).tolist(), points.tolist(), strict=True):
        x, y = zip(*nine, strict=True)
        assert box == [min(x), min(y), max(x), max(y)]


def test_equal_points_have_finite_gradients():
    points = torch.zeros(1, 9, 2, requires_grad=True)
    PointsToBox("moment")(points).square().sum().backward()
    assert points.grad.isfinite().all()


def test_damping_keeps_the_value_and_a_share_of_the_gradient():
    value = torch.tensor([3.0], requires_grad=True)
    out = damped(value, 0.1)
    out.sum().backward()
    torch.testing.assert_close(out, value)
    torch.testing.assert_close(value.grad, torch.tensor([0.1]))


def test_points_lie_where_the_convolution_reads():
    """Offsets moved by one place to the right read what a convolution there would."""
    conv = PointConv(4)
    features = torch.rand(1, 4, 6, 6)
    shift = torch.tensor([0.0, 1.0]).repeat(9).view(1, 18, 1, 1)
    out = conv(features, (conv.grid + shift).expand(1, 18, 6, 6))
    plain = conv2d(features, conv.conv.weight, conv.conv.bias, padding=1)
    torch.testing.assert_close(out[..., :-1], plain[..., 1:])
    anchor = torch.tensor([[28.0, 44, 36, 52]])  # stride 8 around (32, 48)
    points = place_points((conv.grid + shift).view(1, 18), anchor)
    torch.testing.assert_close(points.mean(dim=1), torch.tensor([[40.0, 48]]))
    torch.testing.assert_close(points[0, 0], torch.tensor([32.0, 40]))


@pytest.mark.parametrize("seed", range(8))
def test_initial_positives_are_the_places_of_the_centres(seed):
    torch.manual_seed(seed)
    boxes, anchors = random_boxes(1 + 4 * seed), places(96)
    owner, distance_of = [BACKGROUND] * len(anchors), {}
    for g, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        scale = math.floor(math.log2(math.sqrt((x1 - x0) * (y1 - y0)) / 4))
        stride = 2 ** min(max(scale, 3), 5)
        reach = []
        for a, (left, top, right, bottom) in enumerate(anchors.tolist()):
            if right - left == stride:
                centre = (x0 + x1 - left - right) / 2, (y0 + y1 - top - bottom) / 2
                reach.append((math.hypot(*centre), a))
        distance, place = min(reach)
        if distance < distance_of.get(place, math.inf):
            owner[place], distance_of[place] = g, distance
    assert assign_centres(boxes, anchors).tolist() == owner


@pytest.mark.parametrize("seed", range(8))
def test_refined_positives_are_the_guesses_that_overlap(seed):
    torch.manual_seed(seed)
    boxes = random_boxes(1 + seed, largest=40)
    guessed = boxes.repeat(9, 1) + torch.randn(9 * len(boxes), 4) * 4
    overlap = box_iou(boxes, guessed)
    expected = []
    for a in range(len(guessed)):
        best = int(overlap[:, a].argmax())
        iou = overlap[best, a]
        kept = any(overlap[g, a] == overlap[g].max() for g in range(len(boxes)))
        expected.append(best if iou >= 0.5 or kept else IGNORED if iou >= 0.4 else BACKGROUND)
    assert assign_overlaps(boxes, guessed).tolist() == expected


def test_guesses_that_touch_nothing_are_background():
    boxes, anchors = torch.tensor([[0.0, 0, 10, 10]]), places(64)
    nowhere = torch.full((5, 4), 500.0)
    assert (assign_overlaps(boxes, nowhere) == BACKGROUND).all()
    assert (assign_overlaps(torch.zeros(0, 4), nowhere) == BACKGROUND).all()
    assert (assign_centres(torch.zeros(0, 4), anchors) == BACKGROUND).all()

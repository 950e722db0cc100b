"""YOLOF's matching against loops from the paper's section 4.2, and its implicit objectness."""

import pytest
import torch
from torchvision.ops import box_iou

from configs import ConfigError
from models import build_detector
from models.config import YOLOFSettings
from models.detectors.places import BACKGROUND, IGNORED
from models.detectors.yolof import logit_of_product, match


def random_boxes(count, side=96):
    centre, size = torch.rand(count, 2) * side, 8 + torch.rand(count, 2) * 60
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def distance(box, other):
    """L1 of centre and size."""
    centres = sum(abs(box[k] + box[k + 2] - other[k] - other[k + 2]) / 2 for k in (0, 1))
    sizes = sum(abs(box[k + 2] - box[k] - other[k + 2] + other[k]) for k in (0, 1))
    return centres + sizes


def uniform_matching(boxes, anchors, predicted, settings):
    anchor_iou, predicted_iou = box_iou(boxes, anchors), box_iou(boxes, predicted)
    owner = [BACKGROUND] * len(anchors)
    for g, box in enumerate(boxes.tolist()):
        for others in (anchors.tolist(), predicted.tolist()):
            nearest = sorted(range(len(others)), key=lambda a: distance(box, others[a]))
            for a in nearest[: settings.matches]:
                if owner[a] == BACKGROUND or anchor_iou[g, a] > anchor_iou[owner[a], a]:
                    owner[a] = g
    for a, g in enumerate(owner):
        if g == BACKGROUND and (predicted_iou[:, a] > 0.7).any():
            owner[a] = IGNORED
        if g >= 0 and anchor_iou[g, a] < 0.15:
            owner[a] = IGNORED
    return owner


@pytest.mark.parametrize("seed", range(8))
def test_matches_as_the_paper(seed):
    torch.manual_seed(seed)
    settings = YOLOFSettings()
    boxes, anchors = random_boxes(1 + 2 * seed), random_boxes(150)
    predicted = anchors + torch.randn(150, 4) * 4
    predicted[:2] = boxes[0] + torch.tensor(
        [[1.0], [1.5]]
    )  # predictions near enough a box to be ignored, if not matched
    matched = match(boxes, anchors, predicted, settings).tolist()
    assert matched == uniform_matching(boxes, anchors, predicted, settings)
    assert len([m for m in matched if m >= 0]) <= 2 * settings.matches * len(boxes)


def test_good_negatives_and_poor_positives_are_ignored():
    anchors = torch.tensor([[0.0, 0, 10, 10], [200, 200, 204, 204], [0, 0, 40, 40]])
    predicted = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10.5], [0, 0, 10, 11]])
    settings = YOLOFSettings(matches=1)
    matched = match(anchors[:1], anchors, predicted, settings)
    assert matched.tolist() == [0, IGNORED, IGNORED]
    poor = match(anchors[:1], anchors[1:], anchors[1:], settings)
    assert poor.tolist() == [BACKGROUND, IGNORED]


def test_an_image_without_cells_is_background():
    anchors = random_boxes(5)
    assert (match(torch.zeros(0, 4), anchors, anchors, YOLOFSettings()) == BACKGROUND).all()


def test_objectness_multiplies_probabilities():
    classes, objectness = torch.randn(50, 3).double() * 5, torch.randn(50, 1).double() * 5
    product = classes.sigmoid() * objectness.sigmoid()
    torch.testing.assert_close(logit_of_product(classes, objectness).sigmoid(), product)
    extreme = logit_of_product(torch.tensor([300.0]), torch.tensor([-300.0]))
    assert extreme.item() == pytest.approx(-300)


def test_centres_stay_near_their_anchors():
    model = build_detector(
        {"name": "yolof", "classes": ["A"], "pyramid": {"channels": 32}, "head_convs": 1}
    )
    anchors = torch.tensor([[0.0, 0, 100, 100], [0, 0, 10, 10]])
    boxes = model.decode_boxes(torch.full((2, 4), 20.0) * torch.tensor([1, -1, 0, 0]), anchors)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    torch.testing.assert_close(centres, torch.tensor([[82.0, 18], [37, -27]]))


def test_one_level_only():
    base = {"name": "yolof", "classes": ["A"]}
    assert build_detector(base | {"pyramid": {"channels": 32}}).config.pyramid.levels == (4,)
    with pytest.raises(ConfigError, match="one level"):
        build_detector(base | {"pyramid": {"levels": [3, 4]}})

"""The abnormal head: its losses by hand, its scores, and that every detector carries it."""

import copy
import math
from itertools import product

import pytest
import torch
from pydantic import ValidationError
from smallbackbone import SMALL

from configs import ConfigError
from models import DetectorConfig, build_detector
from models.config import AbnormalHeadSettings
from models.detectors.abnormal import AbnormalHead
from models.detectors.dense import DenseDetector
from models.detectors.fcos import FCOS
from models.detectors.places import BACKGROUND, IGNORED
from models.detectors.slot import LossSlot

CLASSES = ("NILM", "LSIL", "HSIL")
IS_ABNORMAL = [False, True, True]


def config(detector="fcos", head=(), **settings):
    small = {"classes": CLASSES, "head_convs": 1, "pyramid": {"channels": 32, "levels": (3,)}}
    small |= SMALL | {"loss": {"name": "cross_entropy"}, "abnormal_head": dict(head)}
    return DetectorConfig(name=detector, **{**small, **settings})


def head(**settings):
    return AbnormalHead(AbnormalHeadSettings(**settings), IS_ABNORMAL, 4)


def logit(p):
    return math.log(p / (1 - p))


def kl(p, q):
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


@pytest.mark.parametrize(("pooled", "p"), [("max", 0.5), ("noisy_or", 1 - 0.8 * 0.5)])
def test_the_highest_abnormal_score_is_the_geometric_mean_of_both_answers(pooled, p):
    classes = torch.tensor([[0.9, 0.2, 0.5]])
    scores = head(pooled=pooled).scores(classes, torch.tensor([logit(0.8)]))
    expected = math.sqrt(p * 0.8)
    assert scores[0].tolist() == pytest.approx([0.9, 0.2 * expected / 0.5, expected])


def test_scores_stay_where_both_agree_and_extremes_are_probabilities():
    classes = torch.tensor([[0.9, 0.2, 0.5], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.1, 1e-42, 0.0]])
    logits = torch.tensor([0.0, 50.0, 1e4, -1e4])
    scores = head().scores(classes, logits)
    torch.testing.assert_close(scores[0], classes[0])
    assert scores[1].tolist() == [0, 0, 0]
    assert scores[2].tolist() == [1, 1, 1]
    assert scores[3].tolist() == pytest.approx([0.1, 0, 0])
    assert (head(pooled="noisy_or").scores(classes, logits) <= 1).all()


def test_losses_of_a_batch_by_hand():
    """Binary cross-entropy at all places but the ignored, the divergence at the chosen ones."""
    settings = {"weight": 2.0, "consistency": 0.5, "hard_background": 1}
    slot = LossSlot(config(head=settings))
    assert slot.channels == len(CLASSES) + 1
    labels = torch.tensor([[0, 2, BACKGROUND, BACKGROUND, IGNORED]])
    p = torch.tensor(
        [[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.1, 0.1, 0.1], [0.1, 0.3, 0.4], [0.5] * 3]
    )
    q = [0.2, 0.6, 0.1, 0.3, 0.9]
    logits = torch.cat([torch.logit(p), torch.logit(torch.tensor(q))[:, None]], dim=1)[None]
    losses = slot.losses(logits, labels)
    binary = -sum(math.log(v) for v in (1 - 0.2, 0.6, 1 - 0.1, 1 - 0.3))
    assert losses["abnormal"].item() == pytest.approx(2.0 * binary / 2)
    # Two positives ask for two places of the background, which are all that there are.
    pairs = [(0.3, 0.2), (0.7, 0.6), (0.1, 0.1), (0.4, 0.3)]
    apart = sum(kl(a, b) / 2 + kl(b, a) / 2 for a, b in pairs)
    assert losses["consistency"].item() == pytest.approx(0.5 * apart / 2, rel=1e-5)
    assert slot(logits, labels).item() == pytest.approx(sum(losses.values()).item())
    plain = LossSlot(config(abnormal_head=None))
    assert losses["classification"].item() == plain(logits[..., :3], labels).item()


def test_the_normaliser_is_that_of_the_class_loss():
    slot = LossSlot(config(head={"consistency": 1.0}, normaliser="image_positives"))
    labels = torch.tensor([[2, 2, BACKGROUND], [1, BACKGROUND, IGNORED]])
    logits = torch.zeros(2, 3, 4)
    logits[..., 3] = logit(0.25)
    losses = slot.losses(logits, labels)
    first = -2 * math.log(0.25) - math.log(0.75)
    second = -math.log(0.25) - math.log(0.75)
    assert losses["abnormal"].item() == pytest.approx((first / 2 + second / 1) / 2)
    apart = (kl(0.5, 0.25) + kl(0.25, 0.5)) / 2
    assert losses["consistency"].item() == pytest.approx((3 * apart / 2 + 2 * apart / 1) / 2)


def test_the_hardest_background_is_chosen():
    scores = torch.tensor([0.9, 0.1, 0.8, 0.3, 0.9])
    labels = torch.tensor([0, -1, -1, -1, 1])
    assert head().chosen(scores, labels).tolist() == [0, 4, 2, 3]
    assert head(hard_background=0).chosen(scores, labels).tolist() == [0, 4]
    assert head().chosen(scores, torch.full((5,), -1)).tolist() == []


def test_either_is_drawn_towards_the_other():
    """By half of what it would be if the other stood still; none of it in the other."""
    classes = torch.tensor([[0.1, 0.2, 0.7]], requires_grad=True)
    logits = torch.tensor([logit(0.4)], requires_grad=True)
    head().divergence(classes, logits).sum().backward()
    p, q = 0.7, 0.4
    slope = math.log(p / q) - math.log((1 - p) / (1 - q))  # of KL(p || q) in p
    assert classes.grad[0].tolist() == pytest.approx([0, 0, slope / 2], rel=1e-5)
    back = math.log(q / p) - math.log((1 - q) / (1 - p))
    assert logits.grad.item() == pytest.approx(back / 2 * q * (1 - q), rel=1e-5)


def test_divergence_is_finite_at_extremes():
    classes = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    logits = torch.tensor([-1e4, 1e4], requires_grad=True)
    found = head().divergence(classes, logits)
    found.sum().backward()
    assert found.isfinite().all()
    assert classes.grad.isfinite().all()
    assert logits.grad.isfinite().all()


def test_the_watcher_sees_the_class_loss_alone():
    slot = LossSlot(config(head={"consistency": 1.0}))
    labels = torch.tensor([[0, 2, BACKGROUND]])
    logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    seen = []
    slot.watchers.append(lambda gradient, _: seen.append(gradient))
    slot(logits, labels).backward()
    alone = logits.detach()[..., :3].clone().requires_grad_()
    LossSlot(config(abnormal_head=None))(alone, labels).backward()
    torch.testing.assert_close(seen[0], alone.grad[0])


def cells():
    boxes = torch.tensor([[10.0, 10, 40, 40], [30, 30, 60, 62]])
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return [{"boxes": boxes, "labels": torch.tensor([1, 0])}, nothing]


@pytest.mark.parametrize(
    ("detector", "loss"),
    [
        *product(["atss", "fcos", "reppoints", "retinanet", "yolof"], ["grad_libra"]),
        *product(["atss", "retinanet"], ["seesaw"]),
    ],
)
def test_every_detector_carries_it(detector, loss):
    torch.manual_seed(0)
    whole = {"consistency": 0.5, "contrast": 0.1}
    model = build_detector(config(detector, whole, loss={"name": loss}))
    images = [torch.rand(3, 64, 64) for _ in range(2)]
    for _ in range(2):  # prototypes are there from the second step on
        losses = model(images, cells())
        assert {"classification", "abnormal", "consistency", "contrast"} < set(losses)
        torch.stack(list(losses.values())).sum().backward()
    assert losses["contrast"] > 0
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert (model.slot.abnormal.contrast.project[0].weight.grad != 0).any()
    assert not model.slot._features
    copy.deepcopy(model)  # the moving average is one
    model.eval().use_thresholds((0.0,) * 3)
    with torch.no_grad():
        outputs, anchors, _ = model.run(model.transform(images)[0])
        [found, _] = model.decode(outputs, anchors, [(64, 64)] * 2)
        logits = outputs["cls_logits"][0]
        classes = model.slot.loss.scores(logits[:, :-1])
        p, q = classes[:, 1:].amax(dim=1), logits[:, -1].sigmoid()
    merged = model.slot.scores(logits)
    torch.testing.assert_close(merged[:, 1:].amax(dim=1), (p * q).sqrt())
    torch.testing.assert_close(merged[:, 0], classes[:, 0])
    assert found["class_scores"].shape[1] == 3


def test_it_starts_at_the_prior():
    model = build_detector(config(prior_probability=0.05)).eval()
    with torch.no_grad():
        outputs, _, _ = model.run(model.transform([torch.rand(3, 64, 64)])[0])
    assert float(outputs["cls_logits"][..., -1].sigmoid().median()) == pytest.approx(0.05, rel=0.1)


def test_features_are_those_of_the_place():
    """RetinaNet has several anchors a place, level after level."""
    slot = LossSlot(config("retinanet", {"contrast": 1.0}))
    levels = [torch.arange(8.0).reshape(2, 1, 2, 2), 10 + torch.arange(2.0).reshape(2, 1, 1, 1)]
    slot._features = levels
    places = torch.tensor([[0, 0], [0, 2], [0, 7], [1, 5], [1, 14]])
    assert slot._features_at(places, 15)[:, 0].tolist() == [0, 0, 2, 5, 11]


def test_a_place_of_several_anchors_is_compared_once(monkeypatch):
    """Its cell's other anchor looks most like a cell, but is no background to pick it out of."""
    slot = LossSlot(config("retinanet", {"contrast": 1.0, "hard_background": 1}))
    slot._features = [torch.tensor([[[[7.0, 8.0, 9.0]]]])]
    p = torch.tensor([[0.1, 0.6, 0.1], [0.1, 0.9, 0.1], [0.1] * 3, [0.2] * 3, [0.8] * 3, [0.1] * 3])
    labels = torch.tensor([[1, BACKGROUND, BACKGROUND, BACKGROUND, BACKGROUND, IGNORED]])
    logits = torch.cat([torch.logit(p), torch.zeros(6, 1)], dim=1)[None]
    asked = []
    monkeypatch.setattr(slot.abnormal.contrast, "forward", lambda *of: asked.append(of) or p.sum())
    slot.losses(logits, labels)
    [(features, of_places)] = asked
    assert features.tolist() == [[7.0], [8.0]]
    assert of_places.tolist() == [1, BACKGROUND]


def test_a_head_that_tells_nothing_is_refused():
    with pytest.raises(ValidationError, match=r"of NILM, normal none is abnormal; name those"):
        config(classes=("NILM", "normal"))
    with pytest.raises(ValidationError, match="SCC, which are no classes"):
        config(abnormal=("SCC",))


class _OwnLayer(FCOS):
    """Does not tell its layer, nor asks how many channels it needs."""

    def __init__(self, config):
        super().__init__(config)
        self.head.slot._layer = ()

    def run(self, batch):
        outputs, *rest = super().run(batch)
        return {**outputs, "cls_logits": outputs["cls_logits"][..., :3]}, *rest


def test_a_detector_that_cannot_carry_it_is_told(monkeypatch):
    monkeypatch.setattr("models.detectors.build.find_detector", lambda _: _OwnLayer)
    with pytest.raises(ConfigError, match=r"contrast: fcos doesn't tell which layer"):
        build_detector(config(head={"contrast": 0.1}))
    model = build_detector(config())
    assert isinstance(model, DenseDetector)
    with pytest.raises(ConfigError, match="gives 3 values a place where 4 are needed"):
        model([torch.rand(3, 64, 64)] * 2, cells())

"""The comparison with background and history: its values by hand, and that detectors carry it."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from smallbackbone import SMALL

from configs import ConfigError
from models import DetectorConfig, build_detector, with_class_counts
from models.config import HistorySettings, JitterSettings
from models.detectors.fcos import FCOS
from models.detectors.history import (
    HistoricalComparison,
    at_most,
    class_nearness,
    class_weights,
    contrast_of_cells,
    contrast_of_classes,
    jittered,
    moved,
)
from models.detectors.places import BACKGROUND, IGNORED, place_labels

CLASSES = ("NILM", "LSIL", "HSIL")
EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


def config(detector="fcos", history=(), **settings):
    small = {"classes": CLASSES, "head_convs": 1, "pyramid": {"channels": 32, "levels": (3,)}}
    small |= SMALL | {"loss": {"name": "cross_entropy"}, "history": dict(history)}
    small |= {"atss": {"anchor_scale": 4}}
    return DetectorConfig(name=detector, **{**small, **settings})


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def of_classes(cells, labels, memory=(), of_memory=(), weights=(1.0, 1.0), nearness=None):
    return contrast_of_classes(
        torch.tensor(cells),
        torch.tensor(labels),
        torch.tensor(memory).reshape(-1, 2),
        torch.tensor(of_memory, dtype=torch.int64),
        0.5,
        torch.tensor(weights),
        torch.ones(2, 2) if nearness is None else torch.tensor(nearness),
    ).item()


def minus_log_share(own, *others):
    return -math.log(math.exp(own) / sum(math.exp(one) for one in (own, *others)))


def test_the_contrast_of_cells_equals_one_computed_by_hand():
    """By a temperature of 0.5 likenesses are 2 of alike cells, 0 of orthogonal ones."""
    cells, background = torch.tensor([EAST, EAST, NORTH]), torch.tensor([WEST])
    of_east = (minus_log_share(2, 0, -2) + minus_log_share(0, 2, -2)) / 2
    of_north = minus_log_share(0, 0, 0)
    expected = (2 * of_east + of_north) / 3
    assert contrast_of_cells(cells, background, 0.5).item() == pytest.approx(expected, rel=1e-6)


def test_the_contrast_of_classes_equals_one_computed_by_hand():
    of_east = minus_log_share(2, 0, 0)  # of the other EAST; two NORTH are not alike
    of_north = minus_log_share(2, 0, 0)  # the remembered one
    found = of_classes([EAST, EAST, NORTH], [0, 0, 1], [NORTH], [1])
    assert found == pytest.approx((2 * of_east + of_north) / 3, rel=1e-6)
    # Of two that are alike the mean, whatever they are like.
    both = (minus_log_share(2, 0, 2) + minus_log_share(0, 2, 2)) / 2
    third = minus_log_share(0, 0, 0)
    of_memory = of_classes([EAST, EAST, NORTH], [0, 0, 0], [EAST], [1])
    assert of_memory == pytest.approx((2 * both + third) / 3, rel=1e-6)


def test_rare_classes_weigh_more_and_near_ones_are_kept_apart_more():
    cells, labels = [EAST, EAST, NORTH, NORTH], [0, 0, 1, 1]
    of_east = minus_log_share(2, 0, 0)
    skewed = [EAST, EAST, EAST, NORTH], [0, 0, 1, 1]
    first, second, third = (
        minus_log_share(2, 2, 0),  # EAST of class 0
        minus_log_share(0, 2, 2),  # EAST of class 1, whose like is NORTH
        minus_log_share(0, 0, 0),
    )
    weighed = (2 * 1 * first + 3 * second + 3 * third) / (2 * 1 + 2 * 3)
    assert of_classes(*skewed, weights=(1.0, 3.0)) == pytest.approx(weighed, rel=1e-6)
    assert of_classes(cells, labels) == pytest.approx(of_east, rel=1e-6)
    near = -math.log(math.exp(2) / (math.exp(2) + 2 * 5))
    found = of_classes(cells, labels, nearness=[[1.0, 5.0], [5.0, 1.0]])
    assert found == pytest.approx(near, rel=1e-6)


def test_the_order_of_places_changes_nothing():
    cells = torch.nn.functional.normalize(torch.randn(9, 4, generator=drawn()), dim=1)
    background = torch.nn.functional.normalize(torch.randn(5, 4, generator=drawn(1)), dim=1)
    labels = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 1])
    order = torch.randperm(9, generator=drawn(2))
    torch.testing.assert_close(
        contrast_of_cells(cells, background, 0.1),
        contrast_of_cells(cells[order], background.flip(0), 0.1),
    )
    rest = background, torch.tensor([0, 0, 1, 0, 1]), 0.1, torch.tensor([1.0, 2]), torch.ones(2, 2)
    torch.testing.assert_close(
        contrast_of_classes(cells, labels, *rest),
        contrast_of_classes(cells[order], labels[order], *rest),
    )


@pytest.mark.parametrize(
    ("cells", "labels", "memory", "of_memory", "expected"),
    [
        ([], [], [EAST], [0], 0),
        ([EAST], [0], [], [], 0),
        ([EAST], [0], [NORTH], [1], 0),  # nothing alike
        ([EAST, NORTH], [0, 1], [EAST, EAST], [0, 0], minus_log_share(2, 2, 0)),
    ],
)
def test_a_memory_of_one_class_and_nothing_at_all_are_finite(
    cells, labels, memory, of_memory, expected
):
    cells = torch.tensor(cells).reshape(-1, 2).requires_grad_()
    loss = contrast_of_classes(
        cells,
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(memory).reshape(-1, 2),
        torch.tensor(of_memory, dtype=torch.int64),
        0.5,
        torch.ones(2),
        torch.ones(2, 2),
    )
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert cells.grad.isfinite().all()


def test_one_cell_or_no_background_says_nothing_of_cells():
    one, two = torch.tensor([EAST]), torch.tensor([EAST, NORTH])
    assert contrast_of_cells(one, two, 0.1).item() == 0
    assert contrast_of_cells(two, two[:0], 0.1).item() == 0


def test_a_place_of_several_anchors_is_one_place():
    scores = torch.tensor(
        [[[0.1, 0.9], [0.2, 0.4], [0.3, 0.1], [0.1, 0.2], [0.7, 0.1], [0.1, 0.8]]]
    )
    labels = torch.tensor([[BACKGROUND, 1, IGNORED, BACKGROUND, BACKGROUND, BACKGROUND]])
    sure, here = place_labels(scores, labels, 2)
    assert here.tolist() == [[1, IGNORED, BACKGROUND]]
    assert sure[0, [0, 2]].tolist() == pytest.approx([0.4, 0.8])  # of its own class; the highest
    _, both = place_labels(scores, torch.tensor([[0, 1, 0, 1, 0, 1]]), 2)
    assert both.tolist() == [[1, 0, 1]]  # the surest anchor's
    alone, same = place_labels(scores, labels, 1)
    assert same.tolist() == labels.tolist()
    assert alone[0, :2].tolist() == pytest.approx([0.9, 0.4])


def test_of_too_many_places_the_rare_classes_stay():
    labels = torch.tensor([0] * 50 + [-1] * 7 + [1] * 3 + [2] * 20)
    kept = at_most(labels, 23, drawn())
    counted = labels[kept][labels[kept] >= 0].bincount().tolist()
    assert counted == [10, 3, 10]
    assert int((labels[kept] < 0).sum()) == 7
    assert kept.tolist() == sorted(kept.tolist())
    assert kept.tolist() == at_most(labels, 23, drawn()).tolist()
    assert kept.tolist() != at_most(labels, 23, drawn(1)).tolist()
    assert at_most(labels, 73, drawn()).tolist() == list(range(80))


def test_views_lie_within_what_the_settings_say():
    boxes = torch.tensor([[10.0, 20, 50, 40]]).repeat(500, 1)
    views = moved(boxes, 0.1, drawn())
    centres, sides = (views[:, :2] + views[:, 2:]) / 2, views[:, 2:] - views[:, :2]
    by = (centres - torch.tensor([30.0, 30.0])) / torch.tensor([40.0, 20.0])
    grown = (sides / torch.tensor([40.0, 20.0])).log()
    for values in (by, grown):
        assert 0.09 < float(values.abs().amax()) <= 0.1 + 1e-5
        assert values.mean().abs() < 0.01
    torch.testing.assert_close(moved(boxes, 0.0, drawn()), boxes)


def test_views_are_read_from_the_map_at_their_box():
    """Maps that say where one is: of a level with places of 8 px, and of one with 16."""
    x = (torch.arange(16.0) + 0.5).expand(2, 1, 16, 16)
    maps = torch.cat([8 * x, 8 * x.transpose(2, 3)], dim=1)
    maps[1] += 1000
    coarse = 2 * maps[..., :8, :8]
    targets = [
        {"boxes": torch.tensor([[8.0, 24, 56, 88]]), "labels": torch.tensor([1])},
        {"boxes": torch.tensor([[10.0, 10, 120, 110]]), "labels": torch.tensor([2])},
    ]
    still = JitterSettings(count=2, size=0)
    features, labels = jittered([maps, coarse], [8, 16], targets, still, drawn())
    assert labels.tolist() == [1, 2, 1, 2]
    expected = torch.tensor([[32.0, 56], [2065, 2060]])  # centres; the large one's level says 2x
    torch.testing.assert_close(features, expected.repeat(2, 1))
    nothing = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}] * 2
    empty, none = jittered([maps, coarse], [8, 16], nothing, still, drawn())
    assert empty.shape == (0, 2)
    assert none.shape == (0,)


def test_weights_and_nearness_of_classes():
    settings = HistorySettings(class_power=0.5, class_counts=(100, 25, 0))
    assert class_weights(settings, 3).tolist() == [1, 2, 10]
    assert class_weights(HistorySettings(), 3).tolist() == [1, 1, 1]
    groups = {"groups": [["LSIL", "HSIL"]], "factor": 2.0}
    nearness = class_nearness(HistorySettings(hierarchy=groups).hierarchy, CLASSES)
    assert nearness.tolist() == [[1, 1, 1], [1, 1, 2], [1, 2, 1]]
    with pytest.raises(ConfigError, match=r"class_power: weighs classes by their training cells"):
        build_detector(config(history={"class_power": 0.5}))
    counted = with_class_counts(config(history={"class_power": 0.5}), [100, 25, 4])
    build_detector(counted)
    assert counted.history.class_counts == (100, 25, 4)
    given = with_class_counts(config(history={"class_counts": (1, 2, 3)}), [100, 25, 4])
    assert given.history.class_counts == (1, 2, 3)


def cells():
    boxes = torch.tensor([[10.0, 10, 40, 40], [30, 30, 60, 62]])
    other = {"boxes": torch.tensor([[5.0, 8, 44, 50]]), "labels": torch.tensor([1])}
    return [{"boxes": boxes, "labels": torch.tensor([1, 0])}, other]


def no_cells():
    return [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}] * 2


def images():
    return [torch.rand(3, 64, 64, generator=drawn(one)) for one in range(2)]


WHOLE = {"warm_up": 1, "jitter": {"count": 2}, "hierarchy": {"groups": [CLASSES[1:]], "factor": 2}}


def total(losses):
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("detector", ["atss", "fcos", "reppoints", "retinanet", "yolof"])
def test_every_detector_carries_it(detector):
    torch.manual_seed(0)
    levels = (4,) if detector == "yolof" else (3, 4)
    pyramid = {"channels": 32, "levels": levels}
    model = build_detector(config(detector, WHOLE, pyramid=pyramid))
    history = model.slot.history
    for batch in (cells(), no_cells(), cells(), cells()):
        losses = model(images(), batch)
        assert {"classification", "history_cells", "history_classes"} < set(losses)
        model.zero_grad()
        total(losses).backward()
        assert all(p.grad is not None for p in history.parameters())
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        moves = any((p.grad != 0).any() for p in history.parameters())
        assert moves == bool(len(batch[0]["boxes"]))
    assert losses["history_cells"] > 0
    assert losses["history_classes"] > 0
    assert (history.memory.held > 0).tolist() == [True, True, False]
    kept, _ = history.memory.remembered()
    torch.testing.assert_close(kept.norm(dim=1), torch.ones(len(kept)))
    assert history.batches == 4
    assert not model.slot._features
    assert not model.slot._targets
    copy.deepcopy(model)  # the moving average is one
    before = copy.deepcopy(history.state_dict())
    with torch.no_grad():
        model.eval()(images())
    assert all(torch.equal(value, before[name]) for name, value in history.state_dict().items())


def test_a_detector_without_it_starts_and_answers_as_one_with_it():
    torch.manual_seed(0)
    plain = build_detector(config().model_copy(update={"history": None}))
    torch.manual_seed(0)
    other = build_detector(config(history=WHOLE))
    theirs = dict(other.state_dict())
    assert all(torch.equal(value, theirs[name]) for name, value in plain.state_dict().items())
    extra = set(theirs) - set(plain.state_dict())
    assert extra
    assert all(".history." in name for name in extra)
    losses = [model(images(), cells()) for model in (plain, other)]
    for name, value in losses[0].items():
        assert torch.equal(value, losses[1][name]), name


def test_nothing_is_remembered_or_told_of_classes_while_it_warms_up():
    torch.manual_seed(0)
    model = build_detector(config(history={"warm_up": 2}))
    history = model.slot.history
    for batch in range(4):
        losses = model(images(), cells())
        assert (losses["history_classes"] > 0) == (batch >= 2)
        assert losses["history_cells"] > 0
        assert bool(history.memory.held.any()) == (batch >= 2)


@pytest.mark.parametrize("left", ["cells", "classes"])
def test_one_of_both_alone(left):
    weights = {"cells": 0.0, "classes": 0.0} | {left: 0.5}
    model = build_detector(config(history=weights | {"warm_up": 0}))
    names = {name for name in model(images(), cells()) if name.startswith("history")}
    assert names == {f"history_{left}"}
    assert (model.slot.history.memory is None) == (left == "cells")


def test_losses_are_those_of_the_places():
    """All that `forward` puts together, with an embedding that leaves two values as they are."""
    history = HistoricalComparison(
        config(
            history={
                "cells": 2.0,
                "classes": 3.0,
                "temperature": 0.5,
                "embedding": 2,
                "warm_up": 0,
                "hard_background": 1,
            }
        )
    )
    history.project = torch.nn.Identity()
    values = torch.tensor([EAST, EAST, NORTH, WEST, NORTH, WEST])
    level = values.T.reshape(1, 2, 2, 3) * 5.0
    labels = torch.tensor([[0, 0, 1, BACKGROUND, BACKGROUND, IGNORED]])
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.3, 0.1, 0.9]])[..., None].repeat(1, 1, 3)
    history.memory.add(torch.tensor([NORTH]), torch.tensor([1]), torch.tensor([0.9]))
    losses = history([level], [], scores, labels)
    background = torch.tensor([WEST, NORTH])  # as many as there are, for three positives
    expected = contrast_of_cells(values[:3], background, 0.5)
    torch.testing.assert_close(losses["history_cells"], 2.0 * expected)
    of_each = minus_log_share(2, 0, 0)
    assert losses["history_classes"].item() == pytest.approx(3.0 * of_each, rel=1e-6)
    kept, of_kept = history.memory.remembered()
    assert of_kept.tolist() == [0, 0, 1, 1]
    assert kept.tolist() == [EAST, EAST, NORTH, NORTH]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite(kind):
    history = HistoricalComparison(config(history=WHOLE | {"warm_up": 0, "temperature": 0.01}))
    generator = drawn()
    for _ in range(2):
        level = (200 * torch.randn(2, 32, 8, 8, generator=generator)).to(kind).requires_grad_()
        labels = torch.full((2, 64), BACKGROUND)
        labels[:, :9] = torch.arange(9) % 3
        scores = torch.rand(2, 64, 3, generator=generator)
        with torch.autocast("cpu", dtype=kind):
            losses = history([level], cells(), scores, labels)
        total(losses).backward()
        assert total(losses).isfinite()
        assert all(value > 0 for value in losses.values())
        assert level.grad.isfinite().all()
        assert history.memory.cells.isfinite().all()
        assert history.memory.cells.dtype == torch.float32


def test_a_resumed_one_has_the_same_memory_bit_by_bit():
    def model():
        torch.manual_seed(0)
        return build_detector(config(history=WHOLE | {"most_places": 4}))

    through, before, after = model(), model(), model()
    for one in (through, before):
        for _ in range(2):
            one(images(), cells())
    after.load_state_dict(before.state_dict())
    torch.rand(7)  # what others draw has no part in it
    ends = [one(images(), cells()) for one in (through, after)]
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name
    for name, value in through.slot.history.state_dict().items():
        assert torch.equal(value, after.slot.history.state_dict()[name]), name


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ({"cells": 0, "classes": 0}, r"history\.cells and history\.classes are both 0"),
        ({"most_remembered": 65}, r"most_remembered \(65\) can't be more than shortest \(64\)"),
        ({"shortest": 300}, r"shortest \(300\), nor that more than longest \(256\)"),
        ({"class_counts": (1, 2)}, r"expected 3 numbers that are not all 0"),
        ({"class_counts": (0, 0, 0)}, r"expected 3 numbers that are not all 0"),
        (
            {"hierarchy": {"groups": [["LSIL", "SCC"]], "factor": 2}},
            r"groups names SCC, which are no classes",
        ),
        (
            {"hierarchy": {"groups": [["LSIL", "HSIL"], ["HSIL", "NILM"]], "factor": 2}},
            r"groups names HSIL more than once",
        ),
        ({"hierarchy": {"groups": [["LSIL"]], "factor": 2}}, r"at least 2 items"),
        ({"hard_background": 0}, r"greater than or equal to 1"),
    ],
)
def test_settings_that_can_not_be_are_refused(history, message):
    with pytest.raises(ValidationError, match=message):
        config(history=history)


class _OwnLayer(FCOS):
    """Does not tell its layer."""

    def __init__(self, config):
        super().__init__(config)
        self.head.slot._layer = ()


def test_a_detector_that_can_not_carry_it_is_told(monkeypatch):
    monkeypatch.setattr("models.detectors.build.find_detector", lambda _: _OwnLayer)
    with pytest.raises(ConfigError, match=r"model\.history: fcos doesn't tell which layer"):
        build_detector(config())

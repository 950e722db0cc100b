"""What a student learns from its teacher, and whom it can learn from."""

import copy

import pytest
import torch
from lively import lively

from configs import ConfigError
from losses import ClassificationLoss
from losses.elementwise import cross_entropy
from models import build_detector, load_detector
from models.config import AbnormalHeadSettings
from models.learning.distillation import ELSEWHERE, Imitation, check_pair, start_from, unexplained


@pytest.fixture(scope="module")
def teacher():
    return load_detector()


def student_of(teacher, **changes):
    return build_detector(teacher.config.model_copy(update=changes)).train()


@pytest.fixture
def images():
    torch.manual_seed(0)
    coarse = torch.rand(2, 3, 8, 8)
    return list(coarse.repeat_interleave(12, 2).repeat_interleave(12, 3))


def test_unexplained_is_one_less_r_squared():
    torch.manual_seed(0)
    teacher = torch.randn(4, 3, 50, 50)
    mean = teacher.mean((0, 2, 3), keepdim=True).expand_as(teacher)
    assert unexplained(teacher, teacher) == 0
    assert unexplained(mean, teacher) == pytest.approx(0.99, abs=0.001)
    assert unexplained((mean + teacher) / 2, teacher) == pytest.approx(0.99 / 4, abs=0.001)


def test_channels_weigh_alike_but_for_those_that_hardly_vary():
    torch.manual_seed(0)
    spread = torch.tensor([1.0, 2.0, 0.001]).view(1, 3, 1, 1)
    teacher = torch.randn(4, 3, 50, 50) * spread
    wrong = [teacher.clone() for _ in range(3)]
    for channel in range(3):
        wrong[channel][:, channel] = 0
    costs = [float(unexplained(one, teacher)) for one in wrong]
    assert costs[:2] == pytest.approx([0.33, 0.33], abs=0.01)
    assert costs[2] < 0.001


def test_places_count_by_their_weight():
    teacher = torch.tensor([[[0.0, 1.0, 4.0]]])
    wrong_at_last = torch.tensor([[[0.0, 1.0, 0.0]]])
    little, much = (
        unexplained(wrong_at_last, teacher, torch.tensor([[1.0, 1.0, weight]]))
        for weight in (0.01, 1.0)
    )
    variance = torch.tensor([0.0, 1.0, 4.0]).var(correction=0)
    assert much == pytest.approx(float(16 / 3 / (1.01 * variance)), rel=1e-4)
    assert unexplained(wrong_at_last, teacher, torch.tensor([[1.0, 1.0, 0.0]])) == 0
    assert little < much


def test_a_copy_has_nothing_to_learn(teacher, images):
    student = load_detector()
    losses = Imitation(teacher, 0.0)(student, images, 0.0)
    assert set(losses) == {"stem", "features", "cls_logits", "bbox_regression", "bbox_ctrness"}
    assert all(float(value.detach()) == pytest.approx(0, abs=1e-6) for value in losses.values())


@pytest.mark.parametrize("name", ["atss", "fcos", "reppoints", "retinanet", "yolof"])
def test_every_detector_can_teach_its_like(name, images):
    teacher, student = lively(name), lively(name)
    imitation = Imitation(teacher, 0.0)
    with torch.no_grad():
        alike = imitation(student, images, 0.0)
        next(student.backbone.body.parameters()).mul_(1.5)  # below everything that is compared
        apart = imitation(student, images, 0.0)
    assert len(alike) > 2
    for loss, value in alike.items():
        assert float(value) == pytest.approx(0, abs=1e-6), loss
        assert float(apart[loss]) > 1e-4, loss


def test_the_stem_comes_first_and_alone(teacher, images):
    student = student_of(teacher, backbone="mobilenet_v2_dense", head_convs=1)
    imitation = Imitation(teacher, 0.5)
    losses = imitation(student, images, 0.49)
    assert list(losses) == ["stem"]
    losses["stem"].backward()
    learns = {n.split(".")[2] for n, p in student.named_parameters() if p.grad is not None}
    assert learns == {"6"}
    assert {"stem", "features", "cls_logits"} < set(imitation(student, images, 0.5))


def test_a_lesson_brings_the_student_nearer(teacher, images):
    student = student_of(teacher, backbone="mobilenet_v2_dense", head_convs=1)
    assert start_from(student, teacher) > 100
    imitation = Imitation(teacher, 0.0)
    optimiser = torch.optim.AdamW(student.parameters(), lr=4e-3)
    totals = []
    for _ in range(20):
        total = torch.stack(list(imitation(student, images, 0.0).values())).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.6 * totals[0]
    assert all(not p.requires_grad for p in teacher.parameters())


def test_a_mistake_where_the_teacher_sees_a_cell_costs_more(images, monkeypatch):
    teacher = lively()
    with torch.no_grad():
        outputs, _, _ = teacher.run(teacher.transform(images)[0])
    scores = teacher.scores({name: value[0] for name, value in outputs.items()}).amax(1)
    head, costs = teacher.head.forward, {}
    imitation = Imitation(copy.deepcopy(teacher), 0.0)
    for what, place in (("sure", scores.argmax()), ("unsure", scores.argmin())):

        def mistaken(features, place=place):
            answers = head(features)
            answers["cls_logits"][0, place] += 5
            return answers

        monkeypatch.setattr(teacher.head, "forward", mistaken)
        costs[what] = float(imitation(teacher, images, 0.0)["cls_logits"].detach())
    ratio = (scores.max() + ELSEWHERE) / (scores.min() + ELSEWHERE)
    assert costs["sure"] / costs["unsure"] == pytest.approx(float(ratio), rel=0.01)
    assert ratio > 1.5


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"classes": ("NILM", "HSIL")}, "model.classes"),
        ({"backbone": "resnet18"}, r"model.backbone \(channels\)"),
        ({"name": "atss"}, "model.name"),
        ({"abnormal_head": AbnormalHeadSettings()}, "model.abnormal_head"),
    ],
)
def test_another_detector_is_refused(teacher, changes, named):
    with pytest.raises(ConfigError, match=named):
        check_pair(student_of(teacher, **changes), teacher, teacher.card.mpp)


class TwoLogits(ClassificationLoss):
    """A sigmoid of twice the logit; without a word on what its channels mean."""

    def forward(self, logits, targets):
        return cross_entropy(2 * logits, targets)

    def scores(self, logits):
        return (2 * logits).sigmoid()


def bags(counts, **settings):
    return {"name": "bags", "class_counts": counts} | settings


@pytest.mark.parametrize(
    ("taught", "own"),
    [
        (bags([2000, 50]), bags([50, 2000])),  # as many channels, other groups
        (bags([2000, 50]), bags([2000, 3000])),
        (bags([200, 50]), bags([200, 50], group_bounds=[500])),
        (bags([2000, 50]), {"name": "seesaw"}),
        ({"name": "seesaw"}, {"name": "eqlv2"}),
        ({"name": "cross_entropy"}, {"name": f"{__name__}:TwoLogits"}),
    ],
    ids=str,
)
def test_a_loss_that_reads_the_logits_otherwise_is_refused(taught, own):
    teacher = lively(loss=taught)
    with pytest.raises(ConfigError, match=r"differ in model\.loss \(the same .*take the teacher's"):
        check_pair(lively(loss=own), teacher, 0.5)


@pytest.mark.parametrize(
    ("taught", "own"),
    [
        (bags([2000, 50]), bags([3000, 5], beta=2.0)),
        ({"name": "cross_entropy"}, {"name": "eqlv2"}),
        ({"name": f"{__name__}:TwoLogits"}, {"name": f"{__name__}:TwoLogits"}),
    ],
    ids=str,
)
def test_a_loss_that_only_learns_otherwise_is_not(taught, own):
    check_pair(lively(loss=own), lively(loss=taught), 0.5)


@pytest.mark.parametrize("name", ["atss", "fcos", "reppoints", "retinanet", "yolof"])
def test_a_lesson_reaches_every_weight_that_is_to_learn(name, images):
    # Several processes would wait for the gradients of others.
    teacher, student = lively(name), lively(name, seed=1).train()
    weights = dict(student.named_parameters())
    learning = {name for name, weight in weights.items() if weight.requires_grad}
    start_from(student, teacher)
    torch.stack(list(Imitation(teacher, 0.0)(student, images, 0.0).values())).sum().backward()
    reached = {name for name, weight in weights.items() if weight.grad is not None}
    assert reached == {name for name, weight in weights.items() if weight.requires_grad}
    factors = {"head.points_to_box.log_factors"} if name == "reppoints" else set()
    assert learning - reached == factors


def test_another_scale_is_refused(teacher):
    with pytest.raises(ConfigError, match=r"data\.mpp"):
        check_pair(student_of(teacher), teacher, 0.25)
    check_pair(student_of(teacher, head_convs=1), teacher, teacher.card.mpp)


def test_weights_that_fit_are_taken_and_no_others(teacher):
    student = student_of(teacher, backbone="mobilenet_v2_dense", head_convs=1)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    start_from(student, teacher)
    own, other = student.state_dict(), teacher.state_dict()
    assert torch.equal(
        own["backbone.body.7.conv.0.0.weight"], other["backbone.body.7.conv.0.0.weight"]
    )
    assert torch.equal(
        own["head.classification_head.cls_logits.bias"],
        other["head.classification_head.cls_logits.bias"],
    )
    assert torch.equal(own["backbone.body.6.0.0.weight"], before["backbone.body.6.0.0.weight"])

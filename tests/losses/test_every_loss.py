"""What every loss keeps to, whatever its formula."""

import pytest
import torch
from pydantic import TypeAdapter

from losses import LossConfig

COUNTS = {"class_balanced", "eql", "bags"}
NAMES = [
    "cross_entropy", "focal", "grad_libra", "graded_libra", "class_balanced", "eql", "eqlv2",
    "ghm", "equalized_focal", "seesaw", "bags",
]  # fmt: skip


def build(name, num_classes=3):
    counts = {"class_counts": [1000, 100, 10][:num_classes]} if name in COUNTS else {}
    settings = TypeAdapter(LossConfig).validate_python({"name": name} | counts)
    return settings.build(num_classes)


def pairs(name, samples=60, num_classes=3):
    """Logits of the loss's channels, and one-hot targets of which two thirds are background."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3 * num_classes, (samples,), generator=generator)
    targets = torch.nn.functional.one_hot(labels, 3 * num_classes)[:, :num_classes].float()
    return torch.randn(samples, channels(name, num_classes), generator=generator), targets


def channels(name, num_classes=3):
    return build(name, num_classes).channels(num_classes)


def gradient(loss, logits, targets):
    logits = logits.clone().requires_grad_()
    loss(logits, targets).sum().backward()
    return logits.grad


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name, dtype):
    logits, targets = (tensor.to(dtype) for tensor in pairs(name))
    loss, exact = build(name), build(name)
    for _ in range(2):  # the second step goes by the state that the first one left
        found = loss(logits, targets)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, exact(logits.float(), targets.float()))


def test_autocast_changes_nothing(name):
    logits, targets = pairs(name)
    loss, exact = build(name), build(name)
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = loss(logits, targets)
        torch.testing.assert_close(found, exact(logits, targets))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_is_finite_at_extreme_logits(name, dtype):
    extremes = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype)
    logits = extremes.repeat(1, 3)[:, : channels(name)]
    targets = torch.tensor([[1, 0, 0], [1, 0, 0]], dtype=dtype)
    loss = build(name)
    for _ in range(3):
        assert loss(logits, targets).isfinite().all()
        assert gradient(loss, logits, targets).isfinite().all()


def test_background_alone_gives_a_finite_loss_that_lowers_every_score(name):
    logits, targets = pairs(name)
    loss = build(name)
    assert loss(logits, torch.zeros_like(targets)).isfinite().all()
    slope = gradient(build(name), logits, torch.zeros_like(targets))
    assert (slope >= 0).all()
    assert (loss.scores(logits - slope) < loss.scores(logits)).all()


def test_goes_on_after_steps_without_positives(name):
    loss = build(name)
    logits, targets = pairs(name)
    for _ in range(3):
        loss(logits, torch.zeros_like(targets))
    assert loss(logits, targets).isfinite().all()
    assert (gradient(loss, logits, targets)[:, :3][targets == 1] < 0).all()


def test_one_class(name):
    logits, targets = pairs(name, num_classes=1)
    loss = build(name, num_classes=1)
    for _ in range(2):
        found = loss(logits, targets)
        assert found.shape == (60, 1)
        assert found.isfinite().all()
        assert (found > 0).any()


def test_no_samples_give_no_loss(name):
    empty = torch.zeros(0, channels(name), requires_grad=True)
    loss = build(name)
    total = loss(empty, torch.zeros(0, 3)).sum()
    total.backward()
    assert total.item() == 0
    logits, targets = pairs(name)
    torch.testing.assert_close(loss(logits, targets), build(name)(logits, targets))


def test_the_state_survives_a_restart(name):
    logits, targets = pairs(name)
    through, before = build(name), build(name)
    for loss in (through, before):
        loss(logits, targets)
    after = build(name)
    after.load_state_dict(before.state_dict())
    torch.testing.assert_close(after(logits, targets), through(logits, targets), rtol=0, atol=0)


def test_evaluation_leaves_no_trace(name):
    logits, targets = pairs(name)
    loss = build(name)
    loss.eval()(logits, targets)
    torch.testing.assert_close(loss.train()(logits, targets), build(name)(logits, targets))


def test_scores_are_probabilities_of_each_class(name):
    loss = build(name)
    logits = torch.randn(2, 7, channels(name)) * torch.tensor([1.0, 1e4])[:, None, None]
    scores = loss.scores(logits)
    assert scores.shape == (2, 7, 3)
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("prior", [0.01, 0.1])
def test_every_class_starts_at_the_prior(name, num_classes, prior):
    loss = build(name, num_classes)
    bias = loss.prior_bias(num_classes, prior)
    assert bias.shape == (loss.channels(num_classes),)
    torch.testing.assert_close(loss.scores(bias), torch.full((num_classes,), prior))


def test_learns_the_classes_of_separable_samples(name):
    """Gradient descent on the logits themselves puts each cell's class first, and glass last."""
    _, targets = pairs(name)
    loss = build(name)
    logits = torch.zeros(60, channels(name), requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(100):
        optimiser.zero_grad()
        loss(logits, targets).sum().backward()
        optimiser.step()
    scores, cells = loss.scores(logits), targets.any(dim=-1)
    assert (scores[cells].argmax(dim=-1) == targets[cells].argmax(dim=-1)).all()
    assert scores[~cells].max() < scores[cells].amax(dim=-1).min()

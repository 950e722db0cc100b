"""What every loss keeps to, as tests: ours run them, and so should yours.

    from losses.contract import LossContract

    class TestMyLoss(LossContract):
        def build(self, num_classes):
            return MyLoss(num_classes)

Collected by pytest or unittest's loader; nothing but torch is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.elementwise import ClassificationLoss


class LossContract:
    """A loss in a detector's slot, whatever its formula."""

    def build(self, num_classes: int) -> ClassificationLoss:
        """A fresh loss; by frequency, of 1,000, 100 and 10 cells a class."""
        raise NotImplementedError

    def test_half_precision_is_computed_in_float32(self) -> None:
        """Logarithms and sums over many places need its range."""
        for dtype in (torch.bfloat16, torch.float16):
            logits, targets = (tensor.to(dtype) for tensor in self.pairs())
            loss, exact = self.build(3), self.build(3)
            for _ in range(2):  # the second step goes by the state that the first one left
                found = loss(logits, targets)
                assert found.dtype == torch.float32
                torch.testing.assert_close(found, exact(logits.float(), targets.float()))

    def test_autocast_changes_nothing(self) -> None:
        """Detectors train under it."""
        logits, targets = self.pairs()
        loss, exact = self.build(3), self.build(3)
        for _ in range(2):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found = loss(logits, targets)
            torch.testing.assert_close(found, exact(logits, targets))

    def test_is_finite_at_extreme_logits(self) -> None:
        """Loss and gradient, in every precision."""
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            extremes = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype)
            loss = self.build(3)
            repeats = -(-loss.channels(3) // 3)
            logits = extremes.repeat(1, repeats)[:, : loss.channels(3)]
            targets = torch.tensor([[1, 0, 0], [1, 0, 0]], dtype=dtype)
            for _ in range(3):
                assert loss(logits, targets).isfinite().all()
                assert _gradient(loss, logits, targets).isfinite().all()

    def test_background_alone_gives_a_finite_loss_that_lowers_every_score(self) -> None:
        """A batch may have no cell."""
        logits, targets = self.pairs()
        loss = self.build(3)
        assert loss(logits, torch.zeros_like(targets)).isfinite().all()
        slope = _gradient(self.build(3), logits, torch.zeros_like(targets))
        assert (slope >= 0).all()
        assert (loss.scores(logits - slope) < loss.scores(logits)).all()

    def test_goes_on_after_steps_without_positives(self) -> None:
        """What is gathered over steps must not be spoiled by them."""
        loss = self.build(3)
        logits, targets = self.pairs()
        for _ in range(3):
            loss(logits, torch.zeros_like(targets))
        assert loss(logits, targets).isfinite().all()
        assert (_gradient(loss, logits, targets)[:, :3][targets == 1] < 0).all()

    def test_one_class(self) -> None:
        """Cells of one kind."""
        logits, targets = self.pairs(1)
        loss = self.build(1)
        for _ in range(2):
            found = loss(logits, targets)
            assert found.shape == (60, 1)
            assert found.isfinite().all()
            assert (found > 0).any()

    def test_no_samples_give_no_loss(self) -> None:
        """And leave nothing behind."""
        loss = self.build(3)
        empty = torch.zeros(0, loss.channels(3), requires_grad=True)
        total = loss(empty, torch.zeros(0, 3)).sum()
        total.backward()
        assert total.item() == 0
        logits, targets = self.pairs()
        torch.testing.assert_close(loss(logits, targets), self.build(3)(logits, targets))

    def test_the_state_survives_a_restart(self) -> None:
        """State lies in buffers, so that a resumed run is the same run."""
        logits, targets = self.pairs()
        through, before, after = (self.build(3) for _ in range(3))
        for loss in (through, before):
            loss(logits, targets)
        after.load_state_dict(before.state_dict())
        torch.testing.assert_close(after(logits, targets), through(logits, targets), rtol=0, atol=0)

    def test_evaluation_leaves_no_trace(self) -> None:
        """Validation is no step."""
        logits, targets = self.pairs()
        loss = self.build(3)
        loss.eval()(logits, targets)
        torch.testing.assert_close(loss.train()(logits, targets), self.build(3)(logits, targets))

    def test_scores_are_probabilities_of_each_class(self) -> None:
        """Of any shape of logits, extreme ones too."""
        loss = self.build(3)
        logits = torch.randn(2, 7, loss.channels(3), generator=_seeded())
        scores = loss.scores(logits * torch.tensor([1.0, 1e4])[:, None, None])
        assert scores.shape == (2, 7, 3)
        assert ((scores >= 0) & (scores <= 1)).all()

    def test_every_class_starts_at_the_prior(self) -> None:
        """Else the first steps go into lowering a hundred thousand scores."""
        for num_classes in (1, 3):
            for prior in (0.01, 0.1):
                loss = self.build(num_classes)
                bias = loss.prior_bias(num_classes, prior)
                assert bias.shape == (loss.channels(num_classes),)
                torch.testing.assert_close(loss.scores(bias), torch.full((num_classes,), prior))

    def test_learns_the_classes_of_separable_samples(self) -> None:
        """Gradient descent on the logits puts each cell's class first, and glass last."""
        _, targets = self.pairs()
        loss = self.build(3)
        logits = torch.zeros(60, loss.channels(3), requires_grad=True)
        optimiser = torch.optim.Adam([logits], lr=0.1)
        for _ in range(100):
            optimiser.zero_grad()
            loss(logits, targets).sum().backward()
            optimiser.step()
        scores, cells = loss.scores(logits), targets.any(dim=-1)
        assert (scores[cells].argmax(dim=-1) == targets[cells].argmax(dim=-1)).all()
        assert scores[~cells].max() < scores[cells].amax(dim=-1).min()

    def pairs(self, num_classes: int = 3, samples: int = 60) -> tuple[Tensor, Tensor]:
        """Logits of the loss's channels, and one-hot targets of which two thirds are background."""
        generator = _seeded()
        labels = torch.randint(0, 3 * num_classes, (samples,), generator=generator)
        targets = torch.nn.functional.one_hot(labels, 3 * num_classes)[:, :num_classes].float()
        channels = self.build(num_classes).channels(num_classes)
        return torch.randn(samples, channels, generator=generator), targets


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _gradient(loss: ClassificationLoss, logits: Tensor, targets: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    loss(logits, targets).sum().backward()
    assert logits.grad is not None
    return logits.grad

"""Graded Libra Loss, our own: Grad-Libra for classes that are grades of one another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.elementwise import ClassificationLoss, Reduction, is_foreground, reduce_loss
from losses.grad_libra import grad_libra_loss


def grade_weights(grades: Sequence[float], tolerance: float = 0.7) -> Tensor:
    r"""How much a cell of one class counts as a negative of another; see `graded_libra_loss`.

    .. math:: w_{yc} = 1 - t^{|g_y - g_c|} \;\; (c \ne y), \quad w_{yy} = 1

    Args:
        grades: g, one a class; classes of one grade differ like those one grade apart.
        tolerance: t, in [0, 1); 0 leaves all weights at 1.

    Returns:
        (C, C) float32, rows by the cell's own class.
    """
    grade = torch.tensor(grades, dtype=torch.float32)
    distance = (grade[:, None] - grade).abs()
    weights = 1 - tolerance ** torch.where(distance == 0, 1.0, distance)
    return weights.fill_diagonal_(1.0)


def graded_libra_loss(
    inputs: Tensor,
    targets: Tensor,
    weights: Tensor,
    alpha_pos: float = 0.8,
    alpha_neg: float = 0.8,
    reduction: Reduction = "none",
    detach: bool = True,
) -> Tensor:
    r"""Grad-Libra Loss that forgives a class its neighbours in grade.

    The grades of squamous lesions are steps of one continuum, and experts differ by a step: a
    HSIL that looks like an ASC-H is no error of the kind that a leukocyte is. So the negative
    pairs of a cell of class y are weighed by how far the grades lie apart,

    .. math:: L = \sum_c w_{yc} \, G_c \, \mathrm{BCE}_c, \quad
        w_{yc} = 1 - t^{|g_y - g_c|}

    with G of Grad-Libra (`losses.grad_libra.grad_libra_loss`). Background rows keep weight 1.
    With tolerance t = 0 this is Grad-Libra itself. A rare grade, whose negatives are mostly the
    cells of its frequent neighbours, is relieved most.

    Args:
        inputs: (..., C) logits; half precisions are computed in float32.
        targets: same shape, 1 for the sample's class and 0 for the others.
        weights: (C, C), see `grade_weights`.
        alpha_pos: see `grad_libra_loss`, as the others.
        alpha_neg: see there.
        reduction: "none", "mean" or "sum".
        detach: see there.

    Returns:
        The loss, shaped as ``inputs`` for "none", else a scalar; at least float32.

    Raises:
        ValueError: an unknown reduction.
    """
    loss = grad_libra_loss(inputs, targets, alpha_pos, alpha_neg, detach=detach)
    of_class = weights.to(loss.dtype)[targets.argmax(dim=-1)]
    return reduce_loss(torch.where(is_foreground(targets), of_class, 1.0) * loss, reduction)


class GradedLibraLoss(ClassificationLoss):
    """`graded_libra_loss` as a module for a detector's loss slot.

    Args:
        grades: see `grade_weights`, as tolerance.
        tolerance: see there.
        alpha_pos: see `grad_libra_loss`, as alpha_neg.
        alpha_neg: see there.
    """

    weights: Tensor

    def __init__(
        self,
        grades: Sequence[float],
        tolerance: float = 0.7,
        alpha_pos: float = 0.8,
        alpha_neg: float = 0.8,
    ) -> None:
        super().__init__()
        self.alpha_pos, self.alpha_neg = alpha_pos, alpha_neg
        self.register_buffer("weights", grade_weights(grades, tolerance), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `graded_libra_loss`."""
        return graded_libra_loss(logits, targets, self.weights, self.alpha_pos, self.alpha_neg)

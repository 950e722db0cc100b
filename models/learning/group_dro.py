"""GroupDRO: sources count by how hard they are, not by how much there is of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from pydantic import Field
from torch import Tensor, nn

from configs import StrictModel
from losses.ranks import mean_over_ranks
from models.detectors.dense import Target
from models.detectors.slot import LossSlot


class GroupDROSettings(StrictModel):
    """How fast the weights of sources follow their losses.

    Attributes:
        step: of the exponentiated gradient, a batch: a source whose class loss is 1 higher than
            another's gains on it by the factor e ** step.
    """

    step: float = Field(0.01, gt=0, le=1)


class GroupDRO(nn.Module):
    r"""Weighs the class loss of each source (Sagawa et al., ICLR 2020, arXiv 1911.08731).

    Algorithm 1 of the paper, as its authors' code has it for batches of several groups: with the
    loss L_g of the batch's crops of source g, by the normaliser of the detector's class loss,

    .. math:: q_g \leftarrow q_g e^{\eta L_g} / \textstyle\sum_h q_h e^{\eta L_h}, \quad
        L = \sum_g q_g L_g

    A source without a crop in the batch has L_g = 0. Of several processes crops and weights are
    those of all. The paper's is the whole loss; ours the class loss alone, which is what a stain
    makes hard, and losses of boxes stay as they are.

    Args:
        settings: the step.
        names: of the G sources.
        sources: of each training field, the index of its source.

    Attributes:
        weights: (G,) q, evenly at the start; in checkpoints.
    """

    weights: Tensor
    sources: Tensor

    def __init__(
        self, settings: GroupDROSettings, names: Sequence[str], sources: Sequence[int]
    ) -> None:
        super().__init__()
        self.step, self.names = settings.step, tuple(names)
        self.register_buffer("weights", torch.full((len(names),), 1 / len(names)))
        self.register_buffer("sources", torch.tensor(sources), persistent=False)

    @contextmanager
    def weighing(self, slot: LossSlot, targets: list[Target]) -> Iterator[None]:
        """Within it a slot's class loss is weighed, of a batch whose targets tell their "field"."""
        fields = torch.stack([target["field"] for target in targets]).to(self.sources.device)
        slot.reducer = partial(self.total, self.sources[fields])
        try:
            yield
        finally:
            slot.reducer = None

    def total(self, groups: Tensor, losses: Tensor, counts: Tensor) -> Tensor:
        """The weighed loss of a batch, a scalar; in training first moves the weights.

        Args:
            groups: (B,) source of each image.
            losses: (B,) class loss of each.
            counts: (B,) what it adds to what the loss of its source is divided by.
        """
        zeros = losses.new_zeros(len(self.weights))
        sums = zeros.index_add(0, groups, losses)
        means = mean_over_ranks(torch.stack([sums, zeros.index_add(0, groups, counts)]))
        divisors = means[1].clamp(min=1).to(losses.dtype)
        if self.training:
            self._move((means[0] / divisors).float())
        return (self.weights * sums / divisors).sum()

    def _move(self, losses: Tensor) -> None:
        if losses.isfinite().all():  # else the step ends the run, or moves no weight
            raised = self.weights.clamp(min=torch.finfo(losses.dtype).tiny).log()
            self.weights.copy_((raised + self.step * losses).softmax(dim=0))

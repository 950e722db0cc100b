"""An autoencoder of cells whose code stands in a learnt graph with their classes; only in training.

Pan et al. (ACML 2023) learn an invariant "causal" representation with a causal autoencoder; their
formulas could not be had. These are ours, after NOTEARS (Zheng et al., NeurIPS 2018): a weighted
graph of all values of the code and the classes, from which each follows linearly, held without
cycles by an augmented Lagrangian. What it finds are dependences in the training data; whether they
are causes nothing here can tell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from losses.ranks import mean_over_ranks, sum_over_ranks_and_back
from models.config import CausalSettings
from models.detectors.training_only import TrainingOnly

GAIN = 10.0
"""Edges are so many times their parameters: by Adam's steps a run of 300 would hardly move them."""

TOLERANCE = 1e-8
"""Below it a graph counts as free of cycles, as in NOTEARS."""


def acyclicity(edges: Tensor) -> Tensor:
    """tr(exp(A o A)) - d of (d, d) edges A: 0 where they make no cycle, else above (eq. 6)."""
    # The trace of float32 loses what is below a millionth of d.
    squares = edges.double().square()
    return torch.linalg.matrix_exp(squares).trace() - len(edges)


class Lagrangian(nn.Module):
    """The augmented Lagrangian of one constraint h = 0: what h costs, and how that rises.

    Its state lies in buffers, so that a resumed run goes on with it.

    Args:
        settings: when it takes a step, and how its penalty grows.

    Attributes:
        multiplier: of h.
        penalty: of half of h squared.
        before: h at the last step.
        batches: that were seen.
    """

    multiplier: Tensor
    penalty: Tensor
    before: Tensor
    batches: Tensor

    def __init__(self, settings: CausalSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("multiplier", torch.zeros((), dtype=torch.float64))
        self.register_buffer("penalty", torch.ones((), dtype=torch.float64))
        self.register_buffer("before", torch.zeros((), dtype=torch.float64))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, h: Tensor) -> Tensor:
        """What a scalar h costs; in training this counts as a batch."""
        if self.training:
            self._count(h.detach())
        # Copies: the next batch's step must not change what this one's gradient goes by.
        return self.multiplier.clone() * h + self.penalty.clone() / 2 * h.square()

    def _count(self, h: Tensor) -> None:
        self.batches += 1
        if self.batches % self.settings.interval or not h.isfinite():
            return
        self.multiplier += self.penalty * h
        if h > TOLERANCE and h > self.settings.fall * self.before:
            self.penalty.copy_((2 * self.penalty).clamp(max=self.settings.max_penalty))
        self.before.copy_(h)


class CausalAutoencoder(TrainingOnly):
    """Encodes cells, makes their features again, and ties code and classes by a graph.

    Args:
        settings: weights of its losses, and sizes.
        num_classes: C.
        channels: of the classification tower.

    Attributes:
        parameter: (code + C, code + C) a `GAIN`-th of the edges; see `edges`.
        loss_scale: what the loss is multiplied by on the way back; not 1 in half precision.
    """

    off_diagonal: Tensor

    def __init__(self, settings: CausalSettings, num_classes: int, channels: int) -> None:
        super().__init__()
        self.settings, self.num_classes = settings, num_classes
        self.loss_scale = 1.0
        code, hidden, nodes = settings.code, settings.hidden, settings.code + num_classes
        self.encode = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, code))
        self.decode = nn.Sequential(nn.Linear(code, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.classify = nn.Linear(code, num_classes)
        self.parameter = nn.Parameter(torch.zeros(nodes, nodes))
        self.register_buffer("off_diagonal", 1 - torch.eye(nodes), persistent=False)
        self.lagrangian = Lagrangian(settings)

    @property
    def edges(self) -> Tensor:
        """(code + C, code + C) A: by A[i, j] times value i value j is foretold; none of itself."""
        edges = GAIN * self.parameter * self.off_diagonal
        if edges.requires_grad:
            # Else their price, which only rises, would have the common clip hold all else back.
            edges.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: _at_most_one(gradient, self.loss_scale)
            )
        return edges

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The weighted losses, scalars: means over the cells, and what the graph itself costs.

        Several processes divide by the mean of their cells, and each must call it equally often;
        one without a cell has the graph's cost alone.

        Args:
            features: (N, channels) of positive places of the classification tower.
            labels: (N,) class indices.
        """
        settings = self.settings
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            cells, scale = _cells_and_scale(features)
            classes = one_hot(labels, self.num_classes).to(features)
            values = standardised(torch.cat([self.encode(features), classes], dim=1))
            code = values[:, : settings.code]
            edges = self.edges
            losses = {"causal_graph": self._graph_loss(values, edges, cells)}
            error = (features - self.decode(code)).square().mean(dim=1).sum() / cells
            losses["causal_reconstruction"] = settings.reconstruction * error / scale
            logits = self.classify(code * self.mask(edges))
            wrong = cross_entropy(logits, labels, reduction="sum") / cells
            losses["causal_classes"] = settings.classes * wrong
        return losses

    def mask(self, edges: Tensor) -> Tensor:
        """(code,) how much of each value of the code counts for the class, 0 to 1.

        By its strongest edge to or from any class, in full from ``edge`` on; without gradient, so
        that the graph decides and not the class loss.
        """
        size = self.settings.code
        ties = torch.cat([edges[:size, size:], edges[size:, :size].T], dim=1).detach()
        return (ties.abs().amax(dim=1) / self.settings.edge).clamp(max=1)

    def _graph_loss(self, values: Tensor, edges: Tensor, cells: Tensor) -> Tensor:
        missed = (values - values @ edges).square().sum() / cells
        cost = self.lagrangian(acyclicity(edges)).to(missed)
        return self.settings.graph * (missed + self.settings.sparsity * edges.abs().sum() + cost)


def standardised(raw: Tensor) -> Tensor:
    """(N, D) values, each of mean 0 and variance 1 over the cells of all processes.

    Else a value of the code would be foretold the better the less it varied, and a rare class the
    less it mattered. What doesn't vary at all, as with a single cell, is 0.
    """
    values = raw.double()
    own = torch.stack(
        [values.sum(0), values.square().sum(0), torch.full_like(values[:0].sum(0), len(values))]
    )
    sums, squares, count = sum_over_ranks_and_back(own)
    count = count.clamp(min=1)
    mean = sums / count
    variance = (squares / count - mean.square()).clamp(min=0)
    return ((values - mean) * torch.rsqrt(variance + 1e-5)).to(raw)


def _cells_and_scale(features: Tensor) -> tuple[Tensor, Tensor]:
    """Cells a process, at least 1, and the mean square of their features over all processes."""
    count = features.new_tensor(len(features))
    sums = mean_over_ranks(torch.stack([count, features.detach().square().mean(dim=1).sum()]))
    cells = sums[0].clamp(min=1)
    return cells.to(features), (sums[1] / cells).clamp(min=1e-6).to(features)


def _at_most_one(gradient: Tensor, scale: float = 1.0) -> Tensor:
    """The gradient of a loss times ``scale``, shortened where that of the loss is longer than 1."""
    return gradient / (torch.linalg.vector_norm(gradient) / scale).clamp(min=1)

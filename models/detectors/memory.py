"""What former steps were sure of: embedded cells of each class, the latest ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from losses.ranks import gathered, sum_over_ranks
from models.detectors.places import ranks_in_class


class ClassMemory(nn.Module):
    """A ring of embedded cells for each class.

    All of it lies in buffers: it is in checkpoints, and a resumed run goes on with it. What goes in
    is chosen among the places of all processes, so that each of them has the same memory.

    Args:
        sizes: the most cells of each class.
        embedding: D, values of a cell.
        confidence, top_share, most: see `HistorySettings`.

    Attributes:
        cells: (S, D) of all classes, class after class.
        next_row: (C,) where in its ring a class's next cell goes.
        held: (C,) how many cells a class has.
    """

    cells: Tensor
    next_row: Tensor
    held: Tensor
    sizes: Tensor
    labels: Tensor
    rows: Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        embedding: int,
        confidence: float,
        top_share: float,
        most: int,
    ) -> None:
        super().__init__()
        self.confidence, self.top_share, self.most = confidence, top_share, most
        count, rings = len(sizes), torch.tensor(sizes)
        self.register_buffer("cells", torch.zeros(sum(sizes), embedding))
        self.register_buffer("next_row", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("held", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("sizes", rings, persistent=False)
        labels = torch.arange(count).repeat_interleave(rings)
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("rows", ranks_in_class(labels), persistent=False)

    def remembered(self) -> tuple[Tensor, Tensor]:
        """(N, D) cells and (N,) their classes; copies, since memory moves before gradients come."""
        there = self.rows < self.held[self.labels]
        return self.cells[there], self.labels[there]

    @torch.no_grad()
    def add(self, cells: Tensor, labels: Tensor, scores: Tensor) -> None:
        """Remembers those that the detector is sure of; each process must call it equally often.

        Of each class the highest scores of all processes, at most ``most``, if they reach
        ``confidence`` or are in the ``top_share`` of the class's places.

        Args:
            cells: (N, D) of length 1.
            labels: (N,) their classes.
            scores: (N,) of their own class, in 0..1.
        """
        counts = sum_over_ranks(labels.bincount(minlength=len(self.held)))
        best = gathered(self._best(cells, labels, scores))  # (ranks, C, most, 1 + D)
        best = best.transpose(0, 1).flatten(1, 2)
        order = best[..., 0].argsort(dim=1, descending=True, stable=True)[:, : self.most]
        best = best.gather(1, order[..., None].expand(-1, -1, best.shape[2]))
        there, rank = best[..., 0], torch.arange(best.shape[1], device=best.device)
        among_top = rank < torch.ceil(self.top_share * counts)[:, None]
        sure = (there >= 0) & ((there >= self.confidence) | among_top)  # (C, most), best first
        rings = (self.next_row[:, None] + rank) % self.sizes[:, None]
        rows = self.sizes.cumsum(0)[:, None] - self.sizes[:, None] + rings
        self.cells[rows[sure]] = best[..., 1:][sure]
        added = sure.sum(dim=1)
        self.next_row.copy_((self.next_row + added) % self.sizes)
        self.held.copy_(torch.minimum(self.held + added, self.sizes))

    def _best(self, cells: Tensor, labels: Tensor, scores: Tensor) -> Tensor:
        """(C, most, 1 + D) score and cell of this process's surest places; -1 where there is none.

        A step that overflowed half precision has nothing to remember, as it moves no weight.
        """
        finite = scores.isfinite() & cells.isfinite().all(dim=1)
        cells, labels, scores = cells[finite], labels[finite], scores[finite]
        order = scores.argsort(descending=True, stable=True)
        rank = ranks_in_class(labels[order])
        order, rank = order[rank < self.most], rank[rank < self.most]
        best = self.cells.new_full((len(self.held), self.most, 1 + self.cells.shape[1]), -1.0)
        rows = torch.cat([scores[order, None], cells[order]], dim=1)
        best[labels[order], rank] = rows.to(best.dtype)
        return best


def ring_sizes(
    counts: Sequence[int] | None, classes: int, shortest: int, longest: int
) -> list[int]:
    """Cells of each class to remember: min(longest, shortest sqrt(n_max / n)), rounded.

    Args:
        counts: n, of each class in training; None, or 0 of a class, for the longest.
        classes: C.
        shortest: of the most frequent class.
        longest: of any.
    """
    if counts is None:
        return [longest] * classes
    most = max(counts)
    return [min(longest, round(shortest * (most / n) ** 0.5)) if n else longest for n in counts]

"""Sums and means over the processes of a distributed training run.

Gradients are averaged over processes. With normalisers that are means over them too, several
processes learn what one would with all of their batches.
"""

from __future__ import annotations

from torch import Tensor, distributed


def sum_over_ranks(sums: Tensor) -> Tensor:
    """Adds up a tensor over all processes, in place; every rank must call it equally often."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(sums)
    return sums


def mean_over_ranks(count: Tensor) -> Tensor:
    """The mean of a count over all processes, as float; every rank must call it equally often."""
    total = sum_over_ranks(count.detach().double())
    if distributed.is_available() and distributed.is_initialized():
        total = total / distributed.get_world_size()
    return total

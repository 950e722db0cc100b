"""Sums and means over the processes of a distributed training run.

Gradients are averaged over processes. With normalisers that are means over them too, several
processes learn what one would with all of their batches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def sum_over_ranks(sums: Tensor) -> Tensor:
    """Adds up a tensor over all processes, in place; every rank must call it equally often."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(sums)
    return sums


def sum_over_ranks_and_back(values: Tensor) -> Tensor:
    """The sum over all processes, whose gradient is that of the losses of all of them.

    Every rank must call it equally often, and go back through it, even with nothing to add.
    """
    summed: Tensor = _SumAndBack.apply(values)
    return summed


class _SumAndBack(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return sum_over_ranks(values.clone())

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return sum_over_ranks(gradient.clone())


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of each value over all processes, in float64; see `sum_over_ranks`."""
    total = sum_over_ranks(values.detach().to(torch.float64, copy=True))
    if distributed.is_available() and distributed.is_initialized():
        total = total / distributed.get_world_size()
    return total


def gathered(values: Tensor) -> Tensor:
    """(ranks, ...) a tensor of each process, by rank, without gradient.

    Every rank must call it equally often, with the same shape and type.
    """
    values = values.detach()
    if not (distributed.is_available() and distributed.is_initialized()):
        return values[None]
    everyones = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(everyones, values.contiguous())
    return torch.stack(everyones)


def of_all_ranks(own: Any) -> list[Any]:
    """What each process has, by rank; anything that can be pickled."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [own]
    everyones: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everyones, own)
    return everyones

"""How random samples are drawn: each from a generator of its own, and around what can't be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from data.fields.fieldset import Field
from data.fields.images import ImageError

Sample = tuple[Tensor, dict[str, Tensor]]

ATTEMPTS = 20
"""How often a crop is drawn anew where an image can't be read."""


def draw_readable(
    sample: Callable[[np.random.Generator], Sample], fields: Sequence[Field], key: tuple[int, ...]
) -> Sample:
    """A random sample; another, where its image can't be read.

    Args:
        sample: draws one from a generator.
        fields: whose images are drawn from.
        key: seed, epoch and number of the sample, of which alone it is a function.

    Returns:
        The sample; its target's "unreadable" tells which fields' images could not be read.

    Raises:
        ImageError: none of `ATTEMPTS` images could.
    """
    unreadable: set[int] = set()
    for attempt in range(ATTEMPTS):
        # The first attempt has no number: crops stay what they were before there were others.
        rng = np.random.default_rng((*key, attempt)[: len(key) + (attempt > 0)])
        try:
            pixels, target = sample(rng)
        except ImageError as error:
            unreadable |= {i for i, field in enumerate(fields) if field.image == error.path}
            last = error
        else:
            return pixels, target | unreadable_fields(unreadable)
    raise last


def unreadable_fields(indices: set[int]) -> dict[str, Tensor]:
    """What a target says of fields that couldn't be read; nothing where all could."""
    return {"unreadable": torch.tensor(sorted(indices))} if indices else {}

"""How much more often crops show what is rare.

The strategies are those of the long tail: by class (what is drawn is a class, then one of its
cells) and by field (those with rare classes come more often).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.fields.fieldset import FieldSet


def repeat_factors(fields: FieldSet, threshold: float) -> NDArray[np.float64]:
    """How many times as often each field is drawn (Gupta et al., LVIS, CVPR 2019, section 4.2).

    Args:
        fields: the annotated fields.
        threshold: t, the share of fields below which a class is drawn more often.

    Returns:
        (fields,), at least 1.
    """
    present = classes_present(fields)
    frequency = present.mean(axis=0)  # f_c
    of_class = np.maximum(1, np.sqrt(threshold / np.maximum(frequency, 1e-12)))  # r_c
    return np.where(present, of_class, 1.0).max(axis=1)  # r_i = max over its classes of r_c


def classes_present(fields: FieldSet) -> NDArray[np.bool_]:
    """(fields, C) which classes each field has a cell of."""
    count = len(fields.classes)
    rows = [np.bincount(f.labels[~f.crowd], minlength=count) > 0 for f in fields.fields]
    return np.array(rows, bool).reshape(-1, count)


def factors_of_fields(
    present: NDArray[np.bool_], factors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(fields,) largest of (C,) factors of the classes that are there; 1 where none is."""
    largest = np.where(present, factors, 0.0).max(axis=1, initial=0.0)
    return np.where(present.any(axis=1), largest, 1.0)


def cells_by_class(fields: FieldSet) -> list[NDArray[np.float64]]:
    """For each class an (N, 3) array of field index, x, y of its cells' centres."""
    rows = [
        np.column_stack([np.full(len(f.boxes), i), (f.boxes[:, :2] + f.boxes[:, 2:]) / 2])
        for i, f in enumerate(fields.fields)
    ]
    cells = np.concatenate(rows).astype(np.float64)
    labels = np.concatenate([np.where(f.crowd, -1, f.labels) for f in fields.fields])
    return [cells[labels == label] for label in range(len(fields.classes))]


def class_weights(counts: NDArray[np.floating], power: float) -> NDArray[np.float64]:
    """Probability of drawing each class: its (C,) count to the power of 1 - ``power``."""
    weights = np.where(counts > 0, np.where(counts > 0, counts, 1.0) ** (1 - power), 0)
    return weights / max(weights.sum(), 1e-12)

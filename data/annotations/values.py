"""Values of annotation files, taken only for what they are: a sentence names what is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST = 1e12
"""Beyond it numbers are no places, and products of them overflow."""

_YES, _NO = ("1", "true", "yes", "1.0"), ("", "0", "false", "no", "0.0", "none", "null")


def as_record(value: object, what: str) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        ValueError: it is something else; as all functions here.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is {shown(value)}, not an object")
    return value


def as_list(value: object, what: str) -> Sequence[Any]:
    """A JSON array."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"{what} is {shown(value)}, not a list")
    return value


def as_text(value: object, what: str) -> str:
    """Text that isn't empty; numbers stand for how they are written."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{what} is {shown(value)}, not text")
    if not (text := str(value).strip()):
        raise ValueError(f"{what} is empty")
    return text


def as_number(value: object, what: str) -> float:
    """A finite number, also one that is written as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{what} is {shown(value)}, not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{what} is {shown(value)}, not a number") from error
    if not math.isfinite(number):
        raise ValueError(f"{what} is {shown(value)}, not a finite number")
    if abs(number) > _LARGEST:
        raise ValueError(f"{what} is {shown(value)}, which is no place on an image")
    return number


def as_numbers(value: object, what: str, count: int | None = None) -> NDArray[np.float64]:
    """Finite numbers (N,), of which there are ``count`` where that is given."""
    given = as_list(value, what)
    numbers = _plain(given)
    if numbers is None:
        numbers = np.array([as_number(one, what) for one in given], np.float64)
    if count is not None and len(numbers) != count:
        raise ValueError(f"{what} has {len(numbers)} numbers, not {count}: {shown(value)}")
    return numbers


def _plain(given: Sequence[Any]) -> NDArray[np.float64] | None:
    """The common case at once: outlines have very many corners; None for all others."""
    if not set(map(type, given)) <= {int, float}:
        return None
    try:
        numbers = np.array(given, np.float64)
    except OverflowError:
        return None
    return numbers if (np.abs(numbers) <= _LARGEST).all() else None


def as_points(value: object, what: str) -> NDArray[np.float64]:
    """Corners (N, 2) from a list of pairs."""
    pairs = [as_numbers(pair, what, 2) for pair in as_list(value, what)]
    return np.array(pairs, np.float64).reshape(-1, 2)


def as_flag(value: object, what: str) -> bool:
    """Yes or no, whether written as a truth value, a number or a word; null is no."""
    word = str(value).strip().casefold()
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise ValueError(f"{what} is {shown(value)}, neither yes nor no")


def shown(value: object) -> str:
    """A value as it is quoted in a sentence."""
    if value is None:
        return "null"
    text = repr(value) if isinstance(value, str) else " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"

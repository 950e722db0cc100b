"""What the numbers of YOLO's lines are: a box, an outline, or a box with keypoints.

Nothing in a line says so. ``kpt_shape`` in the YAML file does, or the user; else all lines of a set
must allow one reading only. Six numbers behind the class, for one, may be three corners, or a box
and a point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from configs.doubts import with_code

_SLACK = 0.01
"""By how much shares may lie outside of 0 to 1, as Ultralytics allows."""

_VISIBLE = (0.0, 1.0, 2.0)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """A line.

    Attributes:
        line: its number in the file, from 1.
        number: of the class.
        values: (N,) behind it, at least four.
        file: where it stands.
    """

    line: int
    number: int
    values: Values
    file: str = ""


@dataclass(frozen=True)
class Layout:
    """What more than five numbers are.

    Attributes:
        keypoints: how many numbers a keypoint has, 2 or 3; 0: they are outlines.
        expected: how many numbers a line has by the YAML file; None where nobody says.
    """

    keypoints: int = 0
    expected: int | None = None

    def parts(self, row: Row) -> tuple[Values, Values | None, float | None]:
        """Box (4,) or outline, keypoints if there are any, and the confidence if there is one.

        Raises:
            ValueError: a number is no share of the image, or there are too few or too many.
        """
        values, count = row.values, len(row.values)
        if count <= 5:
            return _shares(row, values[:4]), None, _confidence(row, values[4:])
        if not self.keypoints:
            end = count - count % 2
            return _shares(row, values[:end]), None, _confidence(row, values[end:])
        rest = self._rest(row)
        _shares(row, np.concatenate([values[:4], rest[:, :2].ravel()]))
        confidence = _confidence(row, values[4 + rest.size :])
        return values[:4], rest, confidence

    def _rest(self, row: Row) -> Values:
        """Keypoints (K, 2 or 3) of a line."""
        count = len(row.values) - 4
        wanted = self.expected - 4 if self.expected else count - count % self.keypoints
        if count - wanted not in (0, 1):
            raise ValueError(
                f"line {row.line}: {len(row.values)} numbers behind the class, where a box and "
                f"its keypoints are {wanted + 4}"
            )
        keypoints = row.values[4 : 4 + wanted].reshape(-1, self.keypoints)
        if self.keypoints == 3 and not np.isin(keypoints[:, 2], _VISIBLE).all():
            raise ValueError(f"line {row.line}: a keypoint is neither seen (1, 2) nor hidden (0)")
        return keypoints


def as_row(words: Sequence[str], line: int = 1) -> Row | None:
    """The class and the numbers of a line; None where it isn't one of YOLO's."""
    try:
        number, values = float(words[0]), np.array([float(word) for word in words[1:]])
    except (ValueError, IndexError):
        return None
    if len(values) < 4 or not number.is_integer() or not 0 <= number < 2**31:
        return None
    return Row(line, int(number), values)


def is_numeric(line: str) -> bool:
    """Whether a line is numbers only, as YOLO's are, be it a good one or not."""
    try:
        return len([float(word) for word in line.split()]) > 1
    except ValueError:
        return False


def parse_rows(content: str, file: str = "") -> list[Row]:
    """The lines of a file.

    Raises:
        ValueError: a line is not one of YOLO's.
    """
    lines = [(n, text.split()) for n, text in enumerate(content.splitlines(), 1) if text.strip()]
    rows = [(n, words, as_row(words, n)) for n, words in lines]
    for number, words, row in rows:
        if row is None:
            raise ValueError(f"line {number} is no class and numbers: {' '.join(words)[:60]}")
    return [replace(row, file=file) for _, _, row in rows if row]


def layout_of(
    rows: Sequence[Row], wish: str = "auto", keypoints: tuple[int, int] | None = None
) -> Layout:
    """What the longer lines of a set are.

    Args:
        rows: all lines of the set.
        wish: "polygons" or "pose" where the user says so, else "auto".
        keypoints: their number and how many numbers each has, where the YAML file says so.

    Raises:
        ValueError: the lines could be either, or neither.
    """
    longer = [row for row in rows if len(row.values) > 5]
    if wish == "polygons":
        return Layout()
    if keypoints:
        return Layout(keypoints[1], 4 + keypoints[0] * keypoints[1])
    found = [Layout(size) for size in (3, 2) if _are_poses(longer, rows, size)]
    outlines = wish == "auto" and all(_may_be_outline(row) for row in longer)
    if found and not outlines:
        return found[0]  # of two or three numbers a point: the box is the same
    if outlines and not found:
        return Layout()
    if not found:
        odd = next((row for row in longer if not _may_be_outline(row)), longer[0])
        _shares(odd, odd.values[:4])
        raise ValueError(
            f"{_at(odd)} behind the class are neither an outline nor, as in all lines, a box with "
            "so many keypoints"
        )
    raise ValueError(
        with_code(
            f"{_at(longer[0])} behind the class may be an outline or a box with keypoints; say "
            "which: yolo: polygons or pose (--yolo), or kpt_shape in the YAML file of the classes",
            "yolo-ambiguous",
        )
    )


def _at(row: Row) -> str:
    place = f"{row.file}, line {row.line}" if row.file else f"line {row.line}"
    return f"{place}: {len(row.values)} numbers"


def _may_be_outline(row: Row) -> bool:
    """Whether a line may be corners, and a confidence if there is a number more."""
    end = len(row.values) - len(row.values) % 2
    return bool(_are_shares(row.values[:end]).all() and _are_shares(row.values[end:], 0).all())


def _are_poses(longer: Sequence[Row], rows: Sequence[Row], size: int) -> bool:
    """Whether all lines may be boxes with the same number of keypoints, of 2 or 3 numbers each."""
    counts = {len(row.values) for row in rows}
    count = len(longer[0].values) - 4
    if len(counts) > 1 or count % size:
        return False
    return all(_may_be_pose(row.values, size) for row in longer)


def _may_be_pose(values: Values, size: int) -> bool:
    """Whether a box and its keypoints lie on the image."""
    center, half = values[:2], values[2:4] / 2
    if (center - half < -_SLACK).any() or (center + half > 1 + _SLACK).any():
        return False
    points = values[4:].reshape(-1, size)
    if not _are_shares(points[:, :2]).all():
        return False
    return size == 2 or bool(np.isin(points[:, 2], _VISIBLE).all())


def _shares(row: Row, values: Values) -> Values:
    wrong = values[~_are_shares(values)]
    if not len(wrong):
        return values
    meant = "these are pixels, not shares" if (wrong > 2).any() else "these are not shares"
    raise ValueError(f"line {row.line}: {wrong[0]:g} is not within 0 to 1: {meant} of the image")


def _are_shares(values: Values, slack: float = _SLACK) -> NDArray[np.bool_]:
    """Which numbers lie within 0 to 1."""
    return (values >= -slack) & (values <= 1 + slack)


def _confidence(row: Row, values: Values) -> float | None:
    if not len(values):
        return None
    if not 0 <= values[0] <= 1:
        raise ValueError(f"line {row.line}: the last number, {values[0]:g}, is no confidence")
    return float(values[0])

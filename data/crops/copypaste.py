"""Copy-paste of cells: a cell of one slide, stained onto another.

Rare classes come from few slides, so that a detector may learn the slide instead of the cell.
After Ghiasi et al., "Simple copy-paste", CVPR 2021; here without masks, as light does it: optical
densities add up (Beer-Lambert), so a cell is laid over what is there like one more layer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.fields.fieldset import Field, FieldSet
from data.fields.images import FieldImages

CONTEXT = 1.4
"""Side of the copied square, in sides of the cell's box: a nucleus with its cytoplasm."""

PLACES = 6
"""Places that are tried; the palest is taken, for a cell on a clump can't be told."""


class CellPaster:
    """Lays cells of any field on a crop.

    Every other one is of the most frequent class, the rest evenly of the others: were only rare
    cells pasted, the traces of pasting would tell them.

    Args:
        fields: where the cells come from.
        images: the fields' pixels.
        downsample: pixels of each field per pixel of a crop.
    """

    def __init__(self, fields: FieldSet, images: FieldImages, downsample: list[float]) -> None:
        self._fields = fields.fields
        self._images = images
        self._downsample = downsample
        self._cells: list[list[tuple[int, int]]] = [[] for _ in fields.classes]
        for index, field in enumerate(fields.fields):
            for row, label in enumerate(field.labels):
                if not field.crowd[row] and _is_whole(field.boxes[row], field):
                    self._cells[label].append((index, row))
        self._shares = _class_shares([len(cells) for cells in self._cells])

    def paste(
        self,
        image: NDArray[np.uint8],
        boxes: NDArray[np.floating],
        labels: NDArray[np.int64],
        count: int,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.uint8], NDArray[np.floating], NDArray[np.int64]]:
        """Lays up to ``count`` cells on a crop, fewer where there is no place.

        Args:
            image: (H, W, 3) RGB; left as it is.
            boxes: (N, 4) xyxy in its pixels.
            labels: (N,).
            count: how many cells.
            rng: draws the cells and their places.

        Returns:
            The crop with the cells, and their boxes and labels added.
        """
        if not count or not self._shares.any():
            return image, boxes, labels
        density = _to_density(image)
        for _ in range(count):
            label = int(rng.choice(len(self._cells), p=self._shares))
            index, row = self._cells[label][rng.integers(len(self._cells[label]))]
            layer, sides = self._layer(index, row)
            place = _find_place(density, boxes, layer.shape[0], rng)
            if place is None:
                continue
            x, y = place
            density[y : y + layer.shape[0], x : x + layer.shape[1]] += layer
            center = np.array([x, y]) + layer.shape[0] / 2
            box = np.concatenate([center - sides / 2, center + sides / 2])
            boxes = np.vstack([boxes, box])
            labels = np.append(labels, label)
        return _to_image(density), boxes, labels

    def _layer(self, index: int, row: int) -> tuple[NDArray[np.float32], NDArray[np.floating]]:
        """A cell's density above its surroundings, fading out in a circle; its box's sides."""
        x0, y0, x1, y1 = self._fields[index].boxes[row]
        downsample = self._downsample[index]
        sides = np.array([x1 - x0, y1 - y0])
        half = CONTEXT * sides.max() / 2
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        side = max(8, round(2 * half / downsample))
        width, height = self._fields[index].width, self._fields[index].height
        left, top = np.clip([x - half, y - half], 0, [width - 2 * half, height - 2 * half])
        box = (float(left), float(top), float(left + 2 * half), float(top + 2 * half))
        density = _to_density(self._images.crop(index, (side, side), box))
        background = np.percentile(density, 10, axis=(0, 1)).astype(np.float32)
        mask = _fading_circle(side)
        return np.maximum(density - background, 0) * mask, sides / downsample


def _class_shares(counts: list[int]) -> NDArray[np.float64]:
    """Probability of each class: one half for the most frequent, the rest evenly."""
    present = np.array(counts) > 0
    shares = present.astype(np.float64)
    if present.sum() > 1:
        frequent = int(np.argmax(counts))
        shares[frequent] = 0
        shares /= 2 * shares.sum()
        shares[frequent] = 0.5
    return shares


def _is_whole(box: NDArray[np.float32], field: Field) -> bool:
    """Whether a box, with its context, fits the field and does not touch its border."""
    side = CONTEXT * float((box[2:] - box[:2]).max())
    fits = side <= min(field.width, field.height)
    return fits and bool(box.min() > 0 and box[2] < field.width and box[3] < field.height)


def _find_place(
    density: NDArray[np.float32],
    boxes: NDArray[np.floating],
    side: int,
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    """The palest of some random places whose centre lies in no cell's box, or None."""
    height, width = density.shape[:2]
    if side >= min(height, width):
        return None
    best, palest = None, np.inf
    for _ in range(PLACES):
        x, y = int(rng.integers(width - side)), int(rng.integers(height - side))
        center = np.array([x, y]) + side / 2
        if ((boxes[:, :2] <= center) & (center <= boxes[:, 2:])).all(axis=1).any():
            continue
        darkness = float(density[y : y + side : 4, x : x + side : 4].mean())
        if darkness < palest:
            best, palest = (x, y), darkness
    return best


def _fading_circle(side: int) -> NDArray[np.float32]:
    """(side, side, 1) mask: 1 inside, falling to 0 over the outer third of the radius."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    radius = np.hypot(axis[:, None], axis[None, :])
    return np.clip((1 - radius) * 3, 0, 1)[..., None]


def _to_density(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return -np.log((image.astype(np.float32) + 1) / 256)


def _to_image(density: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (256 * np.exp(-density) - 1).clip(0, 255).round().astype(np.uint8)

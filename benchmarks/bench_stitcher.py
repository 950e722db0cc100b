"""Merging a slide's detections: seconds against the number of boxes.

Cells lie at random, one per 45 x 45 px on average, and are some 41 px wide; three in ten are
found twice, a few pixels apart, as across a seam. Prints processor time, so that other work on
the machine doesn't count.
"""

from __future__ import annotations

import time

import numpy as np

from pipeline.cells.stitcher import Stitcher, StitcherSettings
from pipeline.geometry import Detections, Rect
from pipeline.tiles.tiler import TileGrid, TilerSettings


def detections(count: int, rng: np.random.Generator) -> tuple[Rect, Detections]:
    """The slide's bounds, and ``count`` detections of six classes on it."""
    unique = int(count / 1.3)
    side = 45 * unique**0.5
    centers = rng.uniform(0, side, (unique, 2))
    doubles = centers[: count - unique] + rng.normal(0, 2, (count - unique, 2))
    centers = np.concatenate([centers, doubles])
    sides = rng.normal(41, 6, (count, 2)).clip(10)
    boxes = np.hstack([centers - sides / 2, centers + sides / 2])
    scores = rng.random(count).astype(np.float32)
    bounds = Rect(0, 0, int(side), int(side))
    return bounds, Detections(boxes, scores, rng.integers(0, 6, count))


def seconds_to_merge(count: int) -> tuple[float, float, int]:
    """Seconds to add all tiles and to merge them, and how many cells stay."""
    bounds, found = detections(count, np.random.default_rng(0))
    grid = TileGrid(bounds, 1.0, TilerSettings(overlap=128))
    owners = grid.owner(found.centers)
    order = np.argsort(owners, kind="stable")
    parts = np.split(order, np.searchsorted(owners[order], np.arange(1, len(grid))))
    stitcher = Stitcher(grid, StitcherSettings())
    started = time.process_time()
    for index, rows in enumerate(parts):
        placed = found[rows]
        origin = np.tile(grid.origin(index), 2)
        stitcher.add(index, Detections(placed.boxes - origin, placed.scores, placed.labels))
    added = time.process_time()
    kept = len(stitcher.merge())
    return added - started, time.process_time() - added, kept


def main() -> None:
    """Prints the table."""
    print("stitcher      boxes       kept    add s   merge s")
    for count in (125_000, 500_000, 2_000_000):
        add, finish, kept = seconds_to_merge(count)
        print(f"         {count:10,} {kept:10,} {add:8.2f} {finish:9.2f}")


if __name__ == "__main__":
    main()

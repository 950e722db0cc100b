"""How strongly fields must be changed before they are told as out of the model's domain.

    python benchmarks/bench_domain.py --data CRIC/val.json --images CRIC/val

Each validation field, and all of them as one slide, as they are and changed at 0.5 µm/px: turned in
hue, stained anew in the colours of haematoxylin and eosin, blurred, and compressed as JPEG.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from configs import validate
from data.annotations import read_coco
from models import load_detector
from models.card import DEFAULT_MODEL
from pipeline.cells.domain import MOST_CELLS, judge_looks
from pipeline.cells.looks import MPP, SIDE, measure_looks
from pipeline.cells.naming import name_cells
from pipeline.network.detector import RuntimeSettings, TileDetector
from scripts.slides import images_of

Pixels = NDArray[np.uint8]
Change = Callable[[Pixels], Pixels]

HAEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)
"""Optical densities of red, green and blue (Ruifrok & Johnston, 2001)."""


def turn_hue(degrees: float) -> Change:
    """Turns all colours about the grey axis."""

    def change(pixels: Pixels) -> Pixels:
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL)
        hsv[..., 0] = (hsv[..., 0].astype(int) + round(degrees / 360 * 256)) % 256
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL).astype(np.uint8)

    return change


def stain_anew(part: float) -> Change:
    """Moves each pixel's colour towards haematoxylin, where it is dense, and eosin elsewhere."""

    def change(pixels: Pixels) -> Pixels:
        density = -np.log10((pixels + 1.0) / 256)
        total = density.sum(axis=2, keepdims=True)
        dense = np.clip(total / 1.5, 0, 1)
        blue, pink = (np.array(color) / sum(color) for color in (HAEMATOXYLIN, EOSIN))
        wanted = total * (dense * blue + (1 - dense) * pink)
        mixed = (1 - part) * density + part * wanted
        return np.clip(256 * 10**-mixed - 1, 0, 255).astype(np.uint8)

    return change


def blur(sigma: float) -> Change:
    """Gaussian, of so many µm."""
    return lambda pixels: cv2.GaussianBlur(pixels, (0, 0), sigma / MPP).astype(np.uint8)


def compress(quality: int) -> Change:
    """JPEG of this quality."""

    def change(pixels: Pixels) -> Pixels:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
        return np.asarray(Image.open(stream))

    return change


CHANGES: dict[str, Change] = {
    "as they are": lambda pixels: pixels,
    **{f"hue turned by {d}°": turn_hue(d) for d in (20, 60, 120)},
    **{f"{p:.0%} towards H&E": stain_anew(p) for p in (0.3, 0.6, 1.0)},
    **{f"blurred by {s:g} µm": blur(s) for s in (0.5, 1.0, 1.5)},
    **{f"JPEG quality {q}": compress(q) for q in (50, 20, 10)},
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    options = parser.parse_args()
    detector = TileDetector(
        load_detector(options.model), validate({}, RuntimeSettings, "options"), None
    )
    facts = detector.card.domain
    assert facts is not None, "the model's card has no domain"
    fields = read_coco(options.data, options.images)
    images = images_of(fields)
    pictures = [
        images.whole(index, (round(f.width * f.mpp / MPP), round(f.height * f.mpp / MPP)))
        for index, f in enumerate(fields.fields)
        if f.mpp
    ]
    table = Table(title=f"{len(pictures)} fields, {detector.card.name}")
    for name in ("change", "cells", "fields told", "as one slide: stain", "structure", "told"):
        table.add_column(name, justify="left" if name == "change" else "right")
    for name, change in CHANGES.items():
        looks = [look_at(detector, change(picture)) for picture in pictures]
        told = sum(judge_looks(cells, facts).within is False for cells in looks)
        every = np.concatenate(looks)
        rows = np.linspace(0, len(every) - 1, min(len(every), MOST_CELLS)).round().astype(int)
        slide = judge_looks(every[rows], facts)
        shown = (f"{a.distance:.1f} of {a.limit:.1f}" for a in slide.aspects.values())
        said = {True: "no", False: "yes", None: "too few cells"}[slide.within]
        table.add_row(name, str(len(every)), str(told), *shown, said)
    Console(width=120).print(table)


def look_at(detector: TileDetector, pixels: Pixels) -> NDArray[np.float64]:
    """Looks of the cells that the model reports of a field at `MPP`."""
    abnormal = np.array(detector.card.detector.is_abnormal)
    cells = name_cells(detector.detect([pixels])[0], detector.thresholds, abnormal, 0.5)
    half = SIDE // 2
    padded = np.pad(pixels, ((half, half), (half, half), (0, 0)), constant_values=255)
    corners = cells.centers.round().astype(int)
    crops = [padded[y : y + SIDE, x : x + SIDE] for x, y in corners]
    return measure_looks(np.array(crops, np.uint8).reshape(-1, SIDE, SIDE, 3))


if __name__ == "__main__":
    main()

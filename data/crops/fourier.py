"""Fourier domain adaptation: a crop takes on the broad colours and shades of another image.

After Yang and Soatto (CVPR 2020, arXiv 2004.05498): the amplitudes of the lowest frequencies, which
are illumination, stain and background, are those of an image of elsewhere; phases, which are where
things lie, stay. Nobody need have annotated these images.

albumentations' FDA is not taken: its window of frequencies lies off the centre by a half to one and
a half, so that a narrow one leaves out the mean colour, and it would squeeze images to the crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from configs import ConfigError, StrictModel
from configs.doubts import listed
from data.crops.stains import Pixels
from data.folders import files_below
from data.pixels.plain import PictureError, is_picture, read_picture

KEY = "data.augment.fourier.images"

MOST_IMAGES = 1000
"""Of a larger folder so many are taken, evenly from its sorted names."""

WINDOWS = 4
"""Places of each image whose amplitudes are kept."""

MOST_BETA = 0.1
"""Above it what is swapped is no wider than a large cell at any scale that detectors look at."""


class FourierSettings(StrictModel):
    """From where crops take the amplitudes of their lowest frequencies.

    Attributes:
        images: a folder of images without annotations, at about the crops' scale.
        beta: smallest and largest highest frequency that is swapped, in cycles a pixel; one is
            drawn a crop. 0 swaps the mean colour alone.
        probability: of a crop to be changed.
    """

    images: Path
    beta: tuple[float, float] = (0.0, 0.006)
    probability: float = Field(0.3, gt=0, le=1)

    @field_validator("beta")
    @classmethod
    def _rises_from_nothing(cls, beta: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= beta[0] <= beta[1] <= MOST_BETA:
            raise ValueError(f"expected two values that rise, from 0 to {MOST_BETA:g}")
        return beta


@dataclass(frozen=True)
class Amplitudes:
    """The lowest frequencies of images.

    Attributes:
        values: (N, 2 b + 1, b + 1, 3): rows from -b to b, columns from 0 to b.
        images: from which they were taken.
        side: of the windows that they are of, in px.
        notes: what was left out and why: a line each, for people.
    """

    values: NDArray[np.float32]
    images: tuple[Path, ...]
    side: int
    notes: tuple[str, ...]


class FourierSwap(A.ImageOnlyTransform):
    """Gives a crop the lowest amplitudes of a random window.

    Args:
        amplitudes: of windows of the crops' side.
        beta: see `FourierSettings`.
        p: probability.
    """

    def __init__(self, amplitudes: Amplitudes, beta: tuple[float, float], p: float = 0.3) -> None:
        super().__init__(p=p)
        self.amplitudes, self.beta = amplitudes, beta

    def get_params(self) -> dict[str, Any]:
        """Draws a window, and how many frequencies."""
        rng, side = self.random_generator, self.amplitudes.side
        window = int(rng.integers(len(self.amplitudes.values)))
        return {"window": window, "reach": int(rng.uniform(*self.beta) * side)}

    def apply(self, img: Pixels, window: int, reach: int, **_: Any) -> Pixels:
        """Swaps the amplitudes of (S, S, 3) uint8."""
        side = self.amplitudes.side
        if img.shape[:2] != (side, side):
            raise ValueError(f"expected a crop of {side} x {side} px, not {img.shape[:2]}")
        values = self.amplitudes.values[window]
        most = values.shape[1] - 1
        wanted = values[most - reach : most + reach + 1, : reach + 1]
        spectrum = np.fft.rfft2(img.astype(np.float32), axes=(0, 1))
        rows = np.arange(-reach, reach + 1)
        own = spectrum[rows, : reach + 1]
        # Where a crop has no such frequency it has no phase either.
        spectrum[rows, : reach + 1] = own * (wanted / np.maximum(np.abs(own), 1e-3))
        changed = np.fft.irfft2(spectrum, s=(side, side), axes=(0, 1))
        return np.asarray(changed.round().clip(0, 255), np.uint8)


@lru_cache(maxsize=4)
def read_amplitudes(images: Path, beta: float, side: int) -> Amplitudes:
    """Reads a folder's images once, and keeps what crops may take of them.

    Args:
        images: the folder; what lies below it counts, too: see `files_below`.
        beta: the highest frequency, in cycles a pixel.
        side: of the crops in px; smaller images are left out.

    Raises:
        ConfigError: there is no such folder, or no image in it that serves.
    """
    if not images.is_dir():
        raise ConfigError(f"{KEY}: {images} is no folder")
    pictures, notes = _pictures_in(images)
    reach, found, taken = int(beta * side), [], []
    small, bad = [], []
    for number, path in enumerate(pictures):
        try:
            pixels = read_picture(path).pixels
        except PictureError as error:
            bad.append(f"{path.name} ({error})")
            continue
        if min(pixels.shape[:2]) < side:
            small.append(path.name)
            continue
        taken.append(path)
        found += [_lowest(window, reach) for window in _windows(pixels, side, number)]
    told = (
        (bad, "can't be read, left out"),
        (small, f"smaller than a crop of {side} px, left out"),
    )
    notes += [f"{KEY}: {len(names)} {why}: {listed(names, 3)}" for names, why in told if names]
    if not found:
        raise ConfigError(
            f"{KEY}: {images} has no image to take from{''.join(f'; {note}' for note in notes)}"
        )
    return Amplitudes(np.stack(found), tuple(taken), side, tuple(notes))


def _pictures_in(folder: Path) -> tuple[list[Path], list[str]]:
    """The images to take, and what is to be told of others."""
    try:
        files = sorted(files_below(folder))
        pictures = [path for path in files if is_picture(path)]
    except OSError as error:
        raise ConfigError(f"{KEY}: {folder} can't be read: {error.strerror}") from error
    notes = []
    if others := len(files) - len(pictures):
        notes.append(f"{KEY}: {others} of {len(files)} files are no plain images: passed over")
    if len(pictures) > MOST_IMAGES:
        notes.append(f"{KEY}: {MOST_IMAGES} of {len(pictures)} images are taken, evenly")
        chosen = np.linspace(0, len(pictures) - 1, MOST_IMAGES).round().astype(int)
        pictures = [pictures[index] for index in chosen.tolist()]
    return pictures, notes


def _windows(pixels: Pixels, side: int, number: int) -> list[Pixels]:
    """Random windows of an image; the same ones every time."""
    rng = np.random.default_rng(number)
    last = np.array(pixels.shape[:2]) - side
    corners = rng.integers(0, last + 1, (WINDOWS, 2)).tolist()
    return [pixels[top : top + side, left : left + side] for top, left in corners]


def _lowest(window: Pixels, reach: int) -> NDArray[np.float32]:
    """(2 b + 1, b + 1, 3) amplitudes of a window up to a frequency b."""
    spectrum = np.fft.rfft2(window.astype(np.float32), axes=(0, 1))
    lowest = spectrum[np.arange(-reach, reach + 1), : reach + 1]
    return np.abs(lowest).astype(np.float32)

"""The pixels of annotated fields."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from configs import ConfigError
from data.fieldset import Field
from data.resample import resample


class FieldImages:
    """The fields' pixels, decoded once each and kept: a few hundred fields fit in memory."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = fields
        self._pixels: dict[int, NDArray[np.uint8]] = {}

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if index not in self._pixels:
            path = self._fields[index].image
            try:
                with Image.open(path) as image:
                    self._pixels[index] = np.asarray(image.convert("RGB"))
            except OSError as error:
                raise ConfigError(f"{path}: cannot be read as an image: {error}") from error
        return self._pixels[index]

    def crop(
        self, index: int, size: tuple[int, int], box: tuple[float, float, float, float]
    ) -> NDArray[np.uint8]:
        """A box (xyxy, pixels of the field) of a field, at any scale.

        Args:
            index: of the field.
            size: width and height of the result in pixels.
            box: may be fractional; inside the field.

        Returns:
            (height, width, 3) RGB.
        """
        return resample(self[index], size, box)

"""Packages of somebody else, as if they were installed: modules, and what metadata declare."""

import sys
from pathlib import Path

READING = '''
import os, sys, time
from pathlib import Path

import numpy as np

from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Size
from pipeline.slides.plugins import ReaderPlugin
from pipeline.slides.readers.base import Header, Reader, levels_of


class RawReader(Reader):
    """Pixels as NumPy keeps them, and every second one of them."""

    library = "numpy"

    def __init__(self, path):
        try:
            finest = np.load(path)
        except ValueError as error:
            raise SlideError(f"{path}: broken off") from error
        height, width = (side // 2 for side in finest.shape[:2])
        half = finest[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).mean(axis=(1, 3))
        self.images = [finest, half.astype(np.uint8)]
        sizes = tuple(Size(image.shape[1], image.shape[0]) for image in self.images)
        self.header = Header("raw", levels_of(sizes), mpp=(0.25, 0.25))

    def read(self, level, region, shrink=1):
        return self.images[level][region.y : region.bottom, region.x : region.right]

    def close(self):
        self.images = []


class Raw(ReaderPlugin):
    name = "raw"

    def open(self, path):
        return RawReader(path)
'''
"""The module of a package that reads arrays."""


def install(
    folder: Path, package: str, module: str, entries: dict[str, str], version: str = "1.2"
) -> None:
    """Puts a package into a folder that is on the path, or will be.

    Args:
        folder: for modules and metadata.
        package: name of the distribution; its module is called the same, with underscores.
        module: text of the module.
        entries: names in the module by the endings that they open.
        version: of the distribution.
    """
    name = package.replace("-", "_")
    sys.modules.pop(name, None)
    (folder / f"{name}.py").write_text(module, encoding="utf-8")
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    lines = [f"{ending} = {name}:{value}\n" for ending, value in entries.items()]
    text = "[cytolibra.readers]\n" + "".join(lines)
    (info / "entry_points.txt").write_text(text, encoding="utf-8")

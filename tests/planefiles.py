"""Stacks of focal planes as OME-TIFF, as tifffile writes them, and damaged ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from slidefiles import MPP, break_tiles, halved

KEYS = {"photometric": "rgb", "tile": (64, 64), "compression": "deflate"}


def write_planes(
    path: Path,
    images: Sequence[NDArray[np.uint8]],
    places: Sequence[float] | None = None,
    step: float | None = None,
    levels: int = 1,
    mpp: float = MPP,
) -> Path:
    """Planes (height, width, 3) of one place, with what is said of where they lie, in µm."""
    metadata = {"axes": "ZYXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
    if places is not None:
        units = ["µm"] * len(places)
        metadata["Plane"] = {"PositionZ": list(places), "PositionZUnit": units}
    if step is not None:
        metadata["PhysicalSizeZ"] = step
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(np.stack(images), subifds=levels - 1, metadata=metadata, **KEYS)
        for level in range(1, levels):
            small = np.stack([halved(image, level) for image in images])
            writer.write(small, subfiletype=1, **KEYS)
    return path


def write_without(path: Path, images: Sequence[NDArray[np.uint8]], missing: int) -> Path:
    """Planes as OME-XML names them, without the page of one."""
    height, width, _ = images[0].shape
    there = [n for n in range(len(images)) if n != missing]
    data = "".join(
        f'<TiffData FirstZ="{z}" IFD="{page}" PlaneCount="1"/>' for page, z in enumerate(there)
    )
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="{width}" '
        f'SizeY="{height}" SizeC="3" SizeZ="{len(images)}" SizeT="1" PhysicalSizeX="{MPP}" '
        f'PhysicalSizeY="{MPP}" PhysicalSizeZ="1.5"><Channel ID="Channel:0:0" '
        f'SamplesPerPixel="3"/>{data}</Pixels></Image></OME>'
    )
    with tifffile.TiffWriter(path, ome=False) as writer:
        for page, z in enumerate(there):
            description = xml if page == 0 else None
            writer.write(images[z], description=description, metadata=None, **KEYS)
    return path


def damage_plane(path: Path, plane: int, tiles: Sequence[int] | None = None) -> Path:
    """Overwrites tiles of one plane, by default all, so that no decoder can read them."""
    return break_tiles(path, tiles, plane=plane)

"""Writes OME-Zarr as others do: by the zarr package, the reference of the format."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from slidefiles import halved

MPP = 0.25

AXES = {
    "t": {"name": "t", "type": "time", "unit": "second"},
    "c": {"name": "c", "type": "channel"},
    "z": {"name": "z", "type": "space", "unit": "micrometer"},
    "y": {"name": "y", "type": "space", "unit": "micrometer"},
    "x": {"name": "x", "type": "space", "unit": "micrometer"},
}


def write_ngff(
    path: Path,
    image: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
    *,
    version: str = "0.4",
    axes: str = "tczyx",
    levels: int = 2,
    mpp: tuple[float, float] | None = (MPP, MPP),
    chunk: int = 128,
    channels: int = 1,
    more: Mapping[str, Any] | None = None,
    edit: Mapping[str, Any] | None = None,
    unit: str | None = "micrometer",
    colors: Sequence[str | None] | None = ("FF0000", "00FF00", "0000FF"),
) -> Path:
    """One picture.

    Args:
        path: of the folder.
        image: (H, W, 3) RGB, or one a focal plane, which lie 1.5 µm apart.
        version: of NGFF; 0.4 is Zarr 2, 0.5 is Zarr 3.
        axes: in their order.
        levels: each half as large as the one before.
        mpp: in x and y.
        chunk: side in px.
        channels: of a chunk.
        more: arguments of zarr's create_array.
        edit: entries of the multiscale that take the place of those written.
        unit: of length; None to state none.
        colors: of the channels, None for one without; None to say nothing of channels.
    """
    planes = [image] if isinstance(image, np.ndarray) else list(image)
    format_ = 2 if version == "0.4" else 3
    group = zarr.open_group(path, mode="w", zarr_format=format_)
    datasets = []
    for level in range(levels):
        stack = np.stack([halved(one, level) for one in planes])  # z, y, x, c
        sizes = {"t": 1, "c": channels, "z": 1, "y": chunk, "x": chunk}
        data = _in_order(stack, axes)
        array = group.create_array(
            str(level),
            shape=data.shape,
            dtype="uint8",
            chunks=tuple(min(sizes[a], n) if a != "c" else sizes[a]
                         for a, n in zip(axes, data.shape, strict=True)),
            **dict(more or {}),
        )  # fmt: skip
        array[...] = data
        factor = 2**level
        x, y = mpp or (1.0, 1.0)
        scale = {"t": 1.0, "c": 1.0, "z": 1.5, "y": y * factor, "x": x * factor}
        dataset: dict[str, Any] = {"path": str(level)}
        if mpp is not None:
            dataset["coordinateTransformations"] = [
                {"type": "scale", "scale": [scale[a] for a in axes]}
            ]
        datasets.append(dataset)
    described = [dict(AXES[a]) for a in axes]
    for one in described:
        if one["type"] == "space":
            one.pop("unit")
            if unit:
                one["unit"] = unit
    multiscale = {"axes": described, "datasets": datasets, "name": "a slide", **dict(edit or {})}
    omero = {}
    if colors is not None:
        omero["omero"] = {"channels": [{"color": one} if one else {"label": "x"} for one in colors]}
    if version == "0.4":
        group.attrs["multiscales"] = [{"version": version, **multiscale}]
        group.attrs.update(omero)
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [multiscale], **omero}
    return path


def packed(path: Path) -> Path:
    """A folder as one ZIP beside it, stored as it is."""
    target = path.with_name(path.name.removesuffix(".zarr").removesuffix(".ome") + ".ozx")
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(path).as_posix())
    return target


def edited(path: Path, name: str, **entries: Any) -> Path:
    """A folder of which a file of metadata has other entries; None takes one away."""
    place = path / name
    stated = json.loads(place.read_text())
    for key, value in entries.items():
        if value is None:
            stated.pop(key, None)
        else:
            stated[key] = value
    place.write_text(json.dumps(stated))
    return path


def _in_order(stack: NDArray[np.uint8], axes: str) -> NDArray[np.uint8]:
    """(z, y, x, c) with axes as they are called."""
    full = stack[None]  # t, z, y, x, c
    data = full.transpose(["tzyxc".index(a) for a in axes] + [
        "tzyxc".index(a) for a in "tzyxc" if a not in axes
    ])  # fmt: skip
    return data.reshape(data.shape[: len(axes)])

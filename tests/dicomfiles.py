"""Writes small DICOM slides, whose header may say what it likes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended, get_frame
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    VLWholeSlideMicroscopyImageStorage,
    generate_uid,
)
from slidefiles import MPP, cut

TILE = 64

SOUND = {
    "ExplicitVRLittleEndian": (ExplicitVRLittleEndian, "RGB"),
    "ImplicitVRLittleEndian": (ImplicitVRLittleEndian, "RGB"),
    "RLE": (RLELossless, "RGB"),
    "JPEG-LS": (JPEGLSLossless, "RGB"),
    "JPEG 2000, lossless": (JPEG2000Lossless, "YBR_RCT"),
    "HTJ2K": (HTJ2K, "RGB"),
}
"""Transfer syntaxes that lose nothing, and how their colours are called; see `encoded`."""


def write_dicom(
    path: Path,
    image: NDArray[np.uint8],
    *,
    photometric: str,
    frames: Sequence[bytes],
    series: str | None = None,
    layout: str = "TILED_FULL",
    placed: bool = False,
    fragments: int = 1,
    profile: bytes | None = None,
    syntax: str | None = None,
    places: Sequence[tuple[float, ...]] | None = None,
    table: str = "basic",
    mpp: tuple[float, float] | None = (MPP, MPP),
    elements: Mapping[str, Any] | None = None,
) -> Path:
    """Writes one level of a slide, of frames that are encoded already.

    Args:
        path: of the file.
        image: whose size the level has.
        photometric: how the header says that colours are stored.
        frames: tiles of `TILE` px, row by row, as JPEG or JPEG 2000.
        series: UID of the slide; by default one of its own.
        layout: of the frames: TILED_FULL is all tiles in their order.
        placed: whether each frame says where it lies.
        fragments: of each frame.
        profile: of its colours, as ICC lays one out.
        syntax: by default what the frames look like, JPEG or JPEG 2000.
        places: of each frame, left and upper edge in px, then z in µm if any; instead of `placed`.
        table: of frames: "basic", "extended" or "" for none.
        mpp: µm per pixel in x and y; None to state none.
        elements: of the header, set last; None takes one out.
    """
    is_jpeg = frames[0].startswith(b"\xff\xd8")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax or (JPEGBaseline8Bit if is_jpeg else JPEG2000)
    slide = Dataset()
    slide.file_meta = meta
    slide.SOPClassUID = meta.MediaStorageSOPClassUID
    slide.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    slide.SeriesInstanceUID = series or generate_uid()
    slide.StudyInstanceUID = slide.FrameOfReferenceUID = slide.SeriesInstanceUID
    slide.Modality, slide.ImageType = "SM", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    if layout:
        slide.DimensionOrganizationType = layout
    slide.SamplesPerPixel, slide.PhotometricInterpretation = 3, photometric
    slide.PlanarConfiguration = slide.PixelRepresentation = 0
    slide.Rows = slide.Columns = TILE
    slide.BitsAllocated = slide.BitsStored = 8
    slide.HighBit, slide.NumberOfFrames = 7, len(frames)
    height, width = image.shape[:2]
    slide.TotalPixelMatrixColumns, slide.TotalPixelMatrixRows = width, height
    slide.TotalPixelMatrixFocalPlanes = slide.NumberOfOpticalPaths = 1
    measures, shared, light = Dataset(), Dataset(), Dataset()
    if mpp:
        measures.PixelSpacing = [mpp[1] / 1000, mpp[0] / 1000]  # rows come first
        slide.ImagedVolumeWidth = width * mpp[0] / 1000
        slide.ImagedVolumeHeight = height * mpp[1] / 1000
    shared.PixelMeasuresSequence = [measures]
    slide.SharedFunctionalGroupsSequence = [shared]
    light.OpticalPathIdentifier, light.ObjectiveLensPower = "0", "40"
    if profile:
        light.ICCProfile = profile + bytes(len(profile) % 2)
    slide.OpticalPathSequence = [light]
    columns = -(-width // TILE)
    if placed:
        places = [(index % columns * TILE, index // columns * TILE) for index in range(len(frames))]
    if places:
        slide.PerFrameFunctionalGroupsSequence = [_placed(*place) for place in places]
    _add_pixels(slide, list(frames), fragments, table)
    for name, value in (elements or {}).items():
        if value is not None:
            setattr(slide, name, value)
        elif name in slide:
            delattr(slide, name)
    meta.MediaStorageSOPInstanceUID = slide.SOPInstanceUID
    slide.save_as(path, enforce_file_format=True)
    return path


def _add_pixels(slide: Dataset, frames: list[bytes], fragments: int, table: str) -> None:
    if slide.file_meta.TransferSyntaxUID.is_encapsulated:
        if table == "extended":
            data, offsets, lengths = encapsulate_extended(frames)
            slide.ExtendedOffsetTable, slide.ExtendedOffsetTableLengths = offsets, lengths
        else:
            data = encapsulate(frames, fragments_per_frame=fragments, has_bot=table == "basic")
        slide.PixelData = data
        slide["PixelData"].is_undefined_length = True
    else:
        slide.PixelData = b"".join(frames) + bytes(sum(map(len, frames)) % 2)
    slide["PixelData"].VR = "OB" if not slide.file_meta.TransferSyntaxUID.is_implicit_VR else "OW"


def _placed(x: int, y: int, z: float | None = None) -> Dataset:
    place, groups = Dataset(), Dataset()
    place.ColumnPositionInTotalImagePixelMatrix = x + 1
    place.RowPositionInTotalImagePixelMatrix = y + 1
    if z is not None:
        place.ZOffsetInSlideCoordinateSystem = z
    groups.PlanePositionSlideSequence = [place]
    return groups


def encoded(image: NDArray[np.uint8], syntax: str) -> list[bytes]:
    """Tiles without loss, as one of `SOUND`."""
    return [_encode(tile, syntax) for tile in cut(image, TILE)]


def _encode(tile: NDArray[np.uint8], syntax: str) -> bytes:
    if syntax == RLELossless:
        return _rle(tile)
    if syntax == JPEGLSLossless:
        return bytes(imagecodecs.jpegls_encode(tile))
    if syntax == JPEG2000Lossless:
        return bytes(imagecodecs.jpeg2k_encode(tile, codecformat="j2k", reversible=True, mct=True))
    if syntax == HTJ2K:
        return bytes(imagecodecs.htj2k_encode(tile, reversible=True))
    return tile.tobytes()


def _rle(tile: NDArray[np.uint8]) -> bytes:
    """By pydicom."""
    picture = Dataset()
    picture.file_meta = FileMetaDataset()
    picture.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    picture.Rows, picture.Columns = tile.shape[:2]
    picture.SamplesPerPixel, picture.PhotometricInterpretation = 3, "RGB"
    picture.PlanarConfiguration = picture.PixelRepresentation = 0
    picture.BitsAllocated = picture.BitsStored = 8
    picture.HighBit = 7
    picture.PixelData = tile.tobytes()
    picture.compress(RLELossless, generate_instance_uid=False)
    return get_frame(picture.PixelData, 0, number_of_frames=1)


def write_level(
    path: Path,
    image: NDArray[np.uint8],
    series: str,
    mpp: float = MPP,
    **others: Any,
) -> Path:
    """Writes one uncompressed level of a series; see `write_dicom`."""
    syntax = ExplicitVRLittleEndian
    given = {"photometric": "RGB", "frames": encoded(image, syntax), "syntax": syntax} | others
    return write_dicom(path, image, series=series, mpp=(mpp, mpp), **given)


def write_parts(
    folder: Path, image: NDArray[np.uint8], series: str, cuts: Sequence[int], **others: Any
) -> list[Path]:
    """Writes one level cut into files.

    Args:
        folder: for the files.
        image: of the level.
        series: its UID.
        cuts: how many frames each file has.
        others: see `write_dicom`.
    """
    frames, whole, paths, at = encoded(image, ExplicitVRLittleEndian), generate_uid(), [], 0
    places = others.pop("places", None)
    for number, count in enumerate(cuts, 1):
        elements = {
            "ConcatenationUID": whole,
            "InConcatenationNumber": number,
            "InConcatenationTotalNumber": len(cuts),
            "ConcatenationFrameOffsetNumber": at,
        } | others.get("elements", {})
        path = write_level(
            folder / f"part{number}.dcm",
            image,
            series,
            **others
            | {
                "frames": frames[at : at + count],
                "places": places and places[at : at + count],
                "elements": elements,
            },
        )
        paths.append(path)
        at += count
    return paths


def jpegs(image: NDArray[np.uint8], space: str) -> list[bytes]:
    """Tiles as JPEG in "rgb", with Adobe's marker, or "ycbcr", with JFIF's."""
    options = {"colorspace": "rgb", "outcolorspace": space, "subsampling": "444"}
    return [imagecodecs.jpeg8_encode(tile, level=95, **options) for tile in cut(image, TILE)]


def jpegs_2000(samples: NDArray[np.uint8], transform: bool) -> list[bytes]:
    """Tiles as JPEG 2000, with a transform of colours to undo or without."""
    options = {"codecformat": "j2k", "reversible": False, "mct": transform, "level": 60}
    return [imagecodecs.jpeg2k_encode(tile, **options) for tile in cut(samples, TILE)]


def without_markers(jpeg: bytes) -> bytes:
    """A JPEG without JFIF's and Adobe's markers."""
    kept, at = b"", 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] not in (0xE0, 0xEE):
            kept += jpeg[at:end]
        at = end
    return b"\xff\xd8" + kept + jpeg[at:]

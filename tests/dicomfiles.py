"""Writes small DICOM slides, whose header may say of colours what it likes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000, JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid
from slidefiles import MPP, cut

TILE = 64


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
    """
    is_jpeg = frames[0].startswith(b"\xff\xd8")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = JPEGBaseline8Bit if is_jpeg else JPEG2000
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
    slide.ImagedVolumeWidth, slide.ImagedVolumeHeight = width * MPP / 1000, height * MPP / 1000
    measures, shared, light = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [MPP / 1000] * 2
    shared.PixelMeasuresSequence = [measures]
    slide.SharedFunctionalGroupsSequence = [shared]
    light.OpticalPathIdentifier, light.ObjectiveLensPower = "0", "40"
    if profile:
        light.ICCProfile = profile + bytes(len(profile) % 2)
    slide.OpticalPathSequence = [light]
    if placed:
        columns = -(-width // TILE)
        slide.PerFrameFunctionalGroupsSequence = [
            _placed(index % columns * TILE, index // columns * TILE) for index in range(len(frames))
        ]
    slide.PixelData = encapsulate(list(frames), fragments_per_frame=fragments)
    slide["PixelData"].VR = "OB"
    slide["PixelData"].is_undefined_length = True
    slide.save_as(path, enforce_file_format=True)
    return path


def _placed(x: int, y: int) -> Dataset:
    place, groups = Dataset(), Dataset()
    place.ColumnPositionInTotalImagePixelMatrix = x + 1
    place.RowPositionInTotalImagePixelMatrix = y + 1
    groups.PlanePositionSlideSequence = [place]
    return groups


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

"""DICOM whole slide images for tests: a series of files, one an image, with uncompressed tiles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

WSI = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class of whole slide images."""

SIDE = 64
"""Of a tile, in pixels."""

VOLUME, LABEL = ("ORIGINAL", "PRIMARY", "VOLUME", "NONE"), ("ORIGINAL", "PRIMARY", "LABEL", "NONE")


def write_image(
    path: Path,
    pixels: NDArray[np.uint8],
    mpp: float,
    series: str,
    *,
    kind: Sequence[str] = VOLUME,
    sop_class: str = WSI,
) -> None:
    """Writes one image of a series: a level of the pyramid, or the label."""
    height, width = pixels.shape[:2]
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = sop_class
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
    image.StudyInstanceUID = image.FrameOfReferenceUID = f"{series}.1"
    image.SeriesInstanceUID = series
    image.PatientName, image.PatientID = "Doe^Jane", "4711"
    image.ImageType, image.Modality = list(kind), "SM"
    image.DimensionOrganizationType = "TILED_FULL"
    image.SamplesPerPixel, image.PhotometricInterpretation = 3, "RGB"
    image.PlanarConfiguration = image.PixelRepresentation = 0
    image.Rows = image.Columns = SIDE
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit = 7
    image.TotalPixelMatrixColumns, image.TotalPixelMatrixRows = width, height
    image.TotalPixelMatrixFocalPlanes = image.NumberOfOpticalPaths = 1
    image.ImagedVolumeWidth, image.ImagedVolumeHeight = width * mpp / 1000, height * mpp / 1000
    measures, shared, path_of_light = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [mpp / 1000, mpp / 1000]
    shared.PixelMeasuresSequence = [measures]
    image.SharedFunctionalGroupsSequence = [shared]
    path_of_light.OpticalPathIdentifier, path_of_light.ObjectiveLensPower = "0", "40"
    image.OpticalPathSequence = [path_of_light]
    frames = _tiles(pixels)
    image.NumberOfFrames = len(frames)
    image.PixelData = b"".join(frames)
    image["PixelData"].VR = "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)


def _tiles(pixels: NDArray[np.uint8]) -> list[bytes]:
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % SIDE), (0, -width % SIDE), (0, 0)))
    return [
        padded[y : y + SIDE, x : x + SIDE].tobytes()
        for y in range(0, height, SIDE)
        for x in range(0, width, SIDE)
    ]

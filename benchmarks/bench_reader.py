"""How fast regions are read: the tiler's tiles of 1536 model pixels that overlap by 256.

Lays a picture out as an Aperio slide, or the same JPEGs as one in DICOM, and reads all of it by
OpenSlide, by the reader that is chosen, and as bare decoding of every native tile once. All take
turns; prints medians in millions of the slide's own pixels that are shown a second, so that
decoding one twice gains nothing. With one thread processor time counts, which other work on the
machine hardly changes; with two the clock, of which ratios are to be trusted.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid
from rich.console import Console
from rich.table import Table

from pipeline.geometry import Rect
from pipeline.slides.mpp import Scale
from pipeline.slides.readers.base import Reader
from pipeline.slides.readers.dicom import open_dicom
from pipeline.slides.readers.direct import open_vendor
from pipeline.slides.readers.vendor import VendorReader
from pipeline.slides.slide import Slide
from pipeline.tiles.tiler import TileGrid, TilerSettings
from pipeline.tiles.tilereader import read_tile

MODEL_MPP = 0.5
NATIVE = 240
"""Side of an Aperio scanner's tiles."""


def main() -> None:
    """Prints a table for each scale of the slide."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", type=Path, help="what the slide shows again and again")
    parser.add_argument("--side", type=int, default=9600, help="of the slide in its own px")
    parser.add_argument("--mpp", type=float, nargs="+", default=[0.5, 0.25])
    parser.add_argument("--dicom", action="store_true", help="as DICOM, not as Aperio's TIFF")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.svs"
        write_slide(path, picture(asked.image), asked.side)
        slide = write_dicom(path) if asked.dicom else path
        for mpp in asked.mpp:
            Console().print(table(path, slide, mpp, asked.rounds))


def picture(path: Path | None) -> NDArray[np.uint8]:
    """(H, W, 3): the image, or smooth colours under the noise of a camera."""
    if path:
        return np.asarray(Image.open(path).convert("RGB"))
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 90, 1920), np.linspace(0, 60, 1920))
    smooth = 190 + 40 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=-1)
    return (smooth + rng.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)


def write_slide(path: Path, image: NDArray[np.uint8], side: int) -> None:
    """Writes one level of JPEG tiles in 4:2:0, the picture repeated over it."""
    rows, columns = len(image) // NATIVE, image.shape[1] // NATIVE
    parts = image[: rows * NATIVE, : columns * NATIVE].reshape(rows, NATIVE, columns, NATIVE, 3)
    tiles = [
        [imagecodecs.jpeg8_encode(parts[y, :, x].copy(), level=85, subsampling="420")
         for x in range(columns)]
        for y in range(rows)
    ]  # fmt: skip
    places = itertools.product(range(math.ceil(side / NATIVE)), repeat=2)
    tifffile.imwrite(
        path,
        (tiles[y % rows][x % columns] for y, x in places),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(NATIVE, NATIVE),
        photometric="ycbcr",
        subsampling=(2, 2),
        compression="jpeg",
        description="Aperio Image Library v12.0\nbench",
        metadata=None,
    )


def write_dicom(path: Path) -> Path:
    """Writes the JPEGs of an Aperio slide as one in DICOM, beside it."""
    with tifffile.TiffFile(path) as file:
        page, data = file.pages.first, path.read_bytes()
        side = page.imagewidth
        places = zip(page.dataoffsets, page.databytecounts, strict=True)
        frames = [data[at : at + count] for at, count in places]
    slide, measures, shared, light = Dataset(), Dataset(), Dataset(), Dataset()
    slide.file_meta = FileMetaDataset()
    slide.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    slide.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    slide.SOPInstanceUID = slide.SeriesInstanceUID = slide.StudyInstanceUID = generate_uid()
    slide.FrameOfReferenceUID = slide.SOPInstanceUID
    slide.file_meta.MediaStorageSOPClassUID = slide.SOPClassUID
    slide.file_meta.MediaStorageSOPInstanceUID = slide.SOPInstanceUID
    slide.Modality, slide.ImageType = "SM", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    slide.DimensionOrganizationType = "TILED_FULL"
    slide.SamplesPerPixel, slide.PhotometricInterpretation = 3, "YBR_FULL_422"
    slide.PlanarConfiguration = slide.PixelRepresentation = 0
    slide.Rows = slide.Columns = NATIVE
    slide.BitsAllocated = slide.BitsStored = 8
    slide.HighBit, slide.NumberOfFrames = 7, len(frames)
    slide.TotalPixelMatrixColumns = slide.TotalPixelMatrixRows = side
    slide.TotalPixelMatrixFocalPlanes = slide.NumberOfOpticalPaths = 1
    measures.PixelSpacing = [MODEL_MPP / 1000] * 2
    shared.PixelMeasuresSequence = [measures]
    slide.SharedFunctionalGroupsSequence = [shared]
    light.OpticalPathIdentifier = "0"
    slide.OpticalPathSequence = [light]
    slide.PixelData = encapsulate(frames)
    slide["PixelData"].VR = "OB"
    slide["PixelData"].is_undefined_length = True
    slide.save_as(path.with_suffix(".dcm"), enforce_file_format=True)
    return path.with_suffix(".dcm")


def table(path: Path, slide: Path, mpp: float, rounds: int) -> Table:
    """Rates by way of reading and number of threads.

    Args:
        path: of the Aperio slide.
        slide: what is read; the same, or another with the same JPEGs.
        mpp: taken for its scale.
        rounds: of which the median counts.
    """
    chosen = open_dicom if slide.suffix == ".dcm" else open_vendor
    ways = {
        "bare decoding": decode_all(path),
        "regions by OpenSlide": regions(path, mpp, VendorReader),
        "regions as chosen": regions(path, mpp, chosen),
        "tiles by OpenSlide": tiles(path, mpp, VendorReader),
        "tiles as chosen": tiles(path, mpp, chosen),
    }
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for (name, read), threads in itertools.product(ways.items(), (1, 2)):
            rates.setdefault((name, threads), []).append(rate(read, slide, threads))
    result = Table(title=f"slide at {mpp} µm/px, tiles at {MODEL_MPP}; MPix/s")
    result.add_column("")
    result.add_column("one thread", justify="right")
    result.add_column("two threads", justify="right")
    for name in ways:
        result.add_row(name, *(f"{statistics.median(rates[name, n]):.0f}" for n in (1, 2)))
    return result


Work = Callable[[Path], tuple[Callable[[int], object], int, float]]
"""Opens a slide: what to do with each index, how many there are, and how many MPix they show."""


def rate(open_work: Work, path: Path, threads: int) -> float:
    """Millions of shown pixels a second."""
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    work, count, shown = open_work(path)
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(count)):
            pass
    return shown / (clock() - start)


def decode_all(path: Path) -> Work:
    """Decoding each native tile of an Aperio slide once, and throwing it away."""

    def open_work(_: Path) -> tuple[Callable[[int], object], int, float]:
        file = tifffile.TiffFile(path)
        page, data = file.pages.first, path.read_bytes()

        def decode(index: int) -> object:
            offset = page.dataoffsets[index]
            return page.decode(data[offset : offset + page.databytecounts[index]], index)

        return decode, len(page.dataoffsets), page.imagewidth * page.imagelength / 1e6

    return open_work


def regions(path: Path, mpp: float, open_reader: Callable[[Path], Reader]) -> Work:
    """Reading the tiles' areas in the slide's own pixels."""
    grid = lay(path, mpp)

    def open_work(path: Path) -> tuple[Callable[[int], object], int, float]:
        reader = open_reader(path)
        areas = [area(grid, index) for index in range(len(grid))]
        shown = sum(one.area for one in areas) / 1e6
        return lambda index: reader.read(0, areas[index]), len(areas), shown

    return open_work


def tiles(path: Path, mpp: float, open_reader: Callable[[Path], Reader]) -> Work:
    """Reading the tiles as the detector takes them, resampled."""
    grid = lay(path, mpp)

    def open_work(path: Path) -> tuple[Callable[[int], object], int, float]:
        slide = Slide(path, open_reader(path), Scale(mpp, "argument"))
        shown = sum(area(grid, index).area for index in range(len(grid))) / 1e6
        return lambda index: read_tile(slide, grid, index), len(grid), shown

    return open_work


def lay(path: Path, mpp: float) -> TileGrid:
    """The tiler's grid over the slide."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        bounds = Rect(0, 0, page.imagewidth, page.imagelength)
    return TileGrid(bounds, MODEL_MPP / mpp, TilerSettings(overlap=128))


def area(grid: TileGrid, index: int) -> Rect:
    """What a tile shows of the slide."""
    left, top, right, bottom = (int(side) for side in grid.regions([index])[0])
    shown = Rect(left, top, right - left, bottom - top).intersection(grid.bounds)
    assert shown
    return shown


if __name__ == "__main__":
    main()

"""All readers keep to the contract that readers of other packages are to keep to."""

from dataclasses import replace

import pytest
from dicomfiles import jpegs, write_dicom, write_level, write_parts
from slidefiles import (
    MPP,
    ArrayReader,
    break_tiles,
    halved,
    picture,
    truncate,
    write_aperio,
    write_flat,
    write_image,
    write_pyramid,
    write_sub_ifds,
)

from pipeline.errors import ReadError
from pipeline.geometry import Rect
from pipeline.slides.containers import open_container
from pipeline.slides.contract import ReaderContract

IMAGE = picture(530, 390)

WRITERS = {
    "plain_image": lambda folder: write_image(folder / "a.png", IMAGE),
    "strips": lambda folder: write_flat(folder / "a.tif", IMAGE),
    "pyramid": lambda folder: write_pyramid(folder / "a.tif", IMAGE),
    "sub_ifds": lambda folder: write_sub_ifds(folder / "a.tif", IMAGE),
    "aperio": lambda folder: write_aperio(folder / "a.svs", IMAGE),
    "dicom": lambda folder: write_dicom(
        folder / "a.dcm", IMAGE, photometric="YBR_FULL_422", frames=jpegs(IMAGE, "ycbcr")
    ),
    "dicom_series": lambda folder: write_dicom_series(folder),
}


def write_dicom_series(folder):
    """Two levels, the finest one cut into files that hold frames without loss."""
    write_level(folder / "half.dcm", halved(IMAGE), "1.2.3", 2 * MPP)
    return write_parts(folder, IMAGE, "1.2.3", (30, 20, 13))[1]


def break_dicom(folder):
    frames = jpegs(IMAGE, "ycbcr")
    frames[3] = frames[3][: len(frames[3]) // 2] + bytes(len(frames[3]) // 2)
    return write_dicom(folder / "b.dcm", IMAGE, photometric="YBR_FULL_422", frames=frames)


def write_dicom_without_mpp(folder):
    frames = jpegs(IMAGE, "ycbcr")
    return write_dicom(folder / "b.dcm", IMAGE, photometric="YBR_FULL_422", frames=frames, mpp=None)


LOSSY = {"pyramid": 3.0, "aperio": 3.0, "dicom": 6.0}
"""How far JPEG is off what was written."""

MORE = {
    "strips": {
        "mpp": (MPP, MPP),
        "open_without_mpp": lambda self, folder: open_container(
            write_flat(folder / "b.tif", IMAGE, mpp=None)
        ),
        "open_damaged": lambda self, folder: open_container(
            truncate(write_flat(folder / "b.tif", IMAGE))
        ),
    },
    "pyramid": {
        "mpp": (0.2, 0.3),
        "open": lambda self, folder: open_container(
            write_pyramid(folder / "a.tif", IMAGE, mpp=(0.2, 0.3))
        ),
        "open_damaged": lambda self, folder: open_container(
            break_tiles(write_pyramid(folder / "b.tif", IMAGE), [3, 4])
        ),
    },
    "sub_ifds": {"mpp": (MPP, MPP)},
    "aperio": {
        "mpp": (MPP, MPP),
        "open_damaged": lambda self, folder: open_container(
            break_tiles(write_aperio(folder / "b.svs", IMAGE), [3, 4])
        ),
    },
    "dicom": {
        "mpp": (MPP, MPP),
        "open_without_mpp": lambda self, folder: open_container(write_dicom_without_mpp(folder)),
        "open_damaged": lambda self, folder: open_container(break_dicom(folder)),
    },
    "dicom_series": {"mpp": (MPP, MPP)},
    "plain_image": {
        "open_without_mpp": lambda self, folder: open_container(
            write_image(folder / "b.png", IMAGE)
        ),
    },
}

for _name, _write in WRITERS.items():
    _own = {
        "open": lambda self, folder, write=_write: open_container(write(folder)),
        "oracle": lambda self: IMAGE,
        "tolerance": LOSSY.get(_name, 0.0),
    } | MORE.get(_name, {})
    globals()[f"Test_{_name}"] = type(_name, (ReaderContract,), _own)


class FaultyReader(ArrayReader):
    """A pyramid of two levels in memory, with a fault of one's choice."""

    library = "numpy"

    def __init__(self, fault, folder):
        super().__init__(picture(512, 384), levels=2)
        self.fault = fault
        if fault == "levels":
            self.header = replace(self.header, levels=self.header.levels[::-1])
        if fault == "bounds":
            self.header = replace(self.header, bounds=Rect(0, 0, 9999, 5))
        if fault == "open file":
            self.file = open(folder / "left", "w")  # noqa: SIM115 - that is the fault
        if fault == "another scale":
            self.header = replace(self.header, mpp=(0.25, 0.26))
        if fault == "guessed":
            self.header = replace(self.header, mpp=(0.5, 0.5))
        if fault == "another picture":
            self.images[1] = self.images[1] // 2

    def shrinks(self, level):
        return (2,)

    def read(self, level, region, shrink=1):
        if shrink == 2:
            image = halved(self.images[level])
            return image if self.fault != "shrunk" else image // 2
        if fault_at(self.fault, region):
            raise ReadError("damaged")
        x = region.x - (self.fault == "shifted" and region.x > 0)
        return super().read(level, Rect(x, region.y, region.width, region.height))

    def __reduce__(self):
        return FaultyReader, ("shifted" if self.fault == "pickled" else self.fault, None)


def fault_at(fault, region):
    """Whether a region is told to be damaged."""
    return fault == "damage" and region.x == 0


def contract_of(fault):
    class Contract(ReaderContract):
        mpp = (0.25, 0.25)

        def open(self, folder):
            reader = FaultyReader(fault, folder)
            if reader.header.mpp is None:
                reader.header = replace(reader.header, mpp=(0.25, 0.25))
            return reader

        def oracle(self):
            return picture(512, 384) if fault != "written" else picture(512, 384) + 1

        def open_without_mpp(self, folder):
            return FaultyReader(fault, folder)

        def open_damaged(self, folder):
            return FaultyReader("damage" if fault is None else fault, folder)

    return Contract()


CHECKS = {
    "levels": "test_its_header_holds_together",
    "bounds": "test_its_header_holds_together",
    "shifted": "test_a_region_is_what_the_whole_shows_there",
    "another picture": "test_levels_show_one_picture",
    "written": "test_regions_are_what_was_written",
    "another scale": "test_its_scale_is_what_was_written",
    "guessed": "test_a_scale_that_is_not_stated_is_none",
    "silent": "test_damage_is_told",
    "pickled": "test_it_does_not_pickle_to_something_else",
    "open file": "test_its_files_are_closed",
    "shrunk": "test_shrunk_pixels_are_means_of_squares",
}


@pytest.mark.parametrize(("fault", "check"), CHECKS.items())
def test_finds_what_is_wrong_with_a_reader(tmp_path, fault, check):
    getattr(contract_of(None), check)(tmp_path)
    with pytest.raises(AssertionError):
        getattr(contract_of(fault), check)(tmp_path)

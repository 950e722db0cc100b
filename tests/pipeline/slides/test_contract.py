"""All readers keep to the contract that readers of other packages are to keep to."""

from dataclasses import replace

import pytest
from dicomfiles import jpegs, write_dicom
from slidefiles import (
    ArrayReader,
    halved,
    picture,
    write_aperio,
    write_flat,
    write_image,
    write_pyramid,
    write_sub_ifds,
)

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
}

for _name, _write in WRITERS.items():
    _own = {"open": lambda self, folder, write=_write: open_container(write(folder))}
    globals()[f"Test_{_name}"] = type(_name, (ReaderContract,), _own)


class FaultyReader(ArrayReader):
    """A pyramid of two levels in memory, with a fault of one's choice."""

    library = "numpy"

    def __init__(self, fault):
        super().__init__(picture(512, 384), levels=2)
        self.fault = fault
        if fault == "levels":
            self.header = replace(self.header, levels=self.header.levels[::-1])
        if fault == "bounds":
            self.header = replace(self.header, bounds=Rect(0, 0, 9999, 5))
        if fault == "another picture":
            self.images[1] = self.images[1] // 2

    def shrinks(self, level):
        return (2,)

    def read(self, level, region, shrink=1):
        if shrink == 2:
            image = halved(self.images[level])
            return image if self.fault != "shrunk" else image // 2
        x = region.x - (self.fault == "shifted" and region.x > 0)
        return super().read(level, Rect(x, region.y, region.width, region.height))


def contract_of(fault):
    class Contract(ReaderContract):
        def open(self, folder):
            return FaultyReader(fault)

    return Contract()


CHECKS = {
    "levels": "test_its_header_holds_together",
    "bounds": "test_its_header_holds_together",
    "shifted": "test_a_region_is_what_the_whole_shows_there",
    "another picture": "test_levels_show_one_picture",
    "shrunk": "test_shrunk_pixels_are_means_of_squares",
}


@pytest.mark.parametrize(("fault", "check"), CHECKS.items())
def test_finds_what_is_wrong_with_a_reader(tmp_path, fault, check):
    getattr(contract_of(None), check)(tmp_path)
    with pytest.raises(AssertionError):
        getattr(contract_of(fault), check)(tmp_path)

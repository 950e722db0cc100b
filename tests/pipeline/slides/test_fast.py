"""What fastslide reads: in a process of its own, and what it does in silence is told or refused."""

import os
import shutil
import struct
import sys

import numpy as np
import pytest
import tifffile
from scannerfiles import write_qptiff, write_vsi
from slidefiles import picture, resolution_tags

from pipeline.errors import ReadError, SlideError, WorkerLostError
from pipeline.geometry import Rect
from pipeline.slides.contract import ReaderContract
from pipeline.slides.fast import Fast
from pipeline.slides.isolated import IsolatedReader
from pipeline.slides.offers import open_offered
from pipeline.slides.slide import open_slide

pytest.importorskip("fastslide", reason="needs cytolibra[fastslide]")

IMAGE = picture(512, 384)


class TestQptiff(ReaderContract):
    mpp = (0.5, 0.5)

    def open(self, folder):
        return Fast().open(write_qptiff(folder / "a.qptiff", IMAGE))

    def oracle(self):
        return IMAGE

    def open_damaged(self, folder):
        path = write_qptiff(folder / "b.qptiff", IMAGE)
        with tifffile.TiffFile(path) as file:
            offset = file.pages[0].dataoffsets[4]
        data = bytearray(path.read_bytes())
        data[offset + 200 : offset + 600] = bytes(400)
        path.write_bytes(data)
        return Fast().open(path)


class TestVsi(ReaderContract):
    tolerance = 2.5

    def open(self, folder):
        return Fast().open(write_vsi(folder / "a.vsi", IMAGE))

    def oracle(self):
        return IMAGE

    def open_without_mpp(self, folder):
        return Fast().open(write_vsi(folder / "a.vsi", IMAGE))

    def open_damaged(self, folder):
        """A JPEG whose damage fastslide shows as pixels."""
        path = write_vsi(folder / "b.vsi", IMAGE)
        damage(stack_of(path))
        return Fast().open(path)


def stack_of(path):
    return path.with_name(f"_{path.stem}_") / "stack10001" / "frame_t.ets"


def damage(stack):
    data = bytearray(stack.read_bytes())
    middle = data.index(b"\xff\xda", len(data) // 2)
    data[middle + 40 : middle + 400] = bytes(360)
    stack.write_bytes(data)


def refusal(path):
    with pytest.raises(SlideError) as told:
        Fast().open(path).close()
    text = str(told.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return told.value


def test_it_runs_in_a_process_of_its_own(tmp_path):
    path = write_vsi(tmp_path / "a.vsi", IMAGE)
    reader = open_offered(path)
    assert isinstance(reader, IsolatedReader)
    assert reader.library.startswith("fastslide (fastslide ")
    shown = reader.read(0, Rect(64, 64, 128, 64))
    assert np.abs(shown.astype(int) - IMAGE[64:128, 64:192]).mean() < 2.5
    with open(f"/proc/{os.getpid()}/maps") as maps:
        assert "fastslide" not in maps.read() or "fastslide" in sys.modules
    reader._all[0]._process.kill()
    with pytest.raises(WorkerLostError, match="its process died: killed"):
        reader.read(0, Rect(0, 0, 64, 64))
    reader.close()


def test_a_slide_that_states_no_scale_needs_the_users(tmp_path):
    path = write_vsi(tmp_path / "a.vsi", IMAGE)
    with pytest.raises(SlideError) as told:
        open_slide(path)
    assert told.value.code == "mpp-missing"
    with open_slide(path, 0.3) as slide:
        assert (slide.mpp, slide.mpp_source, slide.format) == (0.3, "argument", "olympus-vsi")


@pytest.mark.parametrize("mpp", [1e6, 1e-4])
def test_an_absurd_scale_is_the_files_own(tmp_path, mpp):
    reader = Fast().open(write_qptiff(tmp_path / "a.qptiff", IMAGE, mpp=mpp))
    np.testing.assert_allclose(reader.header.mpp, (mpp, mpp), rtol=1e-3)
    reader.close()


def test_pixels_that_are_not_square_are_refused(tmp_path):
    told = refusal(write_qptiff(tmp_path / "a.qptiff", IMAGE, mpp=(0.25, 0.5)))
    assert "fastslide can't open it: Computed MPP values are not isotropic" in told.text


def test_scans_that_are_missing_damaged_or_cut_off_are_named(tmp_path):
    path = write_vsi(tmp_path / "a.vsi", IMAGE)
    stack = stack_of(path)
    whole = stack.read_bytes()
    for share in (0.0, 0.3, 0.9, 0.9999):
        stack.write_bytes(whole[: int(len(whole) * share)])
        told = refusal(path)
        assert "_a_/stack10001/frame_t.ets is cut off or damaged" in told.text
    shutil.rmtree(tmp_path / "_a_")
    told = refusal(path)
    assert told.code == "data-missing"
    assert "there is no .ets file in '_a_'" in told.text


@pytest.mark.parametrize(
    ("at", "value"), [(40, 2**32 - 1), (40, 0), (12, 2**32 - 1), (12, 1), (32, 2**32 - 1)]
)
def test_a_table_that_can_not_be_true_is_refused(tmp_path, at, value):
    path = write_vsi(tmp_path / "a.vsi", IMAGE)
    data = bytearray(stack_of(path).read_bytes())
    struct.pack_into("<I", data, at, value)
    stack_of(path).write_bytes(data)
    assert "is cut off or damaged" in refusal(path).text


def test_planes_that_fastslide_would_skip_are_refused(tmp_path):
    told = refusal(write_vsi(tmp_path / "a.vsi", IMAGE, planes=3))
    assert told.code == "planes-unreadable"
    assert "holds 3 focal planes or channels" in told.text


def test_a_second_scan_is_told(tmp_path):
    path = write_vsi(tmp_path / "a.vsi", IMAGE)
    other = write_vsi(tmp_path / "b.vsi", IMAGE[:256])
    shutil.copytree(stack_of(other).parent, stack_of(path).parents[1] / "stack10002")
    reader = Fast().open(path)
    (doubt,) = reader.header.doubts
    assert doubt.code == "picture-left-out"
    assert "512 x 256 px" in doubt.text
    reader.close()


def test_a_damaged_tile_is_unread_and_no_other(tmp_path):
    path = write_vsi(tmp_path / "a.vsi", IMAGE, levels=1)
    damage(stack_of(path))
    reader = Fast().open(path)
    unread = [one for y in range(6) for x in range(8) if (one := problem_at(reader, x, y))]
    assert len(unread) == 1
    assert "of frame_t.ets is damaged" in unread[0]
    reader.close()


def problem_at(reader, column, row):
    """Why a tile can't be read, if it can't."""
    try:
        reader.read(0, Rect(64 * column, 64 * row, 64, 64))
    except ReadError as error:
        return error.text
    return None


def test_a_truncated_tiff_is_refused(tmp_path):
    path = write_qptiff(tmp_path / "a.qptiff", IMAGE)
    path.write_bytes(path.read_bytes()[:-3000])
    assert "truncated" in refusal(path).text


QPI = (
    "<PerkinElmer-QPI-ImageDescription><ImageType>{}</ImageType></PerkinElmer-QPI-ImageDescription>"
)


@pytest.mark.parametrize("channels", [3, 5])
def test_channels_of_fluorescence_are_refused(tmp_path, channels):
    path = tmp_path / "a.qptiff"
    with tifffile.TiffWriter(path) as writer:
        for kind in (*["FullResolution"] * channels, "Thumbnail"):
            writer.write(
                IMAGE[..., 0],
                photometric="minisblack",
                metadata=None,
                tile=(128, 128),
                compression="zlib",
                description=QPI.format(kind),
                **resolution_tags(0.5),
            )
    assert f"{channels} channel(s) of uint8 of it, not RGB of 8 bits" in refusal(path).text


@pytest.mark.parametrize("name", ["a.isyntax", "a.i2syntax", "a.qptiff"])
@pytest.mark.parametrize("content", [b"", b"<DataObject/>\x04" + bytes(999), bytes(4000)])
def test_what_is_no_slide_is_refused_in_a_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert "fastslide can't open it: " in refusal(path).text

"""A cache of decoded blocks: the same pixels and the same errors, whatever became of its files."""

import multiprocessing
import os
from copy import copy
from pathlib import Path

import numpy as np
import pytest
from dicomfiles import write_level
from pydicom import Dataset
from pydicom.uid import generate_uid
from slidefiles import MPP, ArrayReader, break_tiles, halved, picture, write_pyramid

from pipeline.errors import ReadError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers import cached
from pipeline.slides.readers.areas import Area, AreasReader
from pipeline.slides.readers.cached import CachedReader
from pipeline.slides.readers.planes import Plane, best_plane
from pipeline.slides.readers.profiled import by_profile, with_profile_told
from pipeline.slides.slide import open_slide

REGION = Rect(100, 50, 700, 500)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(cached, "BLOCK", 128)


@pytest.fixture
def slide(tmp_path):
    return write_pyramid(tmp_path / "a b.tif", picture(1000, 700))


def read(path, folder, region=REGION, level=0):
    with open_slide(path, cache=folder) as slide:
        return slide.read_level(level, region)


def blocks(folder):
    return sorted(folder.rglob("*.npy"))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_pixels_are_the_same_first_and_again(slide, tmp_path, level):
    region = Rect(3, 5, 240, 160)
    expected = read(slide, None, region, level)
    for _ in range(2):
        np.testing.assert_array_equal(read(slide, tmp_path / "c", region, level), expected)


def test_regions_at_any_scale_are_the_same(slide, tmp_path):
    for _ in range(2):
        with open_slide(slide) as plain, open_slide(slide, cache=tmp_path / "c") as kept:
            for downsample in (1, 2, 2.7, 7.9):  # the levels of 1 and 2, and of 4 decoded smaller
                place = (-20.5, 11.25, Size(300, 200), downsample)
                np.testing.assert_array_equal(kept.read_region(*place), plain.read_region(*place))


def test_smaller_tiles_have_blocks_of_their_own(tmp_path):
    path = write_pyramid(tmp_path / "a.tif", picture(1001, 699), levels=1)
    for _ in range(2):
        with open_slide(path) as plain, open_slide(path, cache=tmp_path / "c") as kept:
            for downsample in (1, 2, 4, 1, 2):
                size = Size(int(1001 // downsample), int(699 // downsample))
                expected = plain.read_region(0, 0, size, downsample)
                shown = kept.read_region(0, 0, size, downsample)
                np.testing.assert_array_equal(shown, expected)


def test_what_is_kept_is_not_decoded_again(slide, tmp_path):
    expected = read(slide, tmp_path / "c")
    with open_slide(slide, cache=tmp_path / "c") as again:
        again._reader._reader.read = None
        np.testing.assert_array_equal(again.read_level(0, REGION), expected)


@pytest.mark.parametrize("damage", [b"", b"no array", None], ids=["empty", "other", "cut off"])
def test_a_damaged_block_is_made_anew(slide, tmp_path, damage):
    expected = read(slide, tmp_path / "c")
    for path in blocks(tmp_path / "c"):
        path.write_bytes(path.read_bytes()[:-7] if damage is None else damage)
    np.testing.assert_array_equal(read(slide, tmp_path / "c"), expected)
    np.testing.assert_array_equal(read(slide, tmp_path / "c"), expected)


def test_a_process_that_is_killed_while_it_writes_leaves_nothing_that_is_believed(
    slide, tmp_path, monkeypatch
):
    monkeypatch.setattr(cached.os, "replace", lambda *_: os._exit(9))
    process = multiprocessing.get_context("fork").Process(target=read, args=(slide, tmp_path / "c"))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert not blocks(tmp_path / "c")
    monkeypatch.undo()
    np.testing.assert_array_equal(read(slide, tmp_path / "c"), read(slide, None))


def test_many_processes_share_a_folder(slide, tmp_path):
    context = multiprocessing.get_context("fork")
    work = [context.Process(target=read, args=(slide, tmp_path / "c")) for _ in range(4)]
    for process in work:
        process.start()
    for process in work:
        process.join()
    assert [process.exitcode for process in work] == [0] * 4
    assert not list((tmp_path / "c").rglob("*.part"))
    np.testing.assert_array_equal(read(slide, tmp_path / "c"), read(slide, None))


def test_a_slide_that_changed_has_other_blocks(slide, tmp_path):
    first = read(slide, tmp_path / "c")
    write_pyramid(slide, picture(1000, 700, seed=1))
    changed = read(slide, tmp_path / "c")
    np.testing.assert_array_equal(changed, read(slide, None))
    assert not np.array_equal(changed, first)


def test_a_slide_of_which_another_file_changed_has_other_blocks(tmp_path):
    (tmp_path / "s").mkdir()
    series, image = generate_uid(), picture(400, 300)
    path = write_level(tmp_path / "s/a.dcm", halved(image), series, 2 * MPP)
    region = Rect(0, 0, 200, 150)
    read(path, tmp_path / "c", region)
    for seed in (0, 1):  # a finer level comes, and is replaced
        write_level(tmp_path / "s/b.dcm", picture(400, 300, seed=seed), series)
        shown = read(path, tmp_path / "c", region)
        np.testing.assert_array_equal(shown, picture(400, 300, seed=seed)[:150, :200])


def test_a_plane_of_which_another_file_changed_has_other_blocks(tmp_path):
    (tmp_path / "s").mkdir()
    series, region = generate_uid(), Rect(0, 0, 200, 150)

    def write(name, image, depth):
        place, shared, measures = Dataset(), Dataset(), Dataset()
        place.ZOffsetInSlideCoordinateSystem = depth
        measures.PixelSpacing = [MPP / 1000] * 2
        shared.PixelMeasuresSequence, shared.PlanePositionSlideSequence = [measures], [place]
        elements = {"SharedFunctionalGroupsSequence": [shared]}
        return write_level(tmp_path / "s" / name, image, series, elements=elements)

    path = write("a.dcm", picture(200, 150), 0.0)
    for seed in (1, 2):  # the other plane's file is replaced
        faint = picture(200, 150, seed=seed) // 4 + 180
        write("b.dcm", faint, 2.0)
        with open_slide(path, cache=tmp_path / "c") as slide:
            assert slide.plane == 0
            np.testing.assert_array_equal(slide.on_plane(1).read_level(0, region), faint)


def test_whoever_stands_before_a_reader_names_its_files():
    reader = ArrayReader(picture(64, 64))
    reader.files = (Path("a"), Path("b"))
    planes = best_plane([Plane(reader, "1"), Plane(copy(reader), "2")])
    for one in (
        planes.of_plane(1),
        with_profile_told(reader),
        by_profile(reader),
        by_profile(planes).of_plane(1),
        AreasReader([Area(reader, ""), Area(reader, "")]),
        CachedReader(reader, Path("a"), Path("c")),
    ):
        assert one.files == reader.files


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("a.mrxs", "a/Data0000.dat"),
        ("a.vsi", "_a_/stack1/frame_t.ets"),
        ("a.vms", "image 1.jpg"),
        ("a.tmap", "a.DT1"),
    ],
)
def test_parts_beside_a_slide_tell_it_from_what_it_was(tmp_path, name, part):
    path, beside = tmp_path / name, tmp_path / part
    beside.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"ImageFile=image 1.jpg\n")
    reader = ArrayReader(picture(64, 64), 1)
    found = set()
    for content in (b"one", b"other"):
        beside.write_bytes(content)
        found.add(cached._identity(path, reader))
    assert len(found) == 2


def test_a_full_disk_only_costs_time(slide, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cached.np, "save", full)
    np.testing.assert_array_equal(read(slide, tmp_path / "c"), read(slide, None))
    assert not list((tmp_path / "c").rglob("*.part"))


def test_damage_beside_a_region_does_not_end_its_reading(slide, tmp_path):
    """A tile of 64 px is broken; blocks of 128 px hold it, the region doesn't."""
    break_tiles(slide, [0])
    beside = Rect(70, 0, 50, 50)
    np.testing.assert_array_equal(read(slide, tmp_path / "c", beside), read(slide, None, beside))
    with pytest.raises(ReadError):
        read(slide, tmp_path / "c", Rect(0, 0, 50, 50))

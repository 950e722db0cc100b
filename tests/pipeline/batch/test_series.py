"""Which DICOM files are one slide, and what it is called, whatever the files are called."""

import os
from pathlib import Path

import numpy as np
import pytest
from dicomseries import LABEL, write_image

from pipeline.batch.series import DIRECTORY, Series, sort_dicom
from pipeline.errors import SlideError
from pipeline.geometry import Size
from pipeline.slides.slide import open_slide

PIXELS = np.random.default_rng(5).integers(0, 255, (100, 160, 3)).astype(np.uint8)
UID = "1.2.826.0.1.3680043.8.498.77"


def series_in(folder: Path) -> list[Series]:
    """The series of a folder's files, each once."""
    return list(dict.fromkeys(sort_dicom(folder.iterdir()).series.values()))


def write_slide(folder: Path, *names: str, uid: str = UID) -> None:
    """A label, and levels each half as fine as the last."""
    write_image(folder / names[0], PIXELS[:64, :64], 0.25, uid, kind=LABEL)
    for level, name in enumerate(names[1:]):
        step = 2**level
        write_image(folder / name, PIXELS[::step, ::step].copy(), 0.25 * step, uid)


def test_files_of_a_series_are_one_slide_whatever_they_are_called(tmp_path: Path) -> None:
    write_slide(tmp_path, "IM0001", "1.2.840.10008.77", "z.dcm")
    (series,) = series_in(tmp_path)
    assert series == Series(
        UID, tuple(tmp_path / n for n in ("1.2.840.10008.77", "IM0001", "z.dcm"))
    )
    assert series.name == f"series-{UID}"
    assert series.damaged is None
    for path in series.files:  # any of them opens it, the label too
        with open_slide(path) as slide:
            assert [level.size for level in slide.levels] == [Size(160, 100), Size(80, 50)]
            assert slide.mpp == pytest.approx(0.25)
            region = slide.read_region(0, 0, slide.size, 1)
            np.testing.assert_array_equal(region, PIXELS)


def test_the_name_stays_as_files_come_and_names_nobody(tmp_path: Path) -> None:
    write_slide(tmp_path, "b", "c")
    (before,) = series_in(tmp_path)
    write_image(tmp_path / "a", PIXELS, 0.25, UID)
    write_slide(tmp_path, "d", uid="1.2.3")
    after = {series.name for series in series_in(tmp_path)}
    assert after == {before.name, "d"}
    assert "Doe" not in before.name


def test_a_slide_in_one_file_is_called_as_the_file(tmp_path: Path) -> None:
    write_image(tmp_path / "case 7.dcm", PIXELS, 0.25, UID)
    (tmp_path / "again.dcm").symlink_to("case 7.dcm")
    assert [series.name for series in series_in(tmp_path)] == ["case 7.dcm"]


@pytest.mark.parametrize(
    "uid", ["../../etc", "/etc", "..", ".", "1..2", "1.2/3", "Doe^Jane", "1" * 65, "1.2\n3"]
)
def test_a_uid_that_is_none_leads_nowhere(uid: str) -> None:
    series = Series(uid, (Path("a"), Path("b")))
    assert series.name.startswith("series-")
    assert series.name.removeprefix("series-").isalnum()
    assert len(series.name) == len("series-") + 16
    assert series.name != Series(f"{uid}1", series.files).name


def test_what_is_no_slide_is_left_out(tmp_path: Path) -> None:
    write_image(tmp_path / "DICOMDIR", PIXELS, 0.25, "1.2", sop_class=DIRECTORY)
    write_image(tmp_path / "ct", PIXELS, 0.25, "1.3", sop_class="1.2.840.10008.5.1.4.1.1.2")
    (tmp_path / "text").write_text("DICM")
    (tmp_path / "mark").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "noise").write_bytes(bytes(128) + b"DICM" + bytes(range(256)) * 20)
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    found = sort_dicom(tmp_path.iterdir())
    assert dict(found.series) == {}
    assert found.indices == {tmp_path / "DICOMDIR"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything may be read here")
def test_a_file_that_may_not_be_read_is_left_out(tmp_path: Path) -> None:
    write_image(tmp_path / "a", PIXELS, 0.25, UID)
    (tmp_path / "a").chmod(0)
    assert series_in(tmp_path) == []


def test_a_file_whose_kind_has_an_unknown_type_is_left_out(tmp_path: Path) -> None:
    write_image(path := tmp_path / "a.dcm", PIXELS, 0.25, UID)
    content = path.read_bytes()
    for old, odd in ((b"\x02\0\x02\0UI", b"\x02\0\x02\0U\xff"), (b"\x08\0\x16\0", b"\x08\0\x17\0")):
        assert content.count(old) == 1
        content = content.replace(old, odd)
    path.write_bytes(content)
    assert series_in(tmp_path) == []


@pytest.mark.parametrize("rest", [-40, 0, 3, 20, 5000, 20000])
def test_damage_at_any_place_is_told_or_shows_as_the_slide_is_read(
    rest: int, tmp_path: Path
) -> None:
    """Never is a slide read that lacks what a file broke off from."""
    write_slide(tmp_path, "label", "fine", "coarse")
    whole = (tmp_path / "fine").read_bytes()
    kept = whole.index(b"\xe0\x7f\x10\x00") + rest
    assert kept < len(whole)
    (tmp_path / "fine").write_bytes(whole[:kept])
    (series,) = series_in(tmp_path)
    assert tmp_path / "fine" in series.files
    if series.damaged:
        assert series.damaged == tmp_path / "fine"
        assert rest < 20
        return
    with pytest.raises(SlideError):
        read_all(tmp_path / "coarse")


def read_all(path: Path) -> None:
    """Opens a slide, as large as `PIXELS`, and reads it."""
    with open_slide(path) as slide:
        assert slide.size == Size(160, 100)
        slide.read_region(0, 0, slide.size, 1)

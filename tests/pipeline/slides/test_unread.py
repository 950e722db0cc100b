"""What looks like a slide and isn't read is recognised, and nothing else is."""

from pathlib import Path

import pytest

from pipeline.slides.slide import SLIDE_SUFFIXES
from pipeline.slides.unread import NotRead, recognise, tell, unread_ending

DICOM = bytes(128) + b"DICM" + bytes(100)


def put(path: Path, content: bytes = b"of some vendor") -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "kind", "remedy"),
    [
        ("a.kfb", b"x", "KFBIO", "export it"),
        ("a.SDPC", b"x", "SQRAY", "export it"),
        ("a.isyntax", b"x", "Philips iSyntax", "as TIFF"),
        ("a.vsi", b"II*\0", "Olympus/Evident VSI", "OME-TIFF"),
        ("a.svs.gz", b"x", "a slide packed as .gz", "unpack"),
        ("a.kfb.zip", b"x", "a slide packed as .zip", "unpack"),
        ("a.ome.zarr.zip", b"x", "a slide packed as .zip", "unpack"),
        ("a.svs.crdownload", b"x", "copying did not end", "copy it again"),
        ("1.2.840.10008.77", DICOM, "DICOM with the ending .77", "copy it again"),
        ("IM0001", DICOM, "DICOM without an ending", "copy it again"),
        ("scan", b"II*\0", "TIFF without an ending", ".tif"),
        ("scan.raw", b"MM\0+", "TIFF with the ending .raw", ".tif"),
    ],
)
def test_it_is_told_what_it_is_and_what_to_do(tmp_path, name, content, kind, remedy):
    found = recognise(put(tmp_path / name, content), SLIDE_SUFFIXES)
    assert found is not None
    assert kind in found.kind
    assert remedy in found.remedy
    assert str(found).startswith(str(tmp_path / name))


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "labels.csv", "a.xml", "a.svs.xml", "papers.zip", "x.gz", "empty", "t.tmp"],
)
def test_what_lies_beside_slides_is_none(tmp_path, name):
    assert recognise(put(tmp_path / name, b"hello" * 40), SLIDE_SUFFIXES) is None


def test_an_empty_file_and_one_that_is_gone_are_none(tmp_path):
    assert recognise(put(tmp_path / "empty", b""), SLIDE_SUFFIXES) is None
    assert recognise(tmp_path / "gone", SLIDE_SUFFIXES) is None


def test_a_folder_may_be_a_slide_by_its_ending(tmp_path):
    assert unread_ending(tmp_path / "a.ome.zarr") is not None
    assert unread_ending(tmp_path / "slides") is None


def test_files_are_counted_and_named_by_kind():
    files = [NotRead(Path(f"{i}.kfb"), "KFBIO", "export it") for i in range(7)]
    files.append(NotRead(Path("x.vsi"), "Olympus", "convert it"))
    told = tell(files)
    assert told.startswith("8 files look like slides and are not read: 0.kfb, 1.kfb")
    assert "4.kfb and 2 more (KFBIO; export it); x.vsi (Olympus; convert it)" in told

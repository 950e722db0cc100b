"""A folder as a slide: found and not entered, known by all of its files, found where it moved."""

import os
import shutil
from pathlib import Path

import pytest
from slidefiles import picture
from zarrfiles import write_ngff

from configs import ConfigError
from pipeline.batch.discovery import SlideJob, discover
from pipeline.batch.fingerprint import Fingerprint, hash_content, is_of_slide, stamp_files
from pipeline.batch.known import _line_of_slide
from pipeline.cloud.settings import CloudSettings
from pipeline.cloud.store import RemoteFile, Stores
from pipeline.cloud.urls import parse_url
from pipeline.review.finding import SlideFinder
from pipeline.slides.readers.cached import CachedReader
from pipeline.slides.slide import open_slide

zarr = pytest.importorskip("zarr", reason="the tests write OME-Zarr by the zarr package")

IMAGE = picture(60, 40)


@pytest.fixture
def slide(tmp_path):
    return write_ngff(tmp_path / "slides/sub/a.ome.zarr", IMAGE, levels=1)


def find(*arguments):
    return discover(arguments, Path("/somewhere/else"), with_images=False)


def test_it_is_one_slide_and_not_entered(slide, tmp_path, monkeypatch):
    (slide / "0/b.svs").write_bytes(b"x")
    folder = tmp_path / "slides"
    (folder / "twin.zarr").symlink_to(slide)
    entered = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: entered.append(Path(path)) or scandir(path))
    found = find(folder)
    assert [(job.name, job.path) for job in found.jobs] == [("sub/a.ome.zarr", slide)]
    assert found.doubts == ()
    assert slide not in entered
    assert [job.name for job in find(slide, folder / "sub").jobs] == ["a.ome.zarr"]


def test_any_folder_that_is_one_is_found_however_it_is_called(slide, tmp_path, monkeypatch):
    plain = slide.rename(tmp_path / "slides/raw")
    assert [job.path for job in find(tmp_path / "slides").jobs] == [plain]
    monkeypatch.chdir(plain)
    assert [job.name for job in find(Path()).jobs] == ["raw"]


def test_results_do_not_go_into_it(slide, tmp_path):
    with pytest.raises(ConfigError, match=r"^--out .*/a.ome.zarr/out: lies within the slide "):
        discover([tmp_path / "slides"], slide / "out", with_images=False)


def test_other_zarrs_are_told_and_not_entered(slide, tmp_path):
    other = tmp_path / "slides/cells"
    zarr.open_group(other, mode="w", zarr_format=3)
    (other / "b.svs").write_bytes(b"x")
    found = find(tmp_path / "slides")
    assert [job.path for job in found.jobs] == [slide]
    (not_read,) = found.not_read
    assert (not_read.path, not_read.kind) == (other, "Zarr without a picture")


def test_in_a_store_it_is_told_and_not_fetched(tmp_path):
    pytest.importorskip("fsspec", reason="the extra cloud is not installed")

    class Store:
        def path_of(self, url):
            return Path("s3:/lab/x")

        async def look(self, url):
            return None

        async def list(self, url):
            names = ("b.svs", "a/.zattrs", "a/0/0.0", "c.zarr/zarr.json")
            return [
                RemoteFile(f"s3://lab/x/{n}", Path(f"s3:/lab/x/{n}"), f"lab/x/{n}", 5, "v")
                for n in names
            ]

    stores = Stores(CloudSettings(tries=1))
    stores._open["s3://lab"] = Store()
    found = discover([parse_url("s3://lab/x")], tmp_path, with_images=False, stores=stores)
    assert [job.name for job in found.jobs] == ["b.svs"]
    assert [file.where for file in found.not_read] == ["s3://lab/x/a", "s3://lab/x/c.zarr"]
    assert "pack it as one .ozx file" in found.doubts[0].text


def test_a_store_s_folder_of_chunks_is_refused_before_it_is_listed(tmp_path):
    class Store:
        def path_of(self, url):
            return Path("s3:/lab/c.zarr")

    stores = Stores(CloudSettings())
    stores._open["s3://lab"] = Store()
    with pytest.raises(ConfigError, match=r"^s3://lab/c.zarr: OME-Zarr in a store, which is not"):
        discover([parse_url("s3://lab/c.zarr")], tmp_path, with_images=False, stores=stores)


def fingerprint(job):
    return Fingerprint(recipe="r", files=stamp_files(job), sha256=hash_content(job))


def age(path, seconds=100):
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + seconds * 10**9))


def flip(chunk):
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(data)
    age(chunk)


CHANGES = {
    "nothing": (lambda slide: None, True),
    "a time": (lambda slide: age(slide / "0/0.1.0.0.0"), True),
    "a byte": (lambda slide: flip(slide / "0/0.1.0.0.0"), False),
    "a chunk less": (lambda slide: (slide / "0/0.1.0.0.0").unlink(), False),
    "a file more": (lambda slide: (slide / "0/x").touch(), False),
    "a name": (lambda slide: (slide / "0/0.1.0.0.0").rename(slide / "0/0.1.0.0.1"), False),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_result_is_of_the_folder_as_it_was(slide, tmp_path, how):
    job = SlideJob(slide, "a.ome.zarr")
    known = fingerprint(job)
    line = _line_of_slide(job)
    (stamp,) = known.files
    assert stamp.size == sum(path.stat().st_size for path in slide.rglob("*") if path.is_file())
    change, same = CHANGES[how]
    change(slide)
    assert is_of_slide(job, tmp_path, known) is same
    assert (_line_of_slide(job) == line) is (how == "nothing")


class Result:
    """What the reading room knows of a result."""

    def __init__(self, path, folder):
        self.name, self.folder = "a.ome.zarr", folder
        self.fingerprint = fingerprint(SlideJob(path, self.name))
        self.report = type("Report", (), {"slide": type("Slide", (), {"path": str(path)})})


def test_the_reading_room_finds_it_where_it_moved(slide, tmp_path):
    result = Result(slide, tmp_path / "reports")
    assert SlideFinder().find(result).path == slide
    moved = tmp_path / "moved/deep/a.ome.zarr"
    moved.parent.mkdir(parents=True)
    shutil.move(slide, moved)
    assert SlideFinder().find(result).code == "gone"
    assert SlideFinder(tmp_path / "moved").find(result).path == moved
    flip(moved / "0/0.1.0.0.0")
    assert SlideFinder(tmp_path / "moved").find(result).code == "changed"


def test_kept_blocks_are_made_anew_where_a_chunk_changed(slide, tmp_path):
    def folders():
        with open_slide(slide, cache=tmp_path / "cache") as opened:
            assert isinstance(opened._reader, CachedReader)
            opened.read_region(0, 0, opened.size, 1)
        return len(list((tmp_path / "cache").iterdir()))

    assert (folders(), folders()) == (1, 1)
    age(slide / "0/0.1.0.0.0")
    assert folders() == 2

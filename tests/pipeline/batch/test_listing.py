import asyncio
from pathlib import Path

import numpy as np
import pytest
from dicomseries import write_image
from remoteservers import EXPIRED, Fault, file_server

from configs import ConfigError
from pipeline.batch.discovery import Discovery, discover
from pipeline.batch.fingerprint import stamp_files
from pipeline.cloud.settings import CloudSettings
from pipeline.cloud.store import RemoteFile, Stores
from pipeline.cloud.urls import parse_url
from pipeline.slides.mpp_table import load_mpp_table

SERIES = "1.2.826.0.1.3680043.8.498.1"


def find(*places: object, out: Path, scratch: Path | None = None, **others: object) -> Discovery:
    """What is found in folders and below URLs."""
    given = [parse_url(str(place)) or Path(str(place)) for place in places]
    with Stores(CloudSettings(tries=2)) as stores:
        options = {"with_images": False, **others}
        return discover(given, out, stores=stores, scratch=scratch, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of slides of every kind that has several files, and of what is no slide."""
    folder = tmp_path / "slides"
    names = ("a.svs", "day 1/b.tif", "day 1/c.ndpi", "m.mrxs", "m/Slidedat.ini", "m/Data0.dat",
             "v.vms", "v-1.jpg", "v-2.jpg", "photo.jpg", ".hidden.svs", ".h/x.svs", "notes.txt",
             "k.sdpc", "c.svs.part")  # fmt: skip
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    (folder / "v.vms").write_text("[Virtual Microscope Specimen]\nA=v-1.jpg\nB=v-2.jpg\n")
    pixels = np.zeros((128, 128, 3), np.uint8)
    write_image(folder / "dicom/1.dcm", pixels, 0.25, SERIES)
    write_image(folder / "dicom/2", pixels[::2, ::2], 0.5, SERIES)
    return folder


def test_a_bucket_is_searched_as_a_folder_is(bucket, folder, tmp_path):
    bucket.put_folder(folder, "x/")
    here = find(folder, out=tmp_path / "out")
    there = find(f"{bucket.url}/x", out=tmp_path / "out", scratch=tmp_path / "scratch")
    assert [job.name for job in there.jobs] == [job.name for job in here.jobs]
    assert [job.name for job in here.jobs] == [
        "a.svs", "day 1/b.tif", "day 1/c.ndpi", f"dicom/series-{SERIES}", "m.mrxs", "v.vms",
    ]  # fmt: skip
    assert there.images_left_out == here.images_left_out == 1
    assert [n.kind for n in there.not_read] == [n.kind for n in here.not_read]
    assert there.not_read[-1].where == f"{bucket.url}/x/k.sdpc"
    for far, near in zip(there.jobs, here.jobs, strict=True):
        assert far.remote is not None
        tails = [file.path.relative_to(f"s3:/{bucket.name}/x") for file in far.remote.files]
        assert tails == [path.relative_to(folder) for path in near.files]
        stamps = [(stamp.name, stamp.size) for stamp in stamp_files(far)]
        assert stamps == [(stamp.name, stamp.size) for stamp in stamp_files(near)]


def test_slides_are_put_as_they_lie_each_into_a_folder_of_its_own(bucket, folder, tmp_path):
    bucket.put_folder(folder, "x/")
    jobs = find(f"{bucket.url}/x", out=tmp_path, scratch=tmp_path / "scratch").jobs
    mrxs = next(job for job in jobs if job.name == "m.mrxs")
    own = tmp_path / "scratch" / "5" / bucket.name / "x"
    assert mrxs.path == own / "m.mrxs"
    assert mrxs.companions == (own / "m/Data0.dat", own / "m/Slidedat.ini")
    assert mrxs.where == f"{bucket.url}/x/m.mrxs"
    assert len({job.path.relative_to(tmp_path / "scratch").parts[0] for job in jobs}) == len(jobs)


@pytest.mark.parametrize(
    ("name", "files"),
    [("m.mrxs", 3), ("v.vms", 3), ("dicom/2", 2), ("a.svs", 1), ("photo.jpg", 1)],
)
def test_a_file_that_is_named_brings_what_belongs_to_it(bucket, folder, tmp_path, name, files):
    bucket.put_folder(folder)
    (job,) = find(f"{bucket.url}/{name}", out=tmp_path).jobs
    assert job.remote is not None
    assert len(job.remote.files) == files


def test_nothing_is_taken_twice(bucket, folder, tmp_path):
    bucket.put_folder(folder, "x/")
    url = f"{bucket.url}/x"
    jobs = find(url, f"{url}/day 1", f"{url}/a.svs", f"{url}/v-1.jpg", out=tmp_path).jobs
    assert len(jobs) == 6
    with pytest.raises(ConfigError, match=rf"^{url}/a.svs and .*slides/a.svs would both be"):
        find(url, folder / "a.svs", out=tmp_path)


def test_a_long_listing_is_waited_for_and_asked_for_again_where_it_is_cut(tmp_path):
    pytest.importorskip("fsspec", reason="the extra cloud is not installed")
    asked = []

    class Slow:
        """A store whose listing takes longer than one piece of a file may."""

        def path_of(self, url):
            return Path("s3:/lab/x")

        async def look(self, url):
            return None

        async def list(self, url):
            asked.append(str(url))
            await asyncio.sleep(0.3)
            if len(asked) == 1:
                raise ConnectionResetError("reset by peer")
            names = ("m.mrxs", "m/Slidedat.ini", "m/deep/er/Data.dat")
            return [
                RemoteFile(f"s3://lab/x/{n}", Path(f"s3:/lab/x/{n}"), f"lab/x/{n}", 5, "v")
                for n in names
            ]

    stores = Stores(CloudSettings(tries=2, timeout_s=0.1))
    stores._open["s3://lab"] = Slow()
    (job,) = discover(
        [parse_url("s3://lab/x")], tmp_path / "out", with_images=False, stores=stores
    ).jobs
    assert [path.name for path in job.files] == ["m.mrxs", "Slidedat.ini", "Data.dat"]
    assert asked == ["s3://lab/x"] * 2


def test_keys_that_no_folder_can_hold_are_left_out_and_told(bucket, tmp_path):
    for key in ("x/a.svs", "x//b.svs", "x/../c.svs"):
        bucket.put(key, b"x")
    found = find(f"{bucket.url}/x", out=tmp_path)
    assert [job.name for job in found.jobs] == ["a.svs"]
    (doubt,) = found.doubts
    assert doubt.code == "names-left-out"
    assert "2 file(s)" in doubt.text


def test_a_table_gives_scales_by_name_key_or_url(bucket, tmp_path):
    for key in ("x/a.png", "x/b.svs", "x/c.svs", "x/d.svs"):
        bucket.put(key, b"x")
    table = tmp_path / "mpp.csv"
    table.write_text(f"slide,mpp\na.png,0.2\nx/b.svs,0.3\n{bucket.url}/x/c.svs,0.4\ny/d.svs,0.5\n")
    given = load_mpp_table(table)
    found = find(f"{bucket.url}/x", out=tmp_path, table=given, scratch=tmp_path / "scratch")
    assert [(job.name, job.mpp) for job in found.jobs] == [
        ("a.png", 0.2), ("b.svs", 0.3), ("c.svs", 0.4), ("d.svs", None),
    ]  # fmt: skip
    # The one that screens has only the fetched file's path.
    assert [given.find(job.path) for job in found.jobs] == [0.2, 0.3, 0.4, None]
    assert [doubt.code for doubt in found.doubts] == ["mpp-table-unused"]


def test_what_is_not_there_or_not_to_be_had_is_told_in_a_line(bucket, tmp_path):
    bucket.put("x/a.svs", b"x")
    with pytest.raises(ConfigError, match=r"^s3://.*/y: nothing is there$"):
        find(f"{bucket.url}/y", out=tmp_path)
    with pytest.raises(ConfigError, match=r"^s3://no-such-bucket/x: is not there \(404\)"):
        find("s3://no-such-bucket/x", out=tmp_path)
    bucket.server.fault = lambda *_: Fault(status=403, body=EXPIRED)
    with pytest.raises(ConfigError, match=r"the credential has expired; renew it"):
        find(f"{bucket.url}/x", out=tmp_path)


def test_web_files_stand_for_themselves(tmp_path):
    pytest.importorskip("aiohttp", reason="the extra cloud is not installed")
    (tmp_path / "web").mkdir()
    for name in ("a 1.svs", "m.mrxs"):
        (tmp_path / "web" / name).write_bytes(b"x" * 10)
    with file_server(tmp_path / "web") as web:
        urls = [f"{web.url}/{name}?sig=secret" for name in ("a%201.svs", "gone.svs", "m.mrxs")]
        found = find(*urls, out=tmp_path, scratch=tmp_path / "scratch")
        assert found.doubts == ()
        there, gone, parts = found.jobs
        assert (there.name, there.problem) == ("a 1.svs", None)
        assert there.path == tmp_path / "scratch" / "1" / "127.0.0.1" / "a 1.svs"
        assert gone.problem == f"{web.url}/gone.svs: is not there (404) [remote-gone]"
        assert "a .mrxs slide has more files" in (parts.problem or "")
        assert "secret" not in repr(found)
        bare = {"ETag": None, "Last-Modified": None}
        web.fault = lambda *_: Fault(headers=bare)
        (doubt,) = find(urls[0], out=tmp_path).doubts
        assert doubt.code == "remote-unversioned"


def test_urls_that_differ_in_what_is_not_shown_are_not_taken_for_one(tmp_path):
    pytest.importorskip("aiohttp", reason="the extra cloud is not installed")
    (tmp_path / "get.svs").write_bytes(b"x")
    with file_server(tmp_path) as web:
        (job,) = find(*[f"{web.url}/get.svs?id=1"] * 2, out=tmp_path).jobs
        assert job.name == "get.svs"
        with pytest.raises(ConfigError, match="would both be written") as caught:
            find(f"{web.url}/get.svs?id=1", f"{web.url}/get.svs?id=2", out=tmp_path)
        assert "id=" not in str(caught.value)


def test_a_url_elsewhere_than_screen_is_told(tmp_path):
    with pytest.raises(ConfigError, match="URLs are read by cytolibra screen alone"):
        discover([Path("s3://lab/x")], tmp_path, with_images=False)

"""Slides that are fetched from an archive by DICOMweb."""

import json
import logging

import numpy as np
import pytest
from dicomfiles import write_level, write_parts
from dicomseries import LABEL
from dicomwebserver import archive
from fakes import MODEL, make_report
from pydicom import dcmread
from remoteservers import Fault
from slidefiles import MPP, halved, picture

from configs import ConfigError
from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.plan import BatchPlan
from pipeline.batch.staging import Staging, StagingEngine
from pipeline.cloud import dicomweb
from pipeline.cloud import store as stores
from pipeline.cloud.dicomweb import TOKEN
from pipeline.cloud.scratch import Scratch
from pipeline.cloud.settings import CloudSettings
from pipeline.cloud.store import Stores
from pipeline.cloud.urls import parse_url
from pipeline.slides.slide import open_slide

pytest.importorskip("aiohttp", reason="the extra cloud is not installed")
pytest.importorskip("fsspec", reason="the extra cloud is not installed")

IMAGE = picture(200, 150)
STUDY, SERIES, OTHER = "1.2.3.1", "1.2.3.2", "1.2.3.3"
ONE_STUDY = {"StudyInstanceUID": STUDY}


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    monkeypatch.setattr(stores, "_FIRST_WAIT_S", 0.01)
    monkeypatch.delenv(TOKEN, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """One study: a slide of two levels and a label, one whose level is cut in two."""
    folder = tmp_path_factory.mktemp("archive")
    label = ONE_STUDY | {"ImageType": list(LABEL)}
    write_level(folder / "a.dcm", IMAGE, SERIES, elements=ONE_STUDY)
    write_level(folder / "b.dcm", halved(IMAGE), SERIES, 2 * MPP, elements=ONE_STUDY)
    write_level(folder / "label.dcm", picture(70, 60), SERIES, elements=label)
    write_parts(folder, IMAGE[::-1], OTHER, (7, 5), elements=ONE_STUDY)
    return folder


@pytest.fixture
def pacs(kept):
    with archive(kept) as server:
        yield server


class Ears:
    """Hears nothing."""

    def batch_started(self, slides): ...
    def slide_started(self, job): ...
    def slide_ended(self, job, record, report): ...


class Screener:
    """Looks at what lies there, and makes a report up."""

    def __init__(self):
        self.pixels = {}
        self.files = {}

    def __call__(self, path):
        with open_slide(path) as slide:
            series = str(dcmread(path, stop_before_pixels=True).SeriesInstanceUID)
            self.pixels[series] = slide.read_region(0, 0, slide.size, 1)
            assert slide.mpp == pytest.approx(MPP)
        self.files[series] = len(list(path.parent.iterdir()))
        return make_report(path)


def find(urls, tmp_path, **settings):
    """What discovery makes of URLs."""
    cloud = CloudSettings(**{"tries": 2, **settings})
    with Stores(cloud) as opened:
        given = [parse_url(url) for url in urls]
        return discover(given, tmp_path / "out", with_images=False, stores=opened).jobs


def run(urls, tmp_path, screen=None, **settings):
    """Screens what URLs name, as cytolibra screen does."""
    cloud = CloudSettings(**{"scratch": tmp_path / "scratch", "tries": 2, **settings})
    out = tmp_path / "out"
    with Stores(cloud) as opened:
        own = Scratch(cloud, out)
        given = [parse_url(url) for url in urls]
        jobs = discover(given, out, with_images=False, stores=opened, scratch=own.folder).jobs
        with own as scratch:
            inner = LocalEngine(screen or Screener(), None, slots=1)
            engine = StagingEngine(inner, Staging(scratch, cloud), jobs, cloud.ahead)
            plan = BatchPlan(out=out, model=MODEL, settings={"tiler": {"overlap": 128}})
            return screen_batch(jobs, engine, plan, Ears())


def uid_of(pacs, name):
    return next(uid for uid, (path, _) in pacs.files.items() if path.name == name)


def assert_shown(screen):
    np.testing.assert_array_equal(screen.pixels[SERIES], IMAGE)
    np.testing.assert_array_equal(screen.pixels[OTHER], IMAGE[::-1])


@pytest.mark.parametrize("parts", [True, False], ids=["in parts", "alone"])
def test_all_slides_of_a_study_are_fetched_and_screened(pacs, tmp_path, parts):
    pacs.parts = parts
    screen = Screener()
    result = run([pacs.url_of(STUDY)], tmp_path, screen)
    assert (result.screened, dict(result.failed)) == (2, {})
    assert_shown(screen)
    assert screen.files == {SERIES: 2, OTHER: 2}  # no label
    label = uid_of(pacs, "label.dcm")
    assert not [path for _, path, _ in pacs.asked if label in path]
    assert [p.name for p in (tmp_path / "scratch").iterdir()] == [".gate.lock"]
    report = json.loads((tmp_path / f"out/series-{SERIES}/report.json").read_text())
    assert report["slide"]["path"] == pacs.url_of(STUDY, SERIES)


def test_what_was_screened_is_not_fetched_again(pacs, tmp_path):
    run([pacs.url_of(STUDY, SERIES)], tmp_path)
    before = len([path for _, path, _ in pacs.asked if "/instances/" in path])
    result = run([pacs.url_of(STUDY, SERIES)], tmp_path)
    assert (result.screened, result.reused) == (0, 1)
    assert len([path for _, path, _ in pacs.asked if "/instances/" in path]) == before == 2


def test_a_study_and_its_series_are_taken_once(pacs, tmp_path):
    jobs = find([pacs.url_of(STUDY, OTHER), pacs.url_of(STUDY)], tmp_path)
    assert [job.name for job in jobs] == [f"series-{SERIES}", f"series-{OTHER}"]
    assert all(job.remote.is_dicom for job in jobs)


def test_lists_that_come_by_pages_are_read_to_the_end(pacs, tmp_path, monkeypatch):
    monkeypatch.setattr(dicomweb, "_PAGE", 1)
    (job,) = find([pacs.url_of(STUDY, SERIES)], tmp_path)
    assert len(job.files) == 2
    assert job.problem is None


def test_an_archive_that_lists_fewer_at_once_than_it_is_asked_for_loses_no_slide(pacs, tmp_path):
    pacs.page = 1
    jobs = find([pacs.url_of(STUDY)], tmp_path)
    assert [job.name for job in jobs] == [f"series-{SERIES}", f"series-{OTHER}"]
    assert [len(job.files) for job in jobs] == [2, 2]
    assert not any(job.problem for job in jobs)


@pytest.mark.parametrize("lacking", ["gone", "unlisted"])
def test_a_missing_instance_fails_its_slide_alone(pacs, tmp_path, lacking):
    getattr(pacs, lacking).add(uid_of(pacs, "a.dcm"))
    result = run([pacs.url_of(STUDY)], tmp_path)
    assert result.screened == 1
    ((name, told),) = result.failed.items()
    assert name == f"series-{SERIES}"
    words = {"gone": "is not there (404)", "unlisted": "lists 2 of the series' 3 instances"}
    assert words[lacking] in told
    assert pacs.url_of(STUDY, SERIES) in told


def test_a_missing_part_that_the_archive_never_had_is_refused(pacs, tmp_path):
    del pacs.files[uid_of(pacs, "part2.dcm")]
    result = run([pacs.url_of(STUDY, OTHER)], tmp_path)
    (told,) = result.failed.values()
    assert "lacks part 2 of 2" in told
    assert str(tmp_path) not in told


@pytest.mark.parametrize(
    ("parts", "length"),
    [(True, True), (True, False), (False, True)],
    ids=["in parts", "in parts of no stated length", "alone"],
)
@pytest.mark.parametrize("cut", [20, 2000])
def test_a_connection_that_is_cut_once_is_asked_again(pacs, tmp_path, parts, length, cut):
    pacs.parts = parts
    left = [1, 1]
    headers = {} if length else {"Content-Length": None, "Connection": "close"}

    def fault(method, path, span):
        if "/instances/" not in path:
            return None
        if left and left.pop():
            return Fault(cut=cut, headers=headers)
        return None

    pacs.fault = fault
    screen = Screener()
    result = run([pacs.url_of(STUDY, SERIES)], tmp_path, screen, tries=4)
    assert (result.screened, dict(result.failed)) == (1, {})
    np.testing.assert_array_equal(screen.pixels[SERIES], IMAGE)


def test_a_cut_that_no_answer_shows_is_found_in_the_file(pacs, tmp_path):
    pacs.parts = False
    cut = Fault(cut=9000, headers={"Content-Length": None, "Connection": "close"})
    pacs.fault = lambda method, path, span: cut if "/instances/" in path else None
    (told,) = run([pacs.url_of(STUDY, SERIES)], tmp_path).failed.values()
    assert "damaged or truncated" in told


def test_a_connection_that_is_always_cut_fails_the_slide(pacs, tmp_path):
    pacs.fault = lambda method, path, span: Fault(cut=900) if "/instances/" in path else None
    result = run([pacs.url_of(STUDY, SERIES)], tmp_path)
    (told,) = result.failed.values()
    assert "can't be fetched" in told
    assert told.endswith("[remote-cut]")


def everything_written(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "\n".join(path.read_text(errors="replace") for path in files)


@pytest.mark.parametrize("how", ["token", "netrc"])
def test_who_asks_is_told_to_the_archive_and_to_nobody_else(
    pacs, tmp_path, monkeypatch, caplog, how
):
    caplog.set_level(logging.DEBUG)
    pacs.password = {"token": "Bearer geheim-4711", "netrc": "Basic bWU6Z2VoZWltLTQ3MTE="}[how]
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password geheim-4711\n")
    (tmp_path / "netrc").chmod(0o600)
    if how == "token":
        monkeypatch.setenv(TOKEN, "geheim-4711")
    result = run([pacs.url_of(STUDY)], tmp_path)
    assert (result.screened, dict(result.failed)) == (2, {})
    for secret in ("geheim", "bWU6"):
        assert secret not in everything_written(tmp_path / "out")
        assert secret not in caplog.text


def test_an_archive_that_denies_is_told(pacs, tmp_path, monkeypatch):
    monkeypatch.setenv(TOKEN, "geheim-4711")
    pacs.password = "Bearer another"
    with pytest.raises(ConfigError, match=r"access is denied \(401\)") as denied:
        find([pacs.url_of(STUDY)], tmp_path)
    assert "geheim" not in str(denied.value)
    assert pacs.url_of(STUDY) in str(denied.value)
    (job,) = find([pacs.url_of(STUDY, SERIES)], tmp_path)
    assert job.name == f"series-{SERIES}"
    assert "access is denied (401)" in job.problem
    assert job.problem.endswith(f"(a token in {TOKEN}, or netrc) [remote-denied]")


def test_anonymous_asks_without_a_token(pacs, tmp_path, monkeypatch):
    monkeypatch.setenv(TOKEN, "geheim-4711")
    pacs.password = "Bearer geheim-4711"
    with pytest.raises(ConfigError, match="401"):
        find([pacs.url_of(STUDY)], tmp_path, anonymous=True)


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "grün"])
def test_a_token_that_is_none_is_refused_untold(pacs, tmp_path, monkeypatch, token):
    monkeypatch.setenv(TOKEN, token)
    with pytest.raises(ConfigError, match=f"{TOKEN}: is no token") as refused:
        find([pacs.url_of(STUDY)], tmp_path)
    assert token not in str(refused.value)


def test_a_netrc_that_is_none_is_refused_untold(pacs, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 geheim-4711\n")
    with pytest.raises(ConfigError, match="can't be read as netrc") as refused:
        find([pacs.url_of(STUDY)], tmp_path)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>sign in</html>", "no list"),
        (b'{"a": 1}', "no list"),
        (b"[1, 2]", "no list"),
        (b'[{"0020000E": {"vr": "UI", "Value": ["../../x"]}}]', "no valid UID"),
        (b"[]", "is not there"),
    ],
)
def test_what_is_no_list_is_told(pacs, tmp_path, body, words):
    pacs.fault = lambda *_: Fault(status=200, body=body)
    with pytest.raises(ConfigError, match=words):
        find([pacs.url_of(STUDY)], tmp_path)


def test_what_is_no_dicom_is_told(pacs, tmp_path):
    page = Fault(status=200, body=b"<html>sign in</html>", headers={"Content-Type": "text/html"})
    pacs.fault = lambda method, path, span: page if "/instances/" in path else None
    result = run([pacs.url_of(STUDY, SERIES)], tmp_path)
    (told,) = result.failed.values()
    assert "what is no DICOM file" in told
    page.headers["Content-Type"] = "application/dicom"
    (told,) = run([pacs.url_of(STUDY, SERIES)], tmp_path).failed.values()
    assert "what is no DICOM file" in told


def test_a_study_without_a_slide_is_told(tmp_path):
    (tmp_path / "archive").mkdir()
    elements = ONE_STUDY | {"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}
    write_level(tmp_path / "archive/a.dcm", IMAGE, SERIES, elements=elements)
    with archive(tmp_path / "archive") as server:
        with pytest.raises(ConfigError, match="holds no slide"):
            find([server.url_of(STUDY)], tmp_path)
        (job,) = find([server.url_of(STUDY, SERIES)], tmp_path)
        assert "holds no slide" in job.problem


def test_room_is_kept_by_frames_and_compression(tmp_path):
    (tmp_path / "archive").mkdir()
    ratio = ONE_STUDY | {"LossyImageCompressionRatio": "20", "NumberOfFrames": 120_000}
    write_level(tmp_path / "archive/a.dcm", IMAGE, SERIES, elements=ratio)
    with archive(tmp_path / "archive") as server:
        (job,) = find([server.url_of(STUDY, SERIES)], tmp_path)
    raw = 64 * 64 * 3 * 120_000
    assert 0.2 * raw < job.remote.size < 0.2 * raw * 1.3


def test_more_than_was_kept_free_is_refused(pacs, tmp_path, monkeypatch):
    monkeypatch.setattr(dicomweb, "_size", lambda told: 5000)
    (told,) = run([pacs.url_of(STUDY, SERIES)], tmp_path).failed.values()
    assert "more bytes than the 5000" in told

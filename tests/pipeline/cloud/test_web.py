import hashlib

import pytest
from remoteservers import Fault, file_server, times

from configs import ConfigError
from pipeline.cloud import fetch as fetching
from pipeline.cloud import store as stores
from pipeline.cloud.fetch import fetch
from pipeline.cloud.problems import ChangedError, explain
from pipeline.cloud.settings import CloudSettings
from pipeline.cloud.store import RemoteFile, StoppedError, Stores, patiently, run
from pipeline.cloud.urls import parse_url
from pipeline.errors import SlideError

pytest.importorskip("aiohttp", reason="the extra cloud is not installed")
pytest.importorskip("fsspec", reason="the extra cloud is not installed")

DATA = bytes(range(256)) * 1000
SETTINGS = CloudSettings(tries=3, timeout_s=5)


@pytest.fixture(autouse=True)
def _small_pieces_and_short_waits(monkeypatch):
    monkeypatch.setattr(fetching, "PIECE", 50_000)
    monkeypatch.setattr(stores, "_FIRST_WAIT_S", 0.01)


@pytest.fixture
def web(tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a slide.svs").write_bytes(DATA)
    with file_server(tmp_path / "web") as server:
        yield server


def listed(url: str, opened: Stores) -> RemoteFile:
    place = parse_url(url)
    file = run(patiently(lambda: opened.of(place).look(place), SETTINGS))
    assert file is not None
    return file


def fetched(url: str, tmp_path, **others):
    with Stores(SETTINGS) as opened:
        file = listed(url, opened)
        target = tmp_path / "scratch" / "a.svs"
        return fetch(opened.of(parse_url(url)), file, target, SETTINGS, **others), target


def test_a_file_is_fetched_in_pieces_and_checked(web, tmp_path):
    sums = {"Repr-Digest": f"sha-256=:{_sha256_base64(DATA)}:"}
    web.fault = lambda *_: Fault(headers=sums)
    checker, target = fetched(f"{web.url}/a%20slide.svs", tmp_path)
    assert target.read_bytes() == DATA
    assert checker.kind == "sha256"
    assert checker.sha256 == hashlib.sha256(DATA).digest()
    pieces = [span for _, _, span in web.asked if span not in ("", "bytes=0-0")]
    assert sorted(pieces, key=lambda s: int(s[6:].partition("-")[0])) == [
        f"bytes={start}-{min(start + 50_000, len(DATA)) - 1}"
        for start in range(0, len(DATA), 50_000)
    ]


def test_a_url_names_its_file_as_a_folder_would(web):
    with Stores(SETTINGS) as opened:
        file = listed(f"{web.url}/a%20slide.svs?sig=secret", opened)
    assert file.path.parts == ("http:", "127.0.0.1", "a slide.svs")
    assert file.shown == f"{web.url}/a%20slide.svs"
    assert file.size == len(DATA)
    assert file.version == hashlib.sha1(DATA).hexdigest()
    assert file.signed
    assert "secret" not in repr(file)
    assert web.asked[0][1].endswith("?sig=secret")


def test_a_name_that_would_lead_elsewhere_stays_as_it_is_written(web):
    with Stores(SETTINGS) as opened:
        place = parse_url(f"{web.url}/x/..%2F..%2Fetc/a.svs")
        assert opened.of(place).path_of(place).parts[2:] == ("x", "..%2F..%2Fetc", "a.svs")


def test_only_the_piece_that_was_cut_is_asked_for_again(web, tmp_path):
    web.fault = times(2, Fault(cut=20_000), lambda m, p, span: span.startswith("bytes=100000-"))
    _, target = fetched(f"{web.url}/a%20slide.svs", tmp_path)
    assert target.read_bytes() == DATA
    again = [span for _, _, span in web.asked if span != "bytes=0-0"]
    assert len(again) == 6 + 2
    assert again.count("bytes=100000-149999") == 3


def test_what_is_cut_for_ever_is_told_after_the_tries(web, tmp_path):
    web.fault = lambda m, p, span: Fault(cut=10) if span.startswith("bytes=100000-") else None
    with pytest.raises(Exception) as caught:  # noqa: PT011 (of the library's kinds)
        fetched(f"{web.url}/a%20slide.svs", tmp_path)
    assert explain(caught.value).code == "remote-cut"
    assert sum(span.startswith("bytes=100000-") for _, _, span in web.asked) == SETTINGS.tries


def test_a_server_without_pieces_is_asked_from_the_start(tmp_path):
    (tmp_path / "a.svs").write_bytes(DATA)
    with file_server(tmp_path, ranges=False) as web:
        web.fault = times(1, Fault(cut=100_000), lambda m, p, span: not span)
        checker, target = fetched(f"{web.url}/a.svs", tmp_path)
        assert target.read_bytes() == DATA
        assert checker.sha256 == hashlib.sha256(DATA).digest()
        assert [span for _, _, span in web.asked] == ["bytes=0-0", "bytes=0-0", "", "", "bytes=0-0"]


@pytest.mark.parametrize("length", [0, 1])
def test_tiny_files_come_whole(tmp_path, length):
    (tmp_path / "a.svs").write_bytes(b"x" * length)
    with file_server(tmp_path) as web:
        if not length:
            nothing = Fault(status=416, headers={"Content-Range": "bytes */0"})
            web.fault = lambda *_: nothing
        _, target = fetched(f"{web.url}/a.svs", tmp_path)
    assert target.read_bytes() == b"x" * length


def test_a_file_that_is_changed_meanwhile_is_not_taken(web, tmp_path):
    path = tmp_path / "web" / "a slide.svs"

    def change(method: str, url: str, span: str) -> None:
        if span.startswith("bytes=100000-"):
            path.write_bytes(DATA[::-1])

    web.fault = change
    with pytest.raises(ChangedError):
        fetched(f"{web.url}/a%20slide.svs", tmp_path)


def test_what_does_not_fit_its_checksum_is_fetched_twice_and_refused(web, tmp_path):
    web.fault = lambda *_: Fault(headers={"Repr-Digest": f"sha-256=:{_sha256_base64(b'no')}:"})
    with pytest.raises(SlideError, match=r"does not fit the sha256 .*\[remote-damaged\]"):
        fetched(f"{web.url}/a%20slide.svs", tmp_path)
    assert sum(span.startswith("bytes=0-4") for _, _, span in web.asked) == 2


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (Fault(status=404), "is not there"),
        (Fault(status=403), "access is denied (403)"),
        (Fault(headers={"Content-Type": "text/html; charset=utf-8"}), "a page, not with a file"),
        (
            Fault(headers={"Content-Range": None, "Content-Length": None}, cut=0),
            "doesn't say how large",
        ),
    ],
)
def test_what_is_no_file_is_told(web, fault, problem):
    web.fault = lambda *_: fault
    with Stores(SETTINGS) as opened, pytest.raises(Exception) as caught:  # noqa: PT011
        listed(f"{web.url}/a%20slide.svs", opened)
    assert problem in explain(caught.value).text


def test_a_server_that_stalls_is_asked_again(web, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "PIECE", len(DATA))
    web.fault = times(1, Fault(wait=30), lambda m, p, span: span.startswith("bytes=0-2"))
    hasty = SETTINGS.model_copy(update={"timeout_s": 0.3})
    url = f"{web.url}/a%20slide.svs"
    with Stores(hasty) as opened:
        target = tmp_path / "a.svs"
        fetch(opened.of(parse_url(url)), listed(url, opened), target, hasty)
    assert target.read_bytes() == DATA


def test_fetching_ends_when_it_is_stopped(web, tmp_path):
    class Stop:
        def is_set(self) -> bool:
            return len(web.asked) > 3

    web.fault = lambda m, p, span: None if span == "bytes=0-0" else Fault(wait=3)
    with pytest.raises(StoppedError):
        fetched(f"{web.url}/a%20slide.svs", tmp_path, stop=Stop())


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with Stores(SETTINGS) as opened, pytest.raises(ConfigError) as caught:
        opened.of(parse_url("s3://lab/a.svs"))
    assert str(caught.value) == "s3://lab/a.svs: needs s3fs: pip install 'cytolibra[cloud]'"


def _sha256_base64(data: bytes) -> str:
    import base64

    return base64.b64encode(hashlib.sha256(data).digest()).decode()

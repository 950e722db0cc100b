import hashlib

import pytest
from remoteservers import EXPIRED, Fault, times

from pipeline.cloud import fetch as fetching
from pipeline.cloud import store as stores
from pipeline.cloud.fetch import fetch
from pipeline.cloud.problems import ChangedError, explain
from pipeline.cloud.settings import CloudSettings
from pipeline.cloud.store import Stores, patiently, run
from pipeline.cloud.urls import parse_url
from pipeline.errors import SlideError

DATA = bytes(range(256)) * 1000
SETTINGS = CloudSettings(tries=3, timeout_s=10)


@pytest.fixture(autouse=True)
def _small_pieces_and_short_waits(monkeypatch):
    monkeypatch.setattr(fetching, "PIECE", 50_000)
    monkeypatch.setattr(stores, "_FIRST_WAIT_S", 0.01)


def ask(text, what):
    """What a store answers, of the file or folder of a URL."""
    url = parse_url(text)
    with Stores(SETTINGS) as opened:
        store = opened.of(url)
        return run(patiently(lambda: what(store, url), SETTINGS))


def look(text):
    return ask(text, lambda store, url: store.look(url))


def fetched(text, tmp_path, change=None):
    url = parse_url(text)
    with Stores(SETTINGS) as opened:
        store = opened.of(url)
        file = run(store.look(url))
        if change:
            change()
        return fetch(store, file, tmp_path / "a.svs", SETTINGS), tmp_path / "a.svs"


def is_piece(start):
    return lambda method, path, span: span.startswith(f"bytes={start}-")


def test_a_bucket_lists_files_as_a_folder_has_them(bucket):
    for key in ("x/b.svs", "x/y/a b+c.svs", "x/marker/", "other.svs"):
        bucket.put(key, b"" if key.endswith("/") else key.encode())
    files = ask(f"{bucket.url}/x", lambda store, url: store.list(url))
    assert [file.shown for file in files] == [
        f"{bucket.url}/x/b.svs",
        f"{bucket.url}/x/y/a b+c.svs",
    ]
    assert files[1].path.parts == ("s3:", bucket.name, "x", "y", "a b+c.svs")
    assert files[1].size == len("x/y/a b+c.svs")
    assert files[1].version == hashlib.md5(b"x/y/a b+c.svs").hexdigest()


def test_a_file_is_told_from_a_folder_and_from_nothing(bucket):
    bucket.put("x/a.svs", b"a")
    assert look(f"{bucket.url}/x/a.svs").size == 1
    assert look(f"{bucket.url}/x") is None
    assert look(bucket.url) is None
    assert look(f"{bucket.url}/y") is None
    assert ask(f"{bucket.url}/y", lambda store, url: store.list(url)) == []


def test_an_object_is_checked_by_its_etag_where_that_is_an_md5(bucket, tmp_path):
    bucket.put("a.svs", DATA)
    checker, target = fetched(f"{bucket.url}/a.svs", tmp_path)
    assert target.read_bytes() == DATA
    assert checker.kind == "md5"


def test_a_stronger_checksum_of_the_store_is_preferred(bucket, tmp_path):
    bucket.put("a.svs", DATA, ChecksumAlgorithm="SHA256")
    checker, _ = fetched(f"{bucket.url}/a.svs", tmp_path)
    assert checker.kind == "sha256"


def test_an_etag_of_several_parts_or_of_a_key_of_ones_own_is_no_md5(bucket, tmp_path):
    client, name = bucket.client, bucket.name
    upload = client.create_multipart_upload(Bucket=name, Key="m.svs")["UploadId"]
    part = {"Bucket": name, "Key": "m.svs", "UploadId": upload, "PartNumber": 1}
    etag = client.upload_part(Body=DATA, **part)["ETag"]
    client.complete_multipart_upload(
        Bucket=name,
        Key="m.svs",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]},
    )
    checker, _ = fetched(f"{bucket.url}/m.svs", tmp_path)
    assert checker.kind in ("", "crc32")  # newer versions of the client send one along
    bucket.put("a.svs", DATA)
    own = {"x-amz-server-side-encryption": "aws:kms"}
    bucket.server.fault = lambda *_: Fault(headers=own)
    checker, _ = fetched(f"{bucket.url}/a.svs", tmp_path)
    assert checker.kind != "md5"


def test_what_arrives_broken_is_refused(bucket, tmp_path):
    bucket.put("a.svs", DATA)
    zeros = Fault(status=206, body=bytes(50_000))
    bucket.server.fault = lambda *asked: zeros if is_piece(50_000)(*asked) else None
    with pytest.raises(SlideError, match=r"does not fit the md5"):
        fetched(f"{bucket.url}/a.svs", tmp_path)


def test_a_connection_that_is_cut_costs_one_piece(bucket, tmp_path):
    bucket.put("a.svs", DATA)
    bucket.server.fault = times(1, Fault(cut=20_000), is_piece(100_000))
    _, target = fetched(f"{bucket.url}/a.svs", tmp_path)
    assert target.read_bytes() == DATA
    assert sum(is_piece(100_000)(*one) for one in bucket.server.asked) == 2
    assert sum(is_piece(50_000)(*one) for one in bucket.server.asked) == 1


def test_an_expired_credential_is_told_even_where_only_a_head_was_asked(bucket, tmp_path):
    bucket.put("a.svs", DATA)

    def expire() -> None:
        bucket.server.fault = lambda method, *_: Fault(
            status=400 if method == "HEAD" else 403,
            body=EXPIRED,
            headers={"Content-Type": "application/xml"},
        )

    with pytest.raises(Exception) as caught:  # noqa: PT011 (of the library's kinds)
        fetched(f"{bucket.url}/a.svs", tmp_path, expire)
    problem = explain(caught.value)
    assert problem.text == "the credential has expired; renew it, and start again"
    assert not problem.passing


def test_an_object_that_is_gone_or_another_one_is_not_taken(bucket, tmp_path):
    bucket.put("a.svs", DATA)

    def remove() -> None:
        bucket.client.delete_object(Bucket=bucket.name, Key="a.svs")

    with pytest.raises(Exception) as caught:  # noqa: PT011 (of the library's kinds)
        fetched(f"{bucket.url}/a.svs", tmp_path, remove)
    assert explain(caught.value).code == "remote-gone"
    bucket.put("a.svs", DATA)
    with pytest.raises(ChangedError):
        fetched(f"{bucket.url}/a.svs", tmp_path, lambda: bucket.put("a.svs", DATA[::-1]))


def test_an_object_that_is_changed_in_the_middle_is_not_taken(bucket, tmp_path):
    bucket.put("a.svs", DATA)

    def change(method, path, span):
        if is_piece(200_000)(method, path, span):
            bucket.put("a.svs", DATA[::-1])

    bucket.server.fault = change
    with pytest.raises(Exception) as caught:  # noqa: PT011 (of the library's kinds)
        fetched(f"{bucket.url}/a.svs", tmp_path)
    assert explain(caught.value).code == "remote-changed"

from pathlib import Path

import pytest

from configs import ConfigError
from pipeline.cloud.urls import is_collapsed, parse_url, without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://lab/a folder/b.svs", "s3://lab/a folder/b.svs"),
        ("S3://lab/a/", "s3://lab/a"),
        ("s3://lab/what?.svs", "s3://lab/what?.svs"),
        ("gs://lab", "gs://lab"),
        ("abfss://slides@account.dfs.core.windows.net/a", "abfss://slides@account.dfs.core.windows.net/a"),
        ("https://host/a.svs?X-Amz-Signature=abc", "https://host/a.svs"),
        ("dicomweb+https://host/a/studies/1.2/", "dicomweb+https://host/a/studies/1.2"),
        (
            "DICOMweb+http://host:80/studies/1.2/series/3.4",
            "dicomweb+http://host:80/studies/1.2/series/3.4",
        ),
        ("https://me:pass@host:8443/a.svs#x", "https://host:8443/a.svs"),
    ],
)  # fmt: skip
def test_urls_are_shown_without_what_is_secret(text, shown):
    url = parse_url(text)
    assert str(url) == url.shown == shown
    assert "abc" not in repr(url)
    assert "pass" not in repr(url)


@pytest.mark.parametrize("text", ["slides", "/a/b.svs", "C:\\slides", "c:/slides", "a:b", "."])
def test_paths_are_no_urls(text):
    assert parse_url(text) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ftp://host/a.svs", "ftp://: slides are fetched from s3://, gs://, az://, https://"),
        ("file:///a.svs", "else name a path"),
        ("s3://key:word@lab/a.svs", "carries a key or a password"),
        ("s3://key@lab/a.svs", "carries a key or a password"),
        ("s3://", "names no bucket"),
        ("https://", "names no server"),
        ("https://[x/a.svs", "names no server"),
        ("https://host:port/a.svs", "names no server"),
        ("https://host/folder/?sig=word", "https://host/folder/: web servers don't list"),
        ("https://host", "web servers don't list"),
        ("dicomweb+https://me:word@host/studies/1.2", "CYTOLIBRA_DICOMWEB_TOKEN"),
        ("dicomweb+https://host/studies/1.2?token=word", "carries a password or a query"),
        ("dicomweb+https://host/a", "names no study or series"),
        ("dicomweb+https://host/studies/1.2/series/x", "names no study or series"),
        ("dicomweb+https://host/studies/1.2/series/3/instances/4", "names no study or series"),
    ],
)
def test_other_urls_are_refused_without_telling_secrets(text, problem):
    with pytest.raises(ConfigError) as caught:
        parse_url(text)
    assert problem in str(caught.value)
    assert "word@" not in str(caught.value)
    assert "sig" not in str(caught.value)


def test_secrets_are_taken_out_of_any_text():
    text = "GET https://h/a.svs?sig=1&x=2: 403; see 'http://u:p@h/b?c' and s3://lab/a?b"
    assert without_secrets(text) == ("GET https://h/a.svs 403; see 'http://h/b' and s3://lab/a?b")


def test_a_url_that_became_a_path_is_known():
    assert is_collapsed(Path("s3://lab/out"))
    assert is_collapsed(Path("https://host/out"))
    assert not is_collapsed(Path("out/s3:/lab"))
    assert not is_collapsed(Path("/tmp/out"))

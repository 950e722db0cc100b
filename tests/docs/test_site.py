"""The site as it is built: strictly, searchable, and asking no other host for anything."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent.parent

FETCHED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "object": ("data",),
}
"""What a browser fetches by itself, by tag and attribute; not what a click follows."""

_OTHER_HOST = re.compile(r"^\s*(https?:)?//")
_IN_STYLE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^)'\"]+)")


class Fetches(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag == "link" and named.get("rel") in ("canonical", "next", "prev"):
            return
        for name in FETCHED.get(tag, ()):
            if _OTHER_HOST.match(named.get(name) or ""):
                self.found.append(named[name])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Built as `make site` does; a broken link, or a page that no menu names, ends it."""
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    call = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(call, cwd=REPO, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_nothing_is_fetched_from_another_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        reader = Fetches()
        text = page.read_text(encoding="utf-8")
        reader.feed(text)
        assert not reader.found, page
        assert not _IN_STYLE.findall(text), page
    for style in site.rglob("*.css"):
        assert not _IN_STYLE.findall(style.read_text(encoding="utf-8")), style


@pytest.mark.slow
def test_the_search_finds_a_column_and_a_code(site):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    places = {entry["location"]: entry["text"] for entry in index["docs"]}
    assert "score_abnormal" in places["reference/files.html#cellscsv"]
    assert "scale-contradicts" in places["reference/warnings.html#slides"]


@pytest.mark.slow
def test_docstrings_of_the_public_names_are_on_the_page_of_python(site):
    text = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert "grad_libra_loss" in text
    assert "alpha of positive pairs, in [0, 1], radians" in text


def test_what_a_page_fetches_is_seen():
    reader = Fetches()
    reader.feed('<link rel="stylesheet" href="//a.b/c.css"><a href="https://a.b"></a>')
    reader.feed('<link rel="canonical" href="https://a.b"><img src="x.png"><script src="http://d">')
    assert reader.found == ["//a.b/c.css", "http://d"]
    assert _IN_STYLE.findall("@font-face{src:url('https://a.b/f.woff')}") == ["https://a.b/f.woff"]


@pytest.mark.parametrize(
    ("name", "most"),
    [
        *[("report.png", 200_000), ("summary.png", 200_000)],
        *[("room-list.png", 450_000), ("room-slide.png", 450_000)],
    ],
)
def test_pictures_are_small(name, most):
    assert (REPO / "docs" / "pictures" / name).stat().st_size <= most

"""Slides whose names try to get out, to run, or to be mistaken, on the whole way into reports."""

import csv
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from mutated import SCREEN, call
from openpyxl import load_workbook
from slidefiles import write_pyramid
from webpages import Elements

from configs import CytoLibraError
from data.synth import draw_field

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("names"),  # screened once for all
    pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names"),
]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

BESIDE = "<img src=x onerror=document.title='canary'><svg onload=document.title='canary'>"
"""What, if it ran, would change a page's title; a file's name holds no slash."""

NAMES = [
    *("..tif", "...tif", ".. .tif", "a..tif", "CON.tif", "NUL.tif", "aux.tif", "COM1.tif"),
    *("dots...tif", "end .tif", " begin.tif", "~.tif", "-rf.tif", "--out.tif", "*.tif", "a:b.tif"),
    *("back\\..\\slash.tif", "%2e%2e%2f.tif", "$(id).tif", "`id`.tif", "a'b\"c.tif", ";.tif"),
    *("=1+1.tif", "+1.tif", "@x.tif", "-1+1.tif", "\t=1.tif", "=HYPERLINK(1).tif", "|x.tif"),
    *(
        "gpj\u202efit.tif",
        "two\nlines.tif",
        "cr\r.tif",
        "\x1b[31mred.tif",
        "\x07.tif",
        "\u2028.tif",
    ),
    *("é.tif", "e\u0301.tif", "\ufeff.tif", "\u200b.tif", "x" * 180 + ".tif", "no\udcfftext.tif"),
    f"{BESIDE}.tif",
    *("&lt;.tif", "<!--.tif", "]]>.tif", "{{7*7}}.tif", "{% x %}.tif", "null.tif", "1e5.tif"),
]
"""Of files; those that begin with a dot are hidden, and left out."""


@pytest.fixture(scope="module")
def screened(tmp_path_factory):
    """A folder of such slides, of folders with such names, and of links, screened and merged."""
    folder = tmp_path_factory.mktemp("names")
    slides = folder / "slides"
    slides.mkdir()
    pixels = draw_field(7, (300, 300), 0.25)[0]
    whole = write_pyramid(folder / "whole.tif", pixels, levels=1, mpp=0.25).read_bytes()
    for name in NAMES:
        (slides / name).write_bytes(whole)
    for number, name in enumerate(NAMES[::5]):
        below = slides / f"{name}.d" / name
        below.parent.mkdir()
        below.write_bytes(whole if number % 2 else whole[: len(whole) // 2])
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "linked.tif").write_bytes(whole)
    (slides / "link").symlink_to(folder / "elsewhere")
    (slides / "loop").symlink_to(slides)
    (slides / "itself.tif").symlink_to(slides / "itself.tif")
    (slides / "nowhere.tif").symlink_to(folder / "nowhere.tif")
    (slides / "outside.tif").symlink_to(folder / "whole.tif")
    before = tree(folder)
    out = folder / "out"
    # By the last line of all, which may be that of a slide that failed.
    with pytest.raises(CytoLibraError, match=r"some failed|: truncated: "):
        call("screen", slides, "--out", out, "--set", "reports.xlsx=true", *SCREEN)
    assert tree(folder) == before
    return folder


def tree(folder):
    """Every file and link beside the output folder, with its size and time."""
    found = {}
    for place, folders, files in os.walk(folder):
        if "out" in folders:
            folders.remove("out")
        for name in (*folders, *files):
            path = Path(place) / name
            status = path.lstat()
            found[path] = (status.st_size, status.st_mtime_ns) if path.is_file() else None
    return found


def pages(folder):
    return [folder / "out/summary.html", *sorted(folder.glob("out/**/report.html"))]


def test_each_slide_has_its_result_where_its_name_says_and_no_other_file_is_touched(screened):
    told = {path.parent for path in screened.glob("out/**/report.json")}
    expected = {screened / "out" / name for name in NAMES if not name.startswith(".")}
    below = [f"{name}.d/{name}" for name in NAMES[::5][1::2] if not name.startswith(".")]
    expected |= {screened / "out" / name for name in [*below, "link/linked.tif", "outside.tif"]}
    assert told == expected
    record = json.loads((screened / "out/run.json").read_text())
    failed = {n for n, s in record["slides"].items() if s["status"] == "failed"}
    assert {"itself.tif", "nowhere.tif", "two\nlines.tif.d/two\nlines.tif"} <= failed


def test_a_terminal_and_a_log_hold_one_printable_line_a_message(screened, capsys):
    lines = (screened / "out/run.log").read_text().split("\n")
    assert all(line.isprintable() for line in lines)
    assert any("cr\\r.tif" in line or "two\\nlines.tif" in line for line in lines)
    with pytest.raises(CytoLibraError):
        call("status", screened / "out")


def test_no_table_holds_a_formula(screened):
    tables = [screened / "out/summary.csv", *sorted(screened.glob("out/**/cells.csv"))[:3]]
    for path in tables:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            fields = [field for row in csv.reader(stream) for field in row]
        assert len(fields) > 100
        for field in fields:
            assert field[:1] not in "=+-@\t\r" or not field or is_number(field), field
    book = load_workbook(screened / "out/summary.xlsx")
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
    assert {"=1+1.tif", "@x.tif", "\t=1.tif"} <= {cell.value for cell in cells}
    assert "f" not in {cell.data_type for cell in cells}


def is_number(field):
    try:
        float(field)
    except ValueError:
        return False
    return True


def test_no_page_holds_what_a_name_says(screened):
    summary = Elements(pages(screened)[0].read_text())
    report = Elements((screened / "out" / f"{BESIDE}.tif" / "report.html").read_text())
    for page in (summary, report):
        assert any(BESIDE in text for text in page.text)
        assert not page.all("img", src="x")
        assert not [name for _, having in page.found for name in having if name.startswith("on")]
        links = [
            having[name] for _, having in page.found for name in ("href", "src") if name in having
        ]
        assert links
        assert not [link for link in links if link.lower().lstrip().startswith("javascript:")]
    inside = [one["href"] for one in summary.all("a") if one.get("href", "#")[0] not in "#h"]
    out = screened / "out"
    assert inside
    for link in inside:
        assert (out / unquote(urlsplit(link).path, errors="surrogateescape")).is_file(), link


def test_what_is_made_of_reports_stays_where_it_is_asked_for(screened, tmp_path):
    before = tree(screened)
    for to in ("coco", "parquet", "duckdb"):
        call("merge", screened / "out", "--to", to, "--out", tmp_path / f"all.{to}")
    with suppress(CytoLibraError):
        call("rescore", screened / "out", "--out", tmp_path / "again", "--threshold", 0.4)
    content = json.loads((tmp_path / "all.coco").read_text())
    files = {one["file_name"] for one in content["images"]}
    assert {"two\nlines.tif", "=1+1.tif", "link/linked.tif"} <= {
        Path(f).name for f in files
    } | files
    again = {path.parent for path in (tmp_path / "again").glob("**/report.json")}
    assert {path.relative_to(tmp_path / "again") for path in again} == {
        path.parent.relative_to(screened / "out") for path in screened.glob("out/**/report.json")
    }
    assert tree(screened) == before
    assert {path.name for path in tmp_path.iterdir()} >= {"all.coco", "again"}
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_no_page_runs_what_a_name_says(screened):
    """The canary: a name's script or handler would change the title, or open a dialog."""
    pytest.importorskip("playwright.sync_api")
    with ThreadPoolExecutor(1) as pool:  # a thread may have one Playwright: other tests have theirs
        assert pool.submit(look_at, pages(screened)).result() == []


def look_at(paths):
    """What pages said or asked for that they shouldn't, once all of them were open."""
    from playwright.sync_api import sync_playwright

    told = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: told.append(request.url) if is_away(request.url) else 0)
        for path in paths:
            page.goto(path.as_uri())
            page.wait_for_load_state("load")
            assert page.title() != "canary", path
            assert page.evaluate("document.querySelectorAll('img[src=x], script[src]').length") == 0
        browser.close()
    return told


def is_away(address):
    return urlsplit(address).scheme not in ("file", "data", "blob")

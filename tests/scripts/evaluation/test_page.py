"""The page of an evaluation: one file, offline, with everything in it."""

import re
from html.parser import HTMLParser

import pytest
from cellcases import cells, random_fields
from evidence import make_evidence, two_fields

from pipeline.reports.report import NOTICE
from scripts.evaluation.evidence import draw
from scripts.evaluation.figures import compute_figures
from scripts.evaluation.page import render


class Reader(HTMLParser):
    """Collects ids, links and text."""

    VOID = frozenset({"meta", "br", "img", "input", "link"})

    def __init__(self, page):
        super().__init__()
        self.ids, self.links, self.open, self.text = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href"):
                self.links.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page_of(evidence, rounds=60, **more):
    figures = compute_figures(evidence, draw(evidence.fields, "field", 0.95, rounds))
    ran = {"data": "val.json", "model": "made up", "runtime": "torch", "precision": "fp32"}
    return render(evidence, figures | {"settings": ran} | more)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fields")
    size = {"width": 240, "height": 240}
    return make_evidence(*random_fields(2, count=8, classes=3), folder=folder, **size)


@pytest.fixture(scope="module")
def page(evidence):
    return page_of(evidence)


def test_everything_is_embedded_and_nothing_is_loaded(page):
    links = Reader(page).links
    assert any(link.startswith("data:image/jpeg") for link in links)
    assert all(link.startswith(("data:image/jpeg", "#")) for link in links)
    assert "default-src 'none'" in page
    assert re.findall(r"url\((?!#)", page) == []


def test_the_page_is_well_formed_and_its_headings_are_named_once(page):
    reader = Reader(page)
    assert reader.open == []
    named = [key for key in reader.ids if not re.fullmatch(r"[mp][0-9a-f]{10}", key)]
    assert len(named) == len(set(named))
    assert {"classes", "froc", "confusion", "calibration", "missed", "alarms"} <= set(named)


def test_says_what_it_is_for_and_shows_the_figures(evidence, page):
    text = " ".join(Reader(page).text)
    figures = compute_figures(evidence, draw(evidence.fields, "field", 0.95, 60))
    assert text.count(NOTICE) == 2
    assert f"{figures['pooled']['abnormal']['ap50']:.3f}" in text
    assert "expected calibration error (Guo et al., 2017)" in text
    assert "report.js" not in page


def test_pictures_take_the_colours_of_the_page(page):
    assert page.count("<svg ") >= 4
    assert "var(--accent)" in page
    assert "#0b6b72" not in page.split("</style>")[1]


def test_names_are_text(tmp_path):
    names = ("NILM", "<b>LSIL", "HSIL & more")
    page = page_of(make_evidence(*two_fields(), classes=names, folder=tmp_path))
    assert "<b>LSIL" not in page
    assert "&lt;b&gt;LSIL" in page


def test_the_same_evidence_gives_the_same_page(evidence, page):
    assert page_of(evidence) == page


@pytest.mark.parametrize(
    ("truth", "found"),
    [([cells()], [cells()]), ([cells(([0, 0, 9, 9], 0))] * 2, [cells(), cells()])],
    ids=["nothing", "one class"],
)
def test_little_evidence_makes_a_page_too(tmp_path, truth, found):
    text = " ".join(Reader(page_of(make_evidence(truth, found, folder=tmp_path))).text)
    assert "Missed abnormal cells" not in text
    assert "False alarms" not in text


@pytest.mark.usefixtures("undrawn")
def test_without_scale_it_says_so(tmp_path):
    page = page_of(make_evidence(*two_fields(), mpp=None, folder=tmp_path))
    assert "the scale of a field is unknown" in page


@pytest.mark.usefixtures("undrawn")
def test_one_slide_is_no_interval(tmp_path):
    evidence = make_evidence(*two_fields(), slide="one", folder=tmp_path)
    figures = compute_figures(evidence, draw(evidence.fields, "slide", 0.95, 20))
    ran = {"data": "val.json", "model": "made up", "runtime": "torch", "precision": "fp32"}
    assert "no interval" in render(evidence, figures | {"settings": ran})

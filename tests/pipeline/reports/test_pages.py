import base64
import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from fakes import CLASSES, MODEL, make_accuracy, make_alarms, make_cells, make_report
from PIL import Image
from webpages import Elements

from pipeline.cells.classes import CellClass
from pipeline.cells.domain import DomainFinding
from pipeline.geometry import Detections
from pipeline.reports.pages import render_report
from pipeline.reports.pictures import Pictures, choose_gallery, take_pictures
from pipeline.reports.report import NOTICE, SlideReport, most_suspicious_first
from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.summary import SummaryRow
from pipeline.reports.summary_page import render_summary
from pipeline.reports.triage import BELOW_RULE, carriers
from pipeline.reports.worklist import order_slides
from pipeline.slides.slide import open_slide

EVIL = '<script>alert("x")</script>&\'"></title><img src=x onerror=alert(1)>'


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of 4000 x 3000 whose colour tells the place: red rises with x, green with y."""
    y, x = np.mgrid[0:3000, 0:4000]
    pixels = np.stack([x // 16, y // 12, np.full_like(x, 128)], axis=-1).astype(np.uint8)
    path = tmp_path_factory.mktemp("slides") / "slide.png"
    Image.fromarray(pixels).save(path, compress_level=1)
    return path


@pytest.fixture(scope="module")
def report(slide_file: Path) -> SlideReport:
    cells = most_suspicious_first(make_cells(300), CLASSES)
    with open_slide(slide_file, mpp=0.25) as slide:
        pictures = take_pictures(slide, cells, CLASSES, limit=20)
    return make_report(slide_file, cells, pictures=pictures, unread=((0, 0, 400, 300),))


def decode(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg))


def test_pictures_show_the_slide_and_the_cells_at_their_places(report: SlideReport) -> None:
    overview = report.pictures.overview
    assert overview is not None
    assert decode(overview.jpeg).size == (1600, 1200)
    assert overview.downsample == 2.5
    assert len(report.pictures.crops) == 20
    for crop in report.pictures.crops:
        x, y = report.cells.centers[crop.cell]
        assert (crop.x + crop.side / 2, crop.y + crop.side / 2) == pytest.approx((x, y))
        assert crop.side >= 64 / 0.25
        picture = decode(crop.jpeg)
        assert picture.width == picture.height <= 256
        red, green, _ = picture.getpixel((picture.width // 2, picture.height // 2))
        assert abs(red - x / 16) < 6
        assert abs(green - y / 12) < 6


def slow_gallery(cells: Detections, limit: int) -> list[int]:
    """By turns the best of each class that is left, most severe class first."""
    left = {
        label: [row for row in range(len(cells)) if cells.labels[row] == label]
        for label in (5, 4, 3, 2, 1)
    }
    for rows in left.values():
        rows.sort(key=lambda row: (-cells.scores[row], row))
    chosen: list[int] = []
    while any(left.values()):
        chosen.extend(rows.pop(0) for rows in left.values() if rows)
    return chosen[:limit]


@pytest.mark.parametrize("count", [0, 1, 7, 200])
@pytest.mark.parametrize("limit", [0, 3, 60])
def test_gallery_takes_the_best_of_each_abnormal_class_by_turns(count: int, limit: int) -> None:
    rng = np.random.default_rng(count)
    scores = rng.choice(np.array([0.5, 0.7, 0.9], np.float32), count)
    labels = rng.choice(6, count, p=[0.5, 0.3, 0.1, 0.04, 0.05, 0.01])
    cells = Detections(np.zeros((count, 4)), scores, labels)
    assert choose_gallery(cells, CLASSES, limit).tolist() == slow_gallery(cells, limit)


def test_a_common_mild_class_does_not_crowd_out_a_rare_severe_one() -> None:
    labels = np.array([1] * 500 + [5])
    scores = np.array([0.99] * 500 + [0.31], np.float32)
    cells = Detections(np.zeros((501, 4)), scores, labels)
    assert 500 in choose_gallery(cells, CLASSES, 60)


def test_those_that_carry_the_suggestion_come_first_and_leave_the_others_a_third() -> None:
    labels = np.array([2] * 100 + [1] * 100 + [4] * 3 + [0] * 5)
    cells = Detections(np.zeros((208, 4)), np.linspace(0.9, 0.4, 208), labels)
    first = np.arange(100, 200)
    chosen = choose_gallery(cells, CLASSES, 60, first).tolist()
    assert chosen[:40] == list(range(100, 140))
    assert chosen[40:46] == [200, 0, 201, 1, 202, 2]  # HSIL and LSIL by turns
    assert len(set(chosen)) == 60
    # Where there are few others, those that carry take the rest of the places.
    few = choose_gallery(cells[np.arange(100, 204)], CLASSES, 60, np.arange(100)).tolist()
    assert few == [*range(57), 100, 101, 102]
    assert choose_gallery(cells, CLASSES, 60, np.arange(90, 93)).tolist()[:3] == [90, 91, 92]


def test_the_page_shows_first_what_carries_the_suggestion_and_why(slide_file: Path) -> None:
    """HSIL alone stands out; the SCC, more severe and of a better score, does not."""
    boxes = make_cells(8).boxes
    scores = np.linspace(0.9, 0.5, 8).astype(np.float32)
    cells = Detections(boxes, scores, np.array([5, 4, 2, 4, 4, 4, 4, 4]))
    cells = most_suspicious_first(cells, CLASSES)
    alarms = make_alarms(per_mm2=0.001, SCC=9.0, LSIL=9.0, low_grade=9.0)
    plain = make_report(slide_file, cells, alarms=alarms)
    assert plain.suggestion.category == "HSIL"
    with open_slide(slide_file, mpp=0.25) as slide:
        first = carriers(plain.suggestion, cells, CLASSES)
        pictures = take_pictures(slide, cells, CLASSES, first=first)
    page = render_report(make_report(slide_file, cells, alarms=alarms, pictures=pictures))
    shown = [a["data-class"] for a in Elements(page).of_class("cell")]
    assert shown == ["HSIL"] * 6 + ["SCC", "LSIL"]
    marked = [a for a in Elements(page).of_class("cell") if a.get("data-why") == "HSIL"]
    assert len(marked) == 6
    titles = re.findall(r"<h3><span>(?:<span[^>]*></span>)?([^<]*)</span>", page)
    assert titles == ["Cells that carry the suggestion", "SCC", "LSIL"]
    assert "These 6 HSIL cells carry “HSIL”: expected by chance 0 to 0." in page


def test_the_page_tells_each_level_with_what_it_is_worth() -> None:
    cells = Detections(np.zeros((3, 4)), np.ones(3, np.float32), np.array([4, 2, 0]))
    page = " ".join(
        Elements(render_report(make_report(cells=cells, accuracy=make_accuracy()))).text
    )
    for name, count in (("Abnormal", 2), ("Low grade", 1), ("High grade", 1)):
        assert re.search(rf"{name}\s+{count}\s+0 to \d+\s+0.90\s+0.85 to 0.95\s+0.81", page), name


def test_page_loads_nothing_and_runs_only_its_own_script(report: SlideReport) -> None:
    page = render_report(report)
    elements = Elements(page)
    assert not re.search(r"""(src|href|action|data)\s*=\s*["']?\s*(https?:)?//""", page)
    assert "@import" not in page
    assert "url(http" not in page
    tags = [tag for tag, _ in elements.found]
    assert not {"link", "iframe", "object", "embed", "form", "base"} & set(tags)
    assert tags.count("script") == 1
    policy = next(a["content"] for t, a in elements.found if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    for tag, attributes in elements.found:
        if tag in ("img", "image"):
            source = attributes.get("src") or attributes["href"]
            assert source.startswith("data:image/jpeg;base64,")


def test_page_shows_notice_suggestion_counts_warnings_and_settings(report: SlideReport) -> None:
    warned = make_report("a/b.svs", report.cells, warnings=("Half of it is blurred.",))
    text = " ".join(Elements(render_report(warned)).text)
    for expected in (
        NOTICE,
        "Suggested category",
        "squamous cell carcinoma",
        "Half of it is blurred.",
        "tiler.overlap",
        warned.model.sha256,
        *(str(count) for count in warned.counts.values()),
    ):
        assert expected in text
    assert "negative" not in text.lower()


def test_every_close_up_has_its_mark_on_the_slide_and_leads_to_it(report: SlideReport) -> None:
    elements = Elements(render_report(report))
    cells, marks = elements.of_class("cell"), elements.of_class("mark")
    assert len(cells) == len(marks) == 20
    assert {a["id"] for a in cells} == {a["href"][1:] for a in marks}
    assert {a["data-cell"] for a in cells} == {a["data-cell"] for a in marks}
    circles = [a for tag, a in elements.found if tag == "circle" and "core" in a["class"]]
    by_number = dict(zip((a["data-cell"] for a in marks), circles, strict=True))
    for cell in cells:
        x, y = report.cells.centers[int(cell["data-cell"]) - 1]
        assert float(cell["data-x"]) == pytest.approx(x, abs=0.1)
        circle = by_number[cell["data-cell"]]
        assert float(circle["cx"]) == pytest.approx(x / 2.5, abs=0.1)
        assert float(circle["cy"]) == pytest.approx(y / 2.5, abs=0.1)


def test_gallery_is_sorted_by_severity_then_score_behind_what_carries(report: SlideReport) -> None:
    cells = Elements(render_report(report)).of_class("cell")
    carry = [a.get("data-why") == report.suggestion.category for a in cells]
    assert carry == sorted(carry, reverse=True)
    cells = [a for a, first in zip(cells, carry, strict=True) if not first]
    severity = ["SCC", "HSIL", "ASC-H", "LSIL", "ASC-US"]
    keys = [(severity.index(a["data-class"]), -float(a["data-score"])) for a in cells]
    assert keys == sorted(keys)


def test_unread_areas_and_all_abnormal_cells_are_drawn(report: SlideReport) -> None:
    elements = Elements(render_report(report))
    (unread,) = elements.of_class("unread-area")
    assert [float(unread[name]) for name in ("x", "y", "width", "height")] == [0, 0, 160, 120]
    dots = [a["d"] for a in elements.of_class("dots")]
    assert sum(path.count("M") for path in dots) == report.abnormal_cells


def test_page_without_cells_or_pictures_says_so() -> None:
    page = render_report(make_report(cells=Detections.empty()))
    assert "No suggested category: <strong>no cells above threshold" in page
    assert "No abnormal cells above threshold." in page
    assert "No pictures were taken" in render_report(make_report(pictures=Pictures()))


def test_text_of_slides_models_and_warnings_cannot_break_out_of_the_page() -> None:
    model = MODEL.model_copy(
        update={
            "name": EVIL,
            "classes": (CellClass(name=EVIL, abnormal=True),),
            "threshold": {EVIL: 0.1},
        }
    )
    report = make_report(EVIL, make_cells(3, classes=1), model=model, warnings=(EVIL,))
    row = SummaryRow(EVIL, EVIL, "complete", SlideSummary.of(report))
    failed = SummaryRow(EVIL, EVIL, "failed", error=EVIL)
    for page, scripts in (
        (render_report(report), 1),
        (render_summary(order_slides([row, failed])), 2),  # one of them is data
    ):
        tags = [tag for tag, _ in Elements(page).found]
        assert tags.count("script") == scripts
        assert "img" not in tags
        assert EVIL in "".join(Elements(page).text)


def test_what_is_out_of_domain_is_said_once_above_and_not_in_every_part() -> None:
    reason = "their structure lies 7.4 standard deviations off"
    domain = DomainFinding(within=False, reason=reason, cells=100)
    page = render_report(make_report(domain=domain))
    text = " ".join(" ".join(Elements(page).text).split())
    assert f"Out of the model's domain : {reason}." in text
    assert "Adequacy: no verdict Not assessed: the slide is out of the model's domain" in text
    assert text.count(reason) == 2  # above, and among the warnings


def test_the_table_of_counts_names_its_rows_and_columns(report: SlideReport) -> None:
    elements = Elements(render_report(report))
    scopes = [a.get("scope") for tag, a in elements.found if tag == "th"]
    assert scopes.count("row") == len(report.levels) + len(CLASSES)
    assert None not in scopes


def test_a_slide_below_the_rule_s_threshold_is_told_so_once() -> None:
    report = make_report()
    below = {"score": 0.12, "suspicious": False, "level": None, "category": BELOW_RULE, "why": ""}
    suggestion = report.suggestion.model_copy(update=below)
    page = render_report(report.model_copy(update={"suggestion": suggestion}))
    text = " ".join(" ".join(Elements(page).text).split())
    assert f"Slide score 0.12 : {BELOW_RULE}" in text
    assert text.count(BELOW_RULE) == 1

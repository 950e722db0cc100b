import json
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from fakes import CLASSES, make_cells, make_report
from webpages import Elements

from configs import Doubt
from pipeline.cells.domain import DomainFinding
from pipeline.geometry import Detections, Size
from pipeline.reports.pictures import Crop, Overview, Pictures
from pipeline.reports.report import NOTICE, SlideReport, most_suspicious_first
from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.summary import SummaryRow
from pipeline.reports.summary_page import choose, render_summary
from pipeline.reports.worklist import order_slides

EVIL = '<script>alert("x")</script>&\'"></title><img src=x onerror=alert(1)>'
OUTSIDE = DomainFinding(within=False, reason="their stain lies 9 off", cells=100)


def page_of(*rows: SummaryRow, doubts: tuple[Doubt, ...] = ()) -> str:
    return render_summary(order_slides(rows), doubts)


def data_of(page: str) -> dict[str, Any]:
    """What the page's script goes by."""
    _, _, rest = page.partition('<script type="application/json" id="data">')
    return json.loads(rest.partition("</script>")[0])


def held(page: str) -> list[tuple[str, set[str]]]:
    """Names and filters of the slides that the script knows, in their order."""
    return [(name, set(show.split())) for _, show, _, _, name, _ in data_of(page)["slides"]]


def with_pictures(*crops: int) -> SlideReport:
    """A report with an overview and close-ups of these cells; their pixels don't matter here."""
    pictures = Pictures(
        Overview(b"", Size(1600, 1200), 2.5), tuple(Crop(b"", c, 0, 0, 64) for c in crops)
    )
    return make_report(cells=most_suspicious_first(make_cells(50), CLASSES), pictures=pictures)


def complete(name: str, report: SlideReport | None = None) -> SummaryRow:
    return SummaryRow(name, f"in/{name}", "complete", SlideSummary.of(report or make_report()))


def cells_of(*labels: int) -> Detections:
    return Detections(
        np.zeros((len(labels), 4)), np.full(len(labels), 0.9, np.float32), np.array(labels, int)
    )


@pytest.mark.parametrize(
    ("slide", "folder"),
    [
        ("a/b.svs", "./a/b.svs"),
        ("a b#1%20?.svs", "./a%20b%231%2520%3F.svs"),
        ("two\nlines.svs", "./two%0Alines.svs"),
        ("😀.svs", "./%F0%9F%98%80.svs"),
        ("bytes\udcff.svs", "./bytes%FF.svs"),
        ("javascript:alert(1)", "./javascript%3Aalert%281%29"),
        ("=cmd|x.svs", "./%3Dcmd%7Cx.svs"),
    ],
)
def test_links_and_pictures_lie_in_the_slide_s_folder(slide: str, folder: str) -> None:
    elements = Elements(page_of(complete(slide, with_pictures(4, 0, 7, 1))))
    links = [a["href"] for a in elements.all("a") if not a["href"].startswith("#")]
    cells = [f"{folder}/report.html#cell-{row + 1}" for row in (4, 0, 7)]
    assert links == [f"{folder}/report.html", *cells]
    images = elements.all("img", loading="lazy")
    names = ("thumbnail.jpg", "best-1.jpg", "best-2.jpg", "best-3.jpg")
    assert [a["src"] for a in images] == [f"{folder}/{name}" for name in names]
    assert len(elements.all("img")) == len(images)


def test_the_page_loads_nothing_but_pictures_beside_it_and_runs_its_own_script_alone() -> None:
    page = page_of(complete("a.svs", with_pictures(0)))
    elements = Elements(page)
    (policy,) = elements.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'; img-src 'self' file:;" in policy["content"]
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", page)
    assert "data:image" not in page
    runs = [a for a in elements.all("script") if a.get("type") != "application/json"]
    assert len(runs) == 1


def test_the_most_suspicious_comes_first_with_its_rank_reason_and_order() -> None:
    """More HSIL than chance explains, against none."""
    rows = [complete("a.svs", make_report(cells=cells_of(0, 0)))]
    rows.append(complete("b.svs", make_report(cells=cells_of(4, 4, 4, 0))))
    page = page_of(*rows)
    text = " ".join(" ".join(Elements(page).text).split())
    assert [a["title"] for a in Elements(page).all("a") if "title" in a] == ["in/b.svs", "in/a.svs"]
    assert "Rank 1 b.svs HSIL" in text
    assert "Rank 2 a.svs no abnormal cells above threshold" in text
    assert "These 3 HSIL cells carry “HSIL”: expected by chance 0 to " in text
    assert "3 abnormal of 4 cells (HSIL 3)" in text
    assert order_slides(rows).order[1:] in text


def test_slides_out_of_domain_stand_apart_and_have_a_filter() -> None:
    page = page_of(complete("a.svs", make_report(domain=OUTSIDE)), complete("b.svs"))
    elements = Elements(page)
    text = " ".join(" ".join(elements.text).split())
    assert "Without a rank: look at these yourself 1" in text
    assert "out of the model's domain" in text
    assert OUTSIDE.reason in text
    (choice,) = elements.all("input", value="outside")
    assert (choice["type"], choice["name"]) == ("radio", "show")
    assert ["outside" in filters for _, filters in held(page)] == [False, True]


def test_every_filter_finds_as_many_slides_as_it_says() -> None:
    rows = [
        complete("a.svs", make_report(warnings=("x",))),
        complete("b.svs", make_report(unread=((0, 0, 400, 300),), warnings=("x",))),
        complete("c.svs", make_report(domain=OUTSIDE)),
        SummaryRow("d.svs", "d.svs", "failed", error="d.svs: truncated"),
        SummaryRow("e.svs", "e.svs", "pending"),
        SummaryRow("f.kfb", "f.kfb", "not read", error="KFBIO; export it [files-not-read]"),
    ]
    page = page_of(*rows)
    elements = Elements(page)
    slides = [filters for _, filters in held(page)]
    assert len(slides) == len(rows)
    counts = re.findall(
        r'value="([^"]*)"(?: checked)?><span class="name">.*?</span> <span class="count">(\d+)<',
        page,
    )
    assert len(counts) == len(elements.all("input", type="radio"))
    assert ("", "6") in counts
    for key, count in counts:
        assert sum(not key or key in slide for slide in slides) == int(count), key


def test_failures_are_grouped_with_their_reason_and_codes_with_their_meaning() -> None:
    failed = [
        SummaryRow(n, n, "failed", error=f"{n}: {p}% can't be read")
        for n, p in (("a", 20), ("b", 31))
    ]
    text = " ".join(
        " ".join(
            Elements(page_of(*failed, complete("c", make_report(domain=OUTSIDE)))).text
        ).split()
    )
    assert "Failures 20% can't be read 2" in text
    assert "out-of-domain 1 What it means The cells that were found do not look like those" in text
    assert "a: 20% can't be read" in text
    assert "b: 31% can't be read" in text


def test_of_many_kinds_of_failures_the_most_common_have_filters_and_the_rest_is_counted() -> None:
    kinds = "".join(map(chr, range(ord("a"), ord("z") + 1)))
    rows = [SummaryRow(f"1{k}", "1", "failed", error=f"broken in way {k}") for k in kinds + "z"]
    elements = Elements(page_of(*rows))
    text = " ".join(" ".join(elements.text).split())
    assert "Failures broken in way z 2 broken in way a 1" in text
    assert "and 6 more kinds; all are in the list" in text
    assert len(elements.all("input", type="radio")) == 2 + 20  # all, failed, and reasons


def test_where_chance_is_not_known_the_page_does_not_speak_of_it() -> None:
    report = make_report(cells=cells_of(2, 2)).model_copy(update={"expectation": None})
    text = " ".join(" ".join(Elements(page_of(complete("a.svs", report))).text).split())
    assert "5.3 per mm², what chance reports is not known" in text
    assert "beyond chance;" not in text


def test_what_did_not_complete_is_shown_without_links() -> None:
    rows = [
        SummaryRow("a.svs", "a.svs", "failed", error="a.svs: truncated"),
        SummaryRow("b.svs", "b.svs", "pending"),
    ]
    doubt = Doubt(code="files-not-read", text="1 file looks like a slide")
    elements = Elements(page_of(*rows, doubts=(doubt,)))
    text = " ".join(elements.text)
    for expected in ("a.svs: truncated", NOTICE, "1 file looks like a slide", "Not reached"):
        assert expected in text
    assert [a["href"] for a in elements.all("a")] == ["#list"]
    assert "No slides." in page_of()


def test_names_cannot_break_out_of_the_page() -> None:
    report = make_report(EVIL, warnings=(EVIL,))
    rows = [
        SummaryRow(EVIL, EVIL, "complete", SlideSummary.of(report)),
        SummaryRow(EVIL, EVIL, "failed", error=EVIL),
    ]
    page = page_of(*rows, doubts=(Doubt(code="uncoded", text=EVIL),))
    elements = Elements(page)
    tags = [tag for tag, _ in elements.found]
    assert tags.count("script") == 2  # its own, and its data
    assert "img" not in tags
    assert EVIL in "".join(elements.text)
    # Its script lays out what it holds: that is as harmless.
    assert [name for name, _ in held(page)] == [EVIL, EVIL]
    for *_, html in data_of(page)["slides"]:
        laid = Elements(html)
        assert {tag for tag, _ in laid.found} <= {
            "li",
            "div",
            "span",
            "h3",
            "a",
            "p",
            "strong",
            *("details", "summary", "ul"),
        }
        assert EVIL in "".join(laid.text)


def test_headings_go_down_by_one_and_lists_are_lists() -> None:
    elements = Elements(page_of(complete("a.svs", with_pictures(0)), complete("b.svs")))
    levels = [int(tag[1]) for tag, _ in elements.found if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    tags = [tag for tag, _ in elements.found]
    assert tags.count("main") == tags.count("aside") == 1
    labelled = [a for a in elements.all("input") if a["type"] == "radio"]
    assert tags.count("label") >= len(labelled) + 2


def test_the_page_grows_by_little_with_each_slide() -> None:
    """Of 5,000 slides it has to be opened fluently: no picture may ever be part of it."""
    few, more = (
        len(page_of(*(complete(f"{i}.svs", with_pictures(0, 1, 2)) for i in range(count))))
        for count in (100, 110)  # of the first ones it holds their HTML twice
    )
    assert (more - few) / 10 < 2000


def cases() -> list[SummaryRow]:
    """8 of the work list, 3 without a rank, 4 failed, 2 that were not reached."""
    return [
        *(complete(f"{n}.svs", make_report(cells=cells_of(*[4] * (9 - n)))) for n in range(8)),
        *(complete(f"o{n}.svs", make_report(domain=OUTSIDE)) for n in range(3)),
        *(SummaryRow(f"f{n}", f"f{n}", "failed", error=f"f{n}: torn") for n in range(4)),
        *(SummaryRow(f"p{n}", f"p{n}", "pending") for n in range(2)),
    ]


@pytest.mark.parametrize(
    ("most", "sizes"),
    [
        (17, [8, 3, 4, 2]),
        (16, [8, 3, 4, 1]),
        (15, [8, 3, 4, 0]),
        (14, [7, 3, 4, 0]),
        (12, [6, 3, 3, 0]),
        (4, [2, 2, 0, 0]),
    ],
)
def test_of_too_many_slides_those_are_held_that_matter_most(most: int, sizes: list[int]) -> None:
    parts = choose(order_slides(cases()), most)
    assert [len(part.places) for part in parts] == sizes
    assert [part.total for part in parts] == [8, 3, 4, 2]
    ranked = [place.row.slide for place in parts[0].places]
    assert ranked == [f"{n}.svs" for n in range(sizes[0])]


def test_without_much_to_rank_what_is_apart_takes_the_room() -> None:
    rows = [SummaryRow(f"f{n:02}", "f", "failed", error="f: torn") for n in range(20)]
    (part,) = choose(order_slides(rows), 12)
    assert len(part.places) == 12


def test_a_page_that_lacks_slides_says_which_and_where_they_are() -> None:
    worklist = order_slides(cases())
    page = render_summary(worklist, most=12)
    text = " ".join(" ".join(Elements(page.partition("<script")[0]).text).split())
    assert (
        "This page holds 12 of 17 slides, of each kind the first: 6 of 8 under “Work list”, 3 of 4 "
        "under “Failed”, 0 of 2 under “Not reached”. Search, filters and order go by these; "
        "summary.csv has all."
    ) in text
    assert "17 slides" in text
    assert "Work list 6 of 8" in text
    assert "Failures torn 3 of 4" in text
    assert "All 12 of 17" in text
    assert len(held(page)) == 12
    whole = render_summary(worklist, most=17)
    assert "This page holds" not in whole
    assert len(held(whole)) == 17


def test_before_the_script_runs_the_first_hundred_are_shown_and_that_is_told() -> None:
    rows = [complete(f"{n:03}.svs") for n in range(120)]
    rows.append(SummaryRow("f.svs", "f.svs", "failed", error="f.svs: torn"))
    page = page_of(*rows)
    static, _, _ = page.partition("<script")
    assert static.count('<li class="slide">') == 100
    assert "The first 100 of 121 slides" in static
    assert ">Failed" not in static.partition('<main id="list"')[2]
    assert len(held(page)) == 121


def test_how_a_run_that_goes_on_stands_is_told() -> None:
    worklist = order_slides(cases())
    assert "The run goes on: so and so." in render_summary(
        worklist, as_of="the run goes on: so and so"
    )

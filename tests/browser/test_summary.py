"""summary.html of many slides, opened from a disk in Chromium."""

from pathlib import Path

import numpy as np
import pytest
from fakes import make_report
from playwright.sync_api import expect

from pipeline.geometry import Detections
from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.summary import SummaryRow
from pipeline.reports.summary_page import render_summary
from pipeline.reports.worklist import order_slides

SLIDES = 1_230
EVIL = "r&d <b>'x'</b>.svs"


def report_of(*labels: int, **more: object) -> SlideSummary:
    count = len(labels)
    cells = Detections(np.zeros((count, 4)), np.full(count, 0.9, np.float32), np.array(labels, int))
    return SlideSummary.of(make_report(cells=cells, **more))


@pytest.fixture(scope="module")
def summary(tmp_path_factory) -> Path:
    """1,230 complete slides, ever less suspicious, one of them of a bold name; 3 failed."""
    kinds = [report_of(*[4] * n) for n in (9, 5, 3)]
    odd = report_of(4, 4, warnings=("It is blurred.",))
    rows = [
        SummaryRow(f"s{n}.svs", f"in/s{n}.svs", "complete", kinds[n * 3 // SLIDES])
        for n in range(SLIDES - 1)
    ]
    rows.append(SummaryRow(EVIL, f"in/{EVIL}", "complete", odd))
    rows += [SummaryRow(f"f{n}", f"in/f{n}", "failed", error=f"in/f{n}: torn") for n in range(3)]
    path = tmp_path_factory.mktemp("summary") / "summary.html"
    path.write_text(render_summary(order_slides(rows)), encoding="utf-8")
    return path


@pytest.fixture
def open_summary(chromium, summary):
    contexts, faults = [], []

    def open_page(width=1400, **more):
        context = chromium.new_context(viewport={"width": width, "height": 900}, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.goto(summary.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def names(page) -> list[str]:
    return page.locator(".slide [title]").all_text_contents()


def test_pages_are_turned_over_by_mouse_and_keys(open_summary):
    page = open_summary()
    expect(page.locator(".slide")).to_have_count(100)
    expect(page.locator("#shown")).to_have_text("Slides 1 to 100 of 1,233")
    first = names(page)
    top, bottom = page.locator(".pager").all()
    top.get_by_role("button", name="Next").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#shown")).to_have_text("Slides 101 to 200 of 1,233")
    assert not set(first) & set(names(page))
    expect(top.get_by_role("button", name="Next")).to_be_focused()
    bottom.get_by_role("button", name="Last page").click()
    expect(page.locator("#shown")).to_have_text("Slides 1,201 to 1,233 of 1,233")
    expect(page.locator("#list")).to_be_focused()  # and in sight
    assert page.locator("#list").evaluate("e => Math.abs(e.getBoundingClientRect().top) < 2")
    expect(page.locator("h2", has_text="Failed")).to_be_visible()
    expect(bottom.get_by_role("button", name="Next")).to_have_attribute("aria-disabled", "true")
    page.get_by_label("Page", exact=True).fill("3")
    page.keyboard.press("Enter")
    expect(page.locator("#shown")).to_have_text("Slides 201 to 300 of 1,233")
    page.get_by_label("Page", exact=True).fill("99")
    page.keyboard.press("Tab")
    expect(page.locator("#shown")).to_have_text("Slides 1,201 to 1,233 of 1,233")
    page.get_by_label("Slides a page").select_option("500")
    expect(page.locator(".slide")).to_have_count(500)


def test_search_filter_and_order_go_over_all_slides(open_summary):
    page = open_summary()
    page.get_by_role("searchbox").fill("in/s1229.svs")
    expect(page.locator("#shown")).to_have_text("None of 1,233 slides matches")
    page.get_by_role("searchbox").fill("R&D <b>'x")
    expect(page.locator("#shown")).to_have_text("Slides 1 to 1 of 1 that match, of 1,233")
    assert names(page) == [EVIL]
    page.get_by_role("searchbox").fill("")
    page.get_by_label("Failed").check()
    expect(page.locator(".slide")).to_have_count(3)
    assert names(page) == ["f0", "f1", "f2"]
    page.get_by_label("With warnings").check()
    expect(page.locator(".slide")).to_have_count(1)
    page.get_by_label("All").check()
    page.get_by_label("Order").select_option("name")
    expect(page.locator(".slide [title]").nth(1)).to_have_text("s0.svs")
    assert names(page)[:4] == [EVIL, "s0.svs", "s1.svs", "s2.svs"]  # 2 before 10
    page.get_by_role("button", name="Next").first.click()
    assert names(page)[0] == "s99.svs"


def test_it_is_left_as_it_was_by_a_look_at_a_slide(open_summary):
    page = open_summary()
    page.get_by_label("Order").select_option("name")
    page.get_by_label("Page", exact=True).fill("4")
    page.keyboard.press("Enter")
    shown = names(page)
    page.goto("about:blank")
    page.go_back()
    expect(page.locator("#shown")).to_have_text("Slides 301 to 400 of 1,233")
    assert names(page) == shown


def test_a_narrow_screen_and_paper_hold_it(open_summary):
    page = open_summary(400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.get_by_role("searchbox").fill("s12")
    expect(page.locator("#shown")).to_contain_text("that match")
    page.emulate_media(media="print")
    expect(page.locator("#told")).to_have_text(
        " (shown: All; search: s12; order: most suspicious first; summary.csv has all slides)"
    )
    expect(page.locator(".pager").first).to_be_hidden()


def test_without_scripts_the_first_hundred_are_shown_and_that_is_told(open_summary):
    page = open_summary(java_script_enabled=False)
    expect(page.locator(".slide")).to_have_count(100)
    expect(page.locator("#shown")).to_have_text("The first 100 of 1,233 slides")
    expect(page.locator(".pager").first).to_be_hidden()

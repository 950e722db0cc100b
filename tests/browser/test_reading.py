"""A slide read from the work list to the signature, by mouse and by keys."""

import json
import re
import sqlite3
import subprocess
import sys
import time

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import card, open_slide, ready, saved, until, verdicts


def _um(page) -> float:
    """µm a screen pixel, as the page tells."""
    return float(re.search(r"([\d.]+) µm", page.get_by_test_id("magnification").inner_text())[1])


def _export(room, out) -> dict:
    """What ``cytolibra reviews export`` writes of a room's reports."""
    words = ["reviews", "export", room.reports, "--to", "coco", "--slides", room.slides]
    subprocess.run(
        [sys.executable, "-m", "scripts", *map(str, words), "--out", str(out)],
        check=True,
        capture_output=True,
    )
    return json.loads(out.read_text())


def test_a_slide_is_read_decided_and_signed(enter, room, tmp_path):
    page = enter(room)
    expect(page.get_by_test_id("worklist-row")).to_have_count(3)
    expect(page.locator("footer")).to_contain_text("Research use only")
    open_slide(page, "slide-003")
    # Gallery: all cells on two pages of 48. How many there are differs by a cell between CPUs.
    found = _row(room, "slide-003")
    rest = ["none"] * (found["abnormal"] - 4)
    page.get_by_test_id("group").select_option("all")
    expect(page.get_by_test_id("gallery-card")).to_have_count(48)
    page.get_by_test_id("next-page").click()
    expect(page.get_by_test_id("gallery-card")).to_have_count(found["cells"] - 48)
    page.get_by_test_id("group").select_option("abnormal")
    expect(page.get_by_test_id("gallery-card")).to_have_count(found["abnormal"])
    # A cell is flown to, and zooming shows in µm per pixel.
    page.get_by_test_id("tool-whole").click()
    until(lambda: _um(page) > 1)
    card(page, 1).click()
    until(lambda: _um(page) < 0.5)
    before = _um(page)
    page.get_by_test_id("tool-zoom-out").click()
    until(lambda: _um(page) > 1.3 * before)
    # One key a decision, and the next cell is chosen by itself.
    card(page, 0).click()
    page.keyboard.press("a")
    expect(card(page, 1)).to_have_attribute("aria-current", "true")
    page.keyboard.press("6")  # SCC: keys go by severity, from NILM on
    page.keyboard.press("x")
    page.keyboard.press("u")
    saved(page)
    assert verdicts(page) == ["agree", "class", "reject", "unsure", *rest]
    expect(card(page, 1)).to_contain_text("called SCC")
    page.keyboard.press("z")
    until(lambda: verdicts(page)[3] == "none")
    page.keyboard.press("y")
    until(lambda: verdicts(page)[3] == "unsure")
    page.keyboard.press("Control+z")
    until(lambda: verdicts(page)[3] == "none")
    # All is there after the page was loaded anew.
    saved(page)
    page.reload()
    page.get_by_test_id("gallery-card").first.wait_for()
    assert verdicts(page)[:1] + verdicts(page)[2:] == ["agree", "reject", "none", *rest]
    # The whole slide.
    page.get_by_test_id("adequacy-satisfactory").check()
    page.get_by_test_id("category").select_option("LSIL")
    page.get_by_test_id("comment").fill("koilocytes")
    page.get_by_test_id("comment").blur()
    page.get_by_test_id("sign-off").click()
    expect(page.get_by_test_id("signed")).to_be_visible()
    saved(page)
    expect(page.get_by_test_id("verdict-agree")).to_be_disabled()
    page.goto(f"{room.address}/#/")
    row = page.locator("[data-testid=worklist-row]", has_text="slide-003")
    expect(row.get_by_test_id("review-state")).to_have_text("signed off")
    expect(row).to_contain_text("LSIL")
    # What was decided leads back to training, while the room is open.
    content = _export(room, tmp_path / "reviewed.json")
    names = {one["id"]: one["name"] for one in content["categories"]}
    told = [names[one["category_id"]] for one in content["annotations"]]
    assert [one["file_name"] for one in content["images"]] == ["slide-003.tif"]
    assert "SCC" in told
    assert told.count("region") == 3  # agreed, called otherwise, rejected


def test_the_report_leads_back_to_its_slide(enter, room):
    page = enter(room)
    open_slide(page, "slide-003")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Report").click()
    with page.context.expect_page() as again:
        opened.value.get_by_role("link", name="Read this slide here").click()
    again.value.get_by_test_id("gallery-card").first.wait_for()
    expect(again.value.get_by_role("heading", level=1)).to_have_text("slide-003.tif")


def test_each_decision_goes_with_the_time_it_took(enter, room):
    page = enter(room)
    open_slide(page, "slide-003")
    page.wait_for_timeout(1200)
    start = time.monotonic()
    page.keyboard.press("a")
    page.keyboard.press("x")
    saved(page)
    elapsed = time.monotonic() - start
    with sqlite3.connect(room.reports / "reviews.sqlite") as database:
        seconds = [row[0] for row in database.execute("select seconds from entries order by id")]
    assert seconds[0] >= 1.2
    assert 0 <= seconds[1] <= elapsed


def test_a_cell_is_drawn_by_mouse_and_moved_by_keys(enter, room):
    page = enter(room)
    open_slide(page, "slide-003")
    page.keyboard.press("d")
    scale = _um(page)
    stage = page.get_by_test_id("overlay").bounding_box()
    x, y = stage["x"] + 150, stage["y"] + 120
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 50, steps=4)
    page.mouse.up()
    page.get_by_test_id("dialog").wait_for()
    page.keyboard.press("3")  # LSIL
    saved(page)
    page.get_by_test_id("group").select_option("added")
    expect(page.get_by_test_id("gallery-card")).to_have_count(1)
    expect(card(page, 0)).to_contain_text("LSIL")
    key = card(page, 0).get_attribute("data-key")
    box, um = _reading(room)["cells"][key]["box"], scale
    assert [box[2] - box[0], box[3] - box[1]] == pytest.approx(
        [60 * um / 0.25, 50 * um / 0.25], abs=1.5 * um / 0.25
    )
    # Its box is moved by arrow keys; Shift makes it larger.
    card(page, 0).click()
    page.keyboard.press("m")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    saved(page)
    moved = _reading(room)["cells"][key]["box"]
    step = 4 * um / 0.25  # of four screen pixels, in level-0 px of 0.25 µm
    assert moved == pytest.approx([box[0] + step, box[1], box[2] + step, box[3] + step], abs=0.5)
    page.get_by_test_id("verdict-reject").click()
    saved(page)
    expect(page.get_by_test_id("gallery-card")).to_have_count(0)


def test_a_region_is_marked_and_a_cell_noted_by_keys_alone(enter, room):
    page = enter(room)
    open_slide(page, "slide-003")
    page.keyboard.press("r")
    page.keyboard.press("Enter")  # a box in the middle of the view
    page.keyboard.press("Enter")
    saved(page)
    (region,) = _reading(room)["regions"].values()
    assert region["box"][2] - region["box"][0] > 100
    page.keyboard.press("n")
    page.get_by_test_id("note-text").fill("binucleate")
    page.get_by_test_id("note-save").click()
    saved(page)
    key = card(page, 0).get_attribute("data-key")
    cell = _reading(room)["cells"][key]
    assert (cell["note"], cell["verdict"]) == ("binucleate", "none")
    page.get_by_test_id("region-mark").locator("button").nth(1).click()
    saved(page)
    assert _reading(room)["regions"] == {}


def test_a_click_on_the_slide_chooses_the_cell_there(enter, room):
    page = enter(room)
    open_slide(page, "slide-003")
    page.get_by_test_id("group").select_option("NILM")
    page.get_by_test_id("gallery-card").nth(2).wait_for()
    card(page, 2).click()
    key = card(page, 2).get_attribute("data-key")
    card(page, 2).press("k")  # another is chosen, the slide flies there
    card(page, 2).click()
    page.wait_for_timeout(300)
    page.get_by_test_id("group").select_option("abnormal")
    page.goto(f"{room.address}/#/")
    # The address of a cell opens it, and the middle of the view is its centre.
    slide = _slide(room)
    page.goto(f"{room.address}/#/slide/{slide}/cell/{key}")
    ready(page)
    expect(page.get_by_test_id("decision")).to_contain_text("NILM")
    stage = page.get_by_test_id("overlay").bounding_box()
    page.keyboard.press("Escape")
    page.mouse.click(stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2)
    page.keyboard.press("x")
    saved(page)
    assert _reading(room)["cells"][key]["verdict"] == "reject"


def test_a_late_answer_leaves_the_reader_where_he_is(enter, room):
    page = enter(room)
    open_slide(page, "slide-003")
    page.keyboard.press("a")
    saved(page)
    held = []
    page.route("**/changes?**", lambda route: held.append(route), times=1)
    page.keyboard.press("k")
    # While the undo is on its way: a note on the third cell.
    for key in ("z", "j", "j", "n"):
        page.keyboard.press(key)
    page.get_by_test_id("note-text").fill("mitosis")
    until(lambda: held)
    held.pop().continue_()
    until(lambda: verdicts(page)[0] == "none")
    page.get_by_test_id("note-save").click()
    saved(page)
    third = card(page, 2).get_attribute("data-key")
    assert {key: one["note"] for key, one in _reading(room)["cells"].items()} == {third: "mitosis"}
    expect(card(page, 2)).to_have_attribute("aria-current", "true")


def test_a_key_that_is_held_decides_once(enter, room):
    page = enter(room)
    open_slide(page, "slide-003")
    for _ in range(4):
        page.keyboard.down("x")
    page.keyboard.up("x")
    page.get_by_test_id("verdict-unsure").focus()
    for _ in range(4):
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    saved(page)
    assert verdicts(page)[:4] == ["reject", "unsure", "none", "none"]


def test_a_comment_stays_while_it_is_typed_and_when_the_page_goes(enter, room):
    page = enter(room)
    open_slide(page, "slide-003")
    held = []
    page.route("**/changes?**", lambda route: held.append(route), times=1)
    page.get_by_test_id("category").select_option("LSIL")
    comment = page.get_by_test_id("comment")
    comment.press_sequentially("koilo")
    until(lambda: held)
    held.pop().continue_()
    until(lambda: _reading(room)["slide"]["category"] == "LSIL")
    comment.press_sequentially("cytes")
    expect(comment).to_have_value("koilocytes")
    saved(page)  # without leaving the field
    assert _reading(room)["slide"]["comment"] == "koilocytes"
    comment.press_sequentially(", few")
    expect(page.get_by_test_id("save-state")).to_contain_text("Not saved yet: 1")
    page.reload()
    page.get_by_test_id("gallery-card").first.wait_for()
    saved(page)
    expect(page.get_by_test_id("comment")).to_have_value("koilocytes, few")


def _row(room, name: str) -> dict:
    """What the work list tells of a slide."""
    with room.ask("Looker") as client:
        slides = client.get("/api/slides").json()["slides"]
    return next(one for one in slides if name in one["name"])


def _slide(room, name: str = "slide-003") -> str:
    return _row(room, name)["id"]


def _reading(room, name: str = "Ada", slide: str = "slide-003") -> dict:
    with room.ask(name) as client:
        return client.get(f"/api/slides/{_slide(room, slide)}/reading").json()

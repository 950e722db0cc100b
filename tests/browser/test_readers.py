"""Several readers, several windows, a server that dies, one that only shows."""

from playwright.sync_api import expect

from tests.browser.conftest import card, open_slide, saved, until, verdicts


def _sign(page, category: str) -> None:
    page.get_by_test_id("adequacy-satisfactory").check()
    page.get_by_test_id("category").select_option(category)
    page.get_by_test_id("sign-off").click()
    expect(page.get_by_test_id("signed")).to_be_visible()
    saved(page)


def test_a_second_reader_is_blind_until_differences_are_adjudicated(enter, room):
    first = enter(room, "Ada")
    open_slide(first, "slide-003")
    first.keyboard.press("a")
    first.keyboard.press("x")
    _sign(first, "LSIL")
    second = enter(room, "Ben")
    expect(second.locator("body")).not_to_contain_text("Ada")
    open_slide(second, "slide-003")
    assert set(verdicts(second)) == {"none"}
    assert second.get_by_test_id("category").input_value() == ""
    second.keyboard.press("a")
    second.keyboard.press("u")  # the first has called it no cell
    _sign(second, "HSIL")
    # Both have signed: a third, who has not read, adjudicates side by side.
    third = enter(room, "Cleo")
    open_slide(third, "slide-003")
    third.goto(f"{third.url.split('#')[0]}#/slide/{_id(third)}/differences")
    third.get_by_test_id("look-anyway").click()
    differences = third.get_by_test_id("difference")
    expect(differences).to_have_count(2)
    slide = third.locator("[data-testid=difference][data-subject=slide]")
    expect(slide).to_contain_text("LSIL")
    expect(slide).to_contain_text("HSIL")
    slide.get_by_test_id("take-A").click()
    cell = third.locator("[data-testid=difference][data-subject=cell]")
    expect(cell).to_contain_text("unsure")
    expect(cell).to_contain_text("no cell")
    cell.get_by_test_id("take-B").click()
    saved(third)
    third.get_by_test_id("sign-adjudication").click()
    saved(third)
    third.goto(f"{room.address}/#/")
    row = third.locator("[data-testid=worklist-row]", has_text="slide-003")
    expect(row.get_by_test_id("review-state")).to_have_text("adjudicated")


def _id(page) -> str:
    return page.url.split("#/slide/")[1].split("/")[0]


def test_two_windows_of_one_reader_meet(enter, room):
    one, other = enter(room, "Ada"), enter(room, "Ada")
    open_slide(one, "slide-003")
    open_slide(other, "slide-003")
    one.keyboard.press("a")
    saved(one)
    card(other, 1).click()
    other.keyboard.press("x")
    expect(other.get_by_test_id("message")).to_contain_text("Another window")
    # The present state is shown, and nothing was written over it.
    until(lambda: verdicts(other)[:2] == ["agree", "none"])
    card(other, 1).click()
    other.keyboard.press("x")
    saved(other)
    assert verdicts(other)[:2] == ["agree", "reject"]


def test_what_two_windows_have_kept_is_sent_after_a_restart_of_the_browser(enter, room, watch):
    watch.away = True
    one = enter(room, "Ada")
    open_slide(one, "slide-003")
    slide = _id(one)
    other = one.context.new_page()
    other.goto(one.url)
    other.get_by_test_id("gallery-card").first.wait_for()
    # Not by a route: what waits for its answer is sent after all when its window is closed.
    browser = one.context
    browser.set_offline(True)
    for page, place, keys in ((one, 0, "aa"), (other, 3, "x")):
        card(page, place).click()
        for key in keys:
            page.keyboard.press(key)
        state = page.get_by_test_id("save-state")
        expect(state).to_have_attribute("data-state", "offline")
    again = browser.new_page()
    one.close(run_before_unload=False)
    other.close(run_before_unload=False)
    browser.set_offline(False)
    again.goto(f"{room.address}/#/")
    # Each was decided without a sight of the other: most of it goes, the rest is told.
    expect(again.get_by_test_id("mishap")).to_contain_text("not saved (1)")
    open_slide(again, "slide-003")
    saved(again)
    with room.ask("Ada") as client:
        cells = client.get(f"/api/slides/{slide}/reading").json()["cells"].values()
    assert [one["verdict"] for one in cells] == ["agree", "agree"]


def test_a_window_asks_who_reads_when_another_one_has_changed_it(enter, room, watch):
    watch.away = True  # a refusal is expected
    page = enter(room, "Ada")
    open_slide(page, "slide-003")
    with page.context.expect_page() as opened:
        page.evaluate("url => void window.open(url)", f"{room.address}/#/")
    other = opened.value
    other.get_by_test_id("sign-out").click()
    other.get_by_test_id("name-dialog").locator("input[name=name]").fill("Ben")
    other.get_by_test_id("begin").click()
    expect(other.get_by_test_id("reader")).to_have_text("Ben")
    page.keyboard.press("x")
    door = page.get_by_test_id("name-dialog")
    expect(door).to_contain_text("Ben")
    with room.ask("Ben") as client:
        assert client.get(f"/api/slides/{_id(page)}/reading").json()["version"] == 0
    # What waited goes out when its reader is back.
    door.locator("input[name=name]").fill("Ada")
    page.get_by_test_id("begin").click()
    page.get_by_test_id("gallery-card").first.wait_for()
    saved(page)
    assert verdicts(page)[0] == "reject"


def test_what_waits_is_sent_when_its_slide_was_left(enter, room, watch):
    watch.away = True
    page = enter(room)
    open_slide(page, "slide-003")
    left = _id(page)
    page.route("**/changes?**", lambda route: route.abort())
    page.keyboard.press("a")
    page.keyboard.press("x")
    expect(page.get_by_test_id("save-state")).to_have_attribute("data-state", "offline")
    page.goto(f"{room.address}/#/")
    open_slide(page, "slide-002")
    expect(page.get_by_test_id("save-state")).to_contain_text("Not saved yet: 2")
    page.unroute("**/changes?**")
    saved(page)
    with room.ask("Ada") as client:
        cells = client.get(f"/api/slides/{left}/reading").json()["cells"].values()
    assert [one["verdict"] for one in cells] == ["agree", "reject"]


def test_nothing_is_lost_when_the_server_is_killed_in_mid_review(enter, room, watch):
    page = enter(room)
    open_slide(page, "slide-003")
    page.keyboard.press("a")
    saved(page)
    watch.away = True
    room.kill()
    page.keyboard.press("x")
    page.keyboard.press("u")
    state = page.get_by_test_id("save-state")
    expect(state).to_have_attribute("data-state", "offline")
    expect(state).to_contain_text("Not saved yet: 2")
    assert verdicts(page)[:3] == ["agree", "reject", "unsure"]
    room.start()
    # Another token, so the page comes in anew; what it kept goes out by itself.
    page.goto(room.url)
    page.get_by_test_id("name-dialog").locator("input[name=name]").fill("Ada")
    page.get_by_test_id("begin").click()
    open_slide(page, "slide-003")
    saved(page)
    assert verdicts(page)[:3] == ["agree", "reject", "unsure"]
    with room.ask("Ada") as client:
        slide = _id(page)
        cells = client.get(f"/api/slides/{slide}/reading").json()["cells"].values()
    assert [one["verdict"] for one in cells] == ["agree", "reject", "unsure"]


def test_a_room_that_only_shows_takes_no_decision(enter, make_room):
    page = enter(make_room("--read-only"), None)
    page.get_by_test_id("worklist-row").first.wait_for()
    expect(page.locator("body")).to_contain_text("Read-only")
    open_slide(page, "slide-003")
    page.keyboard.press("a")
    page.keyboard.press("d")
    assert set(verdicts(page)) == {"none"}
    expect(page.get_by_test_id("sign-off")).to_have_count(0)


def test_a_page_without_its_token_says_what_it_needs(chromium, room, watch):
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{room.address}/")
    expect(page.locator("body")).to_contain_text("token")
    context.close()

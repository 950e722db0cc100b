"""For everybody: by keyboard, by screen reader, in Chinese, on small screens."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import REPO, open_slide, ready, saved

AXE = REPO / "viewer" / "node_modules" / "axe-core" / "axe.min.js"


def _violations(page) -> list[str]:
    """What axe-core finds; its script comes in by the debugger, past the page's policy."""
    page.evaluate(f"() => {{ {AXE.read_text()} }}")
    found = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{one['id']}: {one['help']}: {', '.join(node['html'][:120] for node in one['nodes'][:3])}"
        for one in found
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 820, 400])
def test_axe_finds_no_violation(enter, room, width, scheme):
    if not AXE.is_file():
        pytest.fail("axe-core is not here: make view-assets")
    door = enter(room, None, width=width, color_scheme=scheme)
    door.get_by_test_id("name-dialog").wait_for()
    assert _violations(door) == []
    page = enter(room, width=width, color_scheme=scheme)
    assert _violations(page) == []
    open_slide(page, "slide-003")
    page.keyboard.press("a")
    assert _violations(page) == []
    for key in ("?", "n"):
        page.keyboard.press(key)
        page.get_by_test_id("dialog").wait_for()
        assert _violations(page) == []
        page.keyboard.press("Escape")
        page.get_by_test_id("dialog").wait_for(state="detached")
    page.goto(f"{room.address}/#/tasks")
    page.locator("h1").wait_for()
    assert _violations(page) == []


def test_tab_reaches_every_control_and_the_focus_is_seen(enter, room):
    page = enter(room)
    open_slide(page, "slide-003")
    page.evaluate("() => { document.activeElement?.blur(); window.scrollTo(0, 0); }")
    wanted = page.evaluate(
        """() => {
          const all = [...document.querySelectorAll('a[href], button, input, select, textarea')];
          const open = all.filter(one => !one.disabled && one.getClientRects().length);
          window.left = new Set(open.filter(one => one.type !== 'radio'));
          return window.left.size;
        }"""
    )
    assert wanted > 30
    unseen = []
    for _ in range(wanted + 20):
        page.keyboard.press("Tab")
        told = page.evaluate(
            """() => {
              const one = document.activeElement;
              window.left.delete(one);
              const style = getComputedStyle(one);
              const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
              return seen || one === document.body ? '' : one.outerHTML.slice(0, 120);
            }"""
        )
        if told:
            unseen.append(told)
    left = page.evaluate("() => [...window.left].map(one => one.outerHTML.slice(0, 120))")
    assert left == []
    assert unseen == []


def test_a_decision_is_told_to_who_can_not_see_it(enter, room):
    page = enter(room)
    open_slide(page, "slide-003")
    page.keyboard.press("x")
    expect(page.get_by_test_id("live")).to_contain_text("no cell")
    page.keyboard.press("z")
    expect(page.get_by_test_id("live")).to_contain_text("undone")
    saved(page)
    page.keyboard.press("z")
    expect(page.get_by_test_id("live")).to_contain_text("Nothing to undo")


def test_the_page_speaks_chinese_and_remembers_it(enter, room):
    page = enter(room)
    page.get_by_test_id("language").select_option("zh")
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    expect(page.locator("footer")).to_contain_text("仅供研究使用")
    page.reload()
    page.get_by_test_id("worklist-row").first.wait_for()
    open_slide(page, "slide-003")
    ready(page)
    expect(page.get_by_test_id("verdict-agree")).to_contain_text("同意")


@pytest.mark.parametrize("width", [820, 400])
def test_nothing_lies_beyond_a_small_screen(enter, room, width):
    page = enter(room, width=width, height=900)
    wide = "() => document.documentElement.scrollWidth"
    assert page.evaluate(wide) <= width
    open_slide(page, "slide-003")
    assert page.evaluate(wide) <= width
    # The slide stays in sight while cells are decided.
    page.keyboard.press("a")
    assert page.evaluate("() => window.scrollY") == 0

"""What the routes answer."""

import asyncio
import gzip
import io
import json
import shutil
import threading
import uuid
from dataclasses import replace

import numpy as np
import pytest
from fakes import CLASSES
from PIL import Image
from reviewfolders import SIZE, cells_on, draw_slide, write_result
from slidefiles import picture
from starlette.requests import Request
from viewbrowsers import HOST, TOKEN, Browser

from pipeline.reports.report import most_suspicious_first
from pipeline.review.catalogue import Catalogue
from pipeline.review.server import route_pages
from pipeline.review.server.room import MOST_WAITING, BusyError, Desk, GoneError, Room
from pipeline.review.server.sessions import Sessions
from pipeline.review.store import ReviewStore, SlideKey, TaskField


def id_of(browser, name="one.tif"):
    return next(r.id for r in browser.room.catalogue if r.name == name)


def base_of(browser, name="one.tif"):
    return f"/api/slides/{id_of(browser, name)}"


def test_the_work_list_has_every_slide_with_what_is_known(browser):
    listed = browser.get("/api/slides").json()
    rows = {row["name"]: row for row in listed["slides"]}
    assert set(rows) == {"one.tif", "sub/<b>two</b>"}
    one = rows["one.tif"]
    assert (one["status"], one["cells"], one["section"]) == ("complete", 40, "ranked")
    assert one["abnormal"] == sum(cells_on(40).labels != 0)
    assert one["per_mm2"] == pytest.approx(one["abnormal"] / 0.375, abs=1e-3)  # 6e6 px at 0.25
    assert one["review"] == {
        "state": "unread",
        "mine": "unread",
        "decided": 0,
        "readers": 0,
        "category": None,
    }
    for url in (one["thumbnail"], *(best["url"] for best in one["best"])):
        answer = browser.get(url)
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.content.startswith(b"\xff\xd8")
    assert rows["sub/<b>two</b>"]["thumbnail"] is None
    assert "most suspicious first" in listed["order"]


def test_long_answers_are_compressed_where_that_is_taken(browser):
    path = f"{base_of(browser)}/gallery?size=40"
    plain = browser.get(path, headers={"accept-encoding": "identity"})
    with browser.stream("GET", path, headers={"accept-encoding": "gzip"}) as answer:
        packed = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed) == plain.content


def test_one_slide_tells_how_it_is_drawn(browser):
    told = browser.get(base_of(browser)).json()
    assert told["size"] == {"width": SIZE.width, "height": SIZE.height}
    assert told["image"]["max_level"] == 11
    assert (told["image"]["tile_size"], told["image"]["overlap"]) == (256, 0)
    assert told["slide"] == {"available": True, "reason": "", "code": ""}
    names = [one["name"] for one in told["classes"]]
    assert names == ["SCC", "HSIL", "ASC-H", "LSIL", "ASC-US", "NILM"]
    assert {one["name"]: one["key"] for one in told["classes"]}["NILM"] == "1"
    assert {one["name"]: one["grade"] for one in told["classes"]}["HSIL"] == "high grade"
    assert all(one["color"].startswith("#") for one in told["classes"])
    assert {told["next"], told["previous"]} == {None, id_of(browser, "sub/<b>two</b>")}
    gone = browser.get(base_of(browser, "sub/<b>two</b>")).json()
    assert gone["image"] is None
    assert (gone["slide"]["available"], gone["slide"]["code"]) == (False, "gone")
    assert browser.get("/api/slides/ffffffffffffffff").status_code == 404


def test_tiles_show_the_slide_and_are_kept_by_the_browser(browser):
    path = f"{base_of(browser)}/tiles/11/1_2.jpg"
    answer = browser.get(path)
    with Image.open(io.BytesIO(answer.content)) as image:
        shown = np.asarray(image).astype(int)
    wanted = picture(SIZE.width, SIZE.height)[512:768, 256:512]
    assert np.abs(shown - wanted).mean() < 4
    assert answer.headers["cache-control"] == "private, max-age=3600"
    tag = answer.headers["etag"]
    again = browser.get(path, headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert browser.get(path, headers={"if-none-match": '"x"'}).status_code == 200
    for wrong in ("12/0_0", "11/9_9", "11/-1_0", "99999/0_0"):
        assert browser.get(f"{base_of(browser)}/tiles/{wrong}.jpg").status_code == 404
    assert browser.get(f"{base_of(browser)}/tiles/x/0_0.jpg").status_code in (400, 404)


def test_close_ups_are_of_one_scale_and_centred(browser):
    (cell, *_) = browser.get(f"{base_of(browser)}/gallery?um=24").json()["cells"]
    answer = browser.get(cell["picture"] + "&px=96")  # 24 µm are 96 px of level 0
    with Image.open(io.BytesIO(answer.content)) as image:
        shown = np.asarray(image).astype(int)
    x, y = (round((cell["box"][i] + cell["box"][i + 2] - 96) / 2) for i in (0, 1))
    wanted = picture(SIZE.width, SIZE.height)
    inside = max(0, -x), max(0, -y), min(96, SIZE.width - x), min(96, SIZE.height - y)
    part = shown[inside[1] : inside[3], inside[0] : inside[2]]
    there = wanted[y + inside[1] : y + inside[3], x + inside[0] : x + inside[2]]
    assert np.abs(part - there).mean() < 6
    path = f"{base_of(browser)}/crop.jpg?x0=100&y0=100&x1=164&y1=132&px=64"
    with Image.open(io.BytesIO(browser.get(path).content)) as image:
        assert np.abs(np.asarray(image).astype(int) - wanted[84:148, 100:164]).mean() < 4


@pytest.mark.parametrize(
    "query",
    [
        "x0=0&y0=0&x1=0&y1=10",
        "x0=5&y0=0&x1=1&y1=10",
        "x0=nan&y0=0&x1=9&y1=9",
        "x0=0&y0=0&x1=20000&y1=9",
        "x0=0&y0=0&x1=9&y1=9&px=100000",
        "x0=0&y0=0",
    ],
)
def test_absurd_crops_are_refused(browser, query):
    answer = browser.get(f"{base_of(browser)}/crop.jpg?{query}")
    assert answer.status_code == 400
    assert answer.json()["message"]


def test_of_a_slide_that_is_gone_the_reports_pictures_are_shown(browser, room):
    base = base_of(browser, "sub/<b>two</b>")
    answer = browser.get(f"{base}/tiles/11/0_0.jpg")
    assert answer.status_code == 404
    assert "is not there" in answer.json()["message"]
    assert browser.get(f"{base}/overview.jpg").status_code == 404
    assert browser.get(f"{base}/gallery").json()["total"] == 40
    assert browser.get(f"{base_of(browser)}/overview.jpg").content.startswith(b"\xff\xd8")


def test_all_cells_come_as_arrays(browser):
    content = browser.get(f"{base_of(browser)}/cells.bin").content
    length = int.from_bytes(content[:4], "little")
    start = 4 + length
    assert start % 8 == 0
    header = json.loads(content[4:start])
    assert header["count"] == 40
    arrays = {}
    for one in header["arrays"]:
        count = int(np.prod(one["shape"]))
        assert one["offset"] % 8 == 0
        array = np.frombuffer(content, one["dtype"], count, start + one["offset"])
        arrays[one["name"]] = array.reshape(one["shape"])
    cells = most_suspicious_first(cells_on(40), CLASSES)
    assert arrays["boxes"].dtype == np.float32
    assert np.allclose(arrays["boxes"], cells.boxes, atol=0.01)
    assert np.allclose(arrays["scores"], cells.scores, atol=1e-4)
    assert (arrays["labels"] == cells.labels).all()
    assert not arrays["grades_known"].any()
    (shown,) = browser.get(f"{base_of(browser)}/gallery?size=1").json()["cells"]
    key = "_".join(f"{t / 10:.1f}" for t in arrays["tenths"][shown["number"] - 1])
    assert key == shown["key"]
    assert browser.get(f"{base_of(browser)}/cell?number={shown['number']}").json() == shown
    assert browser.get(f"{base_of(browser)}/cell?number=41").status_code == 404
    assert browser.get(f"{base_of(browser)}/cell?number=0").status_code == 400


def test_the_heat_map_is_told_as_it_is_measured(browser):
    heat = browser.get(f"{base_of(browser)}/heat").json()
    assert (heat["columns"], heat["rows"], heat["um"], heat["step"]) == (1, 1, 500.0, 2000.0)
    abnormal = sum(cells_on(40).labels != 0)
    assert heat["per_mm2"] == [abnormal * 4]
    assert heat["max"] == abnormal * 4


def test_decisions_are_kept_and_read_back(browser):
    browser.sign_in("Ann")
    cell = browser.get(f"{browser.slide}/gallery?size=1").json()["cells"][0]
    told = browser.change(0, kind="cell", key=cell["key"], verdict="class", label="SCC").json()
    assert told["version"] == 1
    decision = told["cells"][cell["key"]]
    assert (decision["verdict"], decision["label"], decision["seconds"]) == ("class", "SCC", 1.5)
    assert decision["said"]["label"] == cell["label"]
    assert decision["said"]["box"] == cell["box"]
    assert browser.get(f"{browser.slide}/reading").json() == told
    row = browser.get("/api/slides").json()["slides"][0]["review"]
    assert (row["state"], row["mine"], row["decided"]) == ("begun", "begun", 1)
    delta = browser.change(1, delta=True, kind="undo").json()
    assert (delta["delta"], delta["version"], delta["can_redo"]) == (True, 2, True)
    assert delta["cells"] == {cell["key"]: None}
    assert browser.get(f"{browser.slide}/reading").json()["cells"] == {}


def test_what_the_page_believes_that_the_report_says_does_not_count(browser):
    browser.sign_in("Ann")
    cell = browser.get(f"{browser.slide}/gallery?size=1").json()["cells"][0]
    lie = {"label": cell["label"], "score": 0.01, "box": [0, 0, 5, 5]}
    told = browser.change(0, kind="cell", key=cell["key"], verdict="agree", said=lie).json()
    assert told["cells"][cell["key"]]["said"]["score"] == cell["score"]
    assert told["cells"][cell["key"]]["said"]["box"] == cell["box"]


@pytest.fixture
def rescored(tmp_path):
    """A room of one slide, and what writes its report anew, of other cells."""
    slide, reports = draw_slide(tmp_path / "slides" / "one.tif"), tmp_path / "reports"
    cells = write_result(reports, "one.tif", slide).cells
    with Catalogue(reports) as catalogue, ReviewStore.open(reports) as store:
        room = Room(
            catalogue=catalogue, store=store, sessions=Sessions(TOKEN), hosts=frozenset({HOST})
        )

        def rescore(change):
            shutil.rmtree(reports / "one.tif")
            write_result(reports, "one.tif", slide, change(cells))
            catalogue.refresh(0)

        yield Browser(room), rescore
        room.desk.close()


def _other_class(number):
    """The same cells, one of another class; most suspicious ones are others then."""

    def change(cells):
        labels = cells.labels.copy()
        labels[number - 1] = (labels[number - 1] + 1) % len(CLASSES)
        return replace(cells, labels=labels)

    return change


def _seen(cell):
    return {"label": cell["label"], "score": cell["score"], "box": cell["box"]}


def test_nobody_agrees_to_a_class_that_he_was_not_shown(rescored):
    browser, rescore = rescored
    browser.sign_in("Ann")
    first, second = browser.get(f"{browser.slide}/gallery?size=2").json()["cells"]

    def send(version, cell, **values):
        return browser.change(version, kind="cell", key=cell["key"], said=_seen(cell), **values)

    assert send(0, first, verdict="agree").status_code == 200
    rescore(lambda cells: _other_class(second["number"])(_other_class(first["number"])(cells)))
    refused = send(1, second, verdict="agree")
    assert (refused.status_code, refused.json()["error"]) == (409, "report-changed")
    assert "current" not in refused.json()
    assert second["label"] in refused.json()["message"]
    # A note and another box leave what was agreed to before.
    for version, more in enumerate(({"note": "odd"}, {"box": [9, 9, 70, 70]}), 1):
        told = send(version, first, verdict="agree", **more).json()["cells"][first["key"]]
        assert (told["label"], told["said"]["label"]) == (first["label"], first["label"])
    assert told["note"] == "odd"
    # Who has seen the new report agrees to that, under a verdict that he gave before, too.
    cells = browser.get(f"{browser.slide}/gallery?size=40").json()["cells"]
    (now,) = [cell for cell in cells if cell["key"] == first["key"]]
    assert now["label"] != first["label"]
    assert send(3, now, verdict="agree").json()["cells"][now["key"]]["label"] == now["label"]


def _all_kinds(cell):
    """A change of each kind but undo and redo, as a page makes them."""
    drawn = {"kind": "cell", "key": "a" + "0" * 32, "verdict": "added", "label": "HSIL"}
    return {
        "said": {"kind": "cell", "key": cell["key"], "verdict": "agree", "said": _seen(cell)},
        "drawn": drawn | {"box": [100, 100, 140, 140]},
        "slide": {"kind": "slide", "category": "NILM"},
        "region": {"kind": "region", "key": "r1", "box": [0, 0, 800, 800]},
        "sign": {"kind": "sign", "signed": True},
    }


def test_nothing_is_said_of_another_slide_that_came_under_the_name(rescored, tmp_path):
    browser, _ = rescored
    browser.sign_in("Ann")
    page = browser.get(browser.slide).json()
    shown = {"content": page["key"], "stamp": page["stamp"]}
    cell = browser.get(f"{browser.slide}/gallery?size=1").json()["cells"][0]
    shutil.rmtree(tmp_path / "reports" / "one.tif")
    write_result(tmp_path / "reports", "one.tif", draw_slide(tmp_path / "slides" / "one.tif", 5))
    browser.room.catalogue.refresh(0)
    assert browser.get(browser.slide).json()["key"] != page["key"]
    for values in (*_all_kinds(cell).values(), {"kind": "undo"}):
        refused = browser.change(0, **values, **shown)
        assert (refused.status_code, refused.json()["error"]) == (409, "report-changed"), values
        assert "one.tif: another slide lies under this name" in refused.json()["message"]
    assert browser.get(f"{browser.slide}/reading").json()["version"] == 0


def test_a_region_and_a_signature_are_of_the_report_that_was_shown(rescored):
    browser, rescore = rescored
    browser.sign_in("Ann")

    def shown():
        page = browser.get(browser.slide).json()
        return {"content": page["key"], "stamp": page["stamp"]}

    before = shown()
    cell = browser.get(f"{browser.slide}/gallery?size=1").json()["cells"][0]
    all_kinds = _all_kinds(cell)
    rescore(lambda cells: cells[np.arange(40) != cell["number"] % 40])
    for kind in ("region", "sign"):
        refused = browser.change(0, **all_kinds[kind], **before)
        assert (refused.status_code, refused.json()["error"]) == (409, "report-changed"), kind
        assert "current" not in refused.json()
    for version, kind in enumerate(("said", "drawn", "slide")):
        assert browser.change(version, **all_kinds[kind], **before).status_code == 200, kind
    assert browser.change(3, **all_kinds["region"], **shown()).status_code == 200
    assert browser.change(4, **all_kinds["sign"], **shown()).status_code == 200
    # What takes back says nothing of the report.
    assert browser.change(5, kind="sign", signed=False, **before).status_code == 200
    assert browser.change(6, kind="region", key="r1", box=None, **before).status_code == 200


def _differ(browser, cell):
    """Two readers sign off who differ on a cell; a third looks."""
    for name, verdict in (("Ann", "agree"), ("Bob", "reject")):
        browser.sign_in(name)
        said = _seen(cell)
        done = browser.change(0, kind="cell", key=cell["key"], verdict=verdict, said=said)
        assert done.status_code == 200, done.text
        assert browser.change(1, kind="sign", signed=True).status_code == 200
    browser.sign_in("Cem")


@pytest.mark.parametrize("said", [True, False])
def test_a_cell_that_the_report_no_longer_has_is_adjudicated(rescored, said):
    browser, rescore = rescored
    cell = browser.get(f"{browser.slide}/gallery?size=1").json()["cells"][0]
    _differ(browser, cell)
    gone = np.arange(40) != cell["number"] - 1
    rescore(lambda cells: cells[gone])
    assert browser.get(f"{browser.slide}/differences?adjudicate=1").json()["open"]
    values = {"kind": "cell", "key": cell["key"], "verdict": "agree", "round": "adjudication"}
    more = {"said": _seen(cell)} if said else {}
    told = browser.change(0, **values, **more)
    assert told.status_code == 200, told.text
    assert told.json()["cells"][cell["key"]]["label"] == cell["label"]
    assert browser.change(1, kind="sign", signed=True, round="adjudication").status_code == 200


def test_an_adjudicator_agrees_to_what_the_reader_agreed_to(rescored):
    browser, rescore = rescored
    cell = browser.get(f"{browser.slide}/gallery?size=1").json()["cells"][0]
    _differ(browser, cell)
    rescore(_other_class(cell["number"]))
    assert browser.get(f"{browser.slide}/differences?adjudicate=1").json()["open"]
    values = {"kind": "cell", "key": cell["key"], "verdict": "agree", "round": "adjudication"}
    told = browser.change(0, said=_seen(cell), **values).json()
    assert told["cells"][cell["key"]]["label"] == cell["label"]


def test_two_windows_do_not_overrule_each_other(browser):
    browser.sign_in("Ann")
    assert browser.change(0, kind="slide", comment="first").status_code == 200
    answer = browser.change(0, kind="slide", comment="second")
    assert answer.status_code == 409
    told = answer.json()
    assert told["error"] == "stale"
    assert told["current"]["slide"]["comment"] == "first"
    # The same change again, after an answer that was lost, is no second one.
    content = {"id": uuid.uuid4().hex, "version": 1, "kind": "slide", "comment": "third"}
    path = f"{browser.slide}/changes?delta=1"
    assert browser.post(path, json=content).json()["version"] == 2
    again = browser.post(path, json=content)
    assert (again.status_code, again.json()["version"]) == (200, 2)
    assert "delta" not in again.json()
    # What was decided behind it builds on what it made, and another window has written since.
    assert browser.change(2, kind="slide", comment="elsewhere").status_code == 200
    assert browser.post(path, json=content).json()["slide"]["comment"] == "elsewhere"
    behind = browser.change(content["version"] + 1, kind="slide", comment="behind")
    assert (behind.status_code, behind.json()["error"]) == (409, "stale")


@pytest.mark.parametrize(
    ("values", "status", "code"),
    [
        ({"kind": "cell", "key": "1.0_2.0_3.0_4.0", "verdict": "agree"}, 400, "change"),
        ({"kind": "cell", "key": "../x", "verdict": "agree"}, 400, "change"),
        ({"kind": "nonsense"}, 400, "change"),
        ({"kind": "slide", "comment": "x" * 20_000}, 400, "change"),
        ({"kind": "slide", "extra": 1}, 400, "change"),
        ({"kind": "slide", "round": "third"}, 400, "change"),
        ({"kind": "undo"}, 409, "refused"),
        (
            {"kind": "cell", "key": "a" + "0" * 32, "verdict": "added", "label": "<script>",
             "box": [1, 1, 5, 5]},
            400,
            "change",
        ),
    ],
)  # fmt: skip
def test_a_change_that_is_wrong_is_refused_and_changes_nothing(browser, values, status, code):
    browser.sign_in("Ann")
    answer = browser.change(0, **values)
    assert (answer.status_code, answer.json()["error"]) == (status, code), answer.text
    assert browser.get(f"{browser.slide}/reading").json()["version"] == 0


def test_who_has_not_said_his_name_decides_nothing(browser):
    assert browser.change(0, kind="undo").json()["error"] == "reader"
    assert browser.get(f"{browser.slide}/reading").json()["error"] == "reader"
    assert browser.post("/api/session", json={"name": "  "}).json()["error"] == "name"


def test_folders_of_one_name_are_told_apart(room, folder, tmp_path):
    places = [tmp_path / "a" / "reports", tmp_path / "b" / "reports"]
    told = []
    for place in places:
        place.mkdir(parents=True)
        with ReviewStore.open(place) as store:
            told.append(Browser(replace(room, store=store)).get("/api/session").json()["store"])
    assert told[0] != told[1]
    assert str(tmp_path) not in "".join(told)


def test_a_window_that_shows_another_reader_than_the_browsers_decides_nothing(browser):
    browser.sign_in("Ann")
    ann = browser.get("/api/session").json()["reader"]["id"]
    assert browser.change(0, kind="slide", comment="mine", reader=ann).status_code == 200
    browser.sign_in("Ben")  # in another window, which has the same cookie
    ben = browser.get("/api/session").json()["reader"]["id"]
    refused = [
        browser.change(1, kind="slide", comment="hers", reader=ann),
        *(
            browser.get(f"{browser.slide}/{path}reader={ann}")
            for path in ("reading?", "differences?adjudicate=1&")
        ),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()["error"]) == (401, "other-reader")
        assert "Ben" in answer.json()["message"]
    assert browser.get(f"{browser.slide}/reading?reader={ben}").json()["version"] == 0


def read_by(room, name, label, version=0):
    """Somebody reads the first cell of the first slide, and signs it off."""
    browser = Browser(room)
    browser.sign_in(name)
    cell = browser.get(f"{browser.slide}/gallery?size=1").json()["cells"][0]
    done = browser.change(0, kind="cell", key=cell["key"], verdict="class", label=label)
    assert done.status_code == 200, done.text
    assert browser.change(1, kind="sign", signed=True).status_code == 200
    return browser


def test_a_second_reader_sees_nothing_of_the_first(room):
    first = Browser(room)
    first.sign_in("Ann")
    first.change(0, kind="slide", category="HSIL", comment="secret")
    second = Browser(room)
    second.sign_in("Bob")
    for path in ("reading", "differences", "", "gallery?group=unsure"):
        answer = second.get(f"{second.slide}/{path}".rstrip("/")).text
        assert "secret" not in answer
        assert "Ann" not in answer
    listed = second.get("/api/slides").json()["slides"][0]["review"]
    assert listed == {
        "state": "begun",
        "mine": "unread",
        "decided": 0,
        "readers": 1,
        "category": None,
    }
    closed = second.get(f"{second.slide}/differences").json()
    assert (closed["open"], closed["differences"]) == (False, [])


def test_differences_open_to_who_has_signed_and_name_nobody(room):
    first = read_by(room, "Ann", "HSIL")
    second = Browser(room)
    second.sign_in("Bob")
    second.change(0, kind="slide", comment="x")
    assert first.get(f"{first.slide}/differences").json()["open"] is False
    second.change(1, kind="undo")
    second = read_by_again(second)
    told = first.get(f"{first.slide}/differences").json()
    assert told["open"] is True
    (difference,) = told["differences"]
    views = {view["reader"]: (view["label"], view["mine"]) for view in difference["views"]}
    assert views == {"A": ("HSIL", True), "B": ("NILM", False)}
    (cell, *_) = first.get(f"{first.slide}/gallery?size=1").json()["cells"]
    assert {view["said"]["label"] for view in difference["views"]} == {cell["label"]}
    assert "Bob" not in json.dumps(told)
    state = first.get("/api/slides").json()["slides"][0]["review"]["state"]
    assert state == "differs"


def read_by_again(browser):
    cell = browser.get(f"{browser.slide}/gallery?size=1").json()["cells"][0]
    version = browser.get(f"{browser.slide}/reading").json()["version"]
    done = browser.change(version, kind="cell", key=cell["key"], verdict="class", label="NILM")
    assert done.status_code == 200, done.text
    assert browser.change(version + 1, kind="sign", signed=True).status_code == 200
    return browser


def test_who_looks_at_differences_without_having_read_can_not_read_blind_any_more(room):
    read_by(room, "Ann", "HSIL")
    read_by(room, "Bob", "NILM")
    third = Browser(room)
    third.sign_in("Cem")
    listed = third.get("/api/slides").json()["slides"][0]["review"]
    assert listed["state"] == "signed", "that they differ is not for who may still read"
    assert third.get(f"{third.slide}/differences").json()["open"] is False
    assert third.get(f"{third.slide}/differences?adjudicate=1").json()["open"] is True
    answer = third.change(0, kind="slide", comment="mine")
    assert (answer.status_code, answer.json()["error"]) == (403, "blind")
    with ReviewStore.open(room.store.path.parent) as store:  # as after a restart of the server
        again = Browser(replace(room, store=store, sessions=Sessions(TOKEN)))
        again.sign_in("Cem")
        answer = again.change(0, kind="slide", comment="mine")
        assert (answer.status_code, answer.json()["error"]) == (403, "blind")
        assert again.get(f"{again.slide}/differences").json()["open"] is True
    cell = third.get(f"{third.slide}/gallery?size=1").json()["cells"][0]
    values = {"kind": "cell", "key": cell["key"], "verdict": "class", "label": "HSIL"}
    answer = third.change(0, round="adjudication", **values)
    assert answer.status_code == 200, answer.text
    assert answer.json()["round"] == "adjudication"


def test_where_nothing_is_written_nobody_looks_at_differences_without_having_read(room):
    read_by(room, "Ann", "HSIL")
    read_by(room, "Bob", "NILM")
    room.store.reader("Cem")
    shown = replace(room, read_only=True)
    for name, is_open in (("Ann", True), ("Cem", False)):
        browser = Browser(shown)
        browser.sign_in(name)
        told = browser.get(f"{browser.slide}/differences?adjudicate=1").json()
        assert told["open"] is is_open
    assert (told["differences"], "writes nothing" in told["reason"]) == ([], True)


def test_tasks_lead_to_their_slides(browser, room):
    result = next(iter(room.catalogue))
    here = TaskField(result.key, (0.0, 0.0, 100.0, 100.0), "many unsure", 0.9)
    lost = TaskField(SlideKey("f" * 64, "lost.tif"), (0.0, 0.0, 9.0, 9.0), "gone", 0.1)
    room.store.add_tasks([here, lost])
    first, second = browser.get("/api/tasks").json()["tasks"]
    assert (first["slide"], first["name"], first["done"]) == (result.id, result.name, False)
    assert first["box"] == [0, 0, 100, 100]
    assert (second["slide"], second["name"]) == (None, "lost.tif")


def test_what_nobody_foresaw_tells_nothing_of_itself(browser, monkeypatch):
    def broken(*_):
        raise RuntimeError("secret of the machine")

    monkeypatch.setattr(type(browser.room.store), "tasks", broken)
    with pytest.raises(RuntimeError):
        browser.get("/api/tasks")
    quiet = Browser(browser.room)
    quiet._transport.raise_server_exceptions = False
    answer = quiet.get("/api/tasks")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_without_the_built_page_it_is_said_how_to_build_it(browser, monkeypatch, tmp_path):
    monkeypatch.setattr(route_pages, "ASSETS", tmp_path)
    page = browser.get("/")
    assert page.status_code == 200
    assert "make view-assets" in page.text
    assert browser.get("/api/slides").status_code == 200
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>built</title>")
    (tmp_path / "assets" / "main-1a.js").write_text("let x = 1")
    assert "built" in browser.get("/").text
    script = browser.get("/assets/main-1a.js")
    assert script.text == "let x = 1"
    assert script.headers["content-type"].startswith("text/javascript")
    assert "immutable" in script.headers["cache-control"]
    (tmp_path / "assets" / "out.js").symlink_to(__file__)
    assert browser.get("/assets/out.js").status_code == 404


def test_a_link_from_a_file_asks_again_from_here(room):
    stranger = Browser(room, come_in=False)
    page = stranger.get("/")
    assert page.status_code == 401
    assert '<script src="/again.js">' in page.text
    assert "/?again=1" in stranger.get("/again.js").text
    last = stranger.get("/?again=1")
    assert last.status_code == 401
    assert "printed" in last.text
    assert "script" not in last.text


def _request(gone):
    async def receive():
        if gone:
            return {"type": "http.disconnect"}
        await asyncio.sleep(60)
        return {}

    return Request({"type": "http"}, receive)


def test_for_who_is_gone_nothing_is_begun():
    async def run():
        desk, begun = Desk(workers=1), []
        with pytest.raises(GoneError):
            await desk.do(_request(gone=True), lambda: begun.append(1))
        assert begun == []
        assert await desk.do(_request(gone=False), lambda: "done") == "done"
        desk.close()

    asyncio.run(run())


def test_no_more_is_done_at_once_than_there_are_workers():
    async def run():
        desk, at_once, most, lock = Desk(workers=2), [0], [0], threading.Lock()

        def work():
            with lock:
                at_once[0] += 1
                most[0] = max(most[0], at_once[0])
            threading.Event().wait(0.02)
            with lock:
                at_once[0] -= 1

        await asyncio.gather(*(desk.do(_request(gone=False), work) for _ in range(8)))
        assert most == [2]
        desk._waiting = MOST_WAITING
        with pytest.raises(BusyError):
            await desk.do(_request(gone=False), work)
        desk.close()

    asyncio.run(run())


def test_a_server_that_may_not_write_shows_what_stands(browser, room):
    browser.sign_in("Ann")
    browser.change(0, kind="slide", comment="kept")
    watching = Browser(replace(room, read_only=True))
    watching.sign_in("Ann")
    assert watching.get(f"{watching.slide}/reading").json()["slide"]["comment"] == "kept"

"""What a client may send: forms, sizes, and the key that an error names."""

import json
import math

import pytest
from reviewcases import key, said

from pipeline.review.store import ChangeError, cell_key, parse_change
from pipeline.review.store.changes import checked_name

ID = "0123456789abcdef" * 2


def cell(**changes):
    whole = {"kind": "cell", "id": ID, "version": 0, "key": key(1), "verdict": "agree"}
    return {**whole, "said": said(1), **changes}


def test_a_change_as_json_has_it_is_read():
    change = parse_change(json.loads(json.dumps(cell(seconds=2.5))))
    assert (change.kind, change.verdict, change.seconds) == ("cell", "agree", 2.5)
    assert change.said.value().box == (100.0, 10.5, 140.0, 50.5)
    assert change.body() == {
        "key": "100.0_10.5_140.0_50.5",
        "verdict": "agree",
        "said": {"label": "HSIL", "score": 0.8, "box": [100.0, 10.5, 140.0, 50.5]},
    }


def test_what_is_null_is_kept_and_what_is_left_out_is_not():
    change = parse_change({"kind": "slide", "id": ID, "version": 3, "category": None})
    assert change.body() == {"category": None}


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        pytest.param([], "change", id="no mapping"),
        pytest.param({"kind": "drop"}, "drop", id="kind"),
        pytest.param(cell(id="../x"), "cell.id", id="id"),
        pytest.param(cell(id=ID + "\n"), "cell.id", id="id with a line break"),
        pytest.param(cell(id=ID.upper()), "cell.id", id="upper case"),
        pytest.param(cell(version=-1), "cell.version", id="version"),
        pytest.param(cell(seconds=math.inf), "cell.seconds", id="infinite"),
        pytest.param(cell(seconds=-1), "cell.seconds", id="negative time"),
        pytest.param(cell(seconds=90_000), "cell.seconds", id="more than a day"),
        pytest.param(cell(verdict="maybe"), "cell.verdict", id="verdict"),
        pytest.param(cell(key="../../etc"), "cell.key", id="key"),
        pytest.param(cell(key="k" * 101), "cell.key", id="long key"),
        pytest.param(cell(note="n" * 2001), "cell.note", id="long note"),
        pytest.param(cell(note="a\x00b"), "control characters", id="NUL"),
        pytest.param(cell(note="\ud800"), "cell.note", id="half a sign"),
        pytest.param(cell(label=""), "cell.label", id="no label"),
        pytest.param(cell(box=[0, 0, 0, 5]), "the box is empty", id="empty box"),
        pytest.param(cell(box=[0, 0, math.nan, 5]), "cell.box", id="no number"),
        pytest.param(cell(box=[0, 0, 1e12, 5]), "not a place", id="far away"),
        pytest.param(cell(box=[0, 0, 5]), "cell.box", id="three sides"),
        pytest.param(cell(said={**said(1), "score": 2}), "cell.said.score", id="score"),
        pytest.param(cell(admin=True), "cell.admin", id="unknown key"),
        pytest.param(
            {"kind": "slide", "id": ID, "version": 0, "comment": "c" * 10_001},
            "slide.comment",
            id="long comment",
        ),
        pytest.param(
            {"kind": "slide", "id": ID, "version": 0, "adequacy": "so-so"},
            "slide.adequacy",
            id="adequacy",
        ),
    ],
)
def test_what_is_none_is_refused_by_its_key(sent, told):
    with pytest.raises(ChangeError, match=told) as error:
        parse_change(sent)
    assert "\n" not in str(error.value)


def test_keys_stay_while_boxes_do():
    assert cell_key((1.04, 2.05, 3.96, -0.04)) == "1.0_2.0_4.0_0.0"
    assert cell_key((1234567.1, 0, 5, 6)) == "1234567.1_0.0_5.0_6.0"


def test_names_are_put_right():
    assert checked_name("  Dr.  Ana\tNuñez ") == "Dr. Ana Nuñez"
    assert checked_name("李雷") == "李雷"


@pytest.mark.parametrize("name", ["", " \n ", "x" * 101, "a\x1b[31m", "a\u202eb"])
def test_names_that_are_none_are_refused(name):
    with pytest.raises(ChangeError, match="the reader's name"):
        checked_name(name)

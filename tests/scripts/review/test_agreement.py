"""``cytolibra reviews agreement``: what is counted, what is told."""

import json

import pytest
from fakes import make_report
from reviewcases import Hand, added, box
from typer.testing import CliRunner

from pipeline.review.store import FILE, ReviewStore, SlideKey
from pipeline.review.store.ratings import IS_UNSURE, UNDECIDED, collect
from scripts.cli import build_app


def run(*words):
    return CliRunner().invoke(build_app("reviews"), ["reviews", "agreement", *map(str, words)])


def figures(folder, *words):
    result = run(folder, "--json", *words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def read(store, name, slide, verdicts, category=None, sign=True, report="HSIL"):
    hand = Hand(store, name, slide)
    for place, verdict in enumerate(verdicts):
        if verdict in {"agree", "reject", "unsure"}:
            hand.cell(place, verdict, report=report)
        elif verdict:
            hand.cell(place, "class", report=report, label=verdict)
    if category:
        hand.enter("slide", category=category, adequacy="satisfactory")
    if sign:
        hand.sign()
    return hand


@pytest.fixture
def slides():
    return [SlideKey(f"{number:064x}", f"slide-{number}") for number in range(3)]


@pytest.fixture
def reviewed(tmp_path, slides):
    """Two slides that both read; a third that Ben has not signed off."""
    with ReviewStore.open(tmp_path) as store:
        read(store, "Anna", slides[0], ["agree", "agree", "reject", "unsure", "agree"], "HSIL")
        read(store, "Ben", slides[0], ["agree", "LSIL", "reject", "agree", ""], "LSIL")
        read(store, "Anna", slides[1], ["agree", "reject"], "NILM")
        read(store, "Ben", slides[1], ["agree", "agree"], "unsatisfactory")
        read(store, "Anna", slides[2], ["agree"] * 9)
        read(store, "Ben", slides[2], ["reject"] * 9, sign=False)
    return tmp_path


def test_calls_of_cells_are_what_both_decided(reviewed, slides):
    with ReviewStore.open(reviewed, read_only=True) as store:
        cells, category, adequacy = collect(store)
    assert [reader.name for reader in cells.readers] == ["Anna", "Ben"]
    assert cells.categories == ("HSIL", "LSIL", "no cell")
    assert cells.calls.tolist() == [
        [0, 0], [0, 1], [2, 2], [IS_UNSURE, 0], [0, UNDECIDED], [0, 0], [2, 0]
    ]  # fmt: skip
    assert cells.slides == (slides[0].identity,) * 5 + (slides[1].identity,) * 2
    assert category.calls.tolist() == [[0, 1], [2, 3]]
    assert adequacy.calls.tolist() == [[0, 0], [0, 0]]


def test_a_cell_that_one_drew_where_the_other_read_all_is_none_of_his(tmp_path, slides):
    with ReviewStore.open(tmp_path) as store:
        anna, ben = Hand(store, "Anna", slides[0]), Hand(store, "Ben", slides[0])
        anna.draw(1, box(1), label="SCC")
        anna.draw(2, box(90), label="SCC")
        ben.enter("region", key="r", box=(0, 0, 1000, 1000))
        anna.sign()
        ben.sign()
        cells = collect(store)[0]
    assert [[cells.categories[c] if c >= 0 else c for c in row] for row in cells.calls] == [
        ["SCC", "no cell"], ["SCC", UNDECIDED]
    ]  # fmt: skip
    assert added(1) < added(2)


def test_figures_of_two_readers(reviewed):
    found = figures(reviewed, "--rounds", 200)
    assert (found["level"], found["rounds"], found["unsigned"]) == (0.95, 200, False)
    cells, category, adequacy = found["agreement"]
    assert cells["readers"] == ["Anna", "Ben"]
    assert (cells["slides"], cells["both"], cells["one_only"], cells["unsure"], cells["equal"]) == (
        2, 5, 1, 1, 3,
    )  # fmt: skip
    # By hand: HSIL 3 and 3, LSIL 0 and 1, no cell 2 and 1 of 5.
    expected = (3 * 3 + 2 * 1) / 25
    assert cells["kappa"]["value"] == pytest.approx((0.6 - expected) / (1 - expected))
    assert cells["scale"][:2] == ["no cell", "NILM"]
    # On the scale HSIL is 6, LSIL 3 and no cell 0.
    apart = (3 + 6) / 5
    by_chance = (3 * (1 * 3 + 1 * 6) + 2 * (3 * 6 + 1 * 3)) / 25
    assert cells["weighted"]["value"] == pytest.approx(1 - apart / by_chance)
    assert (category["both"], category["equal"], category["weighted"]["subjects"]) == (2, 0, 1)
    assert adequacy["kappa"]["value"] is None
    assert adequacy["kappa"]["undefined"] == "both readers put all into one category"
    assert adequacy["weighted"] is None


def test_readings_that_are_not_signed_off_count_when_asked(reviewed):
    cells = figures(reviewed, "--unsigned", "--rounds", 200)["agreement"][0]
    assert (cells["slides"], cells["both"]) == (3, 14)


def test_of_three_readers_all_are_told_too(tmp_path, slides):
    with ReviewStore.open(tmp_path) as store:
        for name, verdicts in (
            ("Anna", ["agree", "reject", "agree"]),
            ("Ben", ["agree", "reject", ""]),
            ("Chi", ["agree", "agree", "agree"]),
        ):
            read(store, name, slides[0], verdicts)
    rows = [r for r in figures(tmp_path, "--rounds", 200)["agreement"] if r["subject"] == "cells"]
    assert [row["readers"] for row in rows] == [
        ["Anna", "Ben"], ["Anna", "Chi"], ["Ben", "Chi"], ["Anna", "Ben", "Chi"]
    ]  # fmt: skip
    last = rows[-1]
    assert (last["measure"], last["both"], last["equal"], last["weighted"]) == (
        "fleiss",
        3,
        2,
        None,
    )
    # By hand: pairs agree by 1, 1/3 and 1; 6 of 8 judgements are HSIL.
    expected = (6 / 8) ** 2 + (2 / 8) ** 2
    assert last["kappa"]["value"] == pytest.approx((7 / 9 - expected) / (1 - expected))


def test_classes_of_no_system_are_ordered_as_the_model_has_them(tmp_path, slides):
    with ReviewStore.open(tmp_path) as store:
        read(store, "Anna", slides[0], ["good", "bad", "worse"], report="bad")
        read(store, "Ben", slides[0], ["good", "worse", "worse"], report="bad")
    cells = figures(tmp_path, "--rounds", 200)["agreement"][0]
    assert (cells["weighted"], cells["scale"]) == (None, [])
    report = make_report().model_dump(mode="json")
    report["model"]["classes"] = [
        {"name": name, "abnormal": name != "good"} for name in ("good", "bad", "worse")
    ]
    report["model"]["threshold"] = dict.fromkeys(("good", "bad", "worse"), 0.5)
    report["counts"] = dict.fromkeys(("good", "bad", "worse"), 0)
    (tmp_path / "slide-1").mkdir()
    (tmp_path / "slide-1" / "report.json").write_text(json.dumps(report))
    cells = figures(tmp_path, "--rounds", 200)["agreement"][0]
    assert cells["scale"] == ["no cell", "good", "bad", "worse"]


def test_the_table_tells_all_and_what_to_know_of_it(reviewed):
    result = run(reviewed, "--rounds", 200)
    assert result.exit_code == 0
    for told in (
        "Anna, Ben ",
        "decided by both",
        "intervals of fewer than 20 slides tend to be too narrow",
        "category, Anna, Ben: 1 of 2 are off the scale and left out of the weighted kappa",
        "adequacy, Anna, Ben: kappa is undefined: both readers put all into one category",
    ):
        assert told in result.output


def test_it_writes_nothing(reviewed):
    before = {path.name: path.read_bytes() for path in reviewed.iterdir()}
    run(reviewed, "--rounds", 200)
    assert {path.name: path.read_bytes() for path in reviewed.iterdir()} == before


@pytest.mark.parametrize("what", ["gone", "none", "damaged", "alone"])
def test_bad_input_is_told_in_a_line(tmp_path, slides, what):
    if what == "damaged":
        (tmp_path / FILE).write_bytes(b"x" * 5000)
    elif what == "alone":
        with ReviewStore.open(tmp_path) as store:
            read(store, "Anna", slides[0], ["agree"])
            read(store, "Ben", slides[0], ["agree"], sign=False)
    result = run(tmp_path / "gone" if what == "gone" else tmp_path)
    code, told = {
        "gone": (2, "there is no such folder"),
        "none": (2, f"as there is no {FILE}"),
        "damaged": (1, "it is damaged; it is left as it is"),
        "alone": (1, "no slide was read and signed off by two readers"),
    }[what]
    assert result.exit_code == code
    assert told in result.output
    assert result.output.startswith("error: ")
    assert result.output.count("\n") == 1

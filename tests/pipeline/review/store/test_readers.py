"""Several readers of one slide: blind, compared when all have signed off, adjudicated, agreed."""

import numpy as np
import pytest
from reviewcases import OTHER, SLIDE, Hand, added, box, key, said

from data.boxes import box_iou
from pipeline.review.store import ChangeError, ReviewStore, cell_key
from pipeline.review.store.places import overlaps
from pipeline.review.store.ratings import collect


@pytest.fixture
def hands(store):
    return [Hand(store, name) for name in ("Anna", "Ben", "Chi")]


def about(differences):
    return [(one.subject, one.key, [view.call for view in one.views]) for one in differences]


def shifted(place, right):
    left, top, r, bottom = box(place)
    return (left + right, top, r + right, bottom)


def anew(hand, place, verdict="agree", label="HSIL", right=1.0, **more):
    """Decides about a cell as a later report has it, some pixels further right."""
    where = shifted(place, right)
    told = {"label": label, "score": 0.7, "box": where}
    return hand.enter("cell", key=cell_key(where), verdict=verdict, said=told, **more)


def test_differences_are_of_cells_that_two_decided_otherwise_and_of_the_slide(store, hands):
    anna, ben, _ = hands
    for hand, verdicts in ((anna, ("agree", "agree", "reject", "unsure", "agree")),
                           (ben, ("agree", "reject", "reject", "agree", "none"))):  # fmt: skip
        for place, verdict in enumerate(verdicts):
            hand.cell(place, verdict)
    anna.enter("slide", category="HSIL", adequacy="satisfactory")
    ben.enter("slide", category="LSIL")
    anna.sign()
    assert store.differences(SLIDE) == []
    ben.sign()
    assert about(store.differences(SLIDE)) == [
        ("slide", "", ["HSIL", "LSIL"]),
        ("cell", key(1), ["HSIL", "no cell"]),
        ("cell", key(3), ["unsure", "HSIL"]),
    ]
    first = store.differences(SLIDE)[1]
    assert first.box == box(1)
    assert first.views[1].cell.verdict == "reject"
    assert [view.reader.name for view in first.views] == ["Anna", "Ben"]


def test_one_class_by_two_ways_is_no_difference(store, hands):
    anna, ben, _ = hands
    anna.cell(1, "agree")
    ben.cell(1, "class", report="LSIL", label="HSIL")
    anna.sign()
    ben.sign()
    assert store.differences(SLIDE) == []


def test_drawn_cells_are_one_from_an_iou_of_a_half(store, hands):
    anna, ben, _ = hands
    anna.draw(1, (0, 0, 100, 100))
    ben.draw(2, (0, 0, 100, 51), label="LSIL")  # IoU 0.51: one cell, two classes
    anna.draw(3, (1000, 0, 1100, 100))
    ben.draw(4, (1000, 0, 1100, 49))  # IoU 0.49: two cells; nobody says that the other is none
    anna.sign()
    ben.sign()
    assert about(store.differences(SLIDE)) == [("cell", added(1), ["HSIL", "LSIL"])]


def test_the_best_pairs_of_drawn_cells_come_first(store, hands):
    anna, ben, _ = hands
    anna.draw(1, (0, 0, 100, 100))
    anna.draw(2, (0, 20, 100, 120), label="LSIL")
    ben.draw(3, (0, 18, 100, 118), label="LSIL")
    ben.draw(4, (0, 0, 100, 90))
    anna.sign()
    ben.sign()
    assert store.differences(SLIDE) == []
    cells = store.consensus(SLIDE).cells
    assert {cell.key: cell.box for cell in cells.values()} == {
        added(1): (0, 0, 100, 95),
        added(2): (0, 19, 100, 119),
    }


def test_a_drawn_cell_may_be_one_of_the_report(store, hands):
    anna, ben, _ = hands
    x0, y0, x1, y1 = box(1)
    anna.draw(1, (x0, y0, x1, y1 - 5), label="LSIL")
    ben.cell(1)
    anna.sign()
    ben.sign()
    assert about(store.differences(SLIDE)) == [("cell", key(1), ["LSIL", "HSIL"])]


def test_findings_of_two_reports_at_one_place_are_one_cell(store, hands):
    anna, ben, chi = hands
    anna.cell(1)
    anna.cell(2)
    anna.cell(3)
    anna.sign()
    anew(ben, 1, "reject", label="LSIL")
    anew(ben, 2, right=2)
    anew(ben, 3, right=25)  # IoU 0.23
    ben.sign()
    now = cell_key(shifted(1, 1))
    assert about(store.differences(SLIDE)) == [("cell", now, ["HSIL", "no cell"])]
    assert (collect(store)[0].calls >= 0).sum(axis=1).tolist() == [2, 2, 1, 1]
    chi.cell(1, round="adjudication")  # under the key of the earlier report
    chi.sign(round="adjudication")
    held = store.consensus(SLIDE).cells
    two = held[cell_key(shifted(2, 2))]
    assert (two.box, two.said.box) == (shifted(2, 1), shifted(2, 2))
    assert {k: cell.call for k, cell in held.items()} == {
        key(1): "HSIL", two.key: "HSIL", key(3): "HSIL", cell_key(shifted(3, 25)): "HSIL"
    }  # fmt: skip


def test_of_one_readers_decisions_about_one_place_the_later_is_compared(store, hands):
    anna, ben, _ = hands
    anna.cell(1)
    anew(anna, 1, "reject")
    anna.sign()
    ben.cell(1)
    ben.sign()
    assert [calls for _, _, calls in about(store.differences(SLIDE))] == [["no cell", "HSIL"]]


def test_two_findings_that_one_reader_decided_both_stay_two(store, hands):
    # A report may have one of each class at one place.
    anna, ben, chi = hands
    for hand in (anna, ben):
        hand.cell(1)
        anew(hand, 1, "reject", label="LSIL")
        hand.sign()
    chi.cell(1)
    chi.sign()
    assert store.differences(SLIDE) == []
    calls = {k: cell.call for k, cell in store.consensus(SLIDE).cells.items()}
    assert calls == {key(1): "HSIL", cell_key(shifted(1, 1)): "no cell"}


@pytest.mark.filterwarnings("error")
def test_boxes_overlap_as_all_pairs_say():
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 40, (60, 2))
    boxes = np.hstack([corner, corner + rng.integers(0, 20, (60, 2))]).astype(float)
    boxes[:2] = (0, 0, 10, 10), (0, 0, 10, 5)  # an IoU of 0.5
    boxes[2:4, 2] = np.inf, np.nan
    one, other = overlaps(boxes, boxes[:40])
    boxes[2:4] = 0
    iou = box_iou(boxes, boxes[:40])
    found = list(zip(one.tolist(), other.tolist(), strict=True))
    assert (0, 1) in found
    assert sorted(found) == [tuple(pair) for pair in np.argwhere(iou >= 0.5).tolist()]
    assert (np.diff(iou[one, other]) <= 0).all()


def test_silence_says_no_cell_where_all_was_read(store, hands):
    anna, ben, _ = hands
    anna.draw(1, (100, 100, 200, 200))
    anna.draw(2, (5000, 100, 5100, 200))
    ben.enter("region", key="r", box=(0, 0, 1000, 1000))
    anna.sign()
    ben.sign()
    assert about(store.differences(SLIDE)) == [("cell", added(1), ["HSIL", None])]


def test_boxes_that_were_moved_apart_differ(store, hands):
    anna, ben, _ = hands
    anna.cell(1)
    ben.cell(1, box=(500, 500, 540, 540))
    anna.sign()
    ben.sign()
    assert about(store.differences(SLIDE)) == [("cell", key(1), ["HSIL", "HSIL"])]


def test_a_second_reading_stays_blind(store, hands):
    anna, ben, chi = hands
    anna.cell(1)
    anna.sign()
    assert anna.enter("sign", signed=False).decision.signed is None
    anna.sign()
    ben.cell(1, "reject")
    assert not store.state(SLIDE).is_open
    ben.sign()
    assert store.state(SLIDE).is_open
    assert store.state(SLIDE).state == "differs"
    for hand, kind, content in ((anna, "sign", {"signed": False}), (ben, "undo", {})):
        with pytest.raises(ChangeError, match="the signature stays"):
            hand.enter(kind, **content)
    chi.cell(2)
    assert not store.state(SLIDE).is_open
    with pytest.raises(ChangeError, match="the signature stays"):
        anna.enter("undo")
    chi.enter("undo")
    assert store.state(SLIDE).is_open


def test_a_redo_can_take_a_signature_back_no_more_than_a_change(store, hands):
    anna, ben, _ = hands
    anna.cell(1)
    anna.sign()
    anna.enter("sign", signed=False)
    anna.enter("undo")  # signed again, and a redo would take it back
    ben.cell(1)
    ben.sign()
    with pytest.raises(ChangeError, match="the signature stays"):
        anna.enter("redo")


def test_adjudication_waits_and_is_one_readers(store, hands):
    anna, ben, chi = hands
    anna.cell(1)
    anna.sign()
    with pytest.raises(ChangeError, match="1 of the two readings"):
        chi.cell(1, round="adjudication")
    ben.cell(1, "reject")
    ben.sign()
    chi.cell(2)
    with pytest.raises(ChangeError, match="1 still read it"):
        anna.cell(1, round="adjudication")
    chi.enter("undo")
    chi.cell(1, "unsure", round="adjudication")
    with pytest.raises(ChangeError, match="Chi adjudicates it"):
        anna.cell(1, round="adjudication")
    with pytest.raises(ChangeError, match="would not be blind"):
        chi.cell(1)
    chi.enter("undo", round="adjudication")
    with pytest.raises(ChangeError, match="would not be blind"):
        chi.cell(1)
    assert anna.cell(1, round="adjudication").round == "adjudication"


def test_who_has_looked_at_differences_begins_no_reading_of_that_slide(tmp_path):
    for _ in range(2):
        with ReviewStore.open(tmp_path) as store:
            anna, ben = Hand(store, "Anna"), Hand(store, "Ben")
            store.look(SLIDE, ben.reader)
            assert store.has_looked(SLIDE, ben.reader)
            with pytest.raises(ChangeError, match="Ben has looked at its differences and knows"):
                ben.cell(1)
            anna.cell(1)
            Hand(store, "Ben", OTHER).cell(1)


def test_an_adjudication_is_signed_when_all_is_decided(store, hands):
    anna, ben, chi = hands
    anna.cell(1)
    ben.cell(1, "reject")
    anna.cell(2)
    ben.cell(2)
    anna.draw(1, (900, 900, 1000, 1000))
    ben.enter("region", key="r", box=(800, 800, 1100, 1100))
    anna.enter("region", key="s", box=(0, 0, 1000, 1050))
    anna.enter("slide", category="HSIL", comment="clear")
    ben.enter("slide", category="NILM", adequacy="satisfactory", comment="few")
    anna.sign()
    ben.sign()
    assert store.consensus(SLIDE) is None
    left = [
        ("its category", "3 of 3"),
        (f"cell {key(1)}", "2 of 3"),
        (f"cell {added(1)}", "1 of 3"),
    ]
    decided = [
        ("slide", {"category": "HSIL"}),
        ("cell", {"key": key(1), "verdict": "class", "label": "LSIL", "said": said(1)}),
        ("cell", {"key": added(1), "verdict": "reject", "box": (900, 900, 1000, 1000)}),
    ]
    for (first, count), (kind, content) in zip(left, decided, strict=True):
        with pytest.raises(ChangeError, match=f"{count} differences are left to decide, {first}"):
            chi.sign(round="adjudication")
        chi.enter(kind, round="adjudication", **content)
    chi.sign(round="adjudication")
    assert store.state(SLIDE).state == "adjudicated"
    held = store.consensus(SLIDE)
    assert held.round == "adjudication"
    assert {k: cell.call for k, cell in held.cells.items()} == {
        key(1): "LSIL", key(2): "HSIL", added(1): "no cell"
    }  # fmt: skip
    assert (held.decision.category, held.decision.adequacy) == ("HSIL", "satisfactory")
    assert held.decision.comment == "clear\nfew"
    assert {mark.box for mark in held.regions.values()} == {(800, 800, 1000, 1050)}
    assert store.differences(SLIDE)[0].subject == "slide"


def test_undoing_the_last_word_of_a_signed_adjudication_opens_it_again(store, hands):
    anna, ben, chi = hands
    anna.cell(1)
    ben.cell(1, "reject")
    anna.sign()
    ben.sign()
    chi.cell(1, round="adjudication")
    chi.sign(round="adjudication")
    chi.enter("undo", round="adjudication")
    assert store.state(SLIDE).state == "differs"
    assert store.consensus(SLIDE) is None


def test_a_reading_after_an_adjudication_opens_what_it_differs_in(store, hands):
    anna, ben, chi = hands
    for hand, verdict in ((anna, "agree"), (ben, "reject")):
        hand.cell(1, verdict)
        hand.cell(2)
        hand.enter("slide", category="HSIL")
        hand.sign()
    chi.cell(1, round="adjudication")
    chi.sign(round="adjudication")
    dan = Hand(store, "Dan")
    dan.cell(1, "unsure")  # decided before: the adjudicator's word holds
    dan.cell(2, "reject")
    dan.enter("slide", category="NILM")
    assert (store.state(SLIDE).state, len(store.consensus(SLIDE).cells)) == ("adjudicated", 2)
    dan.sign()
    assert (store.state(SLIDE).state, store.consensus(SLIDE)) == ("differs", None)
    chi.enter("sign", round="adjudication", signed=False)
    chi.enter("slide", round="adjudication", category="HSIL")
    with pytest.raises(ChangeError, match=f"1 of 3 differences are left to decide, cell {key(2)}"):
        chi.sign(round="adjudication")
    chi.cell(2, round="adjudication")
    chi.sign(round="adjudication")
    assert store.state(SLIDE).state == "adjudicated"
    held = store.consensus(SLIDE)
    assert held.decision.category == "HSIL"
    assert {k: cell.call for k, cell in held.cells.items()} == {key(1): "HSIL", key(2): "HSIL"}


def test_a_reading_after_an_adjudication_that_differs_in_nothing_else_changes_nothing(store, hands):
    anna, ben, chi = hands
    for hand, verdict in ((anna, "agree"), (ben, "reject")):
        hand.cell(1, verdict)
        hand.sign()
    chi.cell(1, round="adjudication")
    chi.sign(round="adjudication")
    dan = Hand(store, "Dan")
    dan.cell(1, "unsure")
    dan.cell(3)
    dan.sign()
    assert store.state(SLIDE).state == "adjudicated"
    calls = {k: cell.call for k, cell in store.consensus(SLIDE).cells.items()}
    assert calls == {key(1): "HSIL", key(3): "HSIL"}


def test_the_consensus_follows_its_rule(store, hands):
    anna, ben, _ = hands
    assert store.consensus(SLIDE) is None
    anna.cell(1)
    anna.cell(2)
    alone = store.consensus(SLIDE)
    assert (alone.reader.name, len(alone.cells), alone.signed) == ("consensus", 2, False)
    ben.cell(1)
    assert store.consensus(SLIDE) is None
    anna.sign()
    assert store.consensus(SLIDE).signed
    assert len(store.consensus(SLIDE).cells) == 2
    ben.cell(3, "reject", note="a fold")
    ben.sign()
    held = store.consensus(SLIDE)
    assert {k: cell.call for k, cell in held.cells.items()} == {
        key(1): "HSIL", key(2): "HSIL", key(3): "no cell"
    }  # fmt: skip
    assert held.cells[key(3)].note == "a fold"
    assert store.state(SLIDE).state == "signed"


def test_slides_don_t_mix(store, hands):
    anna, _, _ = hands
    anna.cell(1)
    anna.sign()
    far = Hand(store, "Ben", OTHER)
    far.cell(1, "reject")
    far.sign()
    assert store.differences(SLIDE) == store.differences(OTHER) == []
    assert store.consensus(OTHER).cells[key(1)].call == "no cell"

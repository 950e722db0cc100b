"""Decisions as a page makes them: what stands, what is refused, what two windows see."""

import pytest
from reviewcases import OTHER, SLIDE, Hand, added, box, key, new_id, said

from pipeline.review.store import (
    ChangeError,
    Reader,
    ReviewStore,
    SlideKey,
    StaleError,
    StoreError,
    TaskField,
    parse_change,
)


@pytest.fixture
def anna(store):
    return Hand(store, "Anna")


def test_a_decision_says_who_when_on_what_and_what_was_said_before(store, anna):
    reading = anna.cell(1, "class", label="LSIL", note="koilocytes", seconds=2.5)
    cell = reading.cells[key(1)]
    assert (cell.verdict, cell.label, cell.note) == ("class", "LSIL", "koilocytes")
    assert (cell.said.label, cell.said.score, cell.said.box) == ("HSIL", 0.8, box(1))
    assert (cell.box, cell.seconds, cell.entry) == (box(1), 2.5, 1)
    assert cell.at.endswith("+00:00")
    assert (reading.version, reading.can_undo, reading.can_redo) == (1, True, False)
    (entry,) = store.history()
    assert (entry.reader, entry.slide, entry.kind) == (anna.reader, SLIDE, "cell")
    assert entry.body["said"]["score"] == 0.8


def test_what_a_change_leaves_out_stays(anna):
    anna.cell(1, "class", label="LSIL", note="why", box=(1, 2, 30, 40))
    reading = anna.enter("cell", key=key(1), verdict="class")
    cell = reading.cells[key(1)]
    assert (cell.label, cell.note, cell.box) == ("LSIL", "why", (1.0, 2.0, 30.0, 40.0))
    assert cell.said.box == box(1)
    agreed = anna.enter("cell", key=key(1), verdict="agree", note="").cells[key(1)]
    assert (agreed.label, agreed.note, agreed.call) == ("HSIL", "", "HSIL")
    assert anna.enter("cell", key=key(1), verdict="reject").cells[key(1)].call == "no cell"
    assert anna.enter("cell", key=key(1), verdict="unsure").cells[key(1)].call == "unsure"
    undecided = anna.enter("cell", key=key(1), verdict="none")
    assert (undecided.cells[key(1)].call, undecided.decided) == (None, 0)


def test_undo_and_redo_are_entries_too(store, anna):
    anna.cell(1)
    anna.cell(1, "reject")
    anna.enter("region", key="r1", box=(0, 0, 500, 500), note="all of it")
    anna.enter("slide", category="HSIL", adequacy="satisfactory", comment="clear")
    undone = anna.enter("undo")
    assert undone.decision.category is None
    assert anna.enter("undo").regions == {}
    assert anna.enter("undo").cells[key(1)].verdict == "agree"
    empty = anna.enter("undo")
    assert (dict(empty.cells), empty.can_undo, empty.can_redo) == ({}, False, True)
    with pytest.raises(ChangeError, match="nothing to undo"):
        anna.enter("undo")
    for _ in range(4):
        again = anna.enter("redo")
    assert again.cells[key(1)].verdict == "reject"
    assert again.regions["r1"].note == "all of it"
    assert (again.decision.category, again.decision.comment) == ("HSIL", "clear")
    assert (again.version, again.can_redo) == (12, False)
    anna.enter("undo")
    anna.cell(2)
    with pytest.raises(ChangeError, match="nothing to redo"):
        anna.enter("redo")
    entries = list(store.history(SLIDE, anna.reader))
    assert [entry.target for entry in entries[4:9]] == [4, 3, 2, 1, 1]
    assert len(entries) == 14


def test_a_drawn_cell_is_moved_and_taken_away(anna):
    anna.draw(1, (10, 10, 50, 50), label="LSIL")
    moved = anna.enter("cell", key=added(1), verdict="added", box=(12, 10, 60, 50)).cells[added(1)]
    assert (moved.box, moved.label, moved.said) == ((12.0, 10.0, 60.0, 50.0), "LSIL", None)
    gone = anna.enter("cell", key=added(1), verdict="removed")
    assert (gone.cells[added(1)].verdict, gone.decided) == ("removed", 0)
    with pytest.raises(ChangeError, match="nothing to remove"):
        anna.enter("cell", key=added(1), verdict="removed")
    assert anna.enter("undo").cells[added(1)].call == "LSIL"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"key": key(1), "verdict": "agree"}, "what the report said"),
        ({"key": key(1), "verdict": "agree", "said": said(2)}, "another cell's"),
        ({"key": "one", "verdict": "agree", "said": said(1)}, "another cell's"),
        ({"key": key(1), "verdict": "class", "said": said(1)}, "which class"),
        ({"key": key(1), "verdict": "agree", "said": said(1), "label": "SCC"}, "SCC is a class"),
        ({"key": key(1), "verdict": "reject", "said": said(1), "label": "SCC"}, "has no class"),
        ({"key": key(1), "verdict": "added", "said": said(1)}, "only a cell that a reader"),
        ({"key": added(1), "verdict": "agree"}, "one of added, removed"),
        ({"key": added(1), "verdict": "added", "label": "SCC"}, "box is missing"),
        ({"key": added(1), "verdict": "added", "box": box(1)}, "which class"),
        ({"key": added(1), "verdict": "removed", "box": box(1)}, "nothing to remove"),
        ({"key": added(1), "verdict": "added", "said": said(1)}, "says nothing"),
    ],
)
def test_a_decision_that_contradicts_itself_is_refused(anna, content, told):
    with pytest.raises(ChangeError, match=told) as error:
        anna.enter("cell", **content)
    assert str(error.value).startswith("slide-1, cell ")
    assert anna.reading().version == 0


def test_other_changes_that_say_nothing_are_refused(anna):
    with pytest.raises(ChangeError, match="region r1 is not marked"):
        anna.enter("region", key="r1")
    with pytest.raises(ChangeError, match="names nothing"):
        anna.enter("slide")
    with pytest.raises(ChangeError, match="not signed off"):
        anna.enter("sign", signed=False)


def test_what_is_signed_off_stays_until_the_signature_is_taken_back(anna):
    anna.cell(1)
    signed = anna.sign()
    assert signed.decision.signed is not None
    for kind, content in (
        ("cell", {"key": key(1), "verdict": "reject"}),
        ("region", {"key": "r", "box": box(1)}),
        ("slide", {"category": "NILM"}),
        ("sign", {"signed": True}),
    ):
        with pytest.raises(ChangeError, match="signed off"):
            anna.enter(kind, **content)
    assert anna.enter("sign", signed=False).decision.signed is None
    assert anna.cell(1, "reject").cells[key(1)].verdict == "reject"
    anna.sign()
    assert anna.enter("undo").decision.signed is None


def test_the_same_change_sent_again_changes_nothing(store, anna):
    whole = {"kind": "cell", "id": new_id(), "version": 0, "key": key(1), "verdict": "agree"}
    change = parse_change({**whole, "said": said(1)})
    first = store.apply(SLIDE, anna.reader, change)
    anna.cell(2)
    again = store.apply(SLIDE, anna.reader, change)
    assert (first.version, again.version, len(again.cells)) == (1, 2, 2)
    assert len(list(store.history())) == 2


def test_an_id_is_good_for_one_change(store, anna):
    whole = {"kind": "slide", "id": new_id(), "version": 0, "category": "NILM"}
    store.apply(SLIDE, anna.reader, parse_change(whole))
    ben = store.reader("Ben")
    for slide, reader, sent in (
        (SLIDE, anna.reader, {**whole, "category": "HSIL"}),
        (SLIDE, anna.reader, {**whole, "version": 1}),
        (OTHER, anna.reader, whole),
        (SLIDE, ben, whole),
    ):
        with pytest.raises(ChangeError, match="was used for another change"):
            store.apply(slide, reader, parse_change(sent))


def test_of_two_windows_the_second_is_told_and_shown_what_stands(tmp_path, store):
    with ReviewStore.open(tmp_path) as elsewhere:
        here, there = Hand(store, "Anna"), Hand(elsewhere, "Anna")
        here.cell(1)
        there.cell(1, "reject")
        late = {"kind": "cell", "id": new_id(), "version": 1, "key": key(1), "verdict": "unsure"}
        with pytest.raises(StaleError, match="changed in another window") as error:
            store.apply(SLIDE, here.reader, parse_change(late))
        assert error.value.current.version == 2
        assert error.value.current.cells[key(1)].verdict == "reject"
        ahead = parse_change({**late, "version": 3})
        with pytest.raises(StaleError):
            store.apply(SLIDE, here.reader, ahead)
        assert here.reading().version == 2


def test_readers_slides_and_rounds_don_t_meet(store, anna):
    ben = Hand(store, "Ben")
    anna.cell(1)
    assert ben.reading().cells == {}
    ben.cell(1, "reject")
    Hand(store, "Anna", OTHER).cell(2)
    assert anna.reading().version == ben.reading().version == 1
    assert [one.reader.name for one in store.readings(SLIDE)] == ["Anna", "Ben"]
    assert store.slides() == [SLIDE, OTHER]


def test_slides_are_told_apart_by_content_and_by_name_only_without(store, anna):
    anna.cell(1)
    moved = SlideKey(SLIDE.sha256, "moved/elsewhere")
    assert store.reading(moved, anna.reader).version == 1
    assert store.reading(moved, anna.reader).slide.name == "moved/elsewhere"
    assert moved in store.states()
    assert store.reading(SlideKey("", "slide-1"), anna.reader).version == 0
    assert SlideKey("", "a") != SlideKey("", "b")


@pytest.mark.parametrize("sha256", ["7" * 64, ""])
def test_a_name_whose_bytes_are_no_text_is_kept_with_escapes(store, sha256):
    slide = SlideKey(sha256, "day/\udcb2\udce2.svs")
    hand = Hand(store, "Anna", slide)
    hand.cell(1)
    hand.sign()
    assert hand.reading().decided == store.consensus(slide).decided == 1
    assert store.state(slide).state == "signed"
    (kept,) = store.slides()
    assert (kept, kept.name) == (slide, "day/\\udcb2\\udce2.svs")
    assert store.add_tasks([TaskField(slide, box(1), "unsure", 1.0)]) == 1
    assert [task.slide for task in store.tasks()] == [slide]


def test_names_are_the_same_in_upper_and_lower_case(store):
    anna = store.reader("Anna Groß")
    assert store.reader("ANNA GROSS") == store.reader(" anna  groß ") == anna
    assert store.readers() == [anna]


def test_what_is_entered_is_there_when_it_is_opened_again(tmp_path):
    with ReviewStore.open(tmp_path) as store:
        hand = Hand(store, "Anna")
        hand.cell(1)
        hand.draw(1, (900, 900, 950, 950))
        before = hand.sign()
    with ReviewStore.open(tmp_path) as store:
        after = Hand(store, "Anna").reading()
        assert after == before


def test_states_are_what_folding_all_entries_gives(tmp_path, store):
    for name, places in (("Anna", 3), ("Ben", 2)):
        hand = Hand(store, name)
        for place in range(places):
            hand.cell(place, seconds=2)
        hand.cell(0, "none")
        hand.enter("slide", category="HSIL", adequacy="satisfactory")
    Hand(store, "Ben").sign()
    Hand(store, "Anna", OTHER).cell(1)
    Hand(store, "Anna", OTHER).enter("undo")
    states = store.states()
    assert set(states) == {SLIDE, OTHER}
    for slide, state in states.items():
        for head in state.heads:
            reading = store.reading(slide, head.reader, head.round)
            assert (head.version, head.decided, head.signed, head.begun, head.seconds) == (
                reading.version,
                reading.decided,
                reading.decision.signed,
                reading.can_undo,
                reading.seconds,
            )
            assert (head.category, head.adequacy) == (
                reading.decision.category,
                reading.decision.adequacy,
            )
    assert (states[SLIDE].state, states[SLIDE].decided) == ("begun", 2)
    assert states[OTHER].state == "unread"
    assert store.readings(OTHER) == []
    assert store.states() is states
    with ReviewStore.open(tmp_path) as other:
        assert other.states() == states
        Hand(other, "Anna", OTHER).cell(1)
    assert store.states()[OTHER].state == "begun"


def test_history_gives_every_entry_in_order(store, monkeypatch):
    anna, ben, far = Hand(store, "Anna"), Hand(store, "Ben"), Hand(store, "Anna", OTHER)
    for place in range(1, 1201):
        anna.enter("slide", category=f"c{place}")
    ben.cell(1)
    far.cell(1)
    assert [entry.id for entry in store.history()] == list(range(1, 1203))
    assert [entry.reader.name for entry in store.history(SLIDE)][-2:] == ["Anna", "Ben"]
    assert [entry.id for entry in store.history(reader=ben.reader)] == [1201]
    assert [entry.id for entry in store.history(OTHER, anna.reader)] == [1202]


def test_tasks_are_kept_once_and_done_when_a_region_covers_them(store, anna):
    fields = [
        TaskField(SLIDE, (0, 0, 500, 500), "uncertain: 4 cells", 0.9),
        TaskField(OTHER, (100, 100, 600, 600), "unlike others", 0.7),
    ]
    assert store.add_tasks(fields) == 2
    assert store.add_tasks([fields[1], TaskField(OTHER, (0, 0, 9, 9), "", 0.1)]) == 1
    anna.enter("region", key="r", box=(0.4, 0, 500, 499.6))
    Hand(store, "Ben", OTHER).enter("region", key="r", box=(100, 100, 600, 590))
    tasks = store.tasks()
    assert [(t.slide, t.order, t.done) for t in tasks] == [
        (SLIDE, 0, True), (OTHER, 1, False), (OTHER, 2, False)
    ]  # fmt: skip
    assert (tasks[0].box, tasks[0].reason, tasks[0].score) == (
        (0, 0, 500, 500),
        fields[0].reason,
        0.9,
    )
    anna.enter("undo")
    assert not store.tasks()[0].done
    assert store.add_tasks(fields[:1], replace=True) == 1
    assert [task.slide for task in store.tasks()] == [SLIDE]
    assert store.slides() == [SLIDE, OTHER]
    anna.enter("redo")
    more = [TaskField(OTHER, (0, 0, 7, 7), "", 0.2)]
    assert store.add_tasks(more, replace=True) == 1  # what is done stays
    assert [(t.slide, t.done) for t in store.tasks()] == [(SLIDE, True), (OTHER, False)]
    assert store.add_tasks([], replace=True) == 0
    assert [t.slide for t in store.tasks()] == [SLIDE]


def test_an_empty_task_is_refused_and_none_is_kept(store):
    good = TaskField(SLIDE, (0, 0, 5, 5), "", 0.5)
    with pytest.raises(ChangeError, match="the field of slide-2 is no box"):
        store.add_tasks([good, TaskField(OTHER, (5, 0, 5, 5), "", 0.5)])
    assert store.tasks() == []


def test_a_reader_of_another_folder_is_told(store):
    stranger = Reader(77, "Zoe")
    change = parse_change({"kind": "slide", "id": new_id(), "version": 0, "category": "NILM"})
    with pytest.raises(ChangeError, match="Zoe is no reader of this folder"):
        store.apply(SLIDE, stranger, change)
    assert store.slides() == []


def test_a_closed_store_says_so(tmp_path):
    store = ReviewStore.open(tmp_path)
    store.close()
    store.close()
    with pytest.raises(StoreError):
        store.readers()

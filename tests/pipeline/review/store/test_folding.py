"""The kept fold against a slow one that folds what stands anew after each entry."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reviewcases import SLIDE, added, box, key, said

from pipeline.review.store import CellDecision, Reader, RegionMark, Said, SlideDecision
from pipeline.review.store.folding import Entry, Fold

READER = Reader(1, "Anna")

VERDICTS = st.sampled_from(["agree", "class", "reject", "unsure", "none"])
NOTES = st.sampled_from([None, "", "dark", "twice"])
MOVED = st.sampled_from([None, (3.0, 4.0, 30.0, 40.0)])


def cells(place, verdict, note, moved):
    body: dict[str, Any] = {"key": key(place), "verdict": verdict, "said": said(place)}
    if verdict == "class":
        body["label"] = "LSIL"
    if note is not None:
        body["note"] = note
    if moved:
        body["box"] = moved
    return "cell", body


def drawn(number, verdict):
    more = {"label": "SCC"} if verdict == "added" else {}
    return "cell", {"key": added(number), "verdict": verdict, "box": box(7), **more}


STEPS = st.lists(
    st.one_of(
        st.builds(cells, st.integers(0, 3), VERDICTS, NOTES, MOVED),
        st.builds(drawn, st.integers(0, 1), st.sampled_from(["added", "removed"])),
        st.builds(
            lambda k, b, n: ("region", {"key": k, "box": b and list(b), "note": n}),
            st.sampled_from("rs"),
            MOVED,
            NOTES,
        ),
        st.builds(
            lambda d: ("slide", d),
            st.fixed_dictionaries(
                {},
                optional={
                    "adequacy": st.sampled_from([None, "satisfactory"]),
                    "category": st.sampled_from([None, "NILM", "HSIL"]),
                    "comment": NOTES,
                },
            ),
        ),
        st.builds(lambda s: ("sign", {"signed": s}), st.booleans()),
        st.just(("undo", {})),
        st.just(("redo", {})),
    ),
    max_size=40,
)


def slow(entries):
    """Which entries stand, found by walking all; then these folded by plain assignments."""
    standing, undone = [], []
    for entry in entries:
        if entry.kind == "undo":
            undone.append(standing.pop())
        elif entry.kind == "redo":
            standing.append(undone.pop())
        else:
            standing.append(entry)
            undone = []
    cells, regions, decision = {}, {}, SlideDecision()
    for entry in standing:
        body = entry.body
        if entry.kind == "cell":
            known = cells.get(body["key"])
            report = body.get("said")
            report = (
                Said(report["label"], report["score"], tuple(report["box"])) if report else None
            )
            label = {"agree": "HSIL", "class": "LSIL", "added": "SCC"}.get(body["verdict"])
            where = body.get("box") or (known.box if known else report.box)
            note = body.get("note")
            note = note if note is not None else known.note if known else ""
            cells[body["key"]] = CellDecision(
                body["key"], tuple(where), body["verdict"], label, note, report, entry.at,
                entry.seconds, entry.id,
            )  # fmt: skip
        elif entry.kind == "region":
            known = regions.pop(body["key"], None)
            if body["box"]:
                note = body["note"] if body["note"] is not None else known.note if known else ""
                regions[body["key"]] = RegionMark(body["key"], tuple(body["box"]), note)
        elif entry.kind == "sign":
            decision = replace(decision, signed=entry.at if body["signed"] else None)
        else:
            decision = replace(decision, **{k: v or ("" if k == "comment" else None)
                                            for k, v in body.items()})  # fmt: skip
    return cells, regions, decision, bool(standing), bool(undone)


@given(STEPS)
def test_the_kept_fold_is_what_folding_anew_gives(steps):
    fold, entries = Fold(SLIDE, READER, "reading"), []
    for kind, body in steps:
        if (kind == "undo" and not fold.done) or (kind == "redo" and not fold.undone):
            continue
        number = len(entries) + 1
        entry = Entry(
            number, f"{number:032x}", SLIDE, READER, "reading", number, f"at {number}", 0.5, kind,
            body, fold.target(kind),
        )  # fmt: skip
        fold.add(entry)
        entries.append(entry)
        found = fold.reading()
        cells, regions, decision, can_undo, can_redo = slow(entries)
        assert dict(found.cells) == cells
        assert dict(found.regions) == regions
        assert found.decision == decision
        assert (found.can_undo, found.can_redo) == (can_undo, can_redo)
        assert (found.version, found.seconds) == (number, 0.5 * number)
        assert fold.decided == found.decided == sum(c.decided for c in cells.values())


@pytest.mark.parametrize(
    ("version", "kind", "target"), [(2, "slide", None), (1, "undo", 1), (1, "slide", 7)]
)
def test_an_entry_that_does_not_follow_is_refused(version, kind, target):
    body = {"category": "NILM"}
    entry = Entry(1, "0" * 32, SLIDE, READER, "reading", version, "now", 0.0, kind, body, target)
    with pytest.raises(ValueError, match="does not follow"):
        Fold(SLIDE, READER, "reading").add(entry)

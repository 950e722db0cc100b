"""``detections.npz``: to the last bit, the same bytes, and refused in one line where it is odd."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from keptcases import make_kept

from data import arrays
from pipeline.reports.detections import (
    FILE,
    DetectionsError,
    load_facts,
    load_kept,
    save_kept,
)


@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("count", [0, 40])
def test_what_is_kept_comes_back_to_the_last_bit(tmp_path, count, looked):
    kept = make_kept(max(count, 9), looked)
    if count == 0:
        kept = replace(kept, found=replace(kept.found, cells=kept.found.cells[:0]))
    save_kept(kept, tmp_path)
    back = load_kept(tmp_path)
    for name in ("boxes", "scores", "labels", "class_scores", "grades"):
        before, after = (getattr(one.found.cells, name) for one in (kept, back))
        assert (before is None) == (after is None)
        if before is not None:
            assert before.dtype == after.dtype
            np.testing.assert_array_equal(before, after)
    assert back.found.complete.tobytes() == kept.found.complete.tobytes()
    for name in ("looked", "candidates", "unread", "dropped", "looked_at"):
        assert getattr(back.found, name) == getattr(kept.found, name)
    for name in ("slide", "area", "doubts", "finder", "settings", "focus"):
        assert getattr(back, name) == getattr(kept, name)
    np.testing.assert_array_equal(back.deposit.mask, kept.deposit.mask)
    np.testing.assert_array_equal(back.deposit.thick, kept.deposit.thick)
    assert back.deposit.side == 256.25
    for name in ("ink", "bubbles", "sharpness"):
        before, after = (getattr(one.faults, name) for one in (kept, back))
        assert before.tobytes() == after.tobytes()
    assert load_facts(tmp_path).complete == tuple(kept.found.complete.tolist())


def test_the_same_things_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_kept(make_kept(), tmp_path / name)
    assert (tmp_path / "a" / FILE).read_bytes() == (tmp_path / "b" / FILE).read_bytes()


def test_a_report_without_any_is_of_an_older_version(tmp_path):
    with pytest.raises(DetectionsError, match="is not there; the report is of a version"):
        load_facts(tmp_path)


def arrays_of(path):
    with np.load(path) as file:
        return dict(file)


def with_facts(arrays, **changes):
    facts = json.loads(arrays["facts"].tobytes()) | changes
    return arrays | {"facts": np.frombuffer(json.dumps(facts).encode(), np.uint8)}


ODD = {
    "labels of no class": lambda a: a | {"labels": np.full(40, 6, np.uint16)},
    "short": lambda a: a | {"scores": a["scores"][:-1]},
    "another kind": lambda a: a | {"boxes": a["boxes"].astype(np.float32)},
    "no number": lambda a: a | {"scores": np.full(40, np.nan, np.float32)},
    "none of an array": lambda a: {k: v for k, v in a.items() if k != "boxes"},
    "rows that are none": lambda a: a | {"graded": a["graded"] + 1000},
    "grades of other classes": lambda a: a | {"grades": a["grades"][:, :-1]},
    "ink of another place": lambda a: a | {"ink": a["ink"][:-1]},
    "bubbles that are numbers": lambda a: a | {"bubbles": a["bubbles"].astype(np.uint8)},
    "sharpness of another kind": lambda a: a | {"sharpness": a["sharpness"].astype(np.float32)},
    "sharpness without squares": lambda a: a | {"sharpness": a["sharpness"][0]},
    "no grades": lambda a: {k: v for k, v in a.items() if k != "grades"},
    "no facts": lambda a: {k: v for k, v in a.items() if k != "facts"},
    "facts that are none": lambda a: a | {"facts": np.zeros(9, np.uint8)},
    "a key more": lambda a: with_facts(a, more=1),
    "classes fewer": lambda a: with_facts(a, complete=[0.1]),
    "objects": lambda a: a | {"boxes": np.array([{}], object)},
}


@pytest.mark.parametrize("odd", ODD)
def test_what_does_not_fit_is_damaged(tmp_path, odd):
    save_kept(make_kept(), tmp_path)
    np.savez(tmp_path / FILE, **ODD[odd](arrays_of(tmp_path / FILE)))
    with pytest.raises(DetectionsError, match=r"detections\.npz: is damaged$"):
        load_kept(tmp_path)


def test_another_version_is_told_as_one(tmp_path):
    save_kept(make_kept(), tmp_path)
    arrays = with_facts(arrays_of(tmp_path / FILE), version="2.0")
    np.savez(tmp_path / FILE, **arrays)
    with pytest.raises(DetectionsError, match=r"is of another version than 1\.0"):
        load_facts(tmp_path)


def test_bytes_that_changed_are_never_taken_for_cells(tmp_path):
    save_kept(make_kept(), tmp_path)
    sound = (tmp_path / FILE).read_bytes()
    kept = load_kept(tmp_path)
    rng = np.random.default_rng(0)
    for _ in range(200):
        place = int(rng.integers(len(sound)))
        changed = bytearray(sound)
        changed[place] ^= 1 << int(rng.integers(8))
        (tmp_path / FILE).write_bytes(changed)
        try:
            back = load_kept(tmp_path)
        except DetectionsError:
            continue
        np.testing.assert_array_equal(back.found.cells.boxes, kept.found.cells.boxes)
        np.testing.assert_array_equal(back.found.cells.scores, kept.found.cells.scores)
        assert back.slide == kept.slide
    for end in (0, 10, len(sound) // 2, len(sound) - 1):
        (tmp_path / FILE).write_bytes(sound[:end])
        with pytest.raises(DetectionsError, match="is damaged"):
            load_kept(tmp_path)
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    (tmp_path / FILE).write_bytes(single.getvalue())
    with pytest.raises(DetectionsError, match="is damaged"):
        load_facts(tmp_path)


def rewrite(path, name, content):
    """Puts other content into a member of the file; its checksums are right."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    members[f"{name}.npy"] = content(members[f"{name}.npy"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)


def claim(data, shape):
    """An array's bytes under a header that claims another shape."""
    stream = io.BytesIO(data)
    np.lib.format.read_magic(stream)
    _, order, kind = np.lib.format.read_array_header_1_0(stream)
    header = {"shape": shape, "fortran_order": order, "descr": np.lib.format.dtype_to_descr(kind)}
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue() + stream.read()


@pytest.mark.parametrize("shape", [(10**13, 4), (2**62, 4), (-1, 4), (2**70, 4)])
def test_an_array_that_claims_to_be_huge_takes_no_memory(tmp_path, shape):
    save_kept(make_kept(), tmp_path)
    rewrite(tmp_path / FILE, "boxes", lambda data: claim(data, shape))
    with pytest.raises(DetectionsError, match="is damaged"):
        load_kept(tmp_path)


def test_arrays_that_unpack_to_more_than_is_ever_kept_are_refused(tmp_path, monkeypatch):
    save_kept(make_kept(), tmp_path)
    rewrite(tmp_path / FILE, "boxes", lambda data: claim(bytes(data) + bytes(2**24), (2**19, 4)))
    monkeypatch.setattr(arrays, "MOST_BYTES", 2**24)
    monkeypatch.setattr(np.lib.format, "read_array", None)  # no array is read
    with pytest.raises(DetectionsError, match="is damaged"):
        load_facts(tmp_path)


def test_of_what_nobody_looked_for_nothing_is_kept(tmp_path):
    """A slide too coarse for sharpness; and a result of a version that looked for none of it."""
    kept = make_kept()
    save_kept(replace(kept, faults=replace(kept.faults, sharpness=None, ink=None)), tmp_path)
    back = load_kept(tmp_path).faults
    assert back.sharpness is back.ink is None
    np.testing.assert_array_equal(back.bubbles, kept.faults.bubbles)
    save_kept(replace(kept, faults=None), tmp_path)
    assert load_kept(tmp_path).faults is None

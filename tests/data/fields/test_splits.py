"""Splits: whole groups, every class shared out, and nothing on both sides."""

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from annotatedfields import field
from hypothesis import example, given
from hypothesis import strategies as st

from configs import ConfigError
from data.fields.fieldset import FieldSet
from data.fields.splits import (
    PUBLISHED,
    check_leaks,
    find_split,
    save_split,
    split_fields,
    stratify,
    take_part,
)

CLASSES = ("NILM", "HSIL")


def set_of(*fields):
    return FieldSet(CLASSES, fields)


@given(st.lists(st.integers(0, 9), min_size=3, max_size=40), st.integers(0, 3))
def test_groups_stay_whole_and_every_field_lands_once(slides, seed):
    fields = set_of(*(field(f"{i}.png", slide=f"s{s}") for i, s in enumerate(slides)))
    if len(set(slides)) < 2:
        return
    parts = split_fields(fields, {"train": 0.7, "val": 0.3}, "slide", seed)
    names = [f.image.name for members in parts.values() for f in members]
    assert sorted(names) == sorted(f.image.name for f in fields.fields)
    assert not {f.slide for f in parts["train"]} & {f.slide for f in parts["val"]}
    assert all(parts.values())


def test_a_rare_class_is_shared_out():
    """Ten of a hundred fields hold the rare class: a fifth of them, and of all, goes to val."""
    fields = set_of(*(field(f"{i}.png", (0, 1) if i % 10 == 0 else (0,)) for i in range(100)))
    parts = split_fields(fields, {"train": 0.8, "val": 0.2}, "field")
    rare = {part: sum(1 in f.labels for f in members) for part, members in parts.items()}
    assert rare == {"train": 8, "val": 2}
    assert {part: len(members) for part, members in parts.items()} == {"train": 80, "val": 20}


def test_large_groups_of_the_rarest_kind_go_first():
    counts = np.array([[5, 1], [1, 1], [1, 1], [1, 1], [0, 1]])
    parts = stratify(counts, np.array([0.5, 0.5]), np.random.default_rng(0))
    sums = [counts[parts == part, 0].sum() for part in (0, 1)]
    assert sorted(sums) == [3, 5]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=2, max_size=12),
    st.lists(st.integers(1, 20), min_size=2, max_size=4),
    st.integers(0, 3),
)
@example([(1, 1)] * 5, [9, 1], 0)
@example([(1, 1)] * 4, [8, 1, 1], 0)
def test_no_part_is_empty_where_there_are_enough_groups(counts, shares, seed):
    share = np.array(shares) / sum(shares)
    found = stratify(np.array(counts), share, np.random.default_rng(seed))
    assert len(set(found.tolist())) == min(len(shares), len(counts))


def test_the_same_seed_gives_the_same_split(tmp_path):
    fields = set_of(*(field(f"{i}.png", (i % 2,)) for i in range(30)))
    texts = []
    for name in "ab":
        save_split(split_fields(fields, {"x": 0.5, "y": 0.5}, "field", 7), tmp_path / name)
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]
    assert texts[0].startswith("part,image,slide,patient\nx,")


def test_a_split_that_was_written_gives_its_parts(tmp_path):
    fields = set_of(*(field(f"{i}.png") for i in range(10)))
    parts = split_fields(fields, {"train": 0.8, "val": 0.2}, "field")
    save_split(parts, tmp_path / "split.csv")
    for name, members in parts.items():
        assert take_part(fields, tmp_path / "split.csv", name).fields == tuple(members)
    with pytest.raises(ConfigError, match="has no part test; it has train, val"):
        take_part(fields, tmp_path / "split.csv", "test")
    with pytest.raises(ConfigError, match=r"does not say to which part new.png"):
        take_part(set_of(field("new.png")), tmp_path / "split.csv", "train")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="has the columns part and image"):
        take_part(fields, tmp_path / "other.csv", "train")


@pytest.mark.parametrize(
    ("shares", "message"),
    [({"a": 0.5, "b": 0.6}, "sum to 1"), ({}, "sum to 1"), ({"a": 0.5, "b": 0.5}, "1 groups")],
)
def test_impossible_parts_are_refused(shares, message):
    with pytest.raises(ConfigError, match=message):
        split_fields(set_of(field("a.png")), shares, "field")


@pytest.mark.parametrize("what", ["slide", "patient"])
def test_a_slide_or_patient_on_both_sides_is_a_leak(what, tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for number, path in enumerate(paths):
        path.write_bytes(b"x" * (number + 1))
    train, val = (set_of(field(path, **{what: "7"})) for path in paths)
    with pytest.raises(ConfigError, match=rf"{what} 7 is in data.train \(.*a.png\) and .*b.png"):
        check_leaks(train, val)


def test_an_image_under_another_name_is_a_leak(tmp_path):
    for name, content in {"a.png": b"same", "b.png": b"same", "c.png": b"else"}.items():
        (tmp_path / name).write_bytes(content)
    train = set_of(field(tmp_path / "a.png"))
    check_leaks(train, set_of(field(tmp_path / "c.png")))
    with pytest.raises(ConfigError, match=r"b.png of data.val has the same content as .*a.png"):
        check_leaks(train, set_of(field(tmp_path / "b.png")))
    with pytest.raises(ConfigError, match=r"a.png: is in data.train and in data.val"):
        check_leaks(train, train)


def test_a_published_split_is_found_by_its_name(tmp_path, monkeypatch):
    assert find_split(Path("cric-400")).read_text().startswith("part,image,")
    with pytest.raises(ConfigError, match=r"split cric-500: no such file.*; there is cric-400"):
        find_split(Path("cric-500"))
    monkeypatch.chdir(tmp_path)
    Path("cric-400").write_text("part,image\nmine,a.png\n")
    assert find_split(Path("cric-400")) == Path("cric-400")  # what lies there is meant


def test_the_split_of_cric_keeps_neighbours_together():
    rows = list(csv.DictReader((PUBLISHED / "cric-400.csv").open()))
    assert Counter(row["part"] for row in rows) == {"train": 253, "val": 48, "test": 99}
    assert len({row["image"] for row in rows}) == 400
    parts = defaultdict(set)
    for row in rows:
        parts[row["block"]].add(row["part"])
    assert len(parts) == 134
    assert all(len(one) == 1 for one in parts.values())
    assert sum(int(row["cells"]) for row in rows) == 11534  # as the paper counts them


def test_the_split_of_cric_agrees_with_the_fields_that_are_here(shared):
    part_of = {
        int(row["image_id"]): row for row in csv.DictReader((PUBLISHED / "cric-400.csv").open())
    }
    for name, part in [("train", "train"), ("extra", "train"), ("val", "val")]:
        content = json.loads((shared / "cric" / f"{name}.json").read_text())
        cells = Counter(one["image_id"] for one in content["annotations"])
        for image in content["images"]:
            row = part_of[image["id"]]
            assert (row["part"], int(row["cells"])) == (part, cells[image["id"]])


def test_a_part_that_is_not_whole_is_told(tmp_path):
    (tmp_path / "split.csv").write_text("part,image\nx,0.png\nx,1.png\nx,2.png\ny,3.png\n")
    taken = take_part(set_of(field("1.png"), field("3.png")), tmp_path / "split.csv", "x")
    assert [f.image.name for f in taken.fields] == ["1.png"]
    assert [doubt.code for doubt in taken.doubts] == ["split-incomplete"]
    assert "gives 3 images to x, of which 2 are not there, such as 0.png" in taken.doubts[0].text
    with pytest.raises(ConfigError, match="none of the images that it gives to x is there"):
        take_part(set_of(field("3.png")), tmp_path / "split.csv", "x")


def test_a_split_with_an_image_in_two_parts_is_refused(tmp_path):
    (tmp_path / "split.csv").write_text("part,image\nx,0.png\ny,0.png\n")
    with pytest.raises(ConfigError, match=r"line 3: 0\.png is in two parts"):
        take_part(set_of(field("0.png")), tmp_path / "split.csv", "x")

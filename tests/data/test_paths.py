"""Paths as people write them, compared by their ends."""

from pathlib import Path

import pytest

from data.paths import longest_end, path_parts, shared_end


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("/a/b/c.svs", ("a", "b", "c.svs")),
        ("./a//b.svs", ("a", "b.svs")),
        (r"slides\a\b.svs", ("slides", "a", "b.svs")),
        (r"\a\b.svs", ("a", "b.svs")),
        (" b.svs ", ("b.svs",)),
        ("Pra\u0308parat.svs", ("Pr\u00e4parat.svs",)),
        (Path("a", "b"), ("a", "b")),
        ("", ()),
    ],
)
def test_parts_of_a_path(text, parts):
    assert path_parts(text) == parts


def test_ends():
    path = ("a", "b", "c")
    assert shared_end(path, ("b", "c")) == shared_end(("b", "c"), path) == 2
    assert shared_end(path, ("a", "c")) == shared_end(path, ()) == 0
    assert longest_end(path, {("c",), ("b", "c"), ("x", "b", "c")}) == ("b", "c")
    assert longest_end(path, {("a", "b")}) is None
    assert longest_end((), {("a",)}) is None

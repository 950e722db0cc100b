"""Whose an image is: by the end of its path, as images of several slides have one name."""

import unicodedata

import pytest
from annotatedfields import field
from annotationfiles import write_text

from configs import ConfigError
from data.annotations.groups import with_groups


def grouped(tmp_path, images, *rows):
    table = write_text(tmp_path / "g.csv", "\n".join(["image,slide,patient", *rows]) + "\n")
    found = with_groups([field(tmp_path / image) for image in images], table)
    return [(one.slide, one.patient) for one in found]


def test_names_and_paths(tmp_path):
    rows = ["s1/001.png,A,Müller", "C:\\data\\s9\\001.png,X,Y", "s2\\001.png,B,Meier", "002.png,C,"]
    images = ["s1/001.png", "s2/001.png", "s3/002.png"]
    expected = [("A", "Müller"), ("B", "Meier"), ("C", "")]
    assert grouped(tmp_path, images, *rows) == expected


def test_letters_count_the_same_composed_or_not(tmp_path):
    name = unicodedata.normalize("NFD", "é.png")
    assert grouped(tmp_path, ["é.png"], f"{name},A,M") == [("A", "M")]


def test_a_row_twice_is_one(tmp_path):
    assert grouped(tmp_path, ["a.png"], "a.png,A,M", "a.png,A,M") == [("A", "M")]


@pytest.mark.parametrize(
    ("images", "rows", "message"),
    [
        (["s1/001.png", "s2/001.png"], ["001.png,A,M"], r"001\.png is the name of 2 images; write"),
        (["s1/001.png"], ["s2/001.png,A,M"], r"does not name 001\.png"),
        (["a.png"], ["a.png,A,M", "a.png,B,M"], r"says several things of a\.png"),
        (["a.png"], [",A,M"], r"does not name a\.png"),
    ],
)
def test_what_is_unclear_is_refused(tmp_path, images, rows, message):
    with pytest.raises(ConfigError, match=message):
        grouped(tmp_path, images, *rows)

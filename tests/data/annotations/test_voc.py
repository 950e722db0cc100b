"""Pascal VOC as its tools and converters leave it."""

import pytest
from annotationfiles import write_blank, write_text

from configs import ConfigError
from data.annotations import read_fields

BNDBOX = "<xmin>11</xmin><ymin>21</ymin><xmax>50</xmax><ymax>60</ymax>"
"""Counted from 1, the last pixel within: 10..50, 20..60."""


@pytest.fixture
def folder(tmp_path):
    write_blank(tmp_path / "field.png", (400, 300))
    return tmp_path


def read(folder, inner=f"<bndbox>{BNDBOX}</bndbox>", size=(400, 300), filename="field.png"):
    width, height = size
    text = (
        f"<annotation><filename>{filename}</filename><size><width>{width}</width>"
        f"<height>{height}</height></size><object><name>HSIL</name>{inner}</object></annotation>"
    )
    return read_fields(write_text(folder / "field.xml", text), [folder])


@pytest.mark.parametrize(
    ("bndbox", "box", "codes"),
    [
        (BNDBOX, [10, 20, 50, 60], []),
        (BNDBOX.replace(">11<", "> 11.0\n<"), [10, 20, 50, 60], []),
        (BNDBOX.replace(">11<", ">11.5<").replace(">60<", ">59.25<"), [10.5, 20, 50, 59.25], []),
        (
            "<xmin>50</xmin><ymin>60</ymin><xmax>11</xmax><ymax>21</ymax>",
            [10, 20, 50, 60],
            ["corners-swapped"],
        ),
        (BNDBOX.replace(">11<", ">0<"), [0, 20, 50, 60], ["counted-from-zero"]),
    ],
)
def test_corners(folder, bndbox, box, codes):
    found = read(folder, f"<bndbox>{bndbox}</bndbox>")
    assert found.fields[0].boxes.tolist() == [box]
    assert [doubt.code for doubt in found.doubts] == codes


@pytest.mark.parametrize(
    ("word", "crowd", "codes"),
    [
        ("1", True, ["crowds-ignored"]),
        ("true", True, ["crowds-ignored"]),
        (" Yes ", True, ["crowds-ignored"]),
        ("0", False, []),
        ("False", False, []),
        ("", False, []),
        ("Unspecified", False, ["difficult-unclear"]),
    ],
)
def test_difficult_in_words(folder, word, crowd, codes):
    found = read(folder, f"<difficult>{word}</difficult><bndbox>{BNDBOX}</bndbox>")
    assert found.fields[0].crowd.tolist() == [crowd]
    assert [doubt.code for doubt in found.doubts] == codes


def test_parts_are_no_cells_and_told(folder):
    part = f"<part><name>nucleus</name><bndbox>{BNDBOX.replace('60', '40')}</bndbox></part>"
    found = read(folder, f"<bndbox>{BNDBOX}</bndbox>{part}")
    assert found.fields[0].boxes.tolist() == [[10, 20, 50, 60]]
    assert [doubt.code for doubt in found.doubts] == ["shapes-left-out"]


@pytest.mark.parametrize("filename", ["field.png", "field", "", "  "])
def test_the_image_may_be_named_in_part_or_not_at_all(folder, filename):
    found = read(folder, filename=filename)
    assert found.fields[0].image == folder / "field.png"
    assert found.doubts == ()


def test_turned_boxes_and_outlines(folder):
    turned = (
        "<robndbox><cx>100</cx><cy>80</cy><w>40</w><h>20</h><angle>1.5707963</angle></robndbox>"
    )
    corners = (
        "<polygon><x1>10</x1><y1>20</y1><x2>50</x2><y2>20</y2><x3>50</x3><y3>60</y3></polygon>"
    )
    assert read(folder, turned).fields[0].boxes.round(2).tolist() == [[90, 60, 110, 100]]
    assert read(folder, corners).fields[0].boxes.tolist() == [[10, 20, 50, 60]]


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ("", r"object 1 \(HSIL\) has no bndbox"),
        ("<bndbox><xmin>1</xmin></bndbox>", r"object 1 \(HSIL\): bndbox without ymin, xmax, ymax"),
        (
            f"<bndbox>{BNDBOX.replace('11', '1,5')}</bndbox>",
            "xmin of object 1 .* is '1,5', not a n",
        ),
        (f"<bndbox>{BNDBOX.replace('11', 'inf')}</bndbox>", "'inf', not a finite number"),
        ("<polygon><x1>1</x1><y1>2</y1></polygon>", r"has 1 x and 1 y"),
    ],
)
def test_what_is_missing_is_named(folder, inner, message):
    with pytest.raises(ConfigError, match=rf"field\.xml: not as voc has it: .*{message}"):
        read(folder, inner)


def test_a_size_that_is_not_the_images_is_refused(folder):
    with pytest.raises(ConfigError, match="is 400x300 px, but was annotated as 300x400"):
        read(folder, size=(300, 400))

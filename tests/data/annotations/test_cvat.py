"""CVAT's shapes: which are cells, where, and which are told as left out."""

import numpy as np
import pytest
from annotationfiles import write_blank, write_text
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from configs import ConfigError
from data.annotations import read_fields

BOX = '<box label="HSIL" xtl="10" ytl="20" xbr="50" ybr="60"/>'


def read(folder, shapes, image='name="field.png" width="400" height="300"', labels=""):
    folder.mkdir(exist_ok=True)
    write_blank(folder / "field.png", (400, 300))
    text = (
        f"<annotations><meta><job><labels>{labels}</labels></job></meta>"
        f'<image id="3" {image}>{shapes}</image></annotations>'
    )
    return read_fields(write_text(folder / "x.xml", text), [folder])


@settings(max_examples=25)
@given(
    arrays(np.uint8, st.tuples(st.integers(3, 7), st.integers(3, 7)), elements=st.integers(0, 1)),
    st.integers(0, 40),
)
def test_a_masks_box_is_that_of_its_pixels(tmp_path_factory, mask, place):
    mask[0, 1] = mask[2, 2] = 1
    changes = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel()])))
    runs = np.diff(np.concatenate([[0], changes, [mask.size]]))
    height, width = mask.shape
    shape = (
        f'<mask label="HSIL" rle="{", ".join(map(str, runs))}" left="{place}" top="{place + 5}" '
        f'width="{width}" height="{height}"/>'
    )
    ys, xs = np.nonzero(mask)
    expected = [place + xs.min(), place + 5 + ys.min(), place + xs.max() + 1, place + ys.max() + 6]
    found = read(tmp_path_factory.mktemp("mask"), shape)
    assert found.fields[0].boxes.tolist() == [expected]
    assert found.doubts == ()


def test_what_is_no_cell_is_told_by_its_kind(tmp_path):
    others = (
        '<polyline label="HSIL" points="1,1;5,5"/><tag label="blurred"/>'
        '<skeleton label="HSIL"><points label="1" points="5,5"/></skeleton>'
        '<box label="HSIL" outside="1" xtl="200" ytl="20" xbr="250" ybr="60"/>'
        '<mask label="HSIL" rle="8" left="1" top="1" width="4" height="2"/>'
    )
    found = read(tmp_path, BOX + others)
    assert found.fields[0].boxes.tolist() == [[10, 20, 50, 60]]
    assert [doubt.text.split(" are ")[0] for doubt in found.doubts] == [
        "polylines",
        "tags of whole images",
        "skeletons",
        "shapes marked as outside of the picture",
        "empty masks",
    ]
    assert {doubt.code for doubt in found.doubts} == {"shapes-left-out"}


def test_joints_of_skeletons_are_no_classes(tmp_path):
    labels = (
        "<label><name>HSIL</name></label><label><name>SCC</name></label>"
        "<label><name>1</name><type>points</type><parent>body</parent></label>"
    )
    assert read(tmp_path, BOX, labels=labels).classes == ("HSIL", "SCC")


def test_an_image_without_shapes_is_told(tmp_path):
    write_blank(tmp_path / "b.png", (400, 300))
    more = f'{BOX}</image><image id="4" name="b.png" width="400" height="300">'
    found = read(tmp_path, more)
    assert [len(field.boxes) for field in found.fields] == [1, 0]
    assert [doubt.code for doubt in found.doubts] == ["images-without-cells"]


def test_swapped_corners_are_told(tmp_path):
    found = read(tmp_path, '<box label="HSIL" xtl="50" ytl="60" xbr="10" ybr="20"/>')
    assert found.fields[0].boxes.tolist() == [[10, 20, 50, 60]]
    assert [doubt.code for doubt in found.doubts] == ["corners-swapped"]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ('<box label="HSIL" xtl="1" ytl="2"/>', "box on field.png has no xbr, ybr"),
        (BOX.replace('"10"', '"ten"'), "xtl of box on field.png is 'ten', not a number"),
        ('<polygon label="HSIL" points="1,2;3"/>', "points of polygon on field.png are '1,2;3'"),
        ('<polygon label="HSIL"/>', "points of polygon on field.png are null"),
        ('<ellipse label="HSIL" cx="9" cy="9" rx="2" ry="3" rotation="x"/>', "rotation of ellipse"),
        ("<skeleton/>", "skeleton on field.png has no label"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, shapes, message):
    with pytest.raises(ConfigError, match=rf"x\.xml: not as cvat has it: .*{message}"):
        read(tmp_path, shapes)


def test_an_image_without_a_name_is_named_by_its_id(tmp_path):
    with pytest.raises(ConfigError, match="the image with id '3' has no name"):
        read(tmp_path, BOX, image='width="400" height="300"')

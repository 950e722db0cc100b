"""Labelme's shapes, and those that X-AnyLabeling adds."""

import pytest
from annotationfiles import shape, write_blank, write_json

from configs import ConfigError
from data.annotations import AnnotationSettings, read_fields

SQUARE = [(10, 20), (50, 20), (50, 60), (10, 60)]


def read(folder, *shapes, **more):
    write_blank(folder / "field.png", (400, 300))
    content = {"shapes": list(shapes), "imagePath": "field.png"}
    content |= {"imageWidth": 400, "imageHeight": 300, **more}
    has_points = any(one["shape_type"] == "point" for one in shapes)
    settings = AnnotationSettings(point_size=10 if has_points else None, mpp=0.25)
    return read_fields(write_json(folder / "field.json", content), [folder], None, settings)


@pytest.mark.parametrize(
    ("kind", "points", "box"),
    [
        ("rectangle", [(50, 60), (10, 20)], [10, 20, 50, 60]),
        ("rectangle", SQUARE, [10, 20, 50, 60]),
        ("rotation", [(30, 10), (60, 40), (30, 70), (0, 40)], [0, 10, 60, 70]),
        ("quadrilateral", SQUARE, [10, 20, 50, 60]),
        ("ai_polygon", SQUARE, [10, 20, 50, 60]),
        ("circle", [(30, 40), (50, 40)], [10, 20, 50, 60]),
        ("mask", [(10, 20), (49, 59)], [10, 20, 50, 60]),
        ("ai_mask", [(10, 20), (49, 59)], [10, 20, 50, 60]),
        ("point", [(30, 40)], [10, 20, 50, 60]),
        (None, SQUARE, [10, 20, 50, 60]),
    ],
)
def test_kinds_of_cells(tmp_path, kind, points, box):
    found = read(tmp_path, shape("HSIL", points, kind))
    assert found.fields[0].boxes.tolist() == [box]
    assert found.doubts == ()


@pytest.mark.parametrize(
    ("kind", "points", "told"),
    [
        ("linestrip", SQUARE, "line strips"),
        ("line", SQUARE[:2], "lines"),
        ("circle", SQUARE[:1], "circles without a point on their edge"),
        ("polygon", SQUARE[:2], "polygon shapes of fewer corners than they need"),
        ("rectangle", SQUARE[:1], "rectangle shapes of fewer corners than they need"),
        ("cuboid", SQUARE * 2, "cuboids"),
        ("brush", SQUARE, "shapes of the kind brush"),
    ],
)
def test_kinds_that_are_none_are_told(tmp_path, kind, points, told):
    found = read(tmp_path, shape("HSIL", SQUARE, "polygon"), shape("HSIL", points, kind))
    assert found.class_counts() == [1]
    text = f"{told} are no cells, and are left out (field.json)"
    assert [(doubt.code, doubt.text) for doubt in found.doubts] == [("shapes-left-out", text)]
    with pytest.raises(ConfigError, match=rf"no annotations but for what is no cell: {told} \(1\)"):
        read(tmp_path, shape("HSIL", points, kind))


def test_shapes_of_one_group_and_label_are_one_cell(tmp_path):
    parts = [
        shape("HSIL", [(10, 20), (50, 20), (50, 60)], "polygon") | {"group_id": 1},
        shape("NILM", [(200, 20), (240, 60)]) | {"group_id": 1},
        shape("HSIL", [(55, 30), (90, 70)]) | {"group_id": 1},
        shape("HSIL", [(300, 200), (340, 240)]) | {"group_id": 2},
        shape("HSIL", [(100, 200), (140, 240)]),
    ]
    found = read(tmp_path, *parts)
    assert found.fields[0].boxes.tolist() == [
        [10, 20, 90, 70],
        [200, 20, 240, 60],
        [300, 200, 340, 240],
        [100, 200, 140, 240],
    ]
    assert [doubt.code for doubt in found.doubts] == ["parts-grouped"]


def test_a_point_within_a_group_belongs_to_its_cell(tmp_path):
    parts = [
        shape("HSIL", [(30, 40)], "point") | {"group_id": 1},
        shape("HSIL", [(10, 20), (50, 60)]) | {"group_id": 1},
        shape("HSIL", [(130, 140)], "point") | {"group_id": 2},
        shape("HSIL", [(230, 140)], "point") | {"group_id": 2},
    ]
    boxes = read(tmp_path, *parts).fields[0].boxes.tolist()
    assert boxes == [[10, 20, 50, 60], [110, 120, 150, 160], [210, 120, 250, 160]]


def test_a_blank_label_is_no_class(tmp_path):
    with pytest.raises(ConfigError, match=r"unclassified \(1\) have no class"):
        read(tmp_path, shape(" ", SQUARE, "polygon"))


def test_difficult_cells_are_ignored(tmp_path):
    found = read(tmp_path, shape("HSIL", SQUARE, "polygon") | {"difficult": True})
    assert found.fields[0].crowd.tolist() == [True]
    assert [doubt.code for doubt in found.doubts] == ["crowds-ignored"]


def test_without_a_path_the_file_has_its_own_name(tmp_path):
    found = read(tmp_path, shape("HSIL", SQUARE, "polygon"), imagePath=None)
    assert found.fields[0].image == tmp_path / "field.png"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": None}, r"a point of shape 1 \(HSIL\) is null, not a list"),
        ({"points": [[1, 2, 3]]}, "has 3 numbers, not 2"),
        ({"points": [["a", 2]]}, "is 'a', not a number"),
        ({"label": ["HSIL"]}, r"the label of shape 1 is \['HSIL'\], not text"),
        ({"difficult": "maybe"}, "difficult of shape 1 is 'maybe', neither yes nor no"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, message):
    with pytest.raises(ConfigError, match=rf"field\.json: not as labelme has it: .*{message}"):
        read(tmp_path, shape("HSIL", SQUARE, "polygon") | change)

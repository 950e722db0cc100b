"""Reading COCO: what comes out, and what is refused."""

import json

import pytest

from configs import ConfigError
from data.annotations import read_coco


def test_reads_boxes_labels_and_scale(coco):
    fields = read_coco(*coco)
    assert fields.classes == ("NILM", "HSIL")
    assert fields.class_counts() == [1, 2]
    first = fields.fields[0]
    assert (first.width, first.height, first.mpp) == (200, 150, 0.25)
    assert first.boxes.tolist() == [[10, 20, 50, 60], [120, 60, 160, 100]]
    assert first.labels.tolist() == [0, 1]


def test_labels_follow_the_models_classes_not_the_files_ids(coco):
    fields = read_coco(*coco, classes=["SCC", "HSIL", "NILM"])
    assert fields.fields[0].labels.tolist() == [2, 1]
    assert fields.class_counts() == [0, 2, 1]


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_boxes_are_clipped_to_the_field(coco):
    edit(coco[0], lambda c: c["annotations"][0].update(bbox=[-10, -10, 30, 30]))
    assert read_coco(*coco).fields[0].boxes[0].tolist() == [0, 0, 20, 20]


def test_crowd_regions_are_no_cells(coco):
    edit(coco[0], lambda c: c["annotations"][1].update(iscrowd=1))
    fields = read_coco(*coco)
    assert fields.fields[0].crowd.tolist() == [False, True]
    assert fields.class_counts() == [1, 1]


def test_a_box_without_area_is_left_out_and_told(coco):
    edit(coco[0], lambda c: c["annotations"][0].update(bbox=[10, 10, 0, 5]))
    fields = read_coco(*coco)
    assert fields.class_counts() == [0, 2]
    assert "left out 1 boxes at most 1 px wide or high" in fields.notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("categories"), "categories missing"),
        (lambda c: c["images"][0].update(file_name="gone.png"), "no such file"),
        (
            lambda c: c["annotations"][0].update(category_id=9),
            "annotation 1 has the category_id 9, which is not among",
        ),
        (lambda c: c["annotations"][0].update(image_id=9), "image_id 9: no such image"),
        (lambda c: c["images"].clear(), "lists no images"),
        (lambda c: c["categories"][0].pop("name"), "name of category 1 is missing"),
    ],
)
def test_refuses_what_is_broken(coco, change, message):
    edit(coco[0], change)
    with pytest.raises(ConfigError, match=message):
        read_coco(*coco)


def test_refuses_unknown_classes_and_files(coco, tmp_path):
    with pytest.raises(ConfigError, match=r"HSIL \(2\) are not among the classes NILM"):
        read_coco(*coco, classes=["NILM"])
    with pytest.raises(ConfigError, match="no such file"):
        read_coco(tmp_path / "no.json", coco[1])
    (tmp_path / "text.json").write_text("{not json")
    with pytest.raises(ConfigError, match="not valid JSON"):
        read_coco(tmp_path / "text.json", coco[1])
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(ConfigError, match="no annotations of the format coco"):
        read_coco(tmp_path / "list.json", coco[1])


def test_reads_the_real_fields(shared):
    for split, fields, cells in (("train", 155, 3871), ("val", 30, 708)):
        found = read_coco(shared / "cric" / f"{split}.json", shared / "cric" / split)
        assert len(found.fields) == fields
        assert sum(found.class_counts()) == cells

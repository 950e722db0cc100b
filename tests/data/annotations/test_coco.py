"""Reading COCO: what comes out, and what is refused."""

import json

import numpy as np
import pytest
from annotationfiles import write_blank
from pycocotools import mask as oracle

from configs import ConfigError
from data.annotations import AnnotationSettings, read_coco, read_fields


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


class TestOddFiles:
    """One cell at 10..50, 20..60 of 200 x 150 px, written in many ways."""

    MASK = np.zeros((150, 200), np.uint8)
    MASK[20:60, 10:50] = 1

    @pytest.fixture
    def base(self, tmp_path):
        write_blank(tmp_path / "a.png", (200, 150))
        return {
            "images": [{"id": 1, "file_name": "a.png", "width": 200, "height": 150}],
            "categories": [{"id": 1, "name": "HSIL"}],
            "annotations": [
                {"id": 5, "image_id": 1, "category_id": 1, "bbox": [10, 20, 40, 40], "iscrowd": 0}
            ],
        }

    def read(self, tmp_path, content, **settings):
        path = tmp_path / "c.json"
        path.write_text(json.dumps(content))
        return read_fields(path, [tmp_path], None, AnnotationSettings(**settings))

    @pytest.mark.parametrize(
        ("change", "codes"),
        [
            (lambda i, c, a: a.update(image_id="1"), ["ids-mixed"]),
            (lambda i, c, a: a.update(category_id="1"), ["ids-mixed"]),
            (lambda i, c, a: (i.update(id="1"), a.update(image_id=1.0)), ["ids-mixed"]),
            (lambda i, c, a: (i.update(id="x7"), a.update(image_id="x7")), []),
            (lambda i, c, a: (i.update(id=0), a.update(image_id=0)), []),
            (lambda i, c, a: (c.update(id=0), a.update(category_id=0)), []),
            (lambda i, c, a: i.pop("width"), []),
            (lambda i, c, a: i.update(width=None, height=None), []),
            (lambda i, c, a: i.update(width="200", height=150.0), []),
            (lambda i, c, a: a.update(bbox=["10", "20", "40", "40"]), []),
            (lambda i, c, a: a.update(bbox=[50, 60, -40, -40]), ["corners-swapped"]),
            (lambda i, c, a: a.update(iscrowd="0"), []),
            (lambda i, c, a: a.update(iscrowd=False, ignore=None), []),
            (lambda i, c, a: i.update(file_name="C:\\a b\\images\\a.png"), ["image-other-folder"]),
        ],
    )
    def test_are_read_where_the_meaning_is_clear(self, base, tmp_path, change, codes):
        change(*(base[part][0] for part in ("images", "categories", "annotations")))
        found = self.read(tmp_path, base)
        assert found.classes == ("HSIL",)
        assert found.fields[0].boxes.tolist() == [[10, 20, 50, 60]]
        assert not found.fields[0].crowd.any()
        assert [doubt.code for doubt in found.doubts] == codes

    @pytest.mark.parametrize("bbox", [None, [], [0, 0, 0, 0]])
    @pytest.mark.parametrize(
        "segmentation",
        [
            [[10, 20, 50, 20, 50, 60, 10, 60]],
            [10, 20, 50, 20, 50, 60, 10, 60],
            [[10, 20], [50, 20], [50, 60]],
            [[[10, 20], [50, 20], [50, 60]]],
            [[10, 20, 11, 20], [12, 20, 50, 20, 50, 60]],
            {"size": [150, 200], "counts": [1520, *[40, 110] * 39, 40, 22590]},
            {
                "size": [150, 200],
                "counts": oracle.encode(np.asfortranarray(MASK))["counts"].decode(),
            },
        ],
    )
    def test_without_a_box_have_that_of_outline_or_mask(self, base, tmp_path, bbox, segmentation):
        base["annotations"][0] |= {"bbox": bbox, "segmentation": segmentation}
        found = self.read(tmp_path, base)
        assert found.fields[0].boxes.tolist() == [[10, 20, 50, 60]]
        del base["annotations"][0]["bbox"]
        assert self.read(tmp_path, base).fields[0].boxes.tolist() == [[10, 20, 50, 60]]

    def test_a_box_goes_before_an_outline_elsewhere_which_is_told(self, base, tmp_path):
        base["annotations"][0]["segmentation"] = [[100, 100, 140, 100, 140, 140]]
        found = self.read(tmp_path, base)
        assert found.fields[0].boxes.tolist() == [[10, 20, 50, 60]]
        assert [doubt.code for doubt in found.doubts] == ["box-outline-differ"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda b: b["images"].append(b["images"][0]), "2 images have the id 1: 'a.png', 'a"),
            (lambda b: b["images"].append(b["images"][0] | {"id": "1"}), "2 images have the id 1"),
            (lambda b: b["categories"].append({"id": "1", "name": "LSIL"}), "HSIL and LSIL"),
            (lambda b: b["images"][0].update(id="001"), "annotation 5 has the image_id 1: no such"),
            (
                lambda b: b["images"][0].update(id=None),
                "the id of a.png is null: an id is a number",
            ),
            (lambda b: b["images"][0].update(id=True), "is True: an id is a number or text"),
            (lambda b: b["categories"][0].update(name=" "), "the name of category 1 is empty"),
            (lambda b: b["annotations"][0].pop("bbox"), "annotation 5 has neither a bbox nor an"),
            (
                lambda b: b["annotations"][0].update(bbox=[1, 2, 3]),
                "annotation 5 has 3 numbers, not",
            ),
            (
                lambda b: b["annotations"][0].update(bbox="10 20"),
                "the bbox of annotation 5 is '10 20'",
            ),
            (lambda b: b["annotations"][0].update(iscrowd="many"), "'many', neither yes nor no"),
            (lambda b: b["annotations"][0].update(category_id="HSIL"), "not among the .*1: HSIL"),
            (lambda b: b["annotations"][0].update(segments_info=[]), "panoptic form; export inst"),
            (lambda b: b["images"][0].update(width=200.5), "an image of 200.5x150"),
            (lambda b: b["images"][0].pop("file_name"), "image 1 has no file_name"),
            (
                lambda b: b["annotations"][0].update(
                    bbox=None, segmentation={"size": [10, 10], "counts": [50, 50]}
                ),
                "mask of annotation 5 is of 10x10 px, its image of 200x150",
            ),
            (
                lambda b: b["annotations"][0].update(
                    segmentation={"size": [150, 200], "counts": [3]}
                ),
                "mask of annotation 5: the runs of a mask don't fill 200x150 px",
            ),
            (
                lambda b: b["annotations"][0].update(segmentation=[[1, 2, 3]]),
                "3 numbers, which are",
            ),
        ],
    )
    def test_are_refused_in_words_where_it_is_not(self, base, tmp_path, change, message):
        change(base)
        with pytest.raises(ConfigError, match=rf"c\.json: not as coco has it: .*{message}"):
            self.read(tmp_path, base)

    def test_a_mask_of_another_size_than_the_image_is_told(self, base, tmp_path):
        mask = {"size": [10, 10], "counts": [50, 50]}
        base["images"][0] = {"id": 1, "file_name": "a.png"}
        base["annotations"][0] |= {"bbox": None, "segmentation": mask}
        with pytest.raises(ConfigError, match="is 200x150 px, but was annotated as 10x10"):
            self.read(tmp_path, base)

    def test_results_are_no_annotations(self, tmp_path):
        result = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9}]
        with pytest.raises(ConfigError, match="these are detections"):
            self.read(tmp_path, result)

    def test_ids_of_both_kinds_have_an_order(self, base, tmp_path):
        base["categories"] += [{"id": "x", "name": "SCC"}, {"id": 0, "name": "NILM"}]
        assert self.read(tmp_path, base).classes == ("NILM", "HSIL", "SCC")

    def test_a_category_above_others_is_no_class(self, base, tmp_path):
        base["categories"][0]["supercategory"] = "cells"
        base["categories"] += [{"id": 0, "name": "cells"}, {"id": 2, "name": "SCC"}]
        found = self.read(tmp_path, base)
        assert found.classes == ("HSIL", "SCC")
        assert [doubt.code for doubt in found.doubts] == ["category-unused"]
        base["annotations"].append(base["annotations"][0] | {"category_id": 0, "id": 6})
        assert self.read(tmp_path, base).classes == ("cells", "HSIL", "SCC")

    def test_names_that_look_alike_are_told(self, base, tmp_path):
        base["categories"].append({"id": 2, "name": "hsil "})
        base["annotations"].append(
            base["annotations"][0] | {"category_id": 2, "bbox": [0, 0, 9, 9]}
        )
        found = self.read(tmp_path, base)
        assert (found.classes, found.class_counts()) == (("HSIL", "hsil"), [1, 1])
        assert [doubt.code for doubt in found.doubts] == ["classes-alike"]

    def test_crowds_are_ignored_and_told_or_cells(self, base, tmp_path):
        base["annotations"] += [
            {"id": 6, "image_id": 1, "category_id": 1, "bbox": [60, 20, 40, 40], "iscrowd": "true"},
            {"id": 7, "image_id": 1, "category_id": 1, "bbox": [120, 20, 40, 40], "ignore": 1},
        ]
        found = self.read(tmp_path, base)
        assert found.fields[0].crowd.tolist() == [False, True, True]
        assert [doubt.code for doubt in found.doubts] == ["crowds-ignored"] * 2
        assert found.doubts[0].text.startswith("crowds are ignored")
        assert found.doubts[1].text.startswith("difficult objects are ignored")
        cells = self.read(tmp_path, base, crowds="cells")
        assert cells.fields[0].boxes[:2].tolist() == [[10, 20, 50, 60], [60, 20, 100, 60]]
        assert cells.fields[0].crowd.tolist() == [False, False, True]
        assert [doubt.code for doubt in cells.doubts] == ["crowds-ignored"]

    def test_crowds_of_an_unknown_class_are_asked_for_once_they_are_cells(self, base, tmp_path):
        base["categories"].append({"id": 2, "name": "clump"})
        base["annotations"].append(base["annotations"][0] | {"category_id": 2, "iscrowd": 1})
        path = tmp_path / "c.json"
        path.write_text(json.dumps(base))
        assert read_fields(path, [tmp_path], ["HSIL"]).class_counts() == [1]
        with pytest.raises(ConfigError, match=r"clump \(1\) are not among the classes HSIL"):
            read_fields(path, [tmp_path], ["HSIL"], AnnotationSettings(crowds="cells"))

"""Boxes outside of their images: told, and refused where they are most."""

import json

import pytest
from annotationfiles import HEIGHT, WIDTH, write_blank, write_coco

from configs import ConfigError
from data.annotations import AnnotationSettings, ImageInfo, read_fields

INSIDE = ("HSIL", 100, 120, 180, 190)


def read(folder, name, inside, outside, info=None, **settings):
    write_blank(folder / name)
    boxes = [("HSIL", 20 * i, 120, 20 * i + 80, 190) for i in range(inside)]
    boxes += [("HSIL", 1300, 20 * i, 1380, 20 * i + 90) for i in range(outside)]
    path = write_coco(folder / "labels", name, boxes)
    path.rename(path.with_name(f"{name}.json"))
    settings = AnnotationSettings(**settings)
    if info:
        return read_fields(folder / "labels", [folder], None, settings, lambda _: info)
    return read_fields(folder / "labels", [folder], None, settings)


def test_some_are_told_with_their_share(tmp_path):
    found = read(tmp_path, "a.png", 3, 3)
    assert found.class_counts() == [3]
    assert [doubt.code for doubt in found.doubts] == ["boxes-outside"]
    assert found.doubts[0].text.startswith("of 6 boxes")
    assert "(3 in a.png.json)" in found.doubts[0].text


def test_more_than_half_of_an_image_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"a\.png: 4 of 7 boxes .*\[boxes-elsewhere\]"):
        read(tmp_path, "a.png", 3, 4)


def test_one_image_of_many_is_enough(tmp_path):
    read(tmp_path, "a.png", 30, 0)
    with pytest.raises(ConfigError, match=r"b\.png: 2 of 3 boxes"):
        read(tmp_path, "b.png", 1, 2)


def test_of_an_image_with_few_boxes_the_set_decides(tmp_path):
    read(tmp_path, "a.png", 9, 0)
    assert read(tmp_path, "b.png", 0, 2).class_counts() == [9]
    (tmp_path / "labels" / "a.png.json").unlink()
    with pytest.raises(ConfigError, match=r"b\.png: 2 of 2 boxes"):
        read(tmp_path, "b.png", 0, 2)


def test_outside_of_what_was_scanned_is_outside_too(tmp_path):
    info = ImageInfo(WIDTH, HEIGHT, 0.25, bounds=(600, 0, WIDTH, HEIGHT))
    with pytest.raises(ConfigError, match=r"3 of 3 .*; with frame=bounds it would be 0;"):
        read(tmp_path, "a.png", 3, 0, info)
    assert read(tmp_path, "a.png", 3, 0, info, frame="bounds").class_counts() == [3]


def test_nuclei_outside_of_their_boxes_are_not_believed(tmp_path):
    """Of four cells; one that is off by rounding only is."""

    def read_nuclei(*nuclei):
        write_blank(tmp_path / "a.png")
        cells = [("HSIL", 100 * i, 120, 100 * i + 80, 190) for i in range(4)]
        path = write_coco(tmp_path / "labels", "a.png", cells)
        content = json.loads(path.read_text())
        for one, nucleus in zip(content["annotations"], nuclei, strict=False):
            one["nucleus"] = nucleus
        path.write_text(json.dumps(content))
        return read_fields(path, [tmp_path])

    found = read_nuclei([250, 250], [99.5, 150])
    assert found.fields[0].nuclei.tolist() == [[40, 155], [99.5, 150], [240, 155], [340, 155]]
    assert [doubt.code for doubt in found.doubts] == ["nuclei-outside"]
    with pytest.raises(ConfigError, match=r"a\.png: 3 of 4 nuclei .*\[nuclei-elsewhere\]"):
        read_nuclei([5, 5], [6, 6], [7, 7])


def test_what_is_to_be_ignored_does_not_count(tmp_path):
    write_blank(tmp_path / "a.png")
    away = [("ignore", 1300 + i, 0, 1380, 90) for i in range(5)]
    found = read_fields(write_coco(tmp_path, "a.png", [INSIDE, *away]), [tmp_path])
    assert found.doubts == ()

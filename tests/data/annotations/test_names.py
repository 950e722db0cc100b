"""Which image a name means: the one at its path, and no other one that is called alike."""

import json
import unicodedata
from pathlib import PurePosixPath

import pytest
from annotationfiles import (
    HEIGHT,
    WIDTH,
    shape,
    write_blank,
    write_coco,
    write_json,
    write_labelme,
    write_text,
    write_voc,
    write_yolo,
)

from configs import ConfigError
from data.annotations import AnnotationSettings, read_fields
from data.annotations.images import ImageFolder
from data.annotations.names import plain_path

CELL = ("HSIL", 100, 120, 180, 190)


def put(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_blank(path)
    return root


def codes(fields):
    return [doubt.code for doubt in fields.doubts]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("s1\\001.png", "s1/001.png"),
        ("C:\\Users\\a b\\s1\\001.png", "Users/a b/s1/001.png"),
        ("..\\..\\images\\001.png", "images/001.png"),
        ("/data/./s1//001.png", "data/s1/001.png"),
        ("https://label.example/upload/7/f%C3%A9ld.png?x=1", "upload/7/féld.png"),
        ("/data/local-files/?d=study/s1/001.png", "study/s1/001.png"),
        ("s3://bucket/s1/001.png", "s1/001.png"),
        ("http://[x/001.png", "http:/[x/001.png"),
        ("", ""),
    ],
)
def test_a_path_is_told_from_its_host_and_drive(name, path):
    assert plain_path(name) == path


class TestPaths:
    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("s1/001.png", "s1/001.png"),
            ("C:\\data\\s1\\001.png", "s1/001.png"),
            ("https://label.example/upload/s2/001.png", "s2/001.png"),
            ("study/s1/001", "s1/001.png"),
            ("002.png", "s1/002.png"),
            ("images/002.png", "s1/002.png"),
            ("s2/002.png", None),
            ("s3/001.png", None),
            ("study/s2/deep/001.png", None),
        ],
    )
    def test_match_as_a_whole_or_by_their_end(self, tmp_path, name, found):
        put(tmp_path, "s1/001.png", "s2/001.png", "s1/002.png")
        image = ImageFolder([tmp_path]).find(name)
        assert image == (tmp_path / found if found else None)

    def test_the_longest_end_is_meant(self, tmp_path):
        put(tmp_path, "001.png", "s1/001.png")
        assert ImageFolder([tmp_path]).find("D:/x/s1/001.png") == tmp_path / "s1" / "001.png"
        assert ImageFolder([tmp_path]).find("001.png") == tmp_path / "001.png"

    def test_the_same_path_below_two_roots_is_told(self, tmp_path):
        put(tmp_path, "one/s1/001.png", "two/s1/001.png")
        with pytest.raises(ConfigError, match=r"s1/001\.png: several images could be meant"):
            ImageFolder([tmp_path / "one", tmp_path / "two"]).find("s1/001.png")

    def test_a_path_never_leads_out_of_the_folder(self, tmp_path):
        put(tmp_path, "a.png", "images/b.png")
        folder = ImageFolder([tmp_path / "images"])
        assert folder.find("../a.png") is None
        assert folder.find(str(tmp_path / "a.png")) is None
        assert folder.find("../elsewhere/b.png") == tmp_path / "images" / "b.png"

    def test_another_slides_field_is_refused_and_named(self, tmp_path):
        put(tmp_path / "images", "s2/001.png")
        path = write_coco(tmp_path, "s1/001.png", [CELL])
        with pytest.raises(ConfigError) as told:
            read_fields(path, [tmp_path / "images"])
        assert f"there is {tmp_path / 'images' / 's2' / '001.png'}" in str(told.value)
        assert str(told.value).endswith("[image-not-there]")

    def test_a_folder_that_is_given_itself_is_taken_and_told(self, tmp_path):
        put(tmp_path / "images", "s2/001.png")
        path = write_coco(tmp_path, "s1/001.png", [CELL])
        found = read_fields(path, [tmp_path / "images" / "s2"])
        assert found.fields[0].image == tmp_path / "images" / "s2" / "001.png"
        assert codes(found) == ["image-other-folder"]

    def test_an_upload_of_label_studio_is_not_guessed_but_named(self, tmp_path):
        put(tmp_path, "field.png")
        path = write_coco(tmp_path, "https://label.example/upload/7/ab12f3-field.png", [CELL])
        with pytest.raises(
            ConfigError, match=r"ab12f3-field\.png: no such .*there is .*field\.png"
        ):
            read_fields(path, [tmp_path])


class TestSpelling:
    def test_composed_and_decomposed_letters_are_the_same(self, tmp_path):
        put(tmp_path, unicodedata.normalize("NFD", "Präparat é.png"))
        path = write_coco(tmp_path, unicodedata.normalize("NFC", "Präparat é.png"), [CELL])
        found = read_fields(path, [tmp_path])
        assert found.class_counts() == [1]
        assert codes(found) == []

    def test_capitals_may_differ_and_that_is_told(self, tmp_path):
        put(tmp_path, "Field.png")
        found = read_fields(write_coco(tmp_path, "FIELD.PNG", [CELL]), [tmp_path])
        assert found.fields[0].image == tmp_path / "Field.png"
        assert codes(found) == ["image-capitals"]

    def test_of_two_that_differ_in_capitals_neither_is_guessed(self, tmp_path):
        put(tmp_path, "Field.png", "field.png")
        if len(list(tmp_path.iterdir())) == 1:
            pytest.skip("this file system does not tell capitals apart")
        assert ImageFolder([tmp_path]).find("field.png") == tmp_path / "field.png"
        with pytest.raises(ConfigError, match="several images could be meant"):
            ImageFolder([tmp_path]).find("FIELD.png")

    def test_another_ending_of_a_plain_image_is_told(self, tmp_path):
        put(tmp_path, "field.png")
        found = read_fields(write_voc(tmp_path, "field.jpg", [CELL]), [tmp_path])
        assert found.fields[0].image == tmp_path / "field.png"
        assert codes(found) == ["image-other-ending"]

    def test_a_slides_thumbnail_is_not_the_slide(self, tmp_path):
        put(tmp_path, "field.png")
        with pytest.raises(
            ConfigError, match=r"field\.svs: no such file, .* there is .*field\.png"
        ):
            read_fields(write_voc(tmp_path, "field.svs", [CELL]), [tmp_path])

    def test_two_other_endings_are_not_guessed(self, tmp_path):
        put(tmp_path, "field.png", "field.bmp")
        with pytest.raises(ConfigError, match="several images could be meant"):
            read_fields(write_voc(tmp_path, "field.jpg", [CELL]), [tmp_path])

    def test_hidden_files_are_no_images(self, tmp_path):
        put(tmp_path, "field.png")
        write_text(tmp_path / "more" / ".field.png", "what some copying leaves")
        assert ImageFolder([tmp_path]).find("field") == tmp_path / "field.png"


class TestFilesOfOneImage:
    """Whose own name is the image's: the folders that they lie in count."""

    def test_files_of_one_name_have_the_image_of_their_folder(self, tmp_path):
        put(tmp_path / "images", "s1/001.png", "s2/001.png")
        for slide, cells in (("s1", [CELL]), ("s2", [CELL, ("HSIL", 1, 2, 30, 40)])):
            write_yolo(tmp_path / "labels" / slide, "001.png", cells)
        found = read_fields(tmp_path / "labels", [tmp_path / "images"])
        counts = {field.image.parent.name: len(field.boxes) for field in found.fields}
        assert counts == {"s1": 1, "s2": 2}

    def test_names_without_a_folder_in_the_file_do_so_too(self, tmp_path):
        put(tmp_path / "images", "s1/001.png", "s2/001.png")
        for slide in ("s1", "s2"):
            write_voc(tmp_path / "labels" / slide, "001.png", [CELL])
        found = read_fields(tmp_path / "labels", [tmp_path / "images"])
        assert [field.image.parent.name for field in found.fields] == ["s1", "s2"]

    def test_an_image_in_another_folder_is_not_theirs(self, tmp_path):
        put(tmp_path / "images", "s1/001.png", "s3/002.png")
        write_voc(tmp_path / "labels" / "s1", "001.png", [CELL])
        write_voc(tmp_path / "labels" / "s2", "002.png", [CELL])
        with pytest.raises(ConfigError, match=r"002\.png: no such file.*there is .*s3/002\.png"):
            read_fields(tmp_path / "labels", [tmp_path / "images"])

    def test_folders_that_only_say_what_is_in_them_do_not_count(self, tmp_path):
        put(tmp_path, "train/images/a.png", "val/images/a.png")
        for part in ("train", "val"):
            write_yolo(tmp_path / part / "labels", "a.png", [CELL])
        found = read_fields(tmp_path, [tmp_path])
        assert [f.image.parent.parent.name for f in found.fields] == ["train", "val"]

    def test_deeper_labels_are_of_the_slide_above_them(self, tmp_path):
        put(tmp_path / "images", "s1/001.png", "s2/001.png")
        folder = ImageFolder([tmp_path / "images"])
        found = folder.match("001", PurePosixPath("s2/second reader"))
        assert found.image == tmp_path / "images" / "s2" / "001.png"


class TestRenamedImages:
    def test_are_found_by_the_name_of_their_file(self, tmp_path):
        put(tmp_path, "field.png")
        content = json.loads(write_labelme(tmp_path, "field.png", [CELL]).read_text())
        content["imagePath"] = "IMG_0042.png"
        found = read_fields(write_json(tmp_path / "field.json", content), [tmp_path])
        assert found.fields[0].image == tmp_path / "field.png"
        assert codes(found) == ["image-by-own-name"]

    def test_but_not_where_one_of_the_old_name_lies_elsewhere(self, tmp_path):
        put(tmp_path, "field.png", "s2/001.png")
        content = json.loads(write_labelme(tmp_path, "field.png").read_text())
        content |= {"imagePath": "../s1/001.png", "shapes": [shape("HSIL", [(1, 2), (30, 40)])]}
        with pytest.raises(ConfigError, match=r"s1/001\.png: no such file"):
            read_fields(write_json(tmp_path / "field.json", content), [tmp_path])


class TestImagesWithoutAnnotations:
    @pytest.fixture
    def labels(self, tmp_path):
        put(tmp_path / "images", "a.png", "b.png", "c.png", "other/z.png")
        for name in ("a.png", "b.png"):
            write_yolo(tmp_path / "labels", name, [CELL])
        return tmp_path / "labels"

    def read(self, labels, **settings):
        return read_fields(labels, [labels.parent / "images"], None, AnnotationSettings(**settings))

    def test_are_fields_without_cells_by_yolos_rule(self, labels):
        found = self.read(labels)
        counts = {field.image.name: len(field.boxes) for field in found.fields}
        assert counts == {"a.png": 1, "b.png": 1, "c.png": 0}
        assert (found.fields[2].width, found.fields[2].height) == (WIDTH, HEIGHT)
        assert codes(found) == ["images-without-labels"]
        assert "c.png" in found.doubts[0].text

    def test_unless_the_user_says_otherwise(self, labels):
        found = self.read(labels, unlabelled="left-out")
        assert [field.image.name for field in found.fields] == ["a.png", "b.png"]
        assert codes(found) == ["images-without-labels"]

    def test_where_most_have_none_they_are_left_out(self, labels):
        put(labels.parent / "images", "d.png", "e.png")
        assert len(self.read(labels).fields) == 2
        assert "left out as they are more" in self.read(labels).doubts[0].text
        assert len(self.read(labels, unlabelled="negative").fields) == 5

    def test_a_label_file_that_can_not_be_read_is_none_of_these(self, labels):
        write_text(labels / "c.txt", "0 0,5 0,5 0,1 0,1\n")
        found = self.read(labels)
        assert len(found.fields) == 2
        assert codes(found) == ["annotations-not-read"]
        assert found.doubts[0].text.endswith("left out (c.txt)")

    def test_single_files_say_nothing_of_other_images(self, labels):
        found = read_fields(labels / "a.txt", [labels.parent / "images"])
        assert (len(found.fields), codes(found)) == (1, [])

    def test_of_other_formats_they_are_told_and_left_aside(self, tmp_path):
        put(tmp_path / "images", "a.png", "b.png", "c.png")
        write_voc(tmp_path / "labels", "a.png", [CELL])
        found = read_fields(tmp_path / "labels", [tmp_path / "images"])
        assert len(found.fields) == 1
        assert codes(found) == ["images-without-annotations"]
        assert "2 files, such as b.png" in found.doubts[0].text

"""YOLO's lines: what their numbers are, and what their classes are called."""

import pytest
from annotationfiles import write_blank, write_text

from configs import ConfigError
from data.annotations import AnnotationSettings, read_fields

BOX = [180, 135, 220, 165]
"""Of 0.5 0.5 0.1 0.1 on 400 x 300 px."""


@pytest.fixture
def folder(tmp_path):
    for name in "ab":
        write_blank(tmp_path / f"{name}.png", (400, 300))
    write_text(tmp_path / "labels" / "classes.txt", "HSIL\nNILM\n")
    return tmp_path


def read(folder, *texts, yaml="", **settings):
    labels = folder / "labels"
    for name, text in zip("ab", texts, strict=False):
        write_text(labels / f"{name}.txt", text)
    if yaml:
        (labels / "classes.txt").unlink(missing_ok=True)
        write_text(folder / "data.yaml", yaml)
    return read_fields(labels, [folder], None, AnnotationSettings(**settings))


def boxes(*arguments, **settings):
    found = read(*arguments, **settings)
    return [box for field in found.fields for box in field.boxes.round(2).tolist()]


def codes(found):
    return [doubt.code for doubt in found.doubts if doubt.code != "images-without-labels"]


class TestLines:
    @pytest.mark.parametrize("number", ["0", "0.0", "00", "0e0"])
    def test_classes_are_whole_numbers_however_written(self, folder, number):
        found = read(folder, f"{number} 0.5 0.5 0.1 0.1\n")
        assert found.fields[0].boxes.tolist() == [BOX]
        assert found.class_counts() == [1, 0]

    def test_a_confidence_is_told(self, folder):
        found = read(folder, "0 0.5 0.5 0.1 0.1 0.93\n1 0.1 0.9 0.2 0.9 0.2 0.95 0.5\n")
        assert found.fields[0].boxes.round(2).tolist() == [BOX, [40, 270, 80, 285]]
        assert codes(found) == ["predictions"]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("0 0.5 0.5 1.2 0.1", "line 2: 1.2 is not within 0 to 1: these are not shares"),
            ("0 0.5 -0.5 0.1 0.1", "line 2: -0.5 is not within 0 to 1"),
            ("0 0.5 nan 0.1 0.1", "line 2: nan is not within 0 to 1"),
            ("0 200 150 40 30", "line 2: 200 is not within 0 to 1: these are pixels"),
            ("0 0.5 0.5 0.1 0.1 7", "line 2: the last number, 7, is no confidence"),
            ("-1 0.5 0.5 0.1 0.1", "line 2 is no class and numbers: -1 0.5"),
            ("0.5 0.5 0.5 0.1 0.1", "line 2 is no class and numbers"),
            ("0 0.5 0.5 0.1", "line 2 is no class and numbers"),
            ("2 0.5 0.5 0.1 0.1", "line 2: class 2 has no name: there are 2"),
        ],
    )
    def test_that_are_wrong_are_named(self, folder, line, message):
        with pytest.raises(ConfigError, match=rf"a\.txt: not as yolo has it: {message}"):
            read(folder, f"0 0.5 0.5 0.1 0.1\n{line}\n")

    def test_rounding_may_lead_over_the_border(self, folder):
        assert boxes(folder, "0 0.9 0.5 0.2 1.000001\n") == [[320, 0, 400, 300]]


class TestKeypoints:
    def test_a_box_and_a_point_may_be_three_corners(self, folder):
        with pytest.raises(ConfigError, match=r"a\.txt, line 1: 6 numbers .*\[yolo-ambiguous\]"):
            read(folder, "0 0.5 0.5 0.1 0.1 0.48 0.49\n")

    def test_the_user_says_which(self, folder):
        text = "0 0.5 0.5 0.1 0.1 0.48 0.49\n"
        found = read(folder, text, yolo="pose")
        assert found.fields[0].boxes.tolist() == [BOX]
        assert codes(found) == ["keypoints"]
        assert boxes(folder, text, yolo="polygons") == [[40, 30, 200, 150]]

    def test_or_the_yaml_file(self, folder):
        yaml = "names: [HSIL]\nkpt_shape: [2, 3]\n"
        found = read(folder, "0 0.5 0.5 0.1 0.1 0.48 0.49 1 0 0 0\n", yaml=yaml)
        assert found.fields[0].boxes.tolist() == [BOX]
        with pytest.raises(ConfigError, match=r"line 1: 6 numbers .* box and its keypoints are 10"):
            read(folder, "0 0.5 0.5 0.1 0.1 0.48 0.49\n")
        with pytest.raises(ConfigError, match="neither seen"):
            read(folder, "0 0.5 0.5 0.1 0.1 0.48 0.49 1 0 0 0.4\n")

    def test_visibility_tells_them_from_corners(self, folder):
        found = read(folder, "0 0.5 0.5 0.1 0.1 0.48 0.49 2\n")
        assert found.fields[0].boxes.tolist() == [BOX]
        assert codes(found) == ["keypoints"]

    def test_of_two_or_three_numbers_a_point_the_box_is_the_same(self, folder):
        """Both may be meant by 10 numbers: three points, or two that are seen."""
        text = "0 0.5 0.5 0.1 0.1 0.48 0.49 1 0.5 0.5 1\n"
        assert boxes(folder, text, yolo="pose") == [BOX]

    def test_pixels_are_told_as_such(self, folder):
        with pytest.raises(ConfigError, match="line 1: 100 is not within 0 to 1: these are pixels"):
            read(folder, "0 100 100 200 100 200 300\n")

    def test_a_box_that_would_lie_beyond_the_image_is_an_outline(self, folder):
        """As a box the first would be 0.82 wide about 0.8: all lines must be of one kind."""
        far, near = "0 0.8 0.8 0.82 0.8 0.82 0.9", "0 0.1 0.1 0.2 0.1 0.2 0.3"
        expected = [[320, 240, 328, 270], [40, 30, 80, 90]]
        assert boxes(folder, f"{far}\n", f"{near}\n") == expected

    def test_lines_of_several_lengths_are_outlines(self, folder):
        """Poses of one set all have the same number of keypoints."""
        text = "0 0.1 0.1 0.2 0.1 0.2 0.3\n0 0.1 0.1 0.2 0.1 0.2 0.3 0.1 0.3\n1 0.5 0.5 0.1 0.1\n"
        found = read(folder, text)
        assert found.fields[0].boxes.round(2).tolist() == [[40, 30, 80, 90]] * 2 + [BOX]

    def test_what_is_neither_is_told(self, folder):
        with pytest.raises(ConfigError, match=r"a\.txt, line 2: 7 numbers .* neither an outline"):
            read(folder, "0 0.8 0.8 0.82 0.8 0.82 0.9\n0 0.5 0.5 0.1 0.1 0.48 0.49 2\n")

    @pytest.mark.parametrize("shape", ["3", "[3]", "[2, 4]", "[0, 2]", "[a, 2]"])
    def test_a_wrong_kpt_shape_is_told(self, folder, shape):
        with pytest.raises(ConfigError, match=r"data\.yaml: kpt_shape is .*, not \[keypoints"):
            read(folder, "0 0.5 0.5 0.1 0.1\n", yaml=f"names: [HSIL]\nkpt_shape: {shape}\n")


class TestNames:
    @pytest.mark.parametrize("names", ["[HSIL, SCC]", "{0: HSIL, 1: SCC}", "{'0': HSIL, '1': SCC}"])
    def test_come_from_a_list_or_a_mapping(self, folder, names):
        found = read(folder, "1 0.5 0.5 0.1 0.1\n", yaml=f"names: {names}\nnc: 2\n")
        assert (found.classes, found.class_counts()) == (("HSIL", "SCC"), [0, 1])
        assert codes(found) == []

    def test_another_count_is_told(self, folder):
        found = read(folder, "0 0.5 0.5 0.1 0.1\n", yaml="names: [HSIL]\nnc: 3\n")
        assert codes(found) == ["class-count"]
        assert "data.yaml says nc: 3, but names 1 classes" in str(found.doubts)

    def test_files_that_contradict_each_other_are_told(self, folder):
        write_text(folder / "labels" / "data.yaml", "names: [NILM, HSIL]\n")
        found = read(folder, "0 0.5 0.5 0.1 0.1\n")
        assert found.class_counts() == [1, 0]
        assert found.classes == ("HSIL", "NILM")
        assert codes(found) == ["class-files-differ"]

    def test_numbers_without_names_are_told(self, folder):
        (folder / "labels" / "classes.txt").unlink()
        found = read(folder, "3 0.5 0.5 0.1 0.1\n")
        assert found.classes == ("3",)
        assert codes(found) == ["class-numbers"]

    @pytest.mark.parametrize(
        ("yaml", "message"),
        [
            ("names: [HSIL", "not valid YAML"),
            ("names: [HSIL]\nmade: 2026-02-30", "not valid YAML"),
            ("names: [HSIL]\nmade: !!bool maybe", "not valid YAML"),
            ("names: HSIL", "names is 'HSIL', neither a list nor a mapping"),
            ("names: [HSIL, [SCC]]", r"a name among names is \['SCC'\], not text"),
        ],
    )
    def test_a_broken_yaml_file_is_told(self, folder, yaml, message):
        with pytest.raises(ConfigError, match=rf"data\.yaml: {message}"):
            read(folder, "0 0.5 0.5 0.1 0.1\n", yaml=yaml)

    def test_a_file_further_above_is_not_looked_at(self, folder):
        write_text(folder / "other.yaml", "{{ a template }}: [")
        assert read(folder, "0 0.5 0.5 0.1 0.1\n").classes == ("HSIL", "NILM")

    def test_a_key_that_is_no_number_is_told(self, folder):
        with pytest.raises(ConfigError, match=r"data\.yaml: names: 'one' is no number of a class"):
            read(folder, "0 0.5 0.5 0.1 0.1\n", yaml="names: {one: HSIL}\n")

    def test_a_file_of_names_that_is_no_text_is_told(self, folder):
        (folder / "labels" / "classes.txt").write_bytes(b"Pr\xe4parat\n")
        with pytest.raises(ConfigError, match=r"classes\.txt: not text in UTF-8"):
            read(folder, "0 0.5 0.5 0.1 0.1\n")

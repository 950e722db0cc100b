"""Proposals of a class go by meaning: a wrong grade is worse than none."""

import pytest
from annotationfiles import write_blank, write_coco

from configs import ConfigError
from data.annotations import read_fields
from data.annotations.bethesda import find_meaning, propose
from pipeline.cells.classes import BETHESDA

CLASSES = ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("HSIL (CIN2)", "HSIL"),
        ("cin_III", "HSIL"),
        ("CIN-1", "LSIL"),
        ("ASCUS", "ASC-US"),
        ("asc-h", "ASC-H"),
        ("Negative for intraepithelial lesion or malignancy", "NILM"),
        ("Severe dysplasia / CIN 3", "HSIL"),
        ("squamous-cell carcinoma [SCC]", "SCC"),
        ("LSIL/HSIL", None),
        ("HSIL?", None),
        ("HSIL (CIN1)", None),
        ("not HSIL", None),
        ("CIN", None),
        ("CIN 1-2", None),
        ("ASC", None),
        ("ASIL", None),
        ("SCC in situ", None),
        ("", None),
        ("()", None),
    ],
)
def test_a_name_means_a_category_only_if_all_of_it_does(name, meaning):
    assert find_meaning(name) == meaning


def test_every_category_of_reports_is_known():
    for category in BETHESDA:
        assert find_meaning(category.name) == category.name
        if category.name != "NILM":  # its full name is told of the cell there
            assert find_meaning(category.meaning) == category.name


def test_a_class_is_proposed_only_where_one_has_the_meaning():
    assert propose(["CIN2", "CIN1", "odd"], CLASSES) == {"CIN2": "HSIL", "CIN1": "LSIL"}
    assert propose(["CIN2"], ["NILM", "LSIL"]) == {}
    assert propose(["CIN1"], ["CIN 1", "LSIL"]) == {}


@pytest.mark.parametrize(
    ("drawn", "classes", "told"),
    [
        ("HSIL (CIN2)", CLASSES, 'such as "HSIL (CIN2)": HSIL, or to ignore, region or drop'),
        ("HSLI", CLASSES, "in the table of classes (`NAME: CLASS`) or to ignore, region or drop"),
        ("HSIL (CIN2)", ("NILM",), "(`NAME: CLASS`) or to ignore"),
    ],
)
def test_an_unknown_name_is_never_proposed_as_another_grade(tmp_path, drawn, classes, told):
    write_blank(tmp_path / "a.png")
    path = write_coco(tmp_path, "a.png", [(drawn, 10, 10, 40, 40)])
    with pytest.raises(ConfigError) as refused:
        read_fields(path, [tmp_path], classes)
    assert told in str(refused.value)
    assert ": NILM" not in str(refused.value)

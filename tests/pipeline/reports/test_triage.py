import itertools

import pytest
from fakes import CLASSES

from pipeline.cells.classes import CellClass, class_colors, find_category, order_by_severity
from pipeline.reports.triage import (
    NO_ABNORMAL_CELLS,
    NO_CELLS,
    TOO_FEW_CELLS,
    TriageSettings,
    suggest,
)


def classes(**abnormal: bool) -> list[CellClass]:
    return [CellClass(name=name, abnormal=flag) for name, flag in abnormal.items()]


@pytest.mark.parametrize(
    ("counts", "category"),
    [
        ({}, NO_CELLS),
        ({"NILM": 5000}, NO_ABNORMAL_CELLS),
        ({"NILM": 5000, "ASC-US": 1}, "ASC-US"),
        ({"LSIL": 90, "ASC-H": 1}, "ASC-H"),
        ({"HSIL": 1, "LSIL": 90, "ASC-H": 7}, "HSIL"),
        ({"SCC": 1, "HSIL": 30}, "SCC"),
    ],
)
def test_most_severe_class_with_a_cell_is_suggested(counts: dict[str, int], category: str) -> None:
    assert suggest(counts, CLASSES).category == category


@pytest.mark.parametrize(
    ("counts", "category"),
    [
        ({"SCC": 2, "HSIL": 3}, "HSIL"),
        ({"SCC": 3, "HSIL": 3}, "SCC"),
        ({"SCC": 2, "HSIL": 1, "NILM": 50}, TOO_FEW_CELLS),
    ],
)
def test_a_class_needs_the_least_number_of_cells(counts: dict[str, int], category: str) -> None:
    suggestion = suggest(counts, CLASSES, TriageSettings(min_cells=3))
    assert suggestion.category == category
    assert "at least 3 cells" in suggestion.rule


def test_the_order_of_the_model_s_classes_does_not_matter_to_bethesda() -> None:
    counts = {"ASC-H": 1, "LSIL": 4}
    for order in itertools.permutations(CLASSES[:4]):
        assert suggest(counts, order).category == "ASC-H"


def test_spelling_of_bethesda_names_does_not_matter() -> None:
    assert find_category("asc_us") is find_category("ASCUS") is find_category("ASC-US")
    assert find_category("koilocyte") is None


def test_unknown_names_go_by_their_flags_and_order() -> None:
    named = classes(normal=False, odd=True, worse=True)
    assert suggest({"normal": 9, "odd": 5, "worse": 1}, named).category == "worse"
    assert suggest({"normal": 9, "odd": 5}, named).category == "odd"
    assert suggest({"normal": 9}, named).category == NO_ABNORMAL_CELLS


def test_unknown_abnormal_names_rank_below_those_of_bethesda() -> None:
    named = [*classes(koilocyte=True), *CLASSES]
    names = [named[i].name for i in order_by_severity(named)]
    assert names == ["SCC", "HSIL", "ASC-H", "LSIL", "ASC-US", "koilocyte", "NILM"]


def test_wording_never_calls_a_slide_negative_nor_diagnoses() -> None:
    for counts in ({}, {"NILM": 3}, {"HSIL": 1}):
        text = suggest(counts, CLASSES).model_dump_json().lower()
        assert "negative" not in text
        assert "diagnos" not in text
        assert "not calibrated" in text


def test_each_class_of_bethesda_has_its_own_color() -> None:
    assert len(set(class_colors(CLASSES))) == len(CLASSES)

import itertools
import re

import numpy as np
import pytest
from fakes import CLASSES, make_alarms

from pipeline.cells.classes import (
    CellClass,
    by_level,
    class_colors,
    find_category,
    group_by_grade,
    order_by_severity,
)
from pipeline.geometry import Detections
from pipeline.reports.expectation import Expectation, expect_cells
from pipeline.reports.triage import (
    BY_CHANCE,
    NAMED_CARRIERS,
    NO_ABNORMAL_CELLS,
    NO_CATEGORY,
    NO_CELLS,
    UNGRADED,
    Suggestion,
    TriageSettings,
    carriers,
    suggest,
    suggest_by_cells,
)

AREA = 10.0
"""Square millimetres that were screened."""


def classes(**abnormal: bool) -> list[CellClass]:
    return [CellClass(name=name, abnormal=flag) for name, flag in abnormal.items()]


def expected(counts: dict[str, int], **figures: float) -> Expectation:
    return expect_cells(counts, CLASSES, make_alarms(**figures), AREA)


def suggested(counts: dict[str, int], **figures: float) -> Suggestion:
    return suggest(counts, CLASSES, expected(counts, **figures))


@pytest.mark.parametrize(
    ("counts", "category"),
    [
        ({}, NO_CELLS),
        ({"NILM": 5000}, NO_ABNORMAL_CELLS),
        ({"NILM": 5000, "ASC-US": 9}, "ASC-US"),
        ({"LSIL": 90, "ASC-H": 9}, "ASC-H"),
        ({"HSIL": 9, "LSIL": 90, "ASC-H": 7}, "HSIL"),
        ({"SCC": 9, "HSIL": 30}, "SCC"),
    ],
)
def test_the_most_severe_class_beyond_chance_is_suggested(
    counts: dict[str, int], category: str
) -> None:
    suggestion = suggested(counts)
    assert suggestion.category == category
    assert suggestion.level == ("class" if category in (c.name for c in CLASSES) else None)


def test_what_chance_explains_is_no_category() -> None:
    counts = {"SCC": 1, "HSIL": 4, "LSIL": 3, "NILM": 900}
    suggestion = suggested(counts, per_mm2=1.0, SCC=0.2, abnormal=1.2)
    assert suggestion.category == BY_CHANCE
    low, high = (expected(counts, per_mm2=1.2).groups["abnormal"].low, 0)
    finding = expected(counts, per_mm2=1.0, SCC=0.2, abnormal=1.2).groups["abnormal"]
    low, high = finding.low, finding.high
    assert low < 8 <= high
    assert suggestion.rule == f"abnormal cells: found 8, expected by chance {low} to {high}"


def test_a_slide_full_of_one_grade_does_not_make_the_next() -> None:
    counts = {"LSIL": 200, "HSIL": 20, "SCC": 2}
    assert suggested(counts, confused=0.0).category == "HSIL"
    assert suggested(counts, confused=0.15).category == "LSIL"


def test_a_grade_is_suggested_where_its_classes_are_confused() -> None:
    counts = {"HSIL": 14, "ASC-H": 12}
    suggestion = suggest(
        counts, CLASSES, expected(counts, HSIL=2.0, ASC_H=2.0, SCC=2.0, high_grade=0.5)
    )
    assert (suggestion.category, suggestion.level) == ("high grade", "grade")
    assert "of its classes HSIL most often" in suggestion.rule


def test_abnormal_is_suggested_where_no_grade_is_certain() -> None:
    counts = {"HSIL": 14, "LSIL": 14}
    figures = {"per_mm2": 2.0, "abnormal": 0.5}
    suggestion = suggested(counts, **figures)
    assert (suggestion.category, suggestion.level) == (UNGRADED, "abnormal")


def test_without_figures_nothing_is_suggested_and_it_says_why() -> None:
    suggestion = suggest({"SCC": 40}, CLASSES, "nobody measured it")
    assert (suggestion.category, suggestion.rule) == (NO_CATEGORY, "nobody measured it")
    assert suggest({"NILM": 40}, CLASSES, "nobody measured it").category == NO_ABNORMAL_CELLS


def test_a_class_needs_the_least_number_of_cells() -> None:
    counts = {"SCC": 9, "HSIL": 30}
    settings = TriageSettings(min_cells=10)
    assert suggest(counts, CLASSES, expected(counts), settings).category == "HSIL"


def test_the_order_of_the_model_s_classes_does_not_matter_to_bethesda() -> None:
    counts = {"ASC-H": 9, "LSIL": 9}
    for order in itertools.permutations(CLASSES[:4]):
        figures = expect_cells(counts, order, make_alarms(), AREA)
        assert suggest(counts, order, figures).category == "ASC-H"


def test_grades_are_groups_of_several_classes() -> None:
    names = {
        grade: [CLASSES[i].name for i in members]
        for grade, members in group_by_grade(CLASSES).items()
    }
    assert names == {
        "high grade": ["ASC-H", "HSIL", "SCC"],
        "low grade": ["ASC-US", "LSIL"],
        "abnormal": ["ASC-US", "LSIL", "ASC-H", "HSIL", "SCC"],
    }
    assert group_by_grade(classes(normal=False, odd=True)) == {"abnormal": (1,)}
    assert group_by_grade(classes(normal=False)) == {}


def test_levels_are_of_single_classes_too_and_of_none_that_the_model_lacks() -> None:
    assert by_level(CLASSES) == {
        "abnormal": (1, 2, 3, 4, 5),
        "low grade": (1, 2),
        "high grade": (3, 4, 5),
    }
    assert by_level(classes(NILM=False, AGC=True, HSIL=True)) == {
        "abnormal": (1, 2),
        "high grade": (2,),
    }
    assert by_level(classes(LSIL=False)) == {}


def cells_of(*labels: int) -> Detections:
    count = len(labels)
    return Detections(np.zeros((count, 4)), np.linspace(0.9, 0.5, count), np.array(labels))


def carried(cells: Detections, **rates: float) -> Suggestion:
    numbers = np.bincount(cells.labels, minlength=len(CLASSES)).tolist()
    counts = {c.name: n for c, n in zip(CLASSES, numbers, strict=True)}
    return suggest_by_cells(cells, CLASSES, expected(counts, **{"per_mm2": 0.001} | rates))


def test_the_cells_of_the_suggested_class_carry_it() -> None:
    suggestion = carried(cells_of(4, 2, 4, 0))
    assert (suggestion.category, suggestion.cells) == ("HSIL", (1, 3))
    assert suggestion.why == "these 2 HSIL cells carry “HSIL”: expected by chance 0 to 0"


def test_the_cells_of_all_its_classes_carry_a_grade() -> None:
    cells = cells_of(3, 5, 2, 4, 4, 0)
    suggestion = carried(cells, SCC=1.0, HSIL=1.0, ASC_H=1.0, high_grade=0.1, low_grade=9.0)
    assert (suggestion.category, suggestion.level) == ("high grade", "grade")
    assert suggestion.cells == (1, 2, 4, 5)
    assert suggestion.why.startswith(
        "these 4 cells of high grade (1 SCC, 2 HSIL, 1 ASC-H) carry “high grade”: expected by"
    )


def test_why_says_how_many_chance_may_have_put_there() -> None:
    suggestion = carried(cells_of(*[4] * 60), HSIL=1.0)
    low, high = re.search(r"by chance (\d+) to (\d+)", suggestion.why).groups()
    assert 0 < int(low) < int(high) < 60
    assert suggestion.why.endswith(
        f", so up to {high} of them may be false alarms or of another grade"
    )


def test_nothing_carries_what_is_not_suggested() -> None:
    suggestion = carried(cells_of(4), HSIL=5.0, high_grade=5.0, abnormal=5.0)
    assert (suggestion.category, suggestion.cells, suggestion.why) == (BY_CHANCE, (), "")


def test_a_suggestion_names_a_hundred_cells_and_the_table_marks_all() -> None:
    cells = cells_of(*[2] * 250)
    suggestion = carried(cells)
    assert suggestion.cells == tuple(range(1, NAMED_CARRIERS + 1))
    assert len(carriers(suggestion, cells, CLASSES)) == 250


def test_spelling_of_bethesda_names_does_not_matter() -> None:
    assert find_category("asc_us") is find_category("ASCUS") is find_category("ASC-US")
    assert find_category("koilocyte") is None


def test_unknown_abnormal_names_rank_below_those_of_bethesda() -> None:
    named = [*classes(koilocyte=True), *CLASSES]
    names = [named[i].name for i in order_by_severity(named)]
    assert names == ["SCC", "HSIL", "ASC-H", "LSIL", "ASC-US", "koilocyte", "NILM"]


def test_wording_never_calls_a_slide_negative_nor_diagnoses() -> None:
    for counts in ({}, {"NILM": 3}, {"HSIL": 1}, {"HSIL": 90}):
        text = suggested(counts).model_dump_json().lower()
        assert "negative" not in text
        assert "diagnos" not in text


def test_each_class_of_bethesda_has_its_own_color() -> None:
    assert len(set(class_colors(CLASSES))) == len(CLASSES)

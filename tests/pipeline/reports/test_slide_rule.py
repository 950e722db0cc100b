"""The slide rule: monotone, made for one model, and told in the report."""

import hashlib
import json

import numpy as np
import pytest
from fakes import MODEL, make_alarms
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs import ConfigError
from pipeline.cells.classes import CellClass
from pipeline.geometry import Detections
from pipeline.reports.adequacy import Specimen
from pipeline.reports.expectation import expect_cells
from pipeline.reports.report import judge_cells
from pipeline.reports.slide_rule import (
    GRADED,
    SlideRule,
    feature_names,
    load_rule,
    name_positive,
    slide_features,
)
from pipeline.reports.triage import BELOW_RULE, NO_CATEGORY, TriageSettings, suggest_by_cells

CLASSES = tuple(
    CellClass(name=name, abnormal=name != "NILM") for name in ("NILM", "ASC-US", "HSIL")
)
SHARE = {"value": 0.9, "low": 0.8, "high": 0.95}


def rule(**changes):
    values = {
        "model": "m",
        "sha256": "abc",
        "thresholds": {"NILM": 0.5},
        "positive": "any abnormal category",
        "features": feature_names(CLASSES),
        "weights": (0.5, 1.0, 0.3, 0.7, 0.2, 2.0),
        "intercept": -2.0,
        "threshold": 0.5,
        "wanted": 0.95,
        "sensitivity": SHARE,
        "specificity": SHARE,
        "auc": SHARE,
        "slides": 100,
        "positives": 40,
    }
    return SlideRule(**values | changes)


def cells(*found):
    labels, scores = (
        (np.array(column) for column in zip(*found, strict=True)) if found else ([], [])
    )
    boxes = np.zeros((len(found), 4))
    return Detections(boxes, np.array(scores, np.float32), np.array(labels, np.int64))


def expected(**counts):
    """Counts set against hardly any false alarms."""
    named = {name.replace("_", "-"): count for name, count in counts.items()}
    return expect_cells(named, CLASSES, make_alarms(per_mm2=0.001), 1.0)


found = st.lists(
    st.tuples(st.integers(0, 2), st.floats(0.0625, 1, width=32)), min_size=0, max_size=12
)


@given(found, st.integers(1, 2), st.floats(0.0625, 1, width=32))
def test_one_more_abnormal_cell_never_lowers_the_score(before, label, score):
    more = rule().score(cells(*before, (label, score)), CLASSES)
    assert more >= rule().score(cells(*before), CLASSES) - 1e-9


@given(found, st.data())
def test_a_more_certain_or_more_severe_cell_never_lowers_the_score(before, data):
    if not before:
        return
    index = data.draw(st.integers(0, len(before) - 1))
    label, score = before[index]
    higher = (min(label + 1, 2) if label else 0, min(1.0, score * 1.1))
    after = [*before[:index], higher, *before[index + 1 :]]
    assert rule().score(cells(*after), CLASSES) >= rule().score(cells(*before), CLASSES) - 1e-9


def test_features_by_hand():
    values = slide_features(cells((1, 0.5), (2, 0.9), (0, 0.99), (2, 0.7)), CLASSES)
    assert values == pytest.approx(
        {
            "abnormal_count": np.log(4),
            "abnormal_top1": 0.9,
            "abnormal_top5": 2.1 / 5,
            "high_grade_count": np.log(3),
            "high_grade_top1": 0.9,
            "high_grade_top5": 1.6 / 5,
        }
    )
    assert tuple(values) == feature_names(CLASSES)


def test_classes_of_no_known_grade_have_the_features_of_all_abnormal_ones():
    own = (CellClass(name="fine", abnormal=False), CellClass(name="odd", abnormal=True))
    assert feature_names(own) == ("abnormal_count", "abnormal_top1", "abnormal_top5")


def test_negative_weights_are_no_rule():
    with pytest.raises(ValidationError, match="none is negative"):
        rule(weights=(0.5, -0.1, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("sha256", "thresholds", "classes"),
    [
        ("other", {"NILM": 0.5}, CLASSES),
        ("abc", {"NILM": 0.6}, CLASSES),
        ("abc", {"NILM": 0.5}, CLASSES[:2]),
    ],
)
def test_a_rule_of_another_model_is_refused(sha256, thresholds, classes):
    rule().check("abc", {"NILM": 0.5}, CLASSES)
    with pytest.raises(ConfigError, match="calibrated for m with other weights"):
        rule().check(sha256, thresholds, classes)


def test_the_report_tells_score_rule_and_whether_it_is_suspicious(tmp_path):
    path = tmp_path / "rule.json"
    path.write_text(rule().model_dump_json())
    settings = TriageSettings(rule=path)
    calm = suggest_by_cells(cells((1, 0.2)), CLASSES, expected(ASC_US=1), settings)
    assert (calm.category, calm.suspicious) == (BELOW_RULE, False)
    alarmed = suggest_by_cells(
        cells((1, 0.2), *[(2, 0.95)] * 6), CLASSES, expected(ASC_US=1, HSIL=6), settings
    )
    assert (alarmed.category, alarmed.suspicious) == ("HSIL", True)
    assert alarmed.score > 0.5 > calm.score
    assert alarmed.version == rule().version
    told = "calibrated on 100 slides for a sensitivity of 95% for any abnormal category; category:"
    assert told in alarmed.rule
    plain = suggest_by_cells(cells((1, 0.2)), CLASSES, expected(ASC_US=1))
    assert (plain.category, plain.score, plain.suspicious) == ("ASC-US", None, None)


@pytest.mark.parametrize(("text", "message"), [("{}", "no slide rule"), ("[", "no slide rule")])
def test_what_is_no_rule_is_named(tmp_path, text, message):
    path = tmp_path / "rule.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_rule(path)
    with pytest.raises(ConfigError, match="can't be read"):
        load_rule(tmp_path / "none.json")


def graded_cells():
    """A NILM cell that may be HSIL, and an HSIL cell; scores of NILM, ASC-US, HSIL."""
    scores = np.array([[0.9, 0.2, 0.3], [0.1, 0.0, 0.8]], np.float32)
    return Detections(np.zeros((2, 4)), np.array([0.9, 0.8], np.float32), np.array([0, 2]), scores)


def test_graded_features_by_hand():
    """Weights: HSIL 1, ASC-US 1/2. 0.3 + 0.1 and 0.8."""
    values = slide_features(graded_cells(), CLASSES)
    assert [values[name] for name in GRADED] == pytest.approx(
        [np.log1p(1.2), 0.8, 1.2 / 5], abs=1e-6
    )
    assert values["abnormal_count"] == pytest.approx(np.log(2))
    empty = slide_features(Detections.empty(), CLASSES)
    assert [empty[name] for name in GRADED] == [0, 0, 0]


def test_a_higher_score_of_an_abnormal_class_never_lowers_graded_features():
    before = slide_features(graded_cells(), CLASSES)
    for row, column in ((0, 1), (0, 2), (1, 1), (1, 2)):
        cells = graded_cells()
        cells.class_scores[row, column] += 0.15
        after = slide_features(cells, CLASSES)
        assert all(after[name] >= before[name] for name in GRADED)
        assert after["graded_sum"] > before["graded_sum"]


def test_a_rule_remembers_its_features_and_says_where_they_lack():
    one = rule(features=("abnormal_count", "graded_top1"), weights=(0.0, 2.0))
    one.check("abc", {"NILM": 0.5}, CLASSES)
    assert one.score(graded_cells(), CLASSES) == pytest.approx(1 / (1 + np.exp(2 - 1.6)), abs=1e-6)
    with pytest.raises(ConfigError, match="needs the scores of all classes"):
        one.score(cells((2, 0.8)), CLASSES)


def test_a_rule_of_the_first_format_is_read_and_keeps_its_version(tmp_path):
    """By the text that the first version of this program hashed."""
    old = rule(format="cytolibra-slide-rule-1")
    values = json.loads(old.model_dump_json())
    del values["rule_out"]
    path = tmp_path / "rule.json"
    path.write_text(json.dumps(values))
    text = json.dumps(values, separators=(",", ":"))
    expected_version = "slide-rule-1:" + hashlib.sha256(text.encode()).hexdigest()[:12]
    assert load_rule(path).version == expected_version
    assert load_rule(path).rule_out is None


def ruling_out(tmp_path, **changes):
    path = tmp_path / "rule.json"
    out = {"level": 0.05, "threshold": 0.4, "patients": 40, "below": 0, "bound": 0.024}
    path.write_text(rule(rule_out=out | {"upper": 0.07}, **changes).model_dump_json())
    return TriageSettings(rule=path)


def test_the_suggestion_says_whether_a_slide_is_set_aside(tmp_path):
    settings = ruling_out(tmp_path)
    low, few, many = cells((1, 0.1)), expected(ASC_US=1), cells(*[(2, 0.95)] * 6)
    aside = suggest_by_cells(low, CLASSES, few, settings)
    assert aside.set_aside is True
    assert "2.4% of abnormal patients" in aside.set_aside_reason
    kept = suggest_by_cells(many, CLASSES, few, settings)
    assert (kept.set_aside, kept.suspicious) == (False, True)
    unsure = suggest_by_cells(low, CLASSES, few, settings, unsure="it is out of focus")
    assert (unsure.set_aside, unsure.set_aside_reason) == (None, "undecided: it is out of focus")
    (tmp_path / "plain.json").write_text(rule().model_dump_json())
    plain = suggest_by_cells(low, CLASSES, few, TriageSettings(rule=tmp_path / "plain.json"))
    assert (plain.set_aside, plain.set_aside_reason) == (None, None)


@pytest.mark.parametrize(
    ("least", "words", "severity"),
    [
        (None, "any abnormal category", 1),
        ("asc-us", "any abnormal category", 1),
        ("hsil", "HSIL and more severe", 5),
    ],
)
def test_what_counts_as_positive_is_told_and_read(least, words, severity):
    assert name_positive(least) == words
    assert rule(positive=words).least == severity
    assert rule(positive="whatever").least == np.inf


def test_a_rule_for_high_grades_hides_no_lesser_category(tmp_path):
    """It says nothing of an ASC-US slide, whose score is low because it was among the negatives."""
    low, few = cells((1, 0.1)), expected(ASC_US=1)
    settings = ruling_out(tmp_path, positive="HSIL and more severe")
    found = suggest_by_cells(low, CLASSES, few, settings)
    assert (found.category, found.level, found.cells) == ("ASC-US", "class", (1,))
    assert (found.suspicious, found.set_aside) == (False, None)
    why = "undecided: “ASC-US” is suggested, and the rule is for HSIL and more severe alone"
    assert found.set_aside_reason == why
    none = suggest_by_cells(cells((0, 0.9)), CLASSES, expected(NILM=1), settings)
    assert (none.category, none.set_aside) == (BELOW_RULE, True)
    assert "2.4% of patients with HSIL and more severe" in none.set_aside_reason
    unknown = suggest_by_cells(low, CLASSES, few, settings, unsure="odd", unknown=True)
    assert (unknown.suspicious, unknown.level) == (None, None)


@pytest.mark.parametrize(
    ("positive", "aside"),
    [
        ("HSIL and more severe", True),  # what is suggested counts
        ("SCC and more severe", None),
        ("any abnormal category", True),
        ("of another tongue", None),
    ],
)
def test_what_counts_as_positive_is_the_rule_s_to_judge(tmp_path, positive, aside):
    settings = ruling_out(tmp_path, positive=positive, intercept=-9.0)
    found = suggest_by_cells(cells((2, 0.1)), CLASSES, expected(HSIL=1), settings)
    assert found.set_aside is aside
    assert found.category == (BELOW_RULE if aside else "HSIL")


def test_a_grade_counts_only_if_all_of_its_classes_do(tmp_path):
    names = ("NILM", "ASC-H", "HSIL", "SCC")
    classes = tuple(CellClass(name=name, abnormal=name != "NILM") for name in names)
    counts = {"ASC-H": 2, "HSIL": 2, "SCC": 2}
    likely = expect_cells(counts, classes, make_alarms(per_mm2=0.001), 1.0)
    one = {name: likely.groups[name].model_copy(update={"high": 9}) for name in counts}
    likely = likely.model_copy(update={"groups": likely.groups | one})
    found = cells(*[(label, 0.1) for label in (1, 1, 2, 2, 3, 3)])
    for positive, category in {"ASC-H": BELOW_RULE, "HSIL": "high grade"}.items():
        settings = ruling_out(
            tmp_path, positive=name_positive(positive), features=("abnormal_count",), weights=(0.1,)
        )
        load_rule.cache_clear()
        assert suggest_by_cells(found, classes, likely, settings).category == category


def test_of_a_picture_that_the_model_does_not_know_a_score_says_nothing(tmp_path):
    strange = suggest_by_cells(
        cells((1, 0.1)), CLASSES, "no picture", ruling_out(tmp_path), unsure="odd", unknown=True
    )
    assert (strange.suspicious, strange.level, strange.category) == (None, None, NO_CATEGORY)


def test_of_a_slide_of_which_nothing_was_screened_a_score_says_nothing(tmp_path):
    model = MODEL.model_copy(update={"classes": CLASSES})
    settings = ruling_out(tmp_path)
    suspicious = {}
    for screened in (0.0, 30.0):
        seen = Specimen(100.0, screened, 0.0, 0.25)
        judged = judge_cells(Detections.empty(), model, seen, triage=settings)
        suspicious[screened] = judged.suggestion.suspicious
    assert suspicious == {0.0: None, 30.0: False}
    assert judged.adequacy.reason != "not assessed: nothing was screened"

"""Calibration from reports and labels, as a lab would do it."""

import csv
import json
from dataclasses import replace
from unicodedata import normalize

import numpy as np
import pytest
from fakes import make_report, scored
from typer.testing import CliRunner

from configs import ConfigError
from data.evaluation.slide_metrics import exact_proportion
from pipeline.reports.slide_rule import GRADED, load_rule
from scripts.cli import build_app
from scripts.evaluation import slide_level
from scripts.evaluation.labels import is_positive
from scripts.evaluation.set_aside import Wish, fit_with_rule_out
from scripts.evaluation.slide_level import fit_rule, judge, read_labelled

SIDES = ("x_min", "y_min", "x_max", "y_max")


def write_slide(folder, cells, threshold=0.5):
    """A result of screening, as far as calibration reads it: (class, score) of each cell."""
    folder.mkdir(parents=True)
    report = make_report().model_dump(mode="json")
    names = [name for name, _ in cells]
    report["counts"] = {name: names.count(name) for name in report["counts"]}
    report["model"]["threshold"] = dict.fromkeys(report["model"]["threshold"], threshold)
    (folder / "report.json").write_text(json.dumps(report))
    with (folder / "cells.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "score", *SIDES])
        writer.writerows([name, score, 0, 0, 9, 9] for name, score in cells)


@pytest.fixture
def screened(tmp_path):
    """Forty slides of twenty patients; the positive ones have more and surer abnormal cells."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        positive = number % 4 < 2
        count = rng.poisson(6 if positive else 2)
        scores = np.round(rng.beta(4 if positive else 2, 2, count), 3)
        write_slide(
            tmp_path / "out" / f"Fälle {number % 3}" / f"{number}.svs",
            [("HSIL", s) for s in scores],
        )
        rows.append((f"{number}.svs", "HSIL" if positive else "NILM", f"p{number // 2}"))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("slide", "label", "patient"), *rows])
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(build_app("calibrate"), ["calibrate", *map(str, arguments)])


def test_a_rule_is_fitted_told_and_kept(screened):
    out = screened / "rules" / "rule.json"
    result = call(screened / "out", "--labels", screened / "labels.csv", "--out", out)
    assert result.exit_code == 0, result.output
    rule = load_rule(out)
    assert (rule.slides, rule.positives) == (40, 20)
    assert rule.sensitivity.value >= 0.95
    assert 0.7 < rule.auc.value < 1
    assert rule.auc.low < rule.auc.value < rule.auc.high
    assert min(rule.weights) >= 0 < max(rule.weights)
    assert "40 slides, 20 positive" in result.output
    assert "<svg" in out.with_suffix(".svg").read_text()


def test_figures_come_from_slides_that_were_left_out(screened):
    """On labels that mean nothing the rule must not look good."""
    slides = read_labelled(screened / "out", screened / "labels.csv", None)
    rng = np.random.default_rng(3)
    shuffled = type(slides)(**vars(slides) | {"positive": rng.permutation(slides.positive)})
    rule, _ = fit_rule(shuffled, 0.9, "any")
    assert rule.auc.value < 0.7


def test_patients_are_never_torn_apart(screened):
    from scripts.evaluation.slide_level import _folds

    slides = read_labelled(screened / "out", screened / "labels.csv", None)
    fold = _folds(slides, 5, 0)
    for group in np.unique(slides.groups):
        assert len(set(fold[slides.groups == group])) == 1
    positives = [int(slides.positive[fold == part].sum()) for part in range(5)]
    assert max(positives) - min(positives) <= 2


@pytest.mark.parametrize(
    ("patients", "message"),
    [
        (np.where(np.arange(40) < 20, np.arange(40) // 20, np.arange(40)), "of 1 patients, 20"),
        (np.where(np.arange(40) < 20, np.arange(40) % 9, np.arange(40)), "of 9 patients, 20"),
        (np.where(np.arange(40) < 20, np.arange(40), 20), "negative ones of 1: a rule needs at"),
    ],
)
def test_many_slides_of_few_patients_are_too_few(screened, patients, message):
    """A patient whose slides are all that is positive is left out whole: nothing is left."""
    slides = read_labelled(screened / "out", screened / "labels.csv", None)
    positive = np.arange(40) < 20
    groups = np.unique(patients, return_inverse=True)[1]
    with pytest.raises(ConfigError, match=message):
        fit_rule(replace(slides, positive=positive, groups=groups), 0.9, "any")


def test_nothing_is_learned_from_slides_of_one_outcome():
    from scripts.evaluation.slide_level import _left_out

    positive = np.arange(8) < 4
    with pytest.raises(ConfigError, match="of patients of one part"):
        _left_out(np.ones((8, 1)), positive, np.where(positive, 0, np.arange(8) % 2), 1.0)


def test_shares_at_a_threshold_by_hand():
    scores, positive = np.array([0.9, 0.2, 0.6, 0.1]), np.array([True, True, False, False])
    judged = judge(scores, positive, 0.5, np.arange(4))
    assert (judged.sensitivity.value, judged.specificity.value, judged.auc.value) == (
        0.5,
        0.5,
        0.75,
    )


def test_slides_of_one_patient_are_not_taken_for_several_patients():
    rng = np.random.default_rng(1)
    positive, patients = np.arange(40) < 20, np.arange(40)
    scores = rng.normal(positive * 1.0, 1)
    once = judge(scores, positive, 0.5, patients)
    many = judge(*(np.repeat(one, 10) for one in (scores, positive)), 0.5, np.repeat(patients, 10))
    for name in ("sensitivity", "specificity"):
        one, ten = getattr(once, name), getattr(many, name)
        assert ten.value == one.value
        assert ten.high - ten.low >= one.high - one.low


@pytest.mark.parametrize(
    ("label", "least", "expected"),
    [
        ("HSIL", None, True),
        ("asc-us", None, True),
        ("NILM", None, False),
        ("LSIL", "ASC-H", False),
        ("HSIL", "ASC-H", True),
        ("1", None, True),
        ("negative", None, False),
    ],
)
def test_labels_are_categories_or_words(label, least, expected):
    assert is_positive(label, least) == expected


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("slide,label\n0.svs,banana\n", "neither a category"),
        ("slide,label\nnone.svs,HSIL\n", "names none of the 40 slides"),
        ("slide,label\n0.svs,HSIL\n0,NILM\n", "has two labels"),
        ("a,b\n1,2\n", "needs the columns slide and label"),
        ("slide,label\n0.svs,HSIL\n1.svs,NILM\n", "needs at least 10 of each"),
    ],
)
def test_labels_that_do_not_fit_are_told_in_one_line(screened, rows, message):
    (screened / "labels.csv").write_text(rows)
    result = call(
        screened / "out", "--labels", screened / "labels.csv", "--out", screened / "r.json"
    )
    assert result.exit_code == 2
    assert message in result.output
    assert not (screened / "r.json").exists()


def test_a_seed_below_zero_is_refused(screened):
    result = call(screened / "out", "--labels", screened / "labels.csv", "--seed", -1)
    assert result.exit_code == 2
    assert "--seed" in result.stderr


def test_reports_of_two_models_are_not_mixed(screened):
    write_slide(screened / "out" / "Fälle 0" / "99.svs", [], threshold=0.4)
    with (screened / "labels.csv").open("a") as file:
        file.write("99.svs,NILM,p99\n")
    with pytest.raises(ConfigError, match="different models or thresholds"):
        read_labelled(screened / "out", screened / "labels.csv", None)


def test_graded_scores_are_features_where_all_slides_have_them(ill):
    slides = read_labelled(ill / "out", ill / "labels.csv", None)
    names, plain = slides.features()
    assert not set(names) & set(GRADED)
    known = []
    for cells in slides.cells:
        scores = np.zeros((len(cells), 6), np.float32)
        scores[np.arange(len(cells)), cells.labels] = cells.scores
        known.append(scored(cells, scores))
    graded = replace(slides, cells=tuple(known))
    names, values = graded.features()
    assert names[-3:] == GRADED
    assert values[:, :-3].tolist() == plain.tolist()
    # HSIL is the last but one in severity of the five abnormal classes: 4/5 of its score.
    best = names.index("high_grade_top1")
    assert values[:, -2] == pytest.approx(0.8 * values[:, best], abs=1e-6)
    rule, _ = fit_rule(graded, 0.9, "any")
    assert rule.features == names


def test_slides_that_take_the_graded_scores_from_all_are_told(ill, monkeypatch):
    def read(path, classes):
        cells = read_cells(path, classes)
        graded = scored(cells, np.zeros((len(cells), len(classes)), np.float32))
        return cells if path.parent.name == "3.svs" else graded

    read_cells = slide_level.read_cells
    monkeypatch.setattr(slide_level, "read_cells", read)
    notes = read_labelled(ill / "out", ill / "labels.csv", None).notes
    told = "1 slides lack the scores of all classes, so that those of others don't count either"
    assert f"{told}: 3.svs" in notes
    monkeypatch.undo()
    notes = read_labelled(ill / "out", ill / "labels.csv", None).notes
    assert not any("scores of all classes" in note for note in notes)  # none has them


def test_what_an_evaluation_left_out_stands_with_its_figures(screened):
    lines = (screened / "labels.csv").read_text().splitlines()
    (screened / "labels.csv").write_text("\n".join([*lines, "gone.svs,HSIL,x"]) + "\n")
    places = ["--screened", screened / "out", "--labels", screened / "labels.csv"]
    assert evaluate(*places, "--out", screened).exit_code == 0
    notes = json.loads((screened / "metrics.json").read_text())["notes"]
    assert "1 slides with a label have no report: gone.svs" in notes


def test_slides_out_of_the_domain_are_told(screened):
    path = screened / "out" / "Fälle 0" / "0.svs" / "report.json"
    report = json.loads(path.read_text())
    report["domain"] = {"within": False, "reason": "odd", "cells": 100}
    path.write_text(json.dumps(report))
    slides = read_labelled(screened / "out", screened / "labels.csv", None)
    assert "1 slides are out of the model's domain: Fälle 0/0.svs" in slides.notes


def test_what_is_left_out_is_told(screened):
    lines = (screened / "labels.csv").read_text().splitlines()
    (screened / "labels.csv").write_text("\n".join([*lines[:-2], "gone.svs,HSIL,x"]) + "\n")
    slides = read_labelled(screened / "out", screened / "labels.csv", None)
    assert any("gone.svs" in note for note in slides.notes)
    assert any("have no label" in note for note in slides.notes)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_labels_as_a_spreadsheet_writes_them(tmp_path, encoding, form):
    """Semicolons, a mark at the start or latin letters; names composed or not, here or there."""
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    labels = {"é 1.svs": "HSIL", "Ü 2.svs": "NILM", "ß 3.svs": "negative"}
    for name in labels:
        write_slide(tmp_path / "out" / normalize(other, name), [("HSIL", 0.9)])
    form = "NFC" if encoding == "cp1252" else form  # which has no letters in parts
    rows = [f"{normalize(form, name)};{label};Müller" for name, label in labels.items()]
    text = "\r\n".join(["sep=;", "Slide;Label;Patient", *rows, ";;", ""])
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    slides = read_labelled(tmp_path / "out", tmp_path / "labels.csv", None)
    found = dict(
        zip((normalize("NFC", name) for name in slides.names), slides.positive, strict=True)
    )
    assert found == {"é 1.svs": True, "Ü 2.svs": False, "ß 3.svs": False}
    assert slides.groups.tolist() == [0, 0, 0]
    assert any("[encoding-assumed]" in note for note in slides.notes) == (encoding == "cp1252")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("slide,label\n0.svs,HSIL\n1.svs,perhaps\n", "line 3: label 'perhaps'"),
        ("slide,label\n0.svs,HSIL\n1.svs\n", "line 3: label ''"),
        ("slide,label\n0.svs,HSIL\n0.svs,NILM\n", r"line 3: .* has two labels"),
        ("slide,label,label\n0.svs,HSIL,NILM\n", "has the column label twice"),
        ("slide,label\n0.svs,HSIL,x\n", "line 2: 3 cells, where the header has 2"),
        ("", "is empty"),
    ],
)
def test_a_label_that_cannot_be_read_is_named_by_its_line(tmp_path, rows, message):
    for name in ("0.svs", "1.svs"):
        write_slide(tmp_path / "out" / name, [("HSIL", 0.9)])
    (tmp_path / "labels.csv").write_text(rows)
    with pytest.raises(ConfigError, match=message):
        read_labelled(tmp_path / "out", tmp_path / "labels.csv", None)


def test_a_table_of_cells_that_was_cut_off_is_refused(tmp_path):
    write_slide(tmp_path / "out" / "0.svs", [("HSIL", 0.9), ("HSIL", 0.8)])
    (tmp_path / "labels.csv").write_text("slide,label\n0.svs,HSIL\n")
    cells = tmp_path / "out" / "0.svs" / "cells.csv"
    cells.write_text("".join(cells.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ConfigError, match=r"0\.svs: report\.json counts 2 cells, .*has 1: "):
        read_labelled(tmp_path / "out", tmp_path / "labels.csv", None)


def test_cells_as_a_spreadsheet_has_them_are_read(tmp_path):
    write_slide(tmp_path / "out" / "0.svs", [("HSIL", 0.9)])
    (tmp_path / "labels.csv").write_text("slide,label\n0.svs,HSIL\n")
    cells = tmp_path / "out" / "0.svs" / "cells.csv"
    header = ";".join(["class", "score", *SIDES])
    cells.write_text(f"{header}\nHSIL;0,8750;1,50;2,25;30,00;40,00\n", encoding="utf-8-sig")
    (found,) = read_labelled(tmp_path / "out", tmp_path / "labels.csv", None).cells
    assert found.boxes.tolist() == [[1.5, 2.25, 30, 40]]
    assert found.scores.tolist() == [0.875]
    for broken in ("HSIL;x;1;2;3;4", "none;0,5;1;2;3;4", "HSIL;0,5;1;2"):
        cells.write_text(f"{header}\n{broken}\n")
        with pytest.raises(ConfigError, match=r"0\.svs/cells\.csv: is no cells\.csv of this model"):
            read_labelled(tmp_path / "out", tmp_path / "labels.csv", None)


def evaluate(*arguments):
    return CliRunner().invoke(build_app("evaluate"), ["evaluate", *map(str, arguments)])


def test_whole_slides_are_evaluated_with_and_without_a_rule(screened):
    rule = screened / "rule.json"
    call(screened / "out", "--labels", screened / "labels.csv", "--out", rule)
    options = ["--screened", screened / "out", "--labels", screened / "labels.csv"]
    for extra, score in [([], "abnormal cells"), (["--rule", rule], load_rule(rule).version)]:
        result = evaluate(*options, *extra, "--out", screened / "figures")
        assert result.exit_code == 0, result.output
        figures = json.loads((screened / "figures" / "metrics.json").read_text())
        assert (figures["score"], figures["slides"], figures["patients"]) == (score, 40, 20)
        assert 0.5 < figures["auc"]["low"] <= figures["auc"]["value"] <= figures["auc"]["high"]
        assert len(figures["by_slide"]) == 40
        assert ("against_count" in figures) == bool(extra)
        assert figures["intervals"] == "by patient"
        assert "with 95% intervals by patient" in result.output
    assert figures["sensitivity"]["value"] >= 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "x.csv"], "--screened and --labels go together"),
        ([], "give --model, --data and --images"),
    ],
)
def test_an_evaluation_of_nothing_is_refused(options, message):
    result = evaluate(*options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.fixture
def ill(tmp_path):
    """Sixty abnormal slides of forty patients and thirty normal ones, which have few cells."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(90):
        positive = number < 60
        count = 2 + rng.poisson(5) if positive else rng.poisson(1)
        scores = np.round(rng.beta(5 if positive else 2, 2, count), 3)
        write_slide(tmp_path / "out" / f"{number}.svs", [("HSIL", s) for s in scores])
        patient = f"p{number % 40}" if positive else f"n{number}"
        rows.append((f"{number}.svs", "HSIL" if positive else "NILM", patient))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("slide", "label", "patient"), *rows])
    return tmp_path


def test_the_threshold_of_those_set_aside_is_of_patients_held_out(ill):
    slides = read_labelled(ill / "out", ill / "labels.csv", None)
    rule, _, fitted = fit_with_rule_out(slides, Wish(0.05, None), 0.9, "any")
    held = set(slides.names) - set(fitted.names)
    patients = {name: int(group) for name, group in zip(slides.names, slides.groups, strict=True)}
    assert len({patients[name] for name in held}) == 20 == rule.rule_out.patients
    assert not {patients[name] for name in held} & {patients[name] for name in fitted.names}
    assert rule.positives == int(fitted.positive.sum()) < 60
    # The lowest of the twenty patients' lowest scores: floor(0.05 * 21) = 1.
    lowest = {}
    for name, score in zip(slides.names, slides.scores(rule), strict=True):
        if name in held:
            lowest[patients[name]] = min(score, lowest.get(patients[name], 1.0))
    assert rule.rule_out.threshold == pytest.approx(min(lowest.values()), abs=1e-6)
    assert rule.rule_out.bound == pytest.approx(1 / 21)


def test_those_set_aside_are_told_kept_and_judged(ill):
    rule = ill / "rule.json"
    labels = ["--labels", ill / "labels.csv"]
    result = call(ill / "out", *labels, "--rule-out", 0.05, "--out", rule)
    assert result.exit_code == 0, result.output
    assert "abnormal patients held out for that" in result.output
    known = load_rule(rule)
    result = evaluate("--screened", ill / "out", *labels, "--rule", rule, "--out", ill / "figures")
    assert result.exit_code == 0, result.output
    figures = json.loads((ill / "figures" / "metrics.json").read_text())["rule_out"]
    slides = read_labelled(ill / "out", ill / "labels.csv", None)
    limit = min(known.rule_out.threshold, known.threshold)
    aside = (slides.scores(known) < limit) & ~slides.positive
    assert figures["normal"]["count"] == int(aside.sum()) > 0
    assert figures["normal"]["of"] == 30
    assert figures["patients"]["of"] == 40
    assert figures["abnormal"]["low"] <= figures["abnormal"]["value"] <= figures["abnormal"]["high"]
    assert figures["intervals"] == "by patient"
    by_slide = exact_proportion(figures["abnormal"]["count"], figures["abnormal"]["of"])
    assert figures["abnormal"]["high"] > by_slide.high
    assert len(figures["missed"]) == figures["abnormal"]["count"]
    assert "normal slides" in result.output


def test_a_promise_for_high_grades_is_told_as_one(ill):
    """LSIL is among the negatives of such a rule; by the labels of another meaning it is told."""
    lines = (ill / "labels.csv").read_text().splitlines()
    lines[-1] = lines[-1].replace("NILM", "LSIL")
    (ill / "labels.csv").write_text("\n".join(lines))
    rule, labels = ill / "rule.json", ["--labels", ill / "labels.csv"]
    high = ["--positive", "hsil"]
    result = call(ill / "out", *labels, *high, "--rule-out", 0.05, "--out", rule)
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    assert "patients with HSIL and more severe held" in told.replace("│ │ ", "")
    assert load_rule(rule).positive == "HSIL and more severe"
    judged = ["--screened", ill / "out", *labels, "--rule", rule, "--out", ill / "figures"]
    for options, positive, count in (
        (high, "HSIL and more severe", 60),
        ([], "any abnormal category", 61),
    ):
        result = evaluate(*judged, *options)
        assert result.exit_code == 0, result.output
        figures = json.loads((ill / "figures" / "metrics.json").read_text())
        assert (figures["positive"], figures["positives"]) == (positive, count)
        assert figures["rule_out"]["positive"] == "HSIL and more severe"
        assert "of patients with HSIL and more severe)" in " ".join(result.output.split())
        assert ("[positive-differs]" in result.output) == (not options)
        assert any("[positive-differs]" in note for note in figures["notes"]) == (not options)


def test_a_slide_of_lesser_category_is_not_counted_as_set_aside(ill):
    """As screening leaves it undecided, whatever rule its report was made with."""
    rule, labels = ill / "rule.json", ["--labels", ill / "labels.csv"]
    path = ill / "out" / "89.svs" / "report.json"
    report = json.loads(path.read_text())
    report["counts"] |= {"HSIL": 0, "LSIL": 3}
    finding = {"found": 3, "expected": 0.1, "low": 0, "high": 1}
    report["expectation"] = {"groups": {"LSIL": finding}, "level": 0.95, "basis": "made up"}
    path.write_text(json.dumps(report))
    with (path.parent / "cells.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("class", "score", *SIDES), *[("LSIL", 0.5, 0, 0, 9, 9)] * 3])
    options = [*labels, "--positive", "HSIL"]
    call(ill / "out", *options, "--rule-out", 0.05, "--out", rule)
    evaluate("--screened", ill / "out", *options, "--rule", rule, "--out", ill / "figures")
    figures = json.loads((ill / "figures" / "metrics.json").read_text())["rule_out"]
    why = "“LSIL” is suggested, and the rule is for HSIL and more severe alone"
    assert figures["undecided"] == {why: 1}


def test_slides_with_warnings_are_not_set_aside(ill):
    rule = ill / "rule.json"
    labels = ["--labels", ill / "labels.csv"]
    for number in range(60, 90):
        path = ill / "out" / f"{number}.svs" / "report.json"
        report = json.loads(path.read_text())
        report["warnings"] = [{"code": "out-of-focus", "text": "odd"}]
        path.write_text(json.dumps(report))
    call(ill / "out", *labels, "--rule-out", 0.05, "--out", rule)
    evaluate("--screened", ill / "out", *labels, "--rule", rule, "--out", ill / "figures")
    figures = json.loads((ill / "figures" / "metrics.json").read_text())["rule_out"]
    assert figures["normal"]["count"] == 0
    assert figures["undecided"] == {"the slide has warnings (out-of-focus)": 30}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--rule-out", 0.01],
            "of 40 abnormal patients 30 can be held out, as 10 are needed for the fit, and a bound "
            "of 1.00% needs 99: with so many at most 3.23% can be promised (--rule-out 0.0323)",
        ),
        (["--rule-out", 0.05, "--rule-out-confidence", 0.95], "needs 59"),
        (["--rule-out", 0], "--rule-out 0: is a share between 0 and 1"),
        (["--rule-out", "nan"], "--rule-out nan: is a share between 0 and 1"),
        (["--rule-out", 0.1, "--rule-out-confidence", 1], "--rule-out-confidence 1: is a share"),
        (["--rule-out-confidence", 0.9], "--rule-out-confidence needs --rule-out"),
        (["--rule-out", 0.1, "--negatives"], "--rule-out needs abnormal slides"),
    ],
)
def test_a_promise_that_cannot_be_made_is_refused_in_one_line(ill, options, message):
    result = call(ill / "out", "--labels", ill / "labels.csv", *options, "--out", ill / "r.json")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (ill / "r.json").exists()


def test_the_smallest_promise_that_is_offered_can_be_made(ill):
    result = call(
        ill / "out", "--labels", ill / "labels.csv", "--rule-out", 0.0323, "--out", ill / "r.json"
    )
    assert result.exit_code == 0, result.output
    assert load_rule(ill / "r.json").rule_out.patients == 30


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"", b'{"schema_version": "2.0"}'])
def test_a_damaged_report_is_named_in_a_line(screened, damage):
    report = screened / "out" / "F\u00e4lle 0" / "0.svs" / "report.json"
    report.write_bytes(damage)
    result = call(screened / "out", "--labels", screened / "labels.csv")
    assert result.exit_code == 2
    assert "0.svs/report.json: is " in result.stderr
    assert isinstance(result.exception, SystemExit)

"""False alarms on normal slides, as a lab would measure them."""

import json
import shutil

import numpy as np
import pytest
from evidence import make_evidence
from fakes import MODEL, make_alarms, make_report
from typer.testing import CliRunner

from configs import ConfigError
from models.card import FalseAlarms, save_card
from pipeline.reports.expectation import load_negatives
from scripts.cli import build_app
from scripts.evaluation.negatives import read_negatives


def write_slide(folder, hsil, mm2=10.0, threshold=0.3):
    """A result of screening with so many cells called HSIL."""
    folder.mkdir(parents=True)
    report = make_report().model_dump(mode="json")
    report["counts"] = dict.fromkeys(report["counts"], 0) | {"HSIL": hsil, "NILM": 500}
    report["abnormal_cells"] = hsil
    report["area"]["screened_mm2"] = mm2
    report["model"]["threshold"] = dict.fromkeys(report["model"]["threshold"], threshold)
    (folder / "report.json").write_text(json.dumps(report))


@pytest.fixture
def normal(tmp_path):
    """Ten normal slides with some twenty false alarms each."""
    counts = np.random.default_rng(0).poisson(20, 10).tolist()
    for number, count in enumerate(counts):
        write_slide(tmp_path / "out" / f"{number}.svs", count)
    return tmp_path, counts


def call(*arguments):
    return CliRunner().invoke(build_app("calibrate"), ["calibrate", *map(str, arguments)])


def test_normal_slides_say_what_to_expect(normal):
    folder, counts = normal
    out = folder / "figures" / "alarms.json"
    result = call(folder / "out", "--negatives", "--out", out)
    assert result.exit_code == 0, result.output
    alarms = load_negatives(out)
    assert (alarms.unit, alarms.sha256) == ("slide", MODEL.sha256)
    assert alarms.groups["HSIL"].found == sum(counts)
    assert alarms.groups["HSIL"].per_mm2 == pytest.approx((sum(counts) + 0.5) / 100, abs=1e-3)
    assert alarms.groups["LSIL"].found == 0
    assert alarms.data == "10 normal slides of out, 100.0 mm²"
    assert "False alarms at the thresholds" in result.output


def test_the_model_s_confusions_are_kept(normal):
    folder, _ = normal
    known = make_alarms(confused=0.25).model_copy(update={"sha256": ""})
    alarms, _ = read_negatives(folder / "out", None, None, known)
    assert alarms.groups["HSIL"].confused == 0.25


def test_why_confusions_are_not_known_is_told(normal, tmp_path):
    """Left out, they count as 0: a slide full of one grade would have another one, too."""
    folder, _ = normal
    card = make_evidence([], []).card.model_copy(update={"name": "mine"})
    alarms = make_alarms(confused=0.25)
    changes = {
        "fake is no shipped model; name it with --model": None,
        "mine of --model has other weights than what screened them": {"sha256": "1" * 64},
        "mine has no such figures": {"sha256": MODEL.sha256},
        "for other thresholds only (HSIL)": {
            "sha256": MODEL.sha256,
            "false_alarms": alarms.model_copy(
                update={"thresholds": alarms.thresholds | {"HSIL": 0.9}}
            ),
        },
    }
    for why, change in changes.items():
        named = []
        if change:
            save_card(card.model_copy(update=change), tmp_path)
            named = ["--model", tmp_path]
        out = folder / "alarms.json"
        result = call(folder / "out", "--negatives", "--out", out, *named)
        assert "warning: how often the model takes one grade for another is not" in result.output
        assert why in result.output
        assert "[confusion-unknown]" in result.output
        assert FalseAlarms.model_validate_json(out.read_text()).groups["HSIL"].confused == 0
    save_card(card.model_copy(update=change | {"false_alarms": alarms}), tmp_path)
    result = call(folder / "out", "--negatives", "--out", out, *named)
    assert result.exit_code == 0, result.output
    assert "confusion-unknown" not in result.output
    assert FalseAlarms.model_validate_json(out.read_text()).groups["HSIL"].confused == 0.25


def test_what_is_being_written_and_other_runs_are_no_slides(normal):
    folder, _ = normal
    (folder / "out/run.json").write_text("{}")
    shutil.copytree(folder / "out/0.svs", folder / "out/.partial-host-1-abc")
    shutil.copytree(folder / "out/1.svs", folder / "out/other/1.svs")
    (folder / "out/other/run.json").write_text("{}")
    result = call(folder / "out", "--negatives", "--out", folder / "alarms.json")
    assert load_negatives(folder / "alarms.json").data == "10 normal slides of out, 100.0 mm²"
    assert "[outputs-left-out]" in result.output


def test_positive_without_labels_is_refused(normal):
    folder, _ = normal
    out = folder / "alarms.json"
    result = call(folder / "out", "--negatives", "--positive", "HSIL", "--out", out)
    assert result.exit_code == 2
    assert "--positive says which of the --labels count" in " ".join(result.output.split())


def test_fewer_than_five_are_refused(tmp_path):
    for number in range(4):
        write_slide(tmp_path / "out" / f"{number}.svs", 20)
    result = call(tmp_path / "out", "--negatives", "--out", tmp_path / "a.json")
    assert result.exit_code == 2
    assert "4 normal slides say too little" in result.stderr
    assert not (tmp_path / "a.json").exists()


def test_a_slide_far_from_the_others_is_named(normal):
    folder, _ = normal
    write_slide(folder / "out" / "odd.svs", 400)
    with pytest.raises(ConfigError, match=r"odd\.svs: has 400 abnormal cells where the other"):
        read_negatives(folder / "out", None, None, None)


def test_of_five_slides_one_that_is_far_off_is_named(tmp_path):
    """Of four others no spread is known: three times the highest rate, 3 * (22 + 1) = 69."""
    for number, count in enumerate((20, 18, 22, 19)):
        write_slide(tmp_path / "out" / f"{number}.svs", count)
    write_slide(tmp_path / "out" / "odd.svs", 69)
    alarms, _ = read_negatives(tmp_path / "out", None, None, None)
    assert alarms.groups["HSIL"].units == 5
    write_slide(tmp_path / "out" / "more" / "odd.svs", 70)
    (tmp_path / "out" / "odd.svs" / "report.json").unlink()
    with pytest.raises(ConfigError, match=r"has 70 abnormal cells .* make at most 22 likely"):
        read_negatives(tmp_path / "out", None, None, None)


def test_a_slide_out_of_the_domain_is_no_measure_of_false_alarms(normal):
    folder, _ = normal
    path = folder / "out" / "7.svs" / "report.json"
    report = json.loads(path.read_text())
    report["domain"] = {"within": False, "reason": "their stain is odd", "cells": 100}
    path.write_text(json.dumps(report))
    with pytest.raises(ConfigError, match=r"7\.svs: is out of the model's domain \(their stain"):
        read_negatives(folder / "out", None, None, None)


def test_a_slide_that_is_labelled_abnormal_is_named(normal):
    folder, _ = normal
    labels = folder / "labels.csv"
    rows = [f"{number}.svs,{'HSIL' if number == 3 else 'NILM'}" for number in range(10)]
    labels.write_text("\n".join(["slide,label", *rows]))
    with pytest.raises(ConfigError, match=r"3\.svs is no normal slide"):
        read_negatives(folder / "out", labels, None, None)
    labels.write_text("\n".join(["slide,label", *rows[:3]]))
    with pytest.raises(ConfigError, match=r"does not say whether 3\.svs is normal"):
        read_negatives(folder / "out", labels, None, None)


def test_what_is_odd_about_the_labels_is_told(normal):
    folder, _ = normal
    rows = ["slide;label", *(f"{number}.svs;NILM" for number in range(10)), "weg-ä.svs;NILM"]
    (folder / "labels.csv").write_bytes("\n".join(rows).encode("cp1252"))
    labels = ["--labels", folder / "labels.csv"]
    result = call(folder / "out", "--negatives", *labels, "--out", folder / "alarms.json")
    assert result.exit_code == 0, result.output
    assert "[encoding-assumed]" in result.output
    assert "1 slides with a label have no report: weg-ä.svs" in result.output
    assert "group-unknown" not in result.output  # each slide counts as one, whosever it is


def test_slides_of_other_thresholds_and_empty_ones_are_refused(normal):
    folder, _ = normal
    write_slide(folder / "out" / "empty.svs", 0, mm2=0.0)
    with pytest.raises(ConfigError, match=r"empty\.svs: nothing of it was screened"):
        read_negatives(folder / "out", None, None, None)
    write_slide(folder / "out" / "other.svs", 20, threshold=0.4)
    with pytest.raises(ConfigError, match="different models or thresholds"):
        read_negatives(folder / "out", None, None, None)


def test_without_labels_there_is_no_rule(normal):
    folder, _ = normal
    result = call(folder / "out")
    assert result.exit_code == 2
    assert "--labels" in result.stderr

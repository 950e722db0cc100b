"""Operating thresholds, from what is wanted to the sidecar that has them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cellcases import cells
from evidence import make_evidence, two_fields
from lively import saved

from configs import ConfigError
from data.evaluation import FEW_CELLS
from models import DetectorConfig, load_detector
from scripts.evaluation.evidence import draw, reported
from scripts.evaluation.thresholds import (
    Target,
    check_writable,
    choose_thresholds,
    read_targets,
    save_thresholds,
)

CONFIG = DetectorConfig(name="fcos", classes=("NILM", "LSIL", "HSIL"))


def test_one_number_is_meant_for_each_abnormal_class():
    each = Target("sensitivity", 0.9, each=True)
    assert read_targets(["0.9"], [], CONFIG) == {"LSIL": each, "HSIL": each}
    merged = Target("precision", 0.8, merged=True)
    assert read_targets([], ["abnormal=0.8"], CONFIG) == {"LSIL": merged, "HSIL": merged}


def test_what_is_said_of_one_class_goes_before():
    targets = read_targets(["0.9", "HSIL=0.95"], ["NILM=0.7"], CONFIG)
    assert targets == {
        "LSIL": Target("sensitivity", 0.9, each=True),
        "HSIL": Target("sensitivity", 0.95),
        "NILM": Target("precision", 0.7),
    }
    assert read_targets([], [], CONFIG) == {}


@pytest.mark.parametrize(
    ("sensitivity", "precision", "message"),
    [
        (["x"], [], "--at-sensitivity x: expected a share such as 0.9"),
        (["1.5"], [], "expected a share"),
        (["0"], [], "expected a share"),
        ([], ["HSIL="], "--at-precision HSIL=: expected a share"),
        (["SCC=0.9"], [], "no class SCC; expected abnormal, NILM, LSIL, HSIL"),
        (["HSIL=0.9"], ["HSIL=0.8"], "--at-precision HSIL=0.8: something else is wanted"),
        (["0.9", "abnormal=0.8"], [], "something else is wanted"),
        (["0.9"], ["0.8"], "something else is wanted"),
    ],
)
def test_what_can_not_be_wanted_is_refused(sensitivity, precision, message):
    with pytest.raises(ConfigError, match=message):
        read_targets(sensitivity, precision, CONFIG)


def choose(evidence, sensitivity=(), precision=()):
    targets = read_targets(sensitivity, precision, evidence.card.detector)
    draws = draw(evidence.fields, "field", 0.95, rounds=50)
    return choose_thresholds(evidence, targets, draws, "val.json")


def test_thresholds_of_a_class_and_of_all_merged():
    """LSIL: hit at 0.9, none at 0.8, hit at 0.2. Merged: hits at 0.9, 0.8 and 0.2, none at 0.7."""
    evidence = make_evidence(*two_fields())
    own = choose(evidence, ["LSIL=1"])
    assert own.thresholds == {"NILM": 0.5, "LSIL": 0.2, "HSIL": 0.5}
    assert own.figures["classes"]["LSIL"]["sensitivity"] == 1
    assert own.figures["classes"]["LSIL"]["precision"] == pytest.approx(2 / 3, abs=1e-4)
    merged = choose(evidence, ["abnormal=0.6"])
    assert merged.thresholds == {"NILM": 0.5, "LSIL": 0.8, "HSIL": 0.8}
    assert merged.figures["pooled"]["abnormal"]["precision"] == 1
    assert merged.rule == (
        "LSIL, HSIL: sensitivity 0.6 of all abnormal classes merged; at IoU 0.5 on val.json, "
        "2 fields, 4 cells. NILM as before: "
    )


def many(count):
    """So many LSIL, each found with a score of its own, and one HSIL."""
    boxes = [[30 * i, 0, 30 * i + 20, 20] for i in range(count)]
    truth = [cells(*[(box, 1) for box in boxes], ([0, 60, 20, 80], 2))]
    scores = np.linspace(0.9, 0.5, count).round(3)
    found = [cells(*[(b, 1, s) for b, s in zip(boxes, scores, strict=True)])]
    return make_evidence(truth * 2, found * 2)


def test_a_class_with_few_cells_takes_the_merged_threshold_unless_it_is_named():
    """The two HSIL are never found: only the merged classes have the sensitivity."""
    evidence = many(FEW_CELLS)
    entries = choose(evidence, ["0.9"]).figures["classes"]
    assert entries["LSIL"]["chosen_on"] == "LSIL"
    assert entries["HSIL"]["chosen_on"] == "abnormal, merged"
    assert entries["HSIL"]["cells"] == 2 * FEW_CELLS + 2
    with pytest.raises(ConfigError, match=r"--at-sensitivity, HSIL: .* the best is 0\.0000"):
        choose(evidence, ["HSIL=0.9"])


def test_the_chosen_threshold_gives_on_the_fields_what_was_wanted():
    evidence = many(FEW_CELLS)
    chosen = choose(evidence, ["LSIL=0.8"])
    new = np.array(list(chosen.thresholds.values()))
    named = [reported(one, new, evidence.abnormal) for one in evidence.found]
    found = sum(map(len, named))
    assert found == 0.8 * 2 * FEW_CELLS


def test_what_is_out_of_reach_names_the_class_and_the_best():
    evidence = make_evidence([cells(([0, 0, 9, 9], 1))], [cells(([50, 50, 60, 60], 1, 0.9))])
    with pytest.raises(ConfigError, match=r"--at-precision, LSIL: a precision of 1 is out of"):
        choose(evidence, (), ["LSIL=1"])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    saved(folder, pyramid={"channels": 32, "levels": [3]})
    return folder


def chosen_for(detector):
    box = [0, 0, 9, 9]
    sides = [cells((box, 1))], [cells((box, 1, 0.4))]
    evidence = make_evidence(*sides, (0.25, 0.25), ("NILM", "HSIL"))
    return choose(replace(evidence, card=detector.card), ["HSIL=1"])


def test_a_copy_has_the_thresholds_and_the_weights(model, tmp_path):
    detector = load_detector(model)
    before = (model / "model.json").read_bytes()
    assert save_thresholds(
        detector, chosen_for(detector), None, None, False, tmp_path / "copy"
    ) == [tmp_path / "copy"]
    copy = load_detector(tmp_path / "copy")
    assert copy.card.thresholds == {"NILM": 0.25, "HSIL": 0.4}
    assert copy.card.threshold_rule.startswith("HSIL: sensitivity 1; at IoU 0.5 on val.json")
    assert copy.card.sha256 == detector.card.sha256
    assert (model / "model.json").read_bytes() == before


def test_the_sidecar_is_rewritten_whole(model, tmp_path):
    saved(tmp_path / "model", pyramid={"channels": 32, "levels": [3]})
    detector = load_detector(tmp_path / "model")
    save_thresholds(detector, chosen_for(detector), None, None, True, None)
    assert load_detector(tmp_path / "model").card.thresholds["HSIL"] == 0.4
    names = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert names == ["model.json", "model.safetensors"]


def test_shipped_and_other_models_are_not_overwritten(model, tmp_path):
    shipped = load_detector()
    with pytest.raises(ConfigError, match="a shipped model stays as it is; --save-model DIR"):
        check_writable(shipped, True, write=True, copy=None)
    check_writable(shipped, True, write=False, copy=tmp_path / "new")
    detector = load_detector(model)
    with pytest.raises(ConfigError, match="there is a model already"):
        check_writable(detector, True, write=False, copy=model)
    with pytest.raises(ConfigError, match="need --at-sensitivity or --at-precision"):
        check_writable(detector, False, write=True, copy=None)
    check_writable(detector, True, write=True, copy=None)


def test_a_folder_that_can_not_be_written_is_told(model, tmp_path):
    (tmp_path / "file").write_text("")
    detector = load_detector(model)
    with pytest.raises(ConfigError, match="can't be written"):
        save_thresholds(
            detector, chosen_for(detector), None, None, False, tmp_path / "file" / "copy"
        )


def test_exported_graphs_come_along(model, tmp_path):
    from models.storage.graphs import add_graph

    source = tmp_path / "source"
    saved(source, pyramid={"channels": 32, "levels": [3]})
    (source / "model.onnx").write_bytes(b"graph")
    add_graph(load_detector(source).card, source, "onnx")
    detector = load_detector(source)
    save_thresholds(detector, chosen_for(detector), None, None, False, tmp_path / "copy")
    assert (tmp_path / "copy" / "model.onnx").read_bytes() == b"graph"
    assert "onnx" in json.loads(Path(tmp_path / "copy" / "model.json").read_text())["graphs"]

"""Two models on the same fields."""

import json
from dataclasses import replace

import numpy as np
import pytest
from cellcases import cells, random_fields
from evidence import CLASSES, make_evidence, two_fields

from configs import ConfigError
from data.annotations.coco import to_coco
from data.evaluation import FieldCells, save_cells, to_results
from scripts.evaluation.against import check_same_fields, differences, is_kept, read_kept, rename
from scripts.evaluation.evidence import draw


@pytest.fixture
def evidence():
    return make_evidence(*random_fields(5, count=20, classes=3))


def worse(found):
    """The same detections with every third lost."""
    return [one[np.arange(len(one)) % 3 > 0] for one in found]


def test_the_interval_is_of_the_difference(evidence):
    """Of perfect detections, and of those without every third: clear of zero."""
    evidence = replace(evidence, found=evidence.truth)
    draws = draw(evidence.fields, "field", 0.95, rounds=300)
    other = replace(evidence, found=worse(evidence.found))
    entry = differences(evidence, other, draws)["pooled"]["any"]
    assert entry["difference"] == pytest.approx(entry["ap50"] - entry["other"], abs=1e-4)
    low, high = entry["difference_interval"]
    assert 0 < low < entry["difference"] < high
    back = differences(other, evidence, draws)["pooled"]["any"]
    assert back["difference_interval"] == pytest.approx([-high, -low], abs=1e-3)


def test_a_model_does_not_differ_from_itself(evidence):
    draws = draw(evidence.fields, "field", 0.95, rounds=50)
    for entries in differences(evidence, evidence, draws).values():
        for entry in entries.values():
            assert entry["difference"] in (0, None)
            assert entry["difference_interval"] in ([0, 0], [None, None])


def test_labels_follow_the_names():
    evidence = make_evidence(*two_fields())
    other = [cells(([0, 0, 20, 20], 0, 0.9)), cells(([0, 0, 20, 20], 2, 0.9))]
    found = rename(other, ("HSIL", "LSIL", "NILM"), evidence).found
    assert [one.labels.tolist() for one in found] == [[2], [0]]
    with pytest.raises(ConfigError, match="its classes NILM, HSIL are not those"):
        rename(other, ("NILM", "HSIL"), evidence)


def keep(evidence, folder, name="detections.json"):
    path = folder / name
    content = to_coco(evidence.fields, str)
    path.with_name(name.replace("detections", "truth")).write_text(json.dumps(content))
    path.write_text(json.dumps(to_results(evidence.found)))
    return str(path)


@pytest.mark.parametrize("name", ["detections.json", "night.detections.json"])
def test_detections_that_an_evaluation_kept_are_read(evidence, tmp_path, name):
    other = read_kept(keep(evidence, tmp_path, name), evidence)
    for one, kept in zip(evidence.found, other.found, strict=True):
        assert (one.labels == kept.labels).all()
        np.testing.assert_allclose(one.boxes, kept.boxes, atol=0.02)


def scaled(side, factor):
    return [FieldCells(c.boxes * factor, c.labels, c.scores, c.crowd) for c in side]


def test_detections_that_training_kept_are_of_its_own_scale(evidence, tmp_path):
    path = tmp_path / "validation.npz"
    save_cells(path, scaled(evidence.truth, 0.5), scaled(evidence.found, 0.5))
    draws = draw(evidence.fields, "field", 0.95, rounds=20)
    other = read_kept(str(path), evidence)
    assert differences(evidence, other, draws)["pooled"]["any"]["difference"] == 0


def test_other_fields_and_other_annotations_are_refused(evidence, tmp_path):
    path = tmp_path / "validation.npz"
    truth = list(evidence.truth)
    renamed = [replace(one, labels=(one.labels + 1) % 3) for one in truth]
    moved = [replace(one, boxes=one.boxes + np.array([0, 9, 0, 9])) for one in truth]
    for other in (truth[:-1], truth[::-1], renamed, moved):
        save_cells(path, other, evidence.found[: len(other)])
        with pytest.raises(ConfigError, match="on other fields"):
            read_kept(str(path), evidence)


def test_kept_cells_go_with_the_fields_of_their_run(evidence, tmp_path):
    """Of the same annotations, at whatever scale; not of those that have changed since."""
    fields, truth = evidence.fields, list(evidence.truth)
    check_same_fields(scaled(truth, 0.5), fields, tmp_path)
    renamed = replace(truth[0], labels=(truth[0].labels + 1) % 3)
    first = np.arange(len(truth[0])) == 0
    ignored = replace(truth[0], crowd=truth[0].crowd | first)
    lacking = truth[0][~first]
    for other in (truth[::-1], *([one, *truth[1:]] for one in (renamed, ignored, lacking))):
        with pytest.raises(ConfigError, match=r"other cells for .*0\.png .* judge anew"):
            check_same_fields(other, fields, tmp_path)
    with pytest.raises(ConfigError, match=r"has 19 fields, the data of its run 20: images"):
        check_same_fields(truth[:-1], fields, tmp_path)


def test_broken_files_are_told(evidence, tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(to_coco(evidence.fields, str)))
    with pytest.raises(ConfigError, match=r"detections.json: No such file"):
        read_kept(str(tmp_path / "detections.json"), evidence)
    broken = {"a.npz": "none", "b.npz": "PK\3\4", "c.npz": "", "detections.json": "{"}
    for name, text in broken.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match="not what"):
            read_kept(str(tmp_path / name), evidence)
    kept = keep(make_evidence(*two_fields(), classes=("A", "B", "C")), tmp_path)
    with pytest.raises(ConfigError, match=f"are not those of the model, {', '.join(CLASSES)}"):
        read_kept(kept, evidence)


def test_files_and_models_are_told_apart():
    assert is_kept("runs/x/validation.npz")
    assert is_kept("out/detections.json")
    assert not is_kept("runs/x/model")
    assert not is_kept("runs/x/model/model.json")
    assert not is_kept("cric-fcos-mobilenet-v2")

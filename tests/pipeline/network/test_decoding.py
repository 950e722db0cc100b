"""Decoding without torch finds what the detector itself finds."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from lively import CLASSES, lively, patchwork, run_torch, saved

from models import DetectorConfig, ModelSource
from models.card import NoNumbersError
from pipeline.network import torch_runtime
from pipeline.network.abnormal import may_reach, with_abnormal
from pipeline.network.decoding import find_decoder

SIZES = [(96, 160), (70, 101), (33, 201)]
THRESHOLDS = [0.3, 0.25]
COUNTED = {"name": "bags", "class_counts": [500, 20]}
KINDS = [
    *((name, {}) for name in ("fcos", "atss", "retinanet", "yolof", "reppoints")),
    ("fcos", {"loss": {"name": "eqlv2"}}),
    ("fcos", {"loss": {"name": "seesaw"}}),
    ("atss", {"loss": COUNTED}),
    ("fcos", {"pyramid": {"channels": 32, "levels": [3]}}),
    ("yolof", {"yolof": {"max_shift": 3.0}}),
    *(
        (name, {"abnormal_head": {}})
        for name in ("fcos", "atss", "retinanet", "yolof", "reppoints")
    ),
    ("fcos", {"abnormal_head": {"pooled": "noisy_or"}}),
    ("fcos", {"abnormal_head": {}, "loss": {"name": "seesaw"}}),
    ("retinanet", {"pyramid": {"channels": 32, "levels": [3, 4, 5, 6, 7]}, "max_detections": 9}),
]


def outputs_of(detector, size):
    """Raw outputs for a tile, as an exported network gives them."""
    found, _ = run_torch(detector, patchwork(size))
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize(("name", "settings"), KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_cells_are_those_of_the_detector(name, settings, size):
    detector = lively(name, backbone="mobilenet_v2", **settings)
    outputs = outputs_of(detector, size)
    decode = find_decoder(ModelSource.of(detector), THRESHOLDS)
    found = decode(outputs, size)
    detector.use_thresholds(THRESHOLDS)
    expected = torch_runtime.decode_by_detector(detector, outputs, size)
    assert len(expected) > 3
    assert (np.diff(found.scores) <= 0).all()
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
    np.testing.assert_allclose(found.class_scores, expected.class_scores, atol=1e-6)
    of_own = found.class_scores[np.arange(len(found)), found.labels]
    np.testing.assert_allclose(of_own, found.scores, atol=1e-7)
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (
        expected.boxes.dtype,
        expected.scores.dtype,
        expected.labels.dtype,
    )
    assert found.class_scores.dtype == expected.class_scores.dtype == np.float32
    assert found.class_scores.shape == (len(found), len(CLASSES))


def test_a_threshold_of_nothing_keeps_all_and_a_tile_without_cells_is_empty():
    detector = lively("fcos", nms_iou=1.0)
    outputs = outputs_of(detector, (96, 160))
    model = ModelSource.of(detector)
    assert len(find_decoder(model, [0.0, 0.0])(outputs, (96, 160))) == outputs["cls_logits"].size
    nothing = find_decoder(model, [0.9999, 0.9999])(outputs, (96, 160))
    assert (nothing.boxes.shape, nothing.scores.shape) == ((0, 4), (0,))


@pytest.mark.parametrize("name", ["cls_logits", "bbox_ctrness", "bbox_regression"])
@pytest.mark.parametrize(
    "settings", [{}, {"loss": {"name": "seesaw"}}, {"abnormal_head": {}}], ids=str
)
def test_what_is_no_number_is_refused_not_taken_for_nothing_found(name, settings):
    detector = lively("fcos", **settings)
    outputs = outputs_of(detector, (96, 160))
    decode = find_decoder(ModelSource.of(detector), THRESHOLDS)
    assert len(decode(outputs, (96, 160)))
    for broken in (np.s_[:], np.s_[0, 7:9]) if name != "bbox_regression" else (np.s_[:],):
        values = outputs[name].copy()
        values[broken] = np.nan
        with pytest.raises(NoNumbersError, match=r"gives no numbers .*--precision fp32"):
            decode(outputs | {name: values}, (96, 160))
        detector.use_thresholds(THRESHOLDS)
        with pytest.raises(NoNumbersError, match="gives no numbers"):
            torch_runtime.decode_by_detector(detector, outputs | {name: values}, (96, 160))


def test_a_masked_class_is_a_number():
    detector = lively("fcos")
    outputs = outputs_of(detector, (96, 160))
    outputs["cls_logits"][..., 0] = -np.inf
    for decode in (
        find_decoder(ModelSource.of(detector), THRESHOLDS),
        lambda *given: torch_runtime.decode_by_detector(detector, *given),
    ):
        assert set(decode(outputs, (96, 160)).labels) == {1}


@pytest.mark.parametrize("pooled", ["max", "noisy_or"])
def test_no_place_that_an_abnormal_head_lets_through_is_left_out_before(pooled):
    """Whatever the thresholds; and most places are."""
    rng = np.random.default_rng(0)
    classes = ("NILM", "LSIL", "HSIL")
    config = DetectorConfig(name="fcos", classes=classes, abnormal_head={"pooled": pooled})
    logits = rng.normal(-4, 3, (2000, 4)).astype(np.float32)
    sure = 1 / (1 + np.exp(-logits.astype(np.float64)))
    scores = with_abnormal(config, sure[:, :3], sure[:, 3])
    for least in ([0.3, 0.2, 0.4], [0.9, 0.0025, 0.01], [0.0, 0.5, 0.5], [1.0, 1.0, 1.0]):
        may = may_reach(config, logits, np.array(least))
        assert may[(scores >= least).any(axis=1)].all()
        assert may.all() == (0.0 in least)
    both = scores[:, 1:].max(axis=1)
    p = sure[:, 1:3].max(axis=1) if pooled == "max" else 1 - (1 - sure[:, 1:3]).prod(axis=1)
    np.testing.assert_allclose(both, np.sqrt(p * sure[:, 3]))
    np.testing.assert_array_equal(scores[:, 0], sure[:, 0])


def test_an_exported_model_is_screened_with_without_torch(tmp_path):
    """Loading torch and torchvision would take as long as a small slide."""
    from models.storage.export import copy_model, to_openvino
    from models.storage.graphs import add_graph, save_openvino

    detector = saved(tmp_path / "model")
    card = copy_model(detector, tmp_path / "export")
    save_openvino(to_openvino(detector), tmp_path / "export", "openvino")
    add_graph(card, tmp_path / "export", "openvino")
    script = (
        "import json, sys\n"
        "from scripts.cli import main\n"
        "sys.argv = ['cytolibra', 'screen', *sys.argv[1:]]\n"
        "try:\n    main()\n"
        "except SystemExit as ended:\n    code = ended.code\n"
        "print(json.dumps([code, sorted({'torch', 'torchvision'} & set(sys.modules))]))\n"
    )
    slide = tmp_path / "slide.png"
    from PIL import Image

    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (600, 500, 3), np.uint8)).save(slide)
    command = [str(slide), "--mpp", "0.5", "--model", str(tmp_path / "export")]
    command += ["--out", str(tmp_path / "out"), "--device", "cpu", "--precision", "fp32"]
    ended = subprocess.run(
        [sys.executable, "-c", script, *command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert json.loads(ended.stdout.splitlines()[-1]) == [0, []], ended.stderr
    report = json.loads((tmp_path / "out" / "slide.png" / "report.json").read_text())
    assert report["settings"]["runtime"]["name"] == "openvino"
    assert list(report["counts"]) == list(CLASSES)

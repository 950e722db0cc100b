"""The grader's network: OpenVINO's graphs, torch, and what is refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from graders import colour_graph, give_grader, grader_facts, probabilities_of
from lively import saved
from PIL import Image

from models import DetectorConfig, ModelCard, ModelFileError
from models.card import GRADER
from models.grader import Grader, GraderConfig, save_grader
from models.storage.export import copy_model, to_openvino
from models.storage.graphs import GRADER_FILES, add_grader_graph, add_graph, save_openvino
from pipeline.network.grading import build_grader

CLASSES = ("NILM", "HSIL")

SCREEN = """
import json, sys
from scripts.cli import main
sys.argv = ['cytolibra', 'screen', *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    code = ended.code
loaded = {'torch', 'torchvision', 'scipy.stats'} & set(sys.modules)
print(json.dumps([code, sorted(loaded)]))
"""


@pytest.fixture
def card():
    config = DetectorConfig(name="fcos", classes=CLASSES)
    return ModelCard(name="x", detector=config, mpp=0.5, thresholds=dict.fromkeys(CLASSES, 0.5))


@pytest.fixture
def crops():
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 255, (4, 1, 1, 3))
    noise = rng.integers(-20, 20, (4, 32, 32, 3))
    return np.clip(colours + noise, 0, 255).astype(np.uint8)


def on_openvino(folder, facts, precision="fp32", **changes):
    return build_grader(
        folder, facts, "openvino", "cpu", precision, **({"batch_size": 4} | changes)
    )


def test_a_graph_gives_the_probabilities_of_each_crop(tmp_path, card, crops):
    facts = give_grader(card, tmp_path).second_look
    grader = on_openvino(tmp_path, facts)
    np.testing.assert_allclose(grader.grade(crops), probabilities_of(crops), atol=1e-5)
    assert (grader.precision, grader.sha256, grader.fallback) == ("fp32", "11", None)
    alone = np.zeros_like(crops)
    alone[0] = crops[2]  # the last batch is filled up
    np.testing.assert_array_equal(grader.grade(alone)[0], grader.grade(crops)[2])


def test_int8_is_taken_where_the_detector_has_it_and_the_grader_a_graph_for_it(tmp_path, card):
    both = give_grader(card, tmp_path, "openvino", "openvino-int8").second_look
    int8 = on_openvino(tmp_path, both, "int8")
    assert (int8.precision, int8.sha256) == ("int8", both.graphs["openvino-int8"].sha256)
    assert on_openvino(tmp_path, both, "fp32").sha256 == "11"
    one = both.model_copy(update={"graphs": {"openvino": both.graphs["openvino"]}})
    assert on_openvino(tmp_path, one, "int8").precision == "fp32"


def test_graphs_that_are_others_or_give_something_else_are_refused(tmp_path, card):
    facts = give_grader(card, tmp_path).second_look
    with (tmp_path / "grader.xml").open("a") as file:
        file.write(" ")
    with pytest.raises(ModelFileError, match=r"grader\.xml: not the graph that the sidecar names"):
        on_openvino(tmp_path, facts)
    for graph, message in (
        (colour_graph(32, outputs=2), "gives 2 numbers a crop, and its card names 2 classes"),
        (colour_graph(32, softmax=False), "gives no probabilities"),
        (colour_graph(64), "its card says any number of crops of 32 px"),
    ):
        save_openvino(graph, tmp_path, "openvino", GRADER_FILES)
        card = add_grader_graph(
            card.model_copy(update={"second_look": facts}), tmp_path, "openvino"
        )
        with pytest.raises(ModelFileError, match=message) as refused:
            on_openvino(tmp_path, card.second_look)
        assert "\n" not in str(refused.value)
    (tmp_path / "grader.bin").unlink()
    with pytest.raises(ModelFileError, match=r"grader\.bin: cannot be read"):
        on_openvino(tmp_path, card.second_look)


def test_without_graph_or_weights_there_is_no_look(tmp_path):
    with pytest.raises(ModelFileError, match=r"neither weights \(grader\.safetensors\)"):
        on_openvino(tmp_path, grader_facts(CLASSES))
    with pytest.raises(ModelFileError, match="lies in no folder"):
        on_openvino(None, grader_facts(CLASSES))


def test_weights_alone_are_converted_and_torch_says_the_same(tmp_path, crops):
    torch.manual_seed(0)
    network = Grader(GraderConfig(size=32), 2)
    pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # what one batch is like, so that its crops differ at the end
    network.train()(pixels)
    network.eval()
    facts = grader_facts(
        CLASSES,
        sha256=save_grader(network, tmp_path),
        temperature=2.0,
        mean=network.config.image_mean,
        std=network.config.image_std,
    )
    converted = on_openvino(tmp_path, facts)
    assert "no exported network" in converted.fallback
    by_torch = build_grader(tmp_path, facts, "torch", "cpu", "fp32", batch_size=4)
    assert by_torch.fallback is None
    with torch.inference_mode():
        expected = (network(pixels) / 2).softmax(1).numpy()
    assert np.ptp(expected[:, 0]) > 0.01
    np.testing.assert_allclose(converted.grade(crops), expected, atol=1e-4)
    np.testing.assert_allclose(by_torch.grade(crops), expected, atol=1e-5)

    (tmp_path / GRADER).write_bytes(b"cut off")
    with pytest.raises(ModelFileError, match="truncated or changed"):
        on_openvino(tmp_path, facts)


@pytest.mark.slow
def test_a_model_with_a_grader_screens_without_torch(tmp_path):
    detector = saved(tmp_path / "detector")
    folder = tmp_path / "model"
    card = copy_model(detector, folder)
    save_openvino(to_openvino(detector), folder, "openvino")
    card = add_graph(card, folder, "openvino")
    thresholds = dict.fromkeys(card.detector.classes, 0.0001)
    give_grader(card, folder, floor=0.0001, thresholds=thresholds)
    slide = tmp_path / "slide.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (300, 300, 3), np.uint8)).save(slide)
    options = ["--mpp", "0.5", "--model", str(folder), "--out", str(tmp_path / "out")]
    options += ["--device", "cpu", "--precision", "fp32"]
    options += ["--set", "second_look.cells=5"]

    ended = subprocess.run(
        [sys.executable, "-c", SCREEN, str(slide), *options],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )

    assert json.loads(ended.stdout.splitlines()[-1]) == [0, []], ended.stderr
    report = json.loads((tmp_path / "out" / "slide.png" / "report.json").read_text())
    assert report["second_look"]["looked_at"] == 5 < report["second_look"]["candidates"]
    assert report["model"]["second_look"]["sha256"] == "11"
    assert "second look" in report["timing"]
    assert "second-look-coarse" in ended.stderr

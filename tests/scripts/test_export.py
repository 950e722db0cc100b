"""`cytolibra export` from the call to a model that screens."""

import json

import numpy as np
import pytest
from graders import grader_facts
from lively import saved
from PIL import Image
from typer.testing import CliRunner

from models import load_detector
from models.card import read_card, save_card
from models.grader import Grader, GraderConfig, save_grader
from models.storage.graphs import GRADER_FILES, hash_graph
from scripts.cli import build_app


def call(command, *arguments):
    return CliRunner().invoke(build_app(command), [command, *map(str, arguments)])


def export(folder, out, *arguments, to="openvino"):
    return call("export", "--model", folder, "--to", to, "--out", out, *arguments)


@pytest.fixture
def model(tmp_path):
    saved(tmp_path / "model", pyramid={"channels": 32, "levels": [3]})
    return tmp_path / "model"


def screen(model, slides, out, *arguments):
    small = ["--set", "tiler.size=128", "--set", "tiler.overlap=32", "--device", "cpu"]
    call_of = ["--model", model, "--mpp", "0.25", "--out", out, *small, *arguments]
    result = call("screen", slides, *call_of)
    assert result.exit_code == 0, result.output
    runs = json.loads((out / "run.json").read_text())
    return result, runs["settings"]["runtime"], runs["model"]["sha256"]


def test_openvino_in_fp32_screens_with_its_own_graph(model, coco, tmp_path, monkeypatch):
    out = tmp_path / "export"
    assert export(model, out).exit_code == 0

    def refuse(*_):
        raise AssertionError("the exported graph should have been taken")

    monkeypatch.setattr("models.storage.export.to_openvino", refuse)
    exact = ("--precision", "fp32")
    _, runtime, _ = screen(out, coco[1], tmp_path / "a", *exact)
    assert (runtime["name"], runtime["precision"]) == ("openvino", "fp32")
    screen(out, coco[1], tmp_path / "b", *exact, "--runtime", "torch")
    counts = [
        [json.loads(p.read_text())["counts"] for p in sorted((tmp_path / x).glob("*/report.json"))]
        for x in "ab"
    ]
    assert counts[0] == counts[1]
    assert sum(sum(one.values()) for one in counts[0]) > 0


def test_int8_is_calibrated_measured_and_screens(model, coco, tmp_path):
    pytest.importorskip("nncf", reason="int8 needs cytolibra[export]")
    out, (annotations, images) = tmp_path / "export", coco
    learn = ("--int8", "--calibration", images, "--mpp", "0.25", "--tiles", "4")
    result = export(model, out, *learn, "--data", annotations, "--images", images)
    assert result.exit_code == 0, result.output
    card = load_detector(out).card
    assert set(card.graphs) == {"openvino-int8"}
    assert card.graphs["openvino-int8"].calibration == "2 tiles of 2 slides or images"
    assert set(card.ap_cost["int8"]) == {"ap50/abnormal", "ap50/any", "map50"}
    assert card.ap_cost_data == "2 fields, 3 cells"
    _, runtime, sha256 = screen(out, images, tmp_path / "reports", "--precision", "int8")
    assert (runtime["name"], runtime["precision"]) == ("openvino", "int8")
    assert sha256 == card.graphs["openvino-int8"].sha256


def test_onnx_lies_beside_the_weights(model, tmp_path):
    pytest.importorskip("onnxscript", reason="ONNX needs cytolibra[export]")
    assert export(model, tmp_path / "export", to="onnx").exit_code == 0
    names = sorted(path.name for path in (tmp_path / "export").iterdir())
    assert names == ["model.json", "model.onnx", "model.safetensors"]
    assert set(load_detector(tmp_path / "export").card.graphs) == {"onnx"}


@pytest.mark.parametrize(
    ("arguments", "to", "message"),
    [
        (["--int8"], "openvino", "--int8 and --calibration go together"),
        (["--calibration", "x"], "openvino", "--int8 and --calibration go together"),
        (["--data", "x"], "openvino", "--data and --images go together"),
        (["--int8", "--calibration", "x"], "onnx", "are for --to openvino"),
        (["--int8", "--calibration", "/no/such"], "openvino", "no such file or folder"),
        (["--data", "/no/such", "--images", "/no"], "openvino", "no such file or folder"),
    ],
)
def test_a_wrong_call_is_told_in_one_line_and_writes_nothing(
    model, tmp_path, arguments, to, message
):
    result = export(model, tmp_path / "export", *arguments, to=to)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "export").exists()


def test_an_empty_slide_is_nothing_to_calibrate_on(model, tmp_path):
    pytest.importorskip("nncf", reason="int8 needs cytolibra[export]")
    Image.fromarray(np.full((300, 300, 3), 240, np.uint8)).save(tmp_path / "blank.png")
    learn = ("--int8", "--calibration", tmp_path / "blank.png", "--mpp", "0.5")
    result = export(model, tmp_path / "export", *learn)
    assert result.exit_code == 2
    assert "no tile with cells was found" in result.stderr


def test_the_grader_of_a_second_look_is_exported_with_its_detector(model, coco, tmp_path):
    card = read_card(model)
    grader = Grader(GraderConfig(size=32), len(card.detector.classes))
    facts = grader_facts(card.detector.classes, sha256=save_grader(grader, model))
    save_card(card.model_copy(update={"second_look": facts}), model)
    out = tmp_path / "export"
    assert export(model, out).exit_code == 0
    look = read_card(out).second_look
    assert list(look.graphs) == ["openvino"]
    assert look.graphs["openvino"].sha256 == hash_graph(out, "openvino", GRADER_FILES)
    result, _, _ = screen(out, coco[1], tmp_path / "a", "--precision", "fp32")
    assert "runtime-fallback" not in result.output
    run = json.loads((tmp_path / "a" / "run.json").read_text())
    assert run["model"]["second_look"]["sha256"] == facts.sha256

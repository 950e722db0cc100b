"""`cytolibra export` from the call to a model that screens."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from graders import grader_facts
from lively import saved
from PIL import Image
from typer.testing import CliRunner

from models import load_detector
from models.card import read_card, save_card
from models.grader import Grader, GraderConfig, GradingNetwork, save_grader
from models.storage.graphs import GRADER_FILES, hash_graph
from pipeline.batch.discovery import Discovery, SlideJob
from pipeline.geometry import Detections
from pipeline.network.grading import build_grader
from pipeline.slides.slide import open_slide
from scripts.cli import build_app
from scripts.export import CropCollector


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


def test_another_model_where_one_is_exported_to_is_refused_before_all_work(
    model, tmp_path, monkeypatch
):
    saved(tmp_path / "runs" / "mine", seed=1)
    before = (tmp_path / "runs" / "mine" / "model.safetensors").read_bytes()
    monkeypatch.setattr("models.storage.export.to_openvino", lambda _: pytest.fail("worked"))
    result = export(model, tmp_path / "runs" / "mine")
    assert result.exit_code == 2
    assert "holds another model, lively, which would be overwritten" in result.stderr
    assert (tmp_path / "runs" / "mine" / "model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_int8_is_calibrated_measured_and_screens(model, coco, tmp_path):
    pytest.importorskip("nncf", reason="int8 needs cytolibra[export]")
    out, (annotations, images) = tmp_path / "export", coco
    learn = ("--int8", "--calibration", images, "--mpp", "0.25", "--tiles", "4")
    result = export(model, out, *learn, "--data", annotations, "--images", images)
    assert result.exit_code == 0, result.output
    card = load_detector(out).card
    assert set(card.graphs) == {"openvino-int8"}
    assert card.graphs["openvino-int8"].calibration == "2 tiles of 2 slides or images"
    named = {"ap50/abnormal", "ap50/high grade", "ap50/any", "map50"}
    assert set(card.ap_cost["int8"]) == named
    assert card.ap_cost_data == "2 fields, 3 cells"
    _, runtime, sha256 = screen(out, images, tmp_path / "reports", "--precision", "int8")
    assert (runtime["name"], runtime["precision"]) == ("openvino", "int8")
    assert sha256 == card.graphs["openvino-int8"].sha256


@pytest.mark.slow
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


@pytest.fixture
def learned(monkeypatch):
    """What int8 would learn its ranges from, instead of doing so."""
    seen = []
    monkeypatch.setattr(
        "scripts.export._export_openvino", lambda _, __, tiles: seen.append(tiles[1])
    )
    monkeypatch.setattr("scripts.export._export_grader", lambda *_: None)
    return seen


def test_what_is_not_calibrated_on_is_told_and_not_counted(model, coco, tmp_path, learned):
    images = coco[1]
    Image.fromarray(np.full((300, 300, 3), 240, np.uint8)).save(images / "blank.png")
    (images / "old.sdpc").write_bytes(b"a slide of a kind that is not read")
    learn = ("--int8", "--calibration", images, "--mpp", "0.25", "--tiles", "40")
    result = export(model, tmp_path / "export", *learn)
    assert result.exit_code == 0, result.output
    assert learned == ["2 tiles of 2 slides or images"]
    assert "[files-not-read]" in result.stderr
    assert "blank.png: no tile with cells" in result.stderr


def test_what_is_too_coarse_or_cut_off_is_nothing_to_calibrate_on(
    model, coco, tmp_path, learned, monkeypatch
):
    learn = ("--int8", "--calibration", coco[1])
    result = export(model, tmp_path / "export", *learn, "--mpp", "1.2")
    assert (result.exit_code, learned) == (1, [])
    assert "[too-coarse]" in result.stderr
    job = SlideJob(coco[1] / "1.dcm", "1.dcm", problem="1.dcm: the file is cut off")
    found = Discovery((job,), 0)
    monkeypatch.setattr("pipeline.batch.discovery.discover", lambda *_, **__: found)
    result = export(model, tmp_path / "export", *learn)
    assert (result.exit_code, learned) == (2, [])
    assert result.stderr == "error: --calibration: 1.dcm: the file is cut off\n"


def with_weights(folder):
    """Gives a model a grader of random weights."""
    torch.manual_seed(0)
    grader = Grader(GraderConfig(size=32), 2).eval()
    card = read_card(folder)
    facts = grader_facts(card.detector.classes, sha256=save_grader(grader, folder))
    save_card(card.model_copy(update={"second_look": facts}), folder)
    return grader


@pytest.mark.slow
def test_a_grader_is_exported_beside_its_detector_and_screens(model, coco, tmp_path):
    pytest.importorskip("nncf", reason="int8 needs cytolibra[export]")
    grader, out, (annotations, images) = with_weights(model), tmp_path / "export", coco
    assert export(model, out).exit_code == 0
    learn = ("--int8", "--calibration", images, "--mpp", "0.25", "--tiles", "4")
    result = export(out, out, *learn, "--data", annotations, "--images", images)
    assert result.exit_code == 0, result.output
    look = read_card(out).second_look
    assert set(look.graphs) == {"openvino", "openvino-int8"}
    assert look.graphs["openvino-int8"].calibration.endswith("crops of what the detector found")
    assert "int8_cost/ap50/abnormal" in look.metrics
    crops = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    with torch.no_grad():
        expected = GradingNetwork(grader, look.temperature)(torch.from_numpy(crops)).numpy()
    for precision, off in (("fp32", 1e-4), ("int8", 0.1)):
        graph = build_grader(out, look, "openvino", "cpu", precision)
        assert (graph.precision, graph.fallback) == (precision, None)
        np.testing.assert_allclose(graph.grade(crops), expected, atol=off)


def test_crops_for_int8_are_cut_where_the_detector_found_something(model, tmp_path, monkeypatch):
    with_weights(model)
    pixels = np.full((150, 200, 3), 230, np.uint8)
    pixels[60:100, 120:160] = (200, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "slide.png")
    collector = CropCollector(load_detector(model))
    scores = np.array([[0.2, 0.7]], np.float32)
    box = np.array([[20.0, 10, 40, 30]])  # of a tile that begins at (80, 40), at 0.5 µm/px
    found = Detections(box, scores[:, 1], np.array([1]), scores)
    monkeypatch.setattr(
        CropCollector, "_runner", lambda _: SimpleNamespace(detect=lambda _: [found])
    )
    with open_slide(tmp_path / "slide.png", 0.25) as slide:
        collector(slide, pixels, (80.0, 40.0))
    (crop,) = collector.crops
    assert crop.shape == (32, 32, 3)
    assert (crop == (200, 0, 0)).all()  # 32 px around (140, 80)


@pytest.mark.slow
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

"""Exported networks say what torch says, for tiles of any size."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from graders import colour_graph, give_grader
from lively import lively, patchwork, run_torch, saved

from configs import ConfigError
from models import ModelFileError, load_detector
from models.card import GraphFacts, save_card
from models.grader import Grader, GraderConfig, GradingNetwork
from models.storage.export import (
    anchors_of,
    copy_model,
    grader_to_openvino,
    quantise,
    save_onnx,
    to_openvino,
)
from models.storage.graphs import (
    FILES,
    GRADER_FILES,
    ExportError,
    add_grader_graph,
    add_graph,
    hash_graph,
    load_openvino,
    openvino_core,
    read_openvino,
    save_openvino,
)

DETECTORS = ["atss", "fcos", "reppoints", "retinanet", "yolof"]
SIZES = [(96, 160), (70, 100), (33, 201)]
REPO = Path(__file__).resolve().parents[3]


def run_openvino(model, tile):
    compiled = load_openvino().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(tile[None])
    return {port.get_any_name(): torch.from_numpy(found[port]) for port in compiled.outputs}


def assert_same_outputs(detector, model):
    for size in SIZES:
        tile = patchwork(size)
        expected, _ = run_torch(detector, tile)
        found = run_openvino(model, tile)
        assert set(found) == set(expected)
        for name, value in expected.items():
            assert value.std() > 0.01, f"{name} is too much alike everywhere to be a test"
            torch.testing.assert_close(found[name], value, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in ("fcos", "yolof")))
        for name in DETECTORS
    ],
)
def test_openvino_gives_torch_s_raw_outputs_at_every_size(name):
    detector = lively(name)
    assert_same_outputs(detector, to_openvino(detector))


def test_an_abnormal_head_is_one_more_channel_of_the_graph():
    """What only training needs, contrast and autoencoder, isn't in it; moving taps are."""
    tower = {"deformable": 1, "attention": "large_kernel"}
    detector = lively(abnormal_head={"contrast": 0.1}, tower=tower, causal={})
    model = to_openvino(detector)
    tile = patchwork(SIZES[0])
    expected, _ = run_torch(detector, tile)
    torch.testing.assert_close(run_openvino(model, tile), expected, atol=1e-3, rtol=1e-3)
    widths = {port.get_any_name(): port.partial_shape[2].get_length() for port in model.outputs}
    assert widths == {"cls_logits": 3, "bbox_regression": 4, "bbox_ctrness": 1}
    names = [operation.get_friendly_name() for operation in model.get_ops()]
    assert not any("contrast" in name or "causal" in name for name in names)
    moving = [one for one in model.get_ops() if one.get_type_name() == "DeformableConvolution"]
    assert len(moving) == len(detector.config.pyramid.levels)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("size", SIZES)
def test_anchors_are_known_without_the_network(name, size):
    detector = lively(name)
    _, expected = run_torch(detector, patchwork(size))
    torch.testing.assert_close(anchors_of(detector, size), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcos", "atss", "retinanet", "yolof"])
def test_onnx_gives_torch_s_raw_outputs_at_every_size(name, tmp_path):
    pytest.importorskip("onnxscript", reason="ONNX needs cytolibra[export]")
    attention = {"fcos": "spatial", "retinanet": "large_kernel"}.get(name)
    detector = lively(name, tower=attention and {"attention": attention})
    save_onnx(detector, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert_same_outputs(detector, openvino_core().read_model(tmp_path / "model.onnx"))


@pytest.mark.parametrize(("name", "tower"), [("reppoints", None), ("fcos", {"deformable": 1})])
def test_onnx_refuses_deformable_convolutions_in_one_line(name, tower, tmp_path):
    with pytest.raises(ConfigError, match=f"{name} can't be exported to ONNX") as caught:
        save_onnx(lively(name, tower=tower), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_what_openvino_cannot_convert_is_told_in_one_line(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("\nNo conversion rule for aten::strange\nat line 3 of convert.cpp")

    monkeypatch.setattr(load_openvino(), "convert_model", refuse)
    message = r"^fcos can't be converted to OpenVINO: No conversion rule for aten::strange$"
    with pytest.raises(ExportError, match=message):
        to_openvino(lively())


@pytest.mark.slow
def test_int8_is_near_and_small_and_normalises_by_itself(tmp_path):
    pytest.importorskip("nncf", reason="int8 needs cytolibra[export]")
    detector = lively()
    model = to_openvino(detector)
    quantised = quantise(model, [patchwork((96, 160), seed) for seed in range(6)])
    for name, network in {"openvino": model, "openvino-int8": quantised}.items():
        save_openvino(network, tmp_path, name)
    sizes = [(tmp_path / FILES[kind][1]).stat().st_size for kind in ("openvino", "openvino-int8")]
    assert sizes[1] < 0.4 * sizes[0]
    tile = patchwork((70, 100), 99)
    expected, _ = run_torch(detector, tile)
    found = run_openvino(openvino_core().read_model(tmp_path / "openvino-int8.xml"), tile)
    for name, value in expected.items():
        # Depthwise convolutions that never learned are the worst case: a trained network's AP is
        # what counts, and `cytolibra export --data` measures it.
        both = torch.stack([found[name].flatten(), value.flatten()])
        assert 0.6 < torch.corrcoef(both)[0, 1] < 0.9999, name


def test_an_export_is_a_model_of_its_own(tmp_path):
    detector = saved(tmp_path / "model")
    card = copy_model(detector, tmp_path / "export")
    save_openvino(to_openvino(detector), tmp_path / "export", "openvino")
    card = add_graph(card, tmp_path / "export", "openvino")
    loaded = load_detector(tmp_path / "export")
    assert loaded.card == card
    assert loaded.card.sha256 == detector.card.sha256
    model = read_openvino(loaded.folder, "openvino", loaded.card.graphs["openvino"])
    assert_same_outputs(loaded, model)
    assert load_detector(tmp_path / "model").card.graphs == {}


def test_a_model_may_be_exported_into_its_own_folder_and_keeps_its_graphs(tmp_path):
    detector = saved(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"a graph")
    card = add_graph(copy_model(detector, tmp_path), tmp_path, "onnx")
    assert copy_model(load_detector(tmp_path), tmp_path) == card
    assert set(card.graphs) == {"onnx"}


def test_what_lies_where_a_model_is_exported_to_keeps_its_graphs_or_is_refused(tmp_path):
    detector = saved(tmp_path / "model")
    out = tmp_path / "export"
    card = copy_model(detector, out)
    (out / "model.onnx").write_bytes(b"a graph")
    costs = {"ap_cost": {"bf16": {"map50": 0.01}}, "ap_cost_data": "9 fields"}
    card = add_graph(card.model_copy(update=costs), out, "onnx")
    assert copy_model(detector, out) == card == load_detector(out).card

    before = {path.name: path.read_bytes() for path in out.iterdir()}
    tuned = detector.card.model_copy(update={"thresholds": {"NILM": 0.5, "HSIL": 0.5}})
    graded = give_grader(detector.card, tmp_path / "model", "openvino")
    for other, told in [
        (saved(tmp_path / "other", seed=1), "sha256"),
        (with_card(detector, tuned), "thresholds"),
        (with_card(detector, graded), "second_look"),
    ]:
        message = rf"holds another model, lively, .*differs in {told}\); name another folder"
        with pytest.raises(ConfigError, match=message):
            copy_model(other, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def with_card(detector, card):
    """The same weights, loaded from the same folder with another card."""
    save_card(card, detector.folder)
    return load_detector(detector.folder)


def measured(folder):
    """A model with graphs in int8, of detector and grader, whose cost was measured."""
    detector = saved(folder)
    costs = {"bf16": {"map50": 0.01}, "int8": {"map50": 0.02}}
    card = detector.card.model_copy(update={"ap_cost": costs, "ap_cost_data": "9 fields"})
    metrics = {"ap50": 0.7, "int8_cost/map50": 0.03}
    card = give_grader(card, folder, "openvino-int8")
    write_graph(folder)
    graphs = add_graph(card, folder, "openvino-int8").graphs
    card = card.with_grader(metrics=metrics).model_copy(update={"graphs": graphs})
    save_card(card, folder)
    return load_detector(folder)


def write_graph(folder):
    for name in FILES["openvino-int8"]:
        (folder / name).write_bytes(b"a graph")


def test_a_copy_without_the_int8_graph_tells_no_cost_of_it(tmp_path):
    detector = measured(tmp_path / "model")
    assert copy_model(detector, detector.folder) == detector.card
    card = copy_model(detector, tmp_path / "export")
    assert card.ap_cost == {"bf16": {"map50": 0.01}}
    assert card.ap_cost_data == "9 fields"
    assert card.second_look.metrics == {"ap50": 0.7}
    assert load_detector(tmp_path / "export").card == card


def test_another_int8_graph_in_the_same_folder_drops_the_cost_of_the_one_before(tmp_path):
    card = measured(tmp_path).card
    card = card.model_copy(update={"ap_cost": {"int8": card.ap_cost["int8"]}})
    write_graph(tmp_path)
    assert add_graph(card, tmp_path, "openvino-int8") == load_detector(tmp_path).card
    found = load_detector(tmp_path).card
    assert (found.ap_cost, found.ap_cost_data) == ({}, "")
    assert found.second_look.metrics == {"ap50": 0.7}
    of_grader = add_grader_graph(card, tmp_path, "openvino-int8")
    assert of_grader.second_look.metrics == {"ap50": 0.7}
    assert of_grader.ap_cost == card.ap_cost


def test_a_graph_that_is_not_the_sidecar_s_is_refused(tmp_path):
    detector = saved(tmp_path)
    for name in FILES["openvino"]:
        (tmp_path / name).write_bytes(b"a graph")
    facts = add_graph(detector.card, tmp_path, "openvino").graphs["openvino"]
    (tmp_path / "openvino.bin").write_bytes(b"another")
    with pytest.raises(ModelFileError, match="not the graph that the sidecar names"):
        read_openvino(tmp_path, "openvino", facts)
    (tmp_path / "openvino.bin").unlink()
    with pytest.raises(ModelFileError, match=r"openvino\.bin: cannot be read"):
        read_openvino(tmp_path, "openvino", facts)


@pytest.mark.parametrize(
    ("kind", "files", "small", "remedy"),
    [
        ("openvino", FILES, False, "export it again"),
        ("openvino-int8", GRADER_FILES, False, "export it again"),
        ("scale", FILES, True, "make it again with cytolibra scale"),
    ],
)
def test_a_graph_of_nan_is_neither_read_nor_written(tmp_path, kind, files, small, remedy):
    graph = colour_graph(32, spread=np.nan)
    with pytest.raises(ModelFileError, match=rf"{files[kind][0]}: not written: .* holds NaN"):
        save_openvino(graph, tmp_path, kind, files, small=small)
    assert not list(tmp_path.iterdir())
    path = tmp_path / files[kind][0]
    load_openvino().save_model(graph, path, compress_to_fp16=small)  # as was done before
    facts = GraphFacts(sha256=hash_graph(tmp_path, kind, files))
    with pytest.raises(ModelFileError, match=rf"{path}: holds NaN, .*; {remedy}$"):
        read_openvino(tmp_path, kind, facts, files)


def test_saving_other_weights_drops_what_was_exported_of_the_old(tmp_path):
    detector = saved(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"a graph")
    detector.card = add_graph(detector.card, tmp_path, "onnx").model_copy(
        update={"ap_cost": {"bf16": {"map50": 0.1}}}
    )
    from models import save_detector

    card = save_detector(detector, detector.card, tmp_path / "tuned")
    assert card.graphs == card.ap_cost == {}


def test_openvino_tells_nobody_that_it_was_used(tmp_path):
    code = (
        "from models.storage.graphs import load_openvino\n"
        "load_openvino().convert_model\n"
        "import sys; assert sys.modules['openvino_telemetry'] is None\n"
    )
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | home, cwd=REPO)
    assert list(tmp_path.iterdir()) == []


def test_a_graders_graph_gives_its_probabilities_of_any_number_of_crops():
    torch.manual_seed(0)
    grader = Grader(GraderConfig(size=32), 2).eval()
    torch.nn.init.normal_(grader.head.weight)
    network = GradingNetwork(grader, 1.5)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = load_openvino().compile_model(grader_to_openvino(network, 32), "CPU", exact)
    for count in (1, 5):
        crops = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), np.uint8)
        with torch.no_grad():
            expected = network(torch.from_numpy(crops)).numpy()
        np.testing.assert_allclose(compiled([crops])["probabilities"], expected, atol=1e-5)

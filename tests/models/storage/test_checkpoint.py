"""Checkpoints: what is saved comes back, and what is broken says so."""

import json
import pickle

import pytest
import torch

from models import (
    DetectorConfig,
    ModelCard,
    ModelFileError,
    build_detector,
    list_models,
    load_detector,
    save_detector,
)

CLASSES = ("NILM", "HSIL")


@pytest.fixture
def detector():
    torch.manual_seed(0)
    return build_detector({"name": "fcos", "classes": CLASSES, "pyramid": {"channels": 32}})


@pytest.fixture
def folder(detector, tmp_path):
    card = ModelCard(
        name="small", detector=detector.config, mpp=0.5, thresholds={"NILM": 0.3, "HSIL": 0.4}
    )
    save_detector(detector, card, tmp_path / "small")
    return tmp_path / "small"


def test_a_saved_detector_detects_the_same(detector, folder):
    loaded = load_detector(folder)
    image = [torch.rand(3, 96, 96)]
    with torch.no_grad():
        expected, found = detector.eval()(image)[0], loaded(image)[0]
    for key in expected:
        torch.testing.assert_close(found[key], expected[key])
    assert loaded.card.thresholds == {"NILM": 0.3, "HSIL": 0.4}
    assert not loaded.training


def test_what_only_training_needs_is_not_saved(detector, folder, tmp_path):
    torch.manual_seed(0)
    settings = detector.config.model_dump() | {"history": {"longest": 64}}
    learned = build_detector(settings)
    assert any(".history." in name for name in learned.state_dict())
    card = load_detector(folder).card.model_copy(update={"detector": learned.config})
    save_detector(learned, card, tmp_path / "learned")
    for name in ("model.json", "model.safetensors"):  # of the same weights, else
        assert (tmp_path / "learned" / name).read_bytes() == (folder / name).read_bytes()
    assert load_detector(tmp_path / "learned").config.history is None


def test_of_the_abnormal_heads_contrast_nothing_is_saved(detector, folder, tmp_path):
    torch.manual_seed(0)
    head = {"abnormal_head": {"consistency": 0.5, "contrast": 0.1, "momentum": 0.8}}
    learned = build_detector(detector.config.model_dump() | head).eval()
    card = load_detector(folder).card.model_copy(update={"detector": learned.config})
    save_detector(learned, card, tmp_path / "learned")
    loaded = load_detector(tmp_path / "learned")
    assert not [name for name in loaded.state_dict() if "contrast" in name]
    assert (loaded.config.abnormal_head.consistency, loaded.config.abnormal_head.contrast) == (
        0.5,
        0.0,
    )
    assert learned.config.only_in_training() == {
        "abnormal_head": {"contrast": 0.1, "momentum": 0.8, "temperature": 0.1, "embedding": 128}
    }
    image = [torch.rand(3, 64, 64)]
    with torch.no_grad():
        expected, found = learned(image)[0], loaded(image)[0]
    for key in expected:
        torch.testing.assert_close(found[key], expected[key])


def test_either_file_names_the_model(folder):
    assert load_detector(folder / "model.json").card == load_detector(folder).card
    assert load_detector(folder / "model.safetensors").card == load_detector(str(folder)).card


def test_half_precision_halves_the_file_and_loads_as_float32(detector, folder, tmp_path):
    card = load_detector(folder).card
    save_detector(detector, card, tmp_path / "half", dtype=torch.float16)
    size = (folder / "model.safetensors").stat().st_size
    assert (tmp_path / "half" / "model.safetensors").stat().st_size < 0.55 * size
    loaded = load_detector(tmp_path / "half")
    assert next(loaded.parameters()).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ["eqlv2", "class_balanced"])
def test_the_loss_comes_back_with_its_state_and_counts(name, dtype, tmp_path):
    counts = {"class_counts": (70, 3)} if name == "class_balanced" else {}
    config = {"name": "fcos", "classes": CLASSES, "pyramid": {"channels": 32, "levels": (3,)}}
    detector = build_detector(config | {"loss": {"name": name} | counts})
    loss = detector.slot.loss
    for sums in loss.state_dict().values():
        sums += 1e6  # as after some thousand steps; beyond float16
    card = ModelCard(
        name="small", detector=detector.config, mpp=0.5, thresholds=dict.fromkeys(CLASSES, 0.3)
    )
    save_detector(detector, card, tmp_path / "small", dtype=dtype)
    loaded = load_detector(tmp_path / "small")
    assert loaded.config.loss == detector.config.loss
    torch.testing.assert_close(dict(loaded.slot.loss.named_buffers()), dict(loss.named_buffers()))


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_weights_that_are_no_numbers_on_disk_are_not_written(detector, folder, tmp_path, value):
    card = load_detector(folder).card
    name, weight = next(iter(detector.head.named_parameters()))
    torch.nn.init.constant_(weight, value)  # the second one overflows float16
    with pytest.raises(ModelFileError, match=rf"not written: head\.{name} is not all numbers"):
        save_detector(detector, card, tmp_path / "half", dtype=torch.float16)
    assert not (tmp_path / "half").exists()


def test_weights_that_are_no_numbers_are_not_loaded(detector, folder, tmp_path, monkeypatch):
    card = load_detector(folder).card
    detector.backbone.body.get_submodule("0.1").running_var.fill_(float("inf"))
    monkeypatch.setattr("models.detectors.weights._not_finite", lambda _: None)
    save_detector(detector, card, tmp_path / "broken")  # as versions before wrote it
    monkeypatch.undo()
    with pytest.raises(ModelFileError, match=r"safetensors: backbone\S+running_var is not all"):
        load_detector(tmp_path / "broken")


def test_the_sidecar_is_readable_and_names_what_matters(folder):
    sidecar = json.loads((folder / "model.json").read_text())
    assert sidecar["detector"]["classes"] == list(CLASSES)
    assert sidecar["mpp"] == 0.5
    assert len(sidecar["sha256"]) == 64


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def swap_for_a_pickle(folder):
    (folder / "model.safetensors").write_bytes(pickle.dumps({"weights": [1, 2, 3]}))


def remove_weights(folder):
    (folder / "model.safetensors").unlink()


def break_sidecar(folder):
    (folder / "model.json").write_text('{"name": "small"}')


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (truncate, "truncated or changed"),
        (swap_for_a_pickle, "truncated or changed"),
        (remove_weights, "no such file"),
        (break_sidecar, "not a model's sidecar"),
    ],
)
def test_a_broken_model_says_what_is_wrong(folder, breakage, message):
    breakage(folder)
    with pytest.raises(ModelFileError, match=message) as caught:
        load_detector(folder)
    assert caught.value.exit_code == 2


def test_weights_of_another_architecture_are_refused(folder):
    path = folder / "model.json"
    sidecar = json.loads(path.read_text())
    sidecar["detector"]["pyramid"]["channels"] = 64
    path.write_text(json.dumps(sidecar))
    with pytest.raises(ModelFileError, match="does not fit the detector"):
        load_detector(folder)


def test_an_unknown_name_lists_the_shipped_models(tmp_path):
    with pytest.raises(ModelFileError, match="no such model; shipped models:"):
        load_detector("no-such-model")
    (tmp_path / "weights.pth").write_bytes(b"anything")
    with pytest.raises(ModelFileError, match="not a model of CytoLibra"):
        load_detector(tmp_path / "weights.pth")


def test_thresholds_must_be_one_a_class(detector):
    with pytest.raises(ValueError, match="thresholds"):
        ModelCard(name="x", detector=detector.config, mpp=0.5, thresholds={"NILM": 0.5})


def test_shipped_models_load():
    for card in list_models():
        loaded = load_detector(card.name)
        assert isinstance(loaded.card.detector, DetectorConfig)
        assert set(loaded.card.thresholds) == set(loaded.card.detector.classes)

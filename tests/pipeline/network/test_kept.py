"""What is kept between starts is used again, and made again where it was damaged."""

import sys

import numpy as np
import pytest
from graders import colour_graph
from lively import lively, patchwork, saved

from models.card import WEIGHTS, ModelFileError
from models.storage.graphs import hash_graph, load_openvino
from models.storage.source import ModelSource
from pipeline.network.kept import cache_folder, convert_once
from pipeline.network.openvino_runtime import OpenVINORuntime


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CYTOLIBRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def conversions(monkeypatch):
    """One entry for each time that torch has traced a network."""
    from models.storage import export

    made, convert = [], export.to_openvino

    def count(detector):
        made.append(detector)
        return convert(detector)

    monkeypatch.setattr(export, "to_openvino", count)
    return made


@pytest.fixture
def model(tmp_path):
    saved(tmp_path / "model")
    return tmp_path / "model"


def outputs(model):
    runtime = OpenVINORuntime(ModelSource.find(model), [0.25, 0.25], "fp32")
    return runtime.run(patchwork((96, 160)))


def test_a_network_is_converted_once(model, conversions):
    first, second = outputs(model), outputs(model)
    assert len(conversions) == 1
    assert all(np.allclose(first[name], second[name], atol=1e-3) for name in first)


def test_other_weights_are_another_network(model, tmp_path, conversions):
    outputs(model)
    saved(tmp_path / "other", seed=1)
    outputs(tmp_path / "other")
    assert len(conversions) == 2


def test_a_network_that_was_cut_short_is_made_again(model, cache, conversions):
    expected = outputs(model)
    (kept,) = (cache / "graphs").glob("*/openvino.bin")
    kept.write_bytes(kept.read_bytes()[:100])
    found = outputs(model)
    outputs(model)
    assert len(conversions) == 2
    assert all(np.allclose(expected[name], found[name], atol=1e-3) for name in expected)


def test_a_network_of_nan_that_was_kept_is_made_again(model, cache, conversions):
    expected = outputs(model)
    (place,) = (cache / "graphs").iterdir()
    load_openvino().save_model(colour_graph(32, spread=np.nan), place / "openvino.xml")
    (place / "sha256").write_text(hash_graph(place, "openvino"))
    found = outputs(model)
    assert len(conversions) == 2
    assert all(np.allclose(expected[name], found[name], atol=1e-3) for name in expected)


def test_weights_that_the_sidecar_does_not_name_are_refused_though_a_network_is_kept(model):
    outputs(model)
    with (model / WEIGHTS).open("ab") as file:
        file.write(b"more")
    with pytest.raises(ModelFileError, match="truncated or changed"):
        outputs(model)


def test_of_a_detector_in_memory_nothing_is_kept(cache):
    convert_once(ModelSource.of(lively()))
    assert not (cache / "graphs").exists()


def test_without_a_place_for_the_cache_nothing_is_kept(tmp_path, monkeypatch, model):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CYTOLIBRA_CACHE", str(tmp_path / "file"))
    assert cache_folder("graphs") is None
    assert set(outputs(model)) == {"cls_logits", "bbox_regression", "bbox_ctrness"}


def test_the_cache_lies_in_the_user_s_cache_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("CYTOLIBRA_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("openvino") == tmp_path / "cytolibra" / "openvino"

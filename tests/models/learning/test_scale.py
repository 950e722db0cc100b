"""The network that tells how large cells are shown, and what is known of its error."""

import numpy as np
import pytest
import torch
from lively import lively, patchwork

from configs import ConfigError
from models.learning.scale import (
    PooledFeatures,
    ScaleHead,
    ScaleNetwork,
    fit_head,
    spread_of_errors,
    teach_scale,
)
from models.storage.export import network_to_openvino
from models.storage.graphs import load_openvino


def samples(rng, slides=40, each=20, between=0.1, within=0.05):
    """Features of which two tell the magnification, each slide with an error of its own."""
    magnifications = rng.uniform(-0.4, 0.4, slides * each)
    groups = np.repeat(np.arange(slides), each)
    off = rng.normal(0, between, slides)[groups] + rng.normal(0, within, len(groups))
    nuisance = rng.normal(0, 1, (len(groups), 3))
    seen = magnifications + off
    features = np.column_stack([3 * seen + 5 + nuisance[:, 0], nuisance[:, 0], nuisance[:, 1:]])
    return features, magnifications, groups


def test_a_head_without_noise_finds_the_linear_map_exactly():
    features, magnifications, _ = samples(np.random.default_rng(0), between=0, within=0)
    head = fit_head(features, magnifications, 1e-6)
    np.testing.assert_allclose(head.magnification(features), magnifications, atol=1e-6)


def test_ridge_agrees_with_the_normal_equations():
    features, magnifications, _ = samples(np.random.default_rng(1))
    units = (features - features.mean(0)) / (features.std(0) + 1e-6)
    gram = units.T @ units + 3.0 * np.eye(4)
    expected = np.linalg.solve(gram, units.T @ (magnifications - magnifications.mean()))
    np.testing.assert_allclose(fit_head(features, magnifications, 3.0).weights, expected)


def test_novelty_is_one_on_the_average_and_grows_with_the_distance():
    features, magnifications, _ = samples(np.random.default_rng(2))
    head = fit_head(features, magnifications, 1e-6)
    assert head.novelty(features).mean() == pytest.approx(1, rel=1e-3)
    far = features.mean(0) + 10 * features.std(0) * np.array([0, 0, 1, 0])
    assert head.novelty(far[None])[0] == pytest.approx(100 / 4, rel=0.05)


def test_errors_are_parted_into_those_of_slides_and_of_places():
    rng = np.random.default_rng(3)
    members = np.repeat(np.arange(400), 10)
    errors = rng.normal(0, 0.1, 400)[members] + rng.normal(0, 0.05, 4000)
    within, between = spread_of_errors(errors, members)
    assert within == pytest.approx(0.05, rel=0.05)
    assert between == pytest.approx(0.1, rel=0.1)


def test_one_place_a_slide_can_not_part_them_and_says_between():
    within, between = spread_of_errors(np.array([0.1, -0.1, 0.1, -0.1]), np.arange(4))
    assert (within, between) == (0.0, pytest.approx(0.1))


def test_the_error_that_is_told_is_that_of_slides_left_out():
    features, magnifications, groups = samples(np.random.default_rng(4), slides=200)
    lesson = teach_scale(features, magnifications, [f"slide {g}" for g in groups])
    assert lesson.groups == 200
    # The ridge draws predictions towards the middle, so somewhat below what went in.
    assert lesson.between == pytest.approx(0.1, abs=0.025)
    assert lesson.within == pytest.approx(0.05, abs=0.02)
    assert 1 < lesson.known < 10


def test_an_error_is_not_told_of_a_handful_of_slides():
    features, magnifications, groups = samples(np.random.default_rng(5), slides=9)
    with pytest.raises(ConfigError, match="can't be known from 9 slides"):
        teach_scale(features, magnifications, list(groups))


def test_the_exported_network_says_what_head_and_features_do():
    features = PooledFeatures(lively(backbone="mobilenet_v2"))
    picture = patchwork((120, 152), seed=3)
    with torch.no_grad():
        pooled = features(torch.from_numpy(picture)[None]).double().numpy()
    size = pooled.shape[1]
    rng = np.random.default_rng(6)
    whitening = rng.normal(0, 1, (size, size))
    head = ScaleHead(np.zeros(size), np.full(size, 2.0), rng.normal(0, 0.05, size), 0.25, whitening)
    network = ScaleNetwork(features, head).eval()
    example = torch.zeros((1, 65, 67, 3), dtype=torch.uint8)
    exported = network_to_openvino(network, example, network.OUTPUTS, "a network")
    compiled = load_openvino().compile_model(exported, "CPU")
    found = compiled(picture[None])
    by_name = {port.get_any_name(): float(found[port][0]) for port in compiled.outputs}
    assert by_name["magnification"] == pytest.approx(float(head.magnification(pooled)[0]), abs=1e-2)
    assert by_name["novelty"] == pytest.approx(float(head.novelty(pooled)[0]), rel=0.02)


def test_pooling_is_of_the_strides_8_and_16():
    features = PooledFeatures(lively(backbone="mobilenet_v2"))
    pooled = features(torch.from_numpy(patchwork((64, 64)))[None])
    assert pooled.shape == (1, 2 * (32 + 96))

"""The grader's network: what goes in, what comes out, and what lies on disk."""

import numpy as np
import pytest
import torch
from graders import grader_facts

from configs import ConfigError
from models.card import GRADER, ModelFileError
from models.grader import Grader, GraderConfig, GradingNetwork, load_grader, save_grader

CLASSES = ("NILM", "HSIL")


def tiny(**settings):
    torch.manual_seed(0)
    return Grader(GraderConfig(size=32, **settings), len(CLASSES)).eval()


def crops(count=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


@torch.no_grad()
def ask(network, pixels):
    return network(torch.from_numpy(pixels)).numpy()


def test_pixels_are_normalised_inside():
    grader = tiny(image_mean=(0.2, 0.4, 0.6), image_std=(0.1, 0.2, 0.5))
    seen = []
    grader.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = torch.tensor([51.0, 153.0, 255.0]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    with torch.no_grad():
        assert grader(pixels).shape == (1, 3)  # two classes, and background
    np.testing.assert_allclose(seen[0][0, :, 0, 0], [0.0, 1.0, 0.8], atol=1e-6)


def test_probabilities_are_those_of_logits_over_the_temperature():
    grader = tiny()
    torch.nn.init.normal_(grader.head.weight)
    with torch.no_grad():
        logits = grader(torch.from_numpy(crops()).permute(0, 3, 1, 2).float())
    expected = np.exp(logits.numpy() / 2)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ask(GradingNetwork(grader, 2.0), crops()), expected, rtol=1e-4)


@pytest.mark.parametrize("backbone", ["mobilenet_v3_large", "resnet18"])
def test_other_backbones_give_as_many_logits(backbone):
    grader = tiny(backbone=backbone)
    with torch.no_grad():
        assert grader(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_what_is_saved_is_loaded(tmp_path):
    grader = tiny()
    torch.nn.init.normal_(grader.head.weight)
    facts = grader_facts(CLASSES, sha256=save_grader(grader, tmp_path, torch.float16))
    facts = facts.model_copy(update={"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)})
    loaded = load_grader(tmp_path, facts)
    assert not loaded.training
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    before, after = (ask(GradingNetwork(one, 1.0), crops()) for one in (grader, loaded))
    np.testing.assert_allclose(before, after, atol=0.01)  # half precision on disk


def test_weights_that_are_no_numbers_are_neither_written_nor_loaded(tmp_path, monkeypatch):
    grader = tiny()
    torch.nn.init.constant_(grader.head.weight, 1e6)
    with pytest.raises(ModelFileError, match=r"not written: head\.weight .* in float16"):
        save_grader(grader, tmp_path, torch.float16)
    assert not (tmp_path / GRADER).exists()
    monkeypatch.setattr("models.detectors.weights._not_finite", lambda _: None)
    facts = grader_facts(CLASSES, sha256=save_grader(grader, tmp_path, torch.float16))
    monkeypatch.undo()
    with pytest.raises(ModelFileError, match=r"head\.weight is not all numbers"):
        load_grader(tmp_path, facts)


def test_files_that_are_not_the_cards_are_refused(tmp_path):
    sha256 = save_grader(tiny(), tmp_path)
    facts = grader_facts(CLASSES, sha256=sha256)
    with pytest.raises(ModelFileError, match="does not fit the grader"):
        load_grader(tmp_path, grader_facts(("NILM", "LSIL", "HSIL"), sha256=sha256))
    with pytest.raises(ModelFileError, match=r"second_look\.backbone vit: this version knows"):
        load_grader(tmp_path, facts.model_copy(update={"backbone": "vit"}))
    content = (tmp_path / GRADER).read_bytes()
    (tmp_path / GRADER).write_bytes(content[:-1] + b"?")
    with pytest.raises(ModelFileError, match="truncated or changed"):
        load_grader(tmp_path, facts)
    (tmp_path / GRADER).unlink()
    with pytest.raises(ModelFileError, match="no such file"):
        load_grader(tmp_path, facts)


def test_starting_weights_of_something_else_are_told_by_the_graders_key(tmp_path):
    path = tmp_path / "none.pth"
    with pytest.raises(ConfigError, match=r"^grader\.backbone_weights: .*no such file"):
        tiny(backbone_weights=str(path))


def test_it_starts_from_torchvisions_weights(shared):
    path = shared / "weights" / "mobilenet_v2-b0353104.pth"
    state = torch.load(path, weights_only=True)
    grader = tiny(backbone_weights=str(path))
    for name in ("0.0.weight", "18.0.weight"):
        torch.testing.assert_close(grader.body.state_dict()[name], state[f"features.{name}"])

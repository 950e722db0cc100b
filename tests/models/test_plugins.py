"""A loss, a detector, a backbone, a reader and a step of somebody else's package, by name alone."""

import sys

import numpy as np
import pytest
import torch

from configs import ConfigError, plugins, validate
from data.crops.augment import AugmentSettings, build_step
from losses.contract import LossContract
from models import DetectorConfig, build_detector, with_class_counts
from models.detectors.contract import DetectorContract

PACKAGE = """
import albumentations
import numpy as np
from torch.nn.functional import binary_cross_entropy_with_logits

from losses import ClassificationLoss
from models.detectors.backbones import BACKBONES
from models.detectors.fcos import FCOS


class MyLoss(ClassificationLoss):
    def __init__(self, num_classes, class_counts=(), power: float = 1.0):
        super().__init__()
        if power < 0:
            raise ValueError("power is not negative")
        self.counts, self.power = class_counts, power

    def forward(self, logits, targets):
        loss = binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none")
        return loss * self.power


class MyDetector(FCOS):
    pass


STAGES = BACKBONES["resnet18"]


class Invert(albumentations.ImageOnlyTransform):
    def apply(self, img, **_):
        return 255 - img
"""


@pytest.fixture(autouse=True)
def _package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "theirs.py").write_text(PACKAGE)
    yield
    sys.modules.pop("theirs", None)


def config(**values):
    base = {"name": "fcos", "classes": ["NILM", "HSIL"], "head_convs": 1}
    return validate(
        base | {"pyramid": {"channels": 32, "levels": [3]}} | values, DetectorConfig, "m"
    )


def test_a_loss_gets_its_settings_and_the_counts(tmp_path):
    loss = {"name": "theirs:MyLoss", "power": 2.5, "weight": 3}
    settings = config(loss=loss)
    filled = with_class_counts(settings, [7, 2])
    assert filled.loss.weight == 3
    slot = build_detector(filled).slot
    assert (slot.loss.counts, slot.loss.power, slot.weight) == ((7, 2), 2.5, 3)
    assert DetectorConfig.model_validate_json(filled.model_dump_json()) == filled
    with pytest.raises(ConfigError, match=r"loss.class_counts is missing"):
        build_detector(settings)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            {"name": "theirs:MyLoss", "pover": 1},
            "loss.pover: theirs:MyLoss has no such setting; it",
        ),
        ({"name": "theirs:MyLoss", "power": -1}, "can't be made of its settings: power is not neg"),
        ({"name": "theirs:Invert"}, "is no subclass of losses.ClassificationLoss"),
        ({"name": "theirs:Gone"}, "has no attribute 'Gone'"),
    ],
)
def test_what_is_no_loss_is_told(loss, message):
    with pytest.raises(ConfigError) as told:
        build_detector(with_class_counts(config(loss=loss), [1, 1]))
    assert message in str(told.value)


def test_wrong_names_are_told_with_those_that_there_are():
    with pytest.raises(
        ConfigError, match=r"m: loss\.name = 'focl': .*expected one of cross_entropy"
    ):
        config(loss={"name": "focl"})
    with pytest.raises(ConfigError, match=r"m: name = 'fcs': .*one of atss, fcos, .*package:Name"):
        config(name="fcs")
    with pytest.raises(
        ConfigError, match=r"m: backbone = 'resnet': .*expected one of .*mobilenet_v2"
    ):
        config(backbone="resnet")
    with pytest.raises(ConfigError, match=r"unknown key loss.focal.gama; did you mean gamma\?"):
        config(loss={"name": "focal", "gama": 1})


def test_a_detector_on_a_backbone_of_others_keeps_the_contract():
    class Mine(DetectorContract):
        config = {"name": "theirs:MyDetector", "backbone": "theirs:STAGES"}  # noqa: RUF012

    contract = Mine()
    assert type(contract.build()).__name__ == "MyDetector"
    contract.test_trains_on_images_of_odd_sizes()
    contract.test_detects_inside_of_each_image()


def test_the_contract_finds_a_loss_that_breaks_it():
    from losses import ClassificationLoss

    class Unstable(ClassificationLoss):
        def forward(self, logits, targets):
            return -(targets * logits.sigmoid().log() + (1 - targets) * (-logits).sigmoid().log())

    class Contract(LossContract):
        def build(self, num_classes):
            return Unstable()

    with pytest.raises(AssertionError):
        Contract().test_is_finite_at_extreme_logits()
    Contract().test_one_class()


def test_what_is_no_detector_or_backbone_is_told():
    with pytest.raises(ConfigError, match=r"theirs:MyLoss: is no subclass of models.DenseDetector"):
        build_detector(config(name="theirs:MyLoss"))
    with pytest.raises(ConfigError, match=r"theirs:MyLoss: is no Stages"):
        build_detector(config(backbone="theirs:MyLoss"))


def test_a_step_of_others_changes_crops():
    step = build_step({"name": "theirs:Invert", "p": 1})
    pixels = np.full((4, 4, 3), 5, np.uint8)
    assert step(image=pixels)["image"].tolist() == np.full((4, 4, 3), 250).tolist()
    with pytest.raises(ConfigError, match=r"data\.augment\.steps = theirs:Gone"):
        validate({"steps": [{"name": "theirs:Gone"}]}, AugmentSettings, "a")


def test_our_names_are_never_taken_by_entry_points(monkeypatch):
    monkeypatch.setattr(plugins, "installed", lambda kind: {"fcos": None, "focal": None})
    assert type(build_detector(config(loss={"name": "focal"})).slot.loss).__name__ == "FocalLoss"
    assert torch.is_tensor(build_detector(config()).slot.loss.prior_bias(2, 0.01))

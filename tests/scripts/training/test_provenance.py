"""A card tells what is true of its run, whatever recipe it was made by."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision.models as zoo
from torchvision.models import MobileNet_V2_Weights

import configs
from configs import ConfigError, load_yaml
from data.annotations import read_coco
from models import build_detector
from models.card import ParentFacts, read_card
from models.learning.distillation import start_from
from models.learning.learner import OptimiserSettings
from scripts.training import provenance
from scripts.training.provenance import (
    CardSettings,
    describe_parents,
    describe_source,
    model_name,
    provenance_doubts,
)
from scripts.training.run import _frozen_doubts
from scripts.training.sources import FieldSource

TEACHER = "cric-fcos-mobilenet-v2"


@pytest.fixture
def source(coco):
    return FieldSource(annotations=coco[0], images=coco[1])


def test_a_model_is_called_as_its_run_or_as_its_card_says(tmp_path, monkeypatch):
    assert model_name(CardSettings(), tmp_path / "mine") == "mine"
    assert model_name(CardSettings(name="ours"), tmp_path / "mine") == "ours"
    monkeypatch.chdir(tmp_path)
    assert model_name(CardSettings(), Path()) == tmp_path.name
    assert model_name(CardSettings(), Path("/")) == "untitled"


def test_a_source_is_told_by_its_files(source, coco):
    found = describe_source("train", source, read_coco(*coco))
    assert (found.name, found.images, found.cells) == ("fields.json", 2, {"NILM": 1, "HSIL": 2})
    assert found.licence == ""
    assert found.annotations_sha256 == hashlib.sha256(coco[0].read_bytes()).hexdigest()


def test_other_pixels_are_another_source(source, coco):
    fields = read_coco(*coco)
    before = describe_source("train", source, fields)
    image = coco[1] / "1.png"
    image.write_bytes(image.read_bytes()[:-1] + b"\0")
    after = describe_source("train", source, fields)
    assert before.images_sha256 != after.images_sha256
    assert before.annotations_sha256 == after.annotations_sha256


def test_a_coco_file_tells_its_licence_and_settings_go_before_it(source, coco):
    content = json.loads(coco[0].read_text())
    content["licenses"] = [{"id": 1, "name": "CC BY-NC 4.0"}, {"id": 2}, {"id": 3, "name": 7}]
    coco[0].write_text(json.dumps(content))
    fields = read_coco(*coco)
    assert describe_source("val", source, fields).licence == "CC BY-NC 4.0"
    named = source.model_copy(update={"licence": "ours", "name": "clinic", "attribution": "we"})
    found = describe_source("val", named, fields)
    assert (found.licence, found.name, found.attribution) == ("ours", "clinic", "we")


def test_a_teacher_is_a_parent_with_its_own_terms():
    card = read_card(Path("models/zoo") / TEACHER)
    (parent,) = describe_parents(None, TEACHER)
    assert (parent.role, parent.name, parent.sha256) == ("teacher", TEACHER, card.sha256)
    assert parent.licence == "CC BY 4.0"
    assert "Rezende" in parent.attribution


def test_backbone_weights_are_known_by_their_content_and_not_by_their_name(tmp_path, monkeypatch):
    file = tmp_path / "mobilenet_v2-b0353104.pth"
    torch.save({}, file)
    (parent,) = describe_parents(str(file), None)
    assert (parent.name, parent.licence) == ("mobilenet_v2-b0353104.pth", "")
    start = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(provenance, "_of_torchvision", lambda: [(start, "Known.V1")])
    (parent,) = describe_parents(str(file), None)
    assert (parent.name, parent.licence) == ("torchvision Known.V1", "BSD-3-Clause")
    monkeypatch.setattr(provenance, "LITE_WEIGHTS", {start: "efficientnet_lite9_pytorch_model"})
    (parent,) = describe_parents(str(file), None)
    assert (parent.name, parent.licence) == ("efficientnet_lite9_pytorch_model", "Apache-2.0")
    assert "ML Illustrated" in parent.attribution
    with pytest.raises(ConfigError, match=r"backbone_weights: .*none.pth: cannot be read"):
        describe_parents(str(tmp_path / "none.pth"), None)


def test_torchvisions_weights_are_listed_by_their_hash():
    assert ("b0353104", str(MobileNet_V2_Weights.IMAGENET1K_V1)) in provenance._of_torchvision()


def test_a_licence_that_nobody_states_and_a_name_of_ours_are_told(source, coco):
    licensed = source.model_copy(update={"licence": "CC BY 4.0"})
    facts = describe_source("train", licensed, read_coco(*coco))
    backbone = ParentFacts(role="backbone", name="b", sha256="", licence="BSD-3-Clause")
    assert provenance_doubts("mine", "MIT", [facts], [backbone]) == []
    assert provenance_doubts("mine", "", [], [backbone]) == []
    doubts = provenance_doubts(TEACHER, "", [facts], [backbone])
    assert [doubt.code for doubt in doubts] == ["name-of-shipped", "licence-unstated"]
    assert "fields.json (CC BY 4.0)" in doubts[1].text


def frozen(freeze, weights=None, backbone="mobilenet_v2", teacher=None):
    """What is told of a run's frozen stages."""
    model = {"name": "fcos", "classes": ["NILM", "HSIL"], "backbone": backbone}
    made = build_detector(model | {"backbone_weights": weights})
    if teacher is not None:
        start_from(made, build_detector(model | {"backbone": teacher}))
    settings = SimpleNamespace(model=made.config, optimiser=OptimiserSettings(freeze=freeze))
    return [doubt.text for doubt in _frozen_doubts(settings, made)]


def test_stages_that_stay_random_are_told(tmp_path):
    kept = "optimiser.freeze is 2, and of the stages that it keeps from learning"
    (text,) = frozen(2)
    assert text == f"{kept} 0, 1 have random weights; set model.backbone_weights, or " + (
        "optimiser.freeze to 0"
    )
    assert frozen(0) == []
    (text,) = frozen(2, backbone="resnet18")
    assert f"{kept} conv1, bn1 have" in text
    file = tmp_path / "weights.pth"
    torch.save(zoo.mobilenet_v2().state_dict(), file)
    assert frozen(2, str(file)) == []
    (text,) = frozen(2, str(file), "mobilenet_v2_dense")  # its own stem is in no file
    assert text == f"{kept} 6 have random weights; set optimiser.freeze to 0"
    assert frozen(2, None, "mobilenet_v2_dense")[0].endswith("weights; set optimiser.freeze to 0")


def test_stages_that_are_a_teachers_are_not_random():
    assert frozen(2, teacher="mobilenet_v2") == []
    (text,) = frozen(2, backbone="mobilenet_v2_dense", teacher="mobilenet_v2")
    assert "from learning 6 have" in text


@pytest.mark.parametrize("path", sorted(Path(configs.__file__).parent.glob("train/*.yaml")))
def test_a_recipe_says_nothing_of_whose_model_it_makes(path):
    assert "card" not in load_yaml(path)

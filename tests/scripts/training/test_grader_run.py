"""A grader's training on a handful of crops: what is written, and what is refused."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lively import saved
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from configs import ConfigError, validate
from data.annotations import read_coco
from models.card import GRADER, read_card, save_card
from models.grader import load_grader
from scripts.cli import build_app
from scripts.training import grader_run
from scripts.training.grader_judge import EVIDENCE, load_evidence, save_evidence
from scripts.training.grader_run import calibrate_by, run_grader_training
from scripts.training.grader_settings import GraderTrainSettings


@pytest.fixture
def settings(values, tmp_path):
    """Of a run of seconds, whose detector finds something."""
    saved(tmp_path / "detector", pyramid={"channels": 32, "levels": [3]})
    return {
        "grader": {"size": 32},
        "detector": str(tmp_path / "detector"),
        "data": {
            "train": values["data"]["train"],
            "val": values["data"]["val"],
            "crops": {"background_a_field": 5},
        },
        "optimiser": {"freeze": 4, "warmup": 0.5},
        "loop": values["loop"] | {"epochs": 2, "loggers": []},
        "card": {"name": "tiny"},
    }


def run(settings, out, checkpoint=None, **changes):
    out.mkdir(exist_ok=True)
    checked = validate(settings | changes, GraderTrainSettings, "test")
    return run_grader_training(checked, out, checkpoint, Console(quiet=True))


def of_others(folder, copy, classes):
    """A copy of a model whose two classes are called otherwise."""
    shutil.copytree(folder, copy)
    card = read_card(folder)
    detector = card.detector.model_copy(update={"classes": classes})
    new = {"detector": detector, "thresholds": dict.fromkeys(classes, 0.25)}
    save_card(card.model_copy(update=new), copy)


def test_writes_the_detector_with_its_grader(settings, tmp_path, capsys):
    card = run(settings, tmp_path / "run")
    folder, look = tmp_path / "run" / "model", card.second_look
    assert read_card(folder) == card
    before = read_card(tmp_path / "detector")
    assert card.model_copy(update={"second_look": None}) == before
    assert (folder / "model.safetensors").read_bytes() == (
        tmp_path / "detector" / "model.safetensors"
    ).read_bytes()
    assert (look.classes, look.size, look.mpp) == (("NILM", "HSIL"), 32, 0.25)
    assert look.training["places"] == {"NILM": 1, "HSIL": 2, "background": 10}
    assert look.training["candidates"] == "of the detector itself"
    assert set(look.thresholds) == {"NILM", "HSIL"}
    assert {"ap50/abnormal", "grades/likelihood", "grades/calibration"} <= set(look.metrics)
    assert "[background-in-fold]" in capsys.readouterr().err
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert len(file.readlines()) >= 3

    evidence = load_evidence(tmp_path / "run" / EVIDENCE)
    assert [len(cells) for cells in evidence.truth] == [2, 1]
    assert all(
        len(one.places) == len(logits)
        for one, logits in zip(evidence.candidates, evidence.logits, strict=True)
    )
    # What is kept was said by the grader that is kept: half precision on disk apart.
    grader = load_grader(folder, look)
    from data.crops.grades import PlacesDataset
    from scripts.slides import images_of

    source = settings["data"]["val"]
    fields = read_coco(Path(source["annotations"]), Path(source["images"]), ("NILM", "HSIL"))
    centers = [one.places.centers for one in evidence.candidates]
    pixels, _ = PlacesDataset(fields, images_of(fields), centers, (32, 0.25))[0]
    with torch.no_grad():
        logits = grader(pixels.float()).numpy() / look.temperature
    bias = np.array([look.training["bias"][name] for name in ("NILM", "HSIL", "background")])
    np.testing.assert_allclose(logits, evidence.logits[0] / look.temperature + bias, atol=0.01)


def test_amplitudes_are_none_of_images_that_are_judged_by_and_on_the_card(settings, tmp_path):
    data, epoch = settings["data"], settings["loop"] | {"epochs": 1, "steps": 1}
    judged = data | {"augment": {"fourier": {"images": data["val"]["images"]}}}
    with pytest.raises(ConfigError, match=r"is in data\.augment\.fourier\.images and in data\.val"):
        run(settings, tmp_path / "run", data=judged)
    others = data | {"augment": {"fourier": {"images": data["train"]["images"]}}}
    told = run(settings, tmp_path / "run", data=others, loop=epoch).second_look.training
    assert told["unlabelled"]["data.augment.fourier.images"]["images"] == 2
    assert str(tmp_path) not in json.dumps(told)


def test_a_figure_that_no_cell_defines_is_refused(settings, crowded, tmp_path):
    with pytest.raises(ConfigError, match=r"val/ap50/NILM: data\.val has no cell "):
        run(settings, tmp_path / "run", loop=settings["loop"] | {"monitor": "val/ap50/NILM"})


def test_the_card_names_the_sources_and_their_terms(settings, tmp_path):
    data, told = settings["data"], io.StringIO()
    terms = {"licence": "CC BY 4.0", "attribution": "the clinic", "name": "clinic"}
    changed = {"data": data | {"train": data["train"] | terms}}
    checked = validate(settings | changed, GraderTrainSettings, "test")
    (tmp_path / "run").mkdir()
    console = Console(file=told, width=200)
    look = run_grader_training(checked, tmp_path / "run", None, console).second_look
    train, val = look.training["sources"]
    assert (train["part"], train["licence"], train["attribution"]) == (
        "train",
        "CC BY 4.0",
        "the clinic",
    )
    assert (train["images"], train["cells"]) == (2, {"NILM": 1, "HSIL": 2})
    assert (val["part"], val["licence"]) == ("val", "")
    assert look.training["data"].startswith("train: clinic (2 images, 3 cells); val: ")
    assert look.licence == ""
    doubt = "card.licence is empty, and the model was made of clinic (CC BY 4.0)"
    assert doubt in told.getvalue()
    assert "[licence-unstated]" in told.getvalue()
    assert (
        "0, 1, 2, 3 have random weights; set grader.backbone_weights, or optimiser.freeze to 0"
        in (told.getvalue())
    )
    assert "[random-frozen]" in told.getvalue()


@pytest.fixture
def judged(coco):
    """Other images to judge by than those that a run before left out."""
    annotations, images = coco
    folder = images.parent / "judged"
    folder.mkdir()
    for image in images.glob("*.png"):
        Image.open(image).save(folder / image.name, compress_level=2)
    return {"annotations": str(annotations), "images": str(folder)}


@pytest.mark.slow
def test_is_calibrated_by_runs_out_of_fold(settings, judged, tmp_path):
    own = run(settings, tmp_path / "fold").second_look
    evidence = load_evidence(tmp_path / "fold" / EVIDENCE)
    always = [np.zeros(len(labels), np.int64) for labels in evidence.labels]  # each place is NILM
    save_evidence(tmp_path / "fold" / EVIDENCE, replace(evidence, labels=always))
    new = run(
        settings,
        tmp_path / "run",
        calibration=[str(tmp_path / "fold")],
        data=settings["data"] | {"val": judged},
    ).second_look
    assert own.training["calibrated"] == "on the validation fields"
    assert new.training["calibrated"] == "out of fold"
    assert new.training["bias"]["NILM"] > 1 + own.training["bias"]["NILM"]
    # The validation fields, whose places are background mostly, then only judge.
    assert new.metrics["grades/calibration"] > own.metrics["grades/calibration"] + 0.2


def test_runs_to_calibrate_by_are_checked(settings, judged, coco, tmp_path):
    with pytest.raises(ConfigError, match=r"calibration: .*nowhere: no folder of cytolibra train"):
        run(settings, tmp_path / "run", calibration=[str(tmp_path / "nowhere")])
    fold, others = tmp_path / "fold", read_coco(coco[0], Path(judged["images"]), ("NILM", "HSIL"))
    short = {"loop": settings["loop"] | {"epochs": 1, "steps": 1}}
    card = run(settings, fold, **short)
    assert calibrate_by([], card, others) is None
    assert calibrate_by([fold], card, others) is not None
    of_others(tmp_path / "detector", tmp_path / "other", ("NILM", "LSIL"))
    with pytest.raises(ConfigError, match=r"calibration: .*fold is of the classes NILM, HSIL, "):
        calibrate_by([fold], read_card(tmp_path / "other"), others)
    shutil.copytree(fold, tmp_path / "again")
    with pytest.raises(ConfigError, match=r"calibration: .*fold and .*again both left .* out"):
        calibrate_by([fold, tmp_path / "again"], card, others)
    with pytest.raises(ConfigError, match=r"what .*fold of calibration left out.* in data\.val"):
        run(settings, tmp_path / "run", calibration=[str(fold)])
    content = json.loads(coco[0].read_text())
    content["annotations"][0]["category_id"] = 2
    coco[0].write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"second_look\.npz: .* annotations have changed since"):
        calibrate_by([fold], card, others)


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_weights_of_one_that_ran_through(
    settings, tmp_path, monkeypatch
):
    run(settings, tmp_path / "through")

    class StoppedError(Exception):
        pass

    from scripts.training import loop

    written = loop.MetricsFile.on_validation_end

    def stop_after_first_epoch(self, trainer, module):
        written(self, trainer, module)
        if trainer.current_epoch == 1:
            raise StoppedError

    monkeypatch.setattr(loop.MetricsFile, "on_validation_end", stop_after_first_epoch)
    with pytest.raises(StoppedError):
        run(settings, tmp_path / "halves")
    monkeypatch.undo()
    run(settings, tmp_path / "halves", tmp_path / "halves" / "checkpoints" / "last.ckpt")
    one, other = (
        (tmp_path / name / "model" / GRADER).read_bytes() for name in ("through", "halves")
    )
    assert one == other


def test_a_run_goes_on_with_the_detector_that_it_began_with(settings, tmp_path):
    short = {"loop": settings["loop"] | {"epochs": 1, "steps": 1}}
    run(settings, tmp_path / "run", **short)
    saved(tmp_path / "detector", seed=1, pyramid={"channels": 32, "levels": [3]})
    with pytest.raises(ConfigError, match="began with other content of detector: "):
        run(settings, tmp_path / "run", tmp_path / "run" / "checkpoints" / "last.ckpt", **short)


@pytest.mark.slow
def test_a_student_learns_from_graders_of_the_same_classes(settings, tmp_path):
    run(settings, tmp_path / "teacher")
    teacher = str(tmp_path / "teacher" / "model")
    card = run(settings, tmp_path / "student", teachers=[teacher])
    assert card.second_look.training["teachers"] == 1
    (parent,) = card.second_look.training["parents"]
    assert (parent["role"], parent["name"]) == ("teacher", "tiny")
    assert parent["sha256"] == read_card(Path(teacher)).second_look.sha256
    assert [one["part"] for one in parent["sources"]] == ["train", "val"]
    with pytest.raises(ConfigError, match=r"teachers: .*detector has no grader"):
        run(settings, tmp_path / "a", teachers=[settings["detector"]])
    with pytest.raises(ConfigError, match=r"teachers: .* looks at other crops"):
        run(settings, tmp_path / "b", teachers=[teacher], grader={"size": 64})
    of_others(tmp_path / "detector", tmp_path / "other", ("NILM", "LSIL"))
    with pytest.raises(ConfigError, match="tells NILM, HSIL apart, lively NILM, LSIL"):
        run(settings, tmp_path / "c", teachers=[teacher], detector=str(tmp_path / "other"))


def test_the_command_tells_a_graders_configuration_from_a_detectors(
    settings, tmp_path, monkeypatch
):
    config = tmp_path / "grader.json"
    config.write_text(json.dumps(settings))
    seen = []

    def train(checked, out, checkpoint, _):
        seen.append((checked.grader.size, out, checkpoint))
        return run(settings, tmp_path / "run")

    monkeypatch.setattr(grader_run, "run_grader_training", train)
    exported = []
    monkeypatch.setattr("scripts.export.add_networks", exported.append)
    arguments = ["train", "--config", str(config), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(build_app("train"), arguments)
    assert result.exit_code == 0, result.output
    assert seen == [(32, tmp_path / "out", None)]
    assert exported == [tmp_path / "out" / "model"]
    assert "tiny: lively with its second look" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "grader.sise=64"], "unknown key grader.sise; did you mean size"),
        (["--set", "detector=nobody"], "nobody: no such model"),
        (["--set", "loop.monitor=val/nothing"], "loop.monitor = val/nothing: expected one of"),
        (["--find-lr"], "--find-lr is for detectors"),
        (["--set", "grader.backbone_weights=none.pth"], "grader.backbone_weights: none.pth: no"),
        (["--set", "candidates=[nowhere]"], "candidates: nowhere: no folder of cytolibra train"),
    ],
)
def test_wrong_calls_get_one_line(settings, tmp_path, arguments, message):
    config = tmp_path / "grader.json"
    config.write_text(json.dumps(settings))
    call = ["train", "--config", str(config), "--out", str(tmp_path / "out"), *arguments]
    result = CliRunner().invoke(build_app("train"), call)
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.output

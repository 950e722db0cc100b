"""A run that learns from images without annotations, too; and what is refused before it."""

import csv
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from configs import ConfigError, validate
from models.card import read_card
from scripts.training.feeding import ShareSampler
from scripts.training.run import run_training
from scripts.training.settings import TrainSettings
from scripts.training.unlabelled import MeanTeacherSettings


@pytest.fixture
def teaching(values, tmp_path):
    """A run whose unlabelled images are others than those that it is judged by."""
    folder = tmp_path / "others"
    (folder / "deeper").mkdir(parents=True)
    for name, image in (("a.png", "1.png"), ("deeper/b.png", "2.png")):
        with Image.open(tmp_path / "images" / image) as picture:
            picture.rotate(180).save(folder / name)
    Image.new("RGB", (90, 20)).save(folder / "dot.png")
    (folder / "notes.txt").write_text("no image")
    values["mean_teacher"] = {"images": str(folder), "mpp": 0.25, "crops": 1, "start": 0.0}
    values["mean_teacher"] |= {"warmup": 0.5, "floor": 0.005, "boxes": 0.5}
    values["loop"] |= {"epochs": 1, "steps": 2}
    return values


def run(values, out):
    settings = validate(values, TrainSettings, "test")
    out.mkdir(exist_ok=True)
    console = Console(record=True, quiet=False, width=300, file=open("/dev/null", "w"))  # noqa: SIM115
    card = run_training(settings, out, None, console)
    return card, console.export_text()


def state(folder):
    """Weights and their average that a run ends with."""
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return last["state_dict"] | {
        f"current.{name}": value for name, value in last["current_model_state"].items()
    }


def test_a_run_learns_from_both_and_tells_so(teaching, tmp_path):
    card, said = run(teaching, tmp_path / "through")
    assert "mean_teacher.images: without annotations: 2 of 3 images and slides" in said
    with (tmp_path / "through" / "metrics.csv").open() as file:
        [row, *_] = csv.DictReader(file)
    parts = ("classification", "boxes", "ctrness")
    assert all(float(row[f"train/unlabelled_{part}"]) >= 0 for part in parts)
    assert float(row["train/unlabelled_classification"]) > 0
    told = read_card(tmp_path / "through" / "model").training
    assert told["unlabelled"]["names"] == ["others"]
    assert told["unlabelled"]["images"] == 2
    assert told["settings"]["mean_teacher"]["crops"] == 1
    assert "images" not in told["settings"]["mean_teacher"]
    assert card.training["fields"] == 2  # annotated ones
    assert "dot.png: its shorter side is 10 px at data.mpp" in said


@pytest.mark.slow
def test_before_the_start_a_run_is_the_one_without_a_teacher(teaching, tmp_path):
    teaching["mean_teacher"]["start"] = 0.99
    run(teaching, tmp_path / "waits")
    del teaching["mean_teacher"]
    run(teaching, tmp_path / "plain")
    plain, waits = state(tmp_path / "plain"), state(tmp_path / "waits")
    assert [name for name in plain if not torch.equal(plain[name], waits[name])] == []


@pytest.mark.parametrize("ranks", [1, 2])
def test_unlabelled_crops_follow_in_each_batch(ranks):
    drawn = [list(ShareSampler(2, 2, rank, ranks, unlabelled=1)) for rank in range(ranks)]
    for rank, share in enumerate(drawn):
        assert [one for one in share if isinstance(one, int)] == [
            2 * (step * ranks + rank) + i for step in range(2) for i in range(2)
        ]
        assert [share[2].index, share[5].index] == [rank, ranks + rank]
        assert len(share) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distillation": {"teacher": "some"}}, r"mean_teacher and distillation are two teachers"),
        ({"loop": {"ema": 0.0}}, r"loop\.ema is 0, which is none"),
        ({"mean_teacher": {}}, r"mean_teacher\.images"),
        ({"mean_teacher": {"images": []}}, r"mean_teacher\.images"),
        ({"mean_teacher": {"images": ""}}, r"a folder's name is empty"),
        ({"mean_teacher": {"images": "x", "strong": {"flips": True}}}, r"D4 moves pixels"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(values, changes, message):
    with pytest.raises(ConfigError, match=message):
        validate(values | {"mean_teacher": {"images": "x"}} | changes, TrainSettings, "test")


def test_what_is_not_said_of_the_strong_view_stays_strong():
    of_noise = {"images": "x", "strong": {"noise": 1.0}}
    strong = validate(of_noise, MeanTeacherSettings, "test").strong
    assert (strong.noise, strong.stain, strong.blur, strong.flips) == (1.0, 0.3, 0.5, False)


def refused(values, tmp_path, message):
    with pytest.raises(ConfigError, match=message) as told:
        run(values, tmp_path / "run")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run" / "config.yaml").exists()  # before the first step


def test_images_that_are_not_there_or_judged_by_are_refused(teaching, tmp_path):
    others = teaching["mean_teacher"]
    folder = Path(others["images"])
    refused(teaching | {"mean_teacher": others | {"mpp": None}}, tmp_path, r"a\.png: its file car")
    judged = Path(teaching["data"]["val"]["images"]) / "1.png"
    shutil.copy(judged, folder / "copy.png")
    refused(
        teaching, tmp_path, r"1\.png of data\.val has the same content as .*copy\.png of mean_t"
    )
    for image in folder.rglob("*.png"):
        image.write_bytes(b"no image")
    refused(teaching, tmp_path, r"mean_teacher\.images: 4 of 4 images can't be opened, the first")
    for image in folder.rglob("*.png"):
        Image.new("RGB", (9, 9)).save(image)
    refused(teaching, tmp_path, r"mean_teacher\.images: none is large enough.* 4 px at data\.mpp")
    for image in folder.rglob("*.png"):
        image.unlink()
    refused(teaching, tmp_path, r"mean_teacher\.images: .*others: no slide found")
    others["images"] = [str(folder / "none")]
    refused(teaching, tmp_path, r"mean_teacher\.images: .*none: no such file or folder")

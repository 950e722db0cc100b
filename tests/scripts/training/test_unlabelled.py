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
from scripts.training.provenance import digest_of_images
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
    of_teacher = told["unlabelled"]["mean_teacher.images"]
    assert (of_teacher["names"], of_teacher["images"]) == (["others"], 2)
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


@pytest.fixture
def adapting(values, tmp_path):
    """A run whose crops take amplitudes of a folder, which may hold what else it learns from."""
    folder = tmp_path / "elsewhere"
    shutil.copytree(values["data"]["train"]["images"], folder)
    Image.new("RGB", (90, 20)).save(folder / "small.png")
    (folder / "notes.txt").write_text("no image")
    values["data"]["augment"] = {"fourier": {"images": str(folder), "probability": 1.0}}
    values["loop"] |= {"epochs": 1, "steps": 1}
    return values


def test_the_card_tells_whose_amplitudes_crops_took(adapting, tmp_path):
    training = run(adapting, tmp_path / "run")[0].training
    taken = training["unlabelled"]["data.augment.fourier.images"]
    assert (taken["names"], taken["images"]) == (["elsewhere"], 2)  # one is too small
    images = [tmp_path / "elsewhere" / name for name in ("1.png", "2.png")]
    assert taken["images_sha256"] == digest_of_images(images)
    assert "images" not in training["settings"]["data"]["augment"]["fourier"]


def test_images_that_are_judged_by_give_no_amplitudes(adapting, tmp_path):
    fourier = adapting["data"]["augment"]["fourier"]
    val = adapting["data"]["val"]
    shutil.copy(Path(val["images"]) / "2.png", Path(fourier["images"]) / "copy.png")
    message = r"2\.png of data\.val has the same content as .*copy\.png of data\.augment\.fourier"
    refused(adapting, tmp_path, message)
    (Path(fourier["images"]) / "copy.png").unlink()
    fourier["images"] = val["images"]
    message = r"1\.png: is in data\.augment\.fourier\.images and in data\.val; validate on others"
    refused(adapting, tmp_path, message)


@pytest.mark.parametrize("kind", ["fourier", "mean_teacher"])
def test_images_that_are_held_out_are_not_learned_from(values, tmp_path, kind):
    source, kept = values["data"]["train"], tmp_path / "kept"
    kept.mkdir()
    for image in Path(source["images"]).iterdir():
        with Image.open(image) as picture:
            picture.rotate(180).save(kept / image.name)
    held_out = source | {"images": str(kept), "name": "far"}
    values["data"] |= {"train": [source, held_out], "hold_out": "far"}
    if kind == "fourier":
        values["data"]["augment"] = {"fourier": {"images": str(kept)}}
    else:
        values["mean_teacher"] = {"images": str(kept), "mpp": 0.25}
    refused(
        values, tmp_path, rf"\.png: is in .*{kind}\.images and in the source far, which is held"
    )

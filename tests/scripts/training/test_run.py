"""Training on a handful of crops: what is written, and that a resumed run is the same run."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from configs import ConfigError, validate
from data.evaluation import field_metrics, load_cells
from losses.registry import LOSSES
from models import load_detector
from pipeline.batch.lock import hold
from scripts.cli import build_app
from scripts.evaluate import measure
from scripts.training.plots import read_balance
from scripts.training.run import _tell_start, read_fields, read_run_fields, run_training
from scripts.training.settings import TrainSettings

CLASSES = ["NILM", "HSIL"]


def run(values, out, checkpoint=None, **loop):
    settings = validate(values | {"loop": values["loop"] | loop}, TrainSettings, "test")
    out.mkdir(exist_ok=True)
    return run_training(settings, out, checkpoint, Console(quiet=True))


def weights(folder):
    return load_detector(folder / "model").state_dict()


def learner_state(folder):
    """What learns, as the last checkpoint has it, what training alone needs too; no average."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)
    return checkpoint.get("current_model_state", checkpoint["state_dict"])


def test_writes_the_model_the_metrics_and_the_resolved_configuration(values, tmp_path):
    card = run(values, tmp_path / "run")
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["optimiser"]["lr"] == 1e-3  # a default, resolved
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows[:2]] == ["0", "1"]
    assert {"train/loss", "val/ap50/abnormal", "val/map50"} <= set(rows[0])
    assert set(card.thresholds) == set(CLASSES)
    assert card.domain is None  # of two fields
    assert load_detector(tmp_path / "run" / "model").card == card


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_with_a_moving_average_as_presets_have_it(loss, values, tmp_path):
    values["model"] |= {"loss": {"name": loss}}
    run(values, tmp_path / "run", epochs=1, steps=2, ema=0.9)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert float(next(csv.DictReader(file))["train/loss"]) > 0
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run").values())


def test_the_card_names_the_run_its_data_and_its_parents(values, tmp_path):
    del values["card"]
    card = run(values, tmp_path / "mine", epochs=1, steps=1)
    assert card.name == "mine"
    assert card.summary == "fcos on smallbackbone:STAGES at 0.5 µm/px, trained with grad_libra"
    assert [(one["part"], one["images"]) for one in card.training["sources"]] == [
        ("train", 2),
        ("val", 2),
    ]
    assert card.training["sources"][0]["cells"] == {"NILM": 1, "HSIL": 2}
    assert card.training["data"].startswith("train: fields.json (2 images, 3 cells); val: ")
    assert card.training["parents"] == []
    assert "CRIC" not in card.model_dump_json()
    config = yaml.safe_load((tmp_path / "mine" / "config.yaml").read_text())
    assert config["card"]["name"] == ""  # so that a run by these settings has its own name


def test_keeps_what_was_found_on_the_validation_fields(values, tmp_path):
    card = run(values, tmp_path / "run")
    truth, found = load_cells(tmp_path / "run" / "validation.npz")
    assert [cells.labels.tolist() for cells in truth] == [[0, 1], [1]]
    metrics = field_metrics(truth, found, CLASSES, [False, True])
    assert metrics["map50"] == pytest.approx(card.metrics["map50"], abs=1e-4)


def test_tells_how_the_loss_pulled_each_class(values, tmp_path):
    steps = 20  # a row every ten
    run(values, tmp_path / "run", epochs=2, steps=steps // 2)
    balance = read_balance(tmp_path / "run" / "gradients.csv")
    assert list(balance) == CLASSES
    for rows in balance.values():
        assert [step for step, _, _ in rows] == [10, 20]
        assert all(ratio > 0 for _, ratio, _ in rows)
    shares = zip(*([share for _, _, share in rows] for rows in balance.values()), strict=True)
    assert [sum(row) for row in shares] == pytest.approx([1, 1])
    with Image.open(tmp_path / "run" / "gradients.png") as picture:
        assert picture.width > 300


def test_a_student_groups_its_classes_as_its_teacher_does(values, tmp_path):
    values["model"]["loss"] = {"name": "bags", "group_bounds": [2]}
    taught = run(values, tmp_path / "teacher", epochs=1, steps=1)
    assert taught.detector.loss.class_counts == (1, 2)
    values["distillation"] = {"teacher": str(tmp_path / "teacher" / "model")}
    one_more = {"annotations": str(tmp_path / "more.json"), "images": str(tmp_path / "images")}
    content = json.loads(Path(values["data"]["train"]["annotations"]).read_text())
    nilm = next(one for one in content["annotations"] if one["category_id"] == 1)
    content["annotations"].append(nilm | {"id": 99, "bbox": [100, 100, 30, 30]})
    (tmp_path / "more.json").write_text(json.dumps(content))
    values["data"]["train"] = one_more
    card = run(values, tmp_path / "student", epochs=1, steps=1)
    assert card.training["cells"] == {"NILM": 2, "HSIL": 2}  # by which there would be one group
    assert card.detector.loss.class_counts == (1, 2)
    values["model"]["loss"]["class_counts"] = [2, 2]
    with pytest.raises(ConfigError, match=r"differ in model\.loss .*take the teacher's loss"):
        run(values, tmp_path / "another", epochs=1, steps=1)


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_weights_of_one_that_ran_through(values, tmp_path):
    # A loss, a head and a teacher with states of their own are the harder case.
    others = shutil.copytree(tmp_path / "images", tmp_path / "others")
    values["mean_teacher"] = {"images": str(others), "mpp": 0.25, "crops": 1, "floor": 0.005}
    values["mean_teacher"] |= {"start": 0.1, "boxes": 0.5}
    values["model"]["loss"] = {"name": "eqlv2"}
    values["model"]["abnormal_head"] = {"consistency": 0.5, "contrast": 0.1}
    values["model"]["history"] = {"warm_up": 1, "class_power": 0.5, "jitter": {}}
    values["model"]["causal"] = {"interval": 3, "code": 4}
    values["data"]["crops"] |= {"gradient": {"interval": 2}, "batches": "balanced"}
    values["data"]["train"] = one_a_field(values["data"]["train"])
    values["data"]["augment"] = {
        "templates": {},
        "fourier": {"images": str(tmp_path / "images")},
    }
    values |= {"views": {}, "group_dro": {}}
    values["loop"]["steps"] = 4  # what the first two measure steers the second epoch
    # The schedule must be the same: the first run is stopped after an epoch, not planned shorter.
    run(values, tmp_path / "through")
    from scripts.training import loop

    class StoppedError(Exception):
        pass

    saved = loop.MetricsFile.on_validation_end

    def stop_after_first_epoch(self, trainer, module):
        saved(self, trainer, module)
        if trainer.current_epoch == 1:
            raise StoppedError

    loop.MetricsFile.on_validation_end = stop_after_first_epoch
    try:
        with pytest.raises(StoppedError):
            run(values, tmp_path / "halves")
    finally:
        loop.MetricsFile.on_validation_end = saved
    last = tmp_path / "halves" / "checkpoints" / "last.ckpt"
    run(values, tmp_path / "halves", checkpoint=last)
    through, halves = weights(tmp_path / "through"), weights(tmp_path / "halves")
    for name, tensor in through.items():
        torch.testing.assert_close(tensor, halves[name], msg=name)
    assert not any(".history." in name for name in through)
    card = load_detector(tmp_path / "halves" / "model").card
    told = card.training["settings"]["model"]
    assert (told["history"]["warm_up"], told["history"]["class_counts"]) == (1, [1, 2])
    assert card.detector.history is None
    assert not [name for name in through if "contrast" in name]
    assert (card.detector.abnormal_head.contrast, told["abnormal_head"]["contrast"]) == (0, 0.1)
    assert not [name for name in through if "groups" in name]
    weighed = [row["train/weight/part1"] for row in rows_of(tmp_path / "through")[:2]]
    assert weighed == [row["train/weight/part1"] for row in rows_of(tmp_path / "halves")[:2]]
    assert weighed[0] != weighed[1]
    through, halves = learner_state(tmp_path / "through"), learner_state(tmp_path / "halves")
    for name, tensor in through.items():
        torch.testing.assert_close(tensor, halves[name], msg=name)
    assert (through["detector.head.slot.history.memory.held"] > 4).all()  # of more than a step
    assert through["detector.head.slot.history.batches"] == 8
    assert through["detector.head.slot.causal.lagrangian.batches"] == 8
    assert through["detector.head.slot.causal.lagrangian.multiplier"] > 0
    sampled = [(tmp_path / name / "sampling.csv").read_text() for name in ("through", "halves")]
    assert sampled[0] == sampled[1]
    assert len(sampled[0].splitlines()) == 1 + 4 * len(CLASSES)
    means = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt")["callbacks"]["MeanTeacher"][
            "means"
        ]
        for name in ("through", "halves")
    ]
    torch.testing.assert_close(*means, equal_nan=True)
    assert not means[0].isnan().all()
    assert [row["epoch"] for row in rows_of(tmp_path / "halves")][:2] == ["0", "1"]


def rows_of(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def one_a_field(source):
    """A source of several fields as one source a field."""
    path = Path(source["annotations"])
    content = json.loads(path.read_text())
    sources = []
    for image in content["images"]:
        own = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        part = path.with_name(f"part{image['id']}.json")
        part.write_text(json.dumps(content | {"images": [image], "annotations": own}))
        sources.append(source | {"annotations": str(part)})
    return sources


def test_a_loss_that_goes_by_frequencies_gets_the_counts_of_the_training_cells(values, tmp_path):
    values["model"]["loss"] = {"name": "class_balanced"}
    card = run(values, tmp_path / "run", epochs=1, steps=1)
    assert card.detector.loss.class_counts == (1, 2)
    assert load_detector(tmp_path / "run" / "model").config.loss.class_counts == (1, 2)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["model"]["loss"]["class_counts"] == [1, 2]


def test_tells_once_what_was_odd_about_both_sides(values, crowded, capsys):
    settings = validate(values, TrainSettings, "test")
    place = SimpleNamespace(root_device=torch.device("cpu"))
    trainer = SimpleNamespace(world_size=1, strategy=place, precision="32-true")
    said = []
    _tell_start(settings, read_run_fields(settings), trainer, said.append)
    first, *others = capsys.readouterr().err.splitlines()
    assert first == (
        "warning: crowds are ignored: neither cells nor background (crowds: cells takes them as "
        f"cells) ({crowded[0].name}) [crowds-ignored]"
    )
    assert others == [
        "warning: there is no cell of NILM to learn from: never to be found [class-untrained]",
        "warning: fewer than 20 cells to judge NILM (0), HSIL (2) by: their intervals, and "
        "figures, say little [class-unjudged]",
    ]
    assert said[-1] == "read 1 file as coco"


def test_the_same_image_on_both_sides_is_refused(values, tmp_path):
    values["data"]["val"] = values["data"]["train"]
    with pytest.raises(ConfigError, match=r"is in data.train and in data.val"):
        run(values, tmp_path / "run")


def test_annotations_of_any_tool_are_named_in_the_configuration(values, tmp_path):
    labels = tmp_path / "labels"
    for name in ("1", "2"):
        cell = {"label": "HSIL (CIN2)", "points": [[60.5, 60]], "shape_type": "point"}
        content = {"shapes": [cell], "imagePath": f"{name}.png"}
        labels.mkdir(exist_ok=True)
        (labels / f"{name}.json").write_text(json.dumps(content))
    source = values["data"]["train"] | {
        "annotations": str(labels / "*.json"),
        "classes": {"HSIL (CIN2)": "HSIL"},
        "point_size": 10,
        "mpp": 0.25,
    }
    settings = validate(values | {"data": values["data"] | {"train": source}}, TrainSettings, "t")
    train, _ = read_fields(settings)
    assert train.class_counts() == [0, 2]
    assert train.fields[0].boxes.tolist() == [[40.5, 40, 80.5, 80]]


@pytest.mark.slow
def test_evaluation_of_a_trained_model_covers_every_class(values, tmp_path, coco):
    from data.annotations import read_coco
    from pipeline.network.detector import RuntimeSettings, TileDetector

    run(values, tmp_path / "run")
    detector = TileDetector(
        load_detector(tmp_path / "run" / "model"), RuntimeSettings(device="cpu"), 0.01
    )
    metrics = measure(detector, read_coco(*coco, classes=CLASSES))
    assert metrics["classes"]["HSIL"]["cells"] == 2
    assert set(metrics["pooled"]) == {"abnormal", "any", "high grade"}
    assert list(metrics["pooled"]["abnormal"]["froc"]) == [
        "0.125",
        "0.25",
        "0.5",
        "1",
        "2",
        "4",
        "8",
    ]


def call(*arguments):
    return CliRunner().invoke(build_app("train"), list(map(str, arguments)))


def test_wrong_calls_get_one_line_and_exit_code_2(values, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(values))
    for arguments, message in [
        (["--config", tmp_path / "none.yaml", "--out", tmp_path / "a"], "no such file or preset"),
        (["--config", config, "--out", tmp_path / "a", "--resume"], "start without --resume"),
        (
            ["--config", config, "--out", tmp_path / "a", "--set", "loop.epoch=3"],
            "did you mean epochs",
        ),
        (["--config", config, "--out", config / "a"], "can't be made"),
    ]:
        result = call("train", *arguments)
        assert result.exit_code == 2, result.stderr
        assert result.stderr.startswith("error: ")
        assert message in result.stderr
        assert "Traceback" not in result.stderr


def test_a_second_training_in_one_folder_is_told_who_is_at_work(values, tmp_path, monkeypatch):
    config, out = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(json.dumps(values))
    out.mkdir()
    arguments = ["train", "--config", str(config), "--out", str(out)]
    ran = []
    monkeypatch.setattr(
        "scripts.training.run.run_training",
        lambda *_: ran.append(1) or SimpleNamespace(name="mine", metrics={}, training={}),
    )
    monkeypatch.setattr("scripts.export.add_networks", ran.append)
    with hold(out, command=("cytolibra", "train", "the", "first")):
        told = CliRunner().invoke(build_app("train"), arguments)
        assert told.exit_code == 2
        assert "another run is at work there" in told.stderr
        assert "cytolibra train the first); wait until it has ended" in told.stderr
        assert "--shard" not in told.stderr
        assert ran == []
        monkeypatch.setattr(rank_zero_only, "rank", 1)  # a second process of the same training
        assert CliRunner().invoke(build_app("train"), arguments).exit_code == 0
        monkeypatch.undo()
    assert ran == [1]
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loop": {"workers": 12}}, r"interval is 25, and 12 workers.*take 26 or more"),
        ({"distillation": {"teacher": "some"}}, r"crops\.gradient goes by the class loss"),
    ],
)
def test_a_gradient_that_cannot_steer_is_refused(values, changes, message):
    values["data"]["crops"]["gradient"] = {}
    with pytest.raises(ConfigError, match=message):
        validate(values | changes, TrainSettings, "test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loop": {"batch_size": 1}}, r"loop\.batch_size is 1; take 2 or more"),
        ({"distillation": {"teacher": "some"}}, r" learns from annotations"),
    ],
)
@pytest.mark.parametrize(
    ("part", "key"),
    [
        ({"abnormal_head": {"contrast": 0.1}}, r"model\.abnormal_head\.contrast"),
        ({"history": {}}, r"model\.history"),
    ],
)
def test_a_contrast_without_anything_to_compare_is_refused(values, changes, message, part, key):
    values["model"] |= part
    with pytest.raises(ConfigError, match=f"{key}.*{message}"):
        validate(values | changes, TrainSettings, "test")


def test_a_history_that_would_never_begin_is_refused(values):
    values["model"]["history"] = {"warm_up": 4}
    values["loop"] |= {"epochs": 2, "steps": 2}
    with pytest.raises(ConfigError, match=r"warm_up is 4, and the run has 4 batches .*take fewer"):
        validate(values, TrainSettings, "test")
    values["loop"]["steps"] = 3
    assert validate(values, TrainSettings, "test").model.history.warm_up == 4
    values["loop"]["steps"] = 2
    values["model"]["history"]["classes"] = 0
    assert validate(values, TrainSettings, "test").model.history.classes == 0


def test_a_consistency_that_a_teacher_takes_the_place_of_is_refused(values):
    taught = {"distillation": {"teacher": "some"}}
    values["model"]["abnormal_head"] = {"consistency": 0.5}
    with pytest.raises(ConfigError, match=r"model\.abnormal_head\.consistency .*set consistency"):
        validate(values | taught, TrainSettings, "test")
    values["model"]["abnormal_head"] = {}
    assert validate(values | taught, TrainSettings, "test").model.abnormal_head is not None


def test_causes_without_annotations_are_refused(values):
    values["model"]["causal"] = {}
    with pytest.raises(ConfigError, match=r"model\.causal learns from annotations"):
        validate(values | {"distillation": {"teacher": "some"}}, TrainSettings, "test")


@pytest.mark.slow
def test_a_student_learns_from_a_teacher_and_not_from_the_annotations(values, tmp_path):
    values["model"]["backbone"] = "mobilenet_v2"
    run(values, tmp_path / "teacher")
    teacher = str(tmp_path / "teacher" / "model")
    values["model"]["backbone"] = "mobilenet_v2_dense"
    values["distillation"] = {"teacher": teacher, "stem_share": 0.5}
    card = run(values, tmp_path / "student", steps=10)
    assert card.training["settings"]["distillation"]["teacher"] == teacher
    with (tmp_path / "student" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["train/stem"]) > 0
    assert "train/classification" not in rows[1]
    assert not (tmp_path / "student" / "gradients.csv").exists()
    student, other = weights(tmp_path / "student"), weights(tmp_path / "teacher")
    above = "backbone.body.17.conv.0.0.weight"  # begins as the teacher's, changes little
    assert (student[above] - other[above]).abs().mean() < 0.05 * other[above].abs().mean()


def test_a_teacher_of_other_classes_is_refused(values, tmp_path):
    values["distillation"] = {"teacher": "cric-fcos-mobilenet-v2"}
    with pytest.raises(ConfigError, match=r"distillation\.teacher: .*model\.classes"):
        run(values, tmp_path / "run")


def test_fields_without_a_cell_are_refused_before_the_run(values, tmp_path):
    path = Path(values["data"]["train"]["annotations"])
    bare = tmp_path / "bare.json"
    content = json.loads(path.read_text())
    crowds = [annotation | {"iscrowd": 1} for annotation in content["annotations"]]
    bare.write_text(json.dumps(content | {"annotations": crowds}))
    values["data"]["train"] = values["data"]["train"] | {"annotations": str(bare)}
    with pytest.raises(ConfigError, match=r"data\.train: none of its 2 fields has a cell"):
        run(values, tmp_path / "run")

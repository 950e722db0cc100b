"""The loop around a training: killed and resumed, in several processes, and with bad luck."""

import csv
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checkout import PYTHONPATH
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs import ConfigError, validate
from data.annotations import read_coco
from data.crops.augment import AugmentSettings
from data.crops.dataset import CropDataset
from data.crops.sampling import CropSettings
from data.evaluation import load_cells
from models import DetectorConfig, load_detector
from models.card import read_card
from models.learning.callbacks import UnreadableError
from models.learning.learner import DetectionLearner, NotFiniteError
from pipeline.network import precision as precisions
from scripts.slides import images_of
from scripts.training import loggers, loop
from scripts.training.failures import OutOfMemoryError
from scripts.training.feeding import CropLoader, ShareSampler
from scripts.training.judge import check_judged
from scripts.training.loop import LoopSettings, settled_precision
from scripts.training.run import read_fields, run_training
from scripts.training.settings import TrainSettings

RUN = """
import json, os, signal, sys
from pathlib import Path
from rich.console import Console
from configs import validate
from models.learning.learner import DetectionLearner
from scripts.training.run import run_training
from scripts.training.settings import TrainSettings

values, out, kill_at = json.loads(sys.argv[1])
step = DetectionLearner.training_step

def killed(self, batch, index):
    if self.trainer.global_step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, index)

DetectionLearner.training_step = killed
out = Path(out)
out.mkdir(exist_ok=True)
settings = validate(values, TrainSettings, "test")
run_training(settings, out, None, Console(quiet=True))
"""


def start(values, out, *, kill_at):
    """A run in a process of its own, which dies in the middle."""
    script = out.parent / "run.py"
    script.write_text(RUN)
    return call([script, json.dumps([values, str(out), kill_at])])


def run(values, out, resume=False, **loop):
    settings = validate(values | {"loop": values["loop"] | loop}, TrainSettings, "test")
    out.mkdir(exist_ok=True)
    last = out / "checkpoints" / "last.ckpt"
    return run_training(settings, out, last if resume else None, Console(quiet=True))


def learn_from_a_teacher(values, tmp_path):
    """Trains a teacher, and has the run learn from it in two parts."""
    values["model"]["backbone"] = "mobilenet_v2"
    run(values, tmp_path / "teacher")
    values["model"]["backbone"] = "mobilenet_v2_dense"
    teacher = str(tmp_path / "teacher" / "model")
    values["distillation"] = {"teacher": teacher, "stem_share": 0.5}


def state(folder):
    """All tensors that a run ends with: weights, their average, the optimiser's."""
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)
    parts = ("state_dict", "current_model_state", "averaging_state", "optimizer_states")
    return dict(tensors({name: last[name] for name in parts}))


def tensors(values, name=""):
    if isinstance(values, torch.Tensor):
        yield name, values
    elif isinstance(values, dict | list):
        pairs = values.items() if isinstance(values, dict) else enumerate(values)
        for key, value in pairs:
            yield from tensors(value, f"{name}/{key}")


def check_same_end(values, tmp_path):
    """Resumes the run in ``halves`` and compares its end with that of one that runs through."""
    run(values, tmp_path / "halves", resume=True)
    run(values, tmp_path / "through")
    expected, found = state(tmp_path / "through"), state(tmp_path / "halves")
    assert len(expected) > 100
    assert expected.keys() == found.keys()
    # Of the last step, not of the best epoch, which may lie before the kill.
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    figures = ["metrics.csv"] if "distillation" in values else ["metrics.csv", "gradients.csv"]
    for name in figures:
        texts = [(tmp_path / folder / name).read_text() for folder in ("through", "halves")]
        assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("instructions", "settled"),
    [
        ({"avx512_bf16"}, "bf16-mixed"),
        ({"amx_bf16"}, "bf16-mixed"),
        ({"avx2", "avx512_vnni"}, "32-true"),
    ],
)
def test_auto_takes_bf16_only_where_the_cpu_computes_it(
    instructions, settled, tmp_path, monkeypatch
):
    monkeypatch.setattr(precisions, "cpu_instructions", lambda: frozenset(instructions))
    on_cpu = LoopSettings(device="cpu", loggers=())
    assert loop.make_trainer(on_cpu, tmp_path, []).precision == settled
    asked = {"device": "cpu", "precision": "bf16-mixed"}
    if settled == "bf16-mixed":
        assert settled_precision(validate(asked, LoopSettings, "test")) == "bf16-mixed"
    else:
        with pytest.raises(
            ConfigError, match=r"test: precision = 'bf16-mixed': .*not compute it .*32-true"
        ):
            validate(asked, LoopSettings, "test")


@pytest.mark.parametrize(("native", "settled"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_takes_bf16_only_where_the_gpu_computes_it(native, settled, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    monkeypatch.setattr(precisions, "cpu_instructions", frozenset)
    assert settled_precision(LoopSettings()) == settled
    for asked in ("bf16-mixed", "16-mixed", "32-true"):
        assert settled_precision(LoopSettings(precision=asked)) == asked


@pytest.mark.slow  # later epochs are fast
def test_a_run_killed_in_its_first_epoch_ends_as_one_that_ran_through(values, tmp_path):
    values["model"]["loss"] = {"name": "eqlv2"}  # a loss with a state of its own
    values["optimiser"] |= {"freeze": 3}  # norms that must stay as they are
    values["loop"] |= {"epochs": 1, "steps": 8, "accumulate": 2, "checkpoint_every": 1}
    values["loop"] |= {"workers": 1}
    killed = start(values, tmp_path / "halves", kill_at=3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    last = torch.load(tmp_path / "halves" / "checkpoints" / "last.ckpt", weights_only=False)
    assert last["global_step"] == 3
    check_same_end(values, tmp_path)


class KilledError(BaseException):
    """Leaves on disk what a kill would leave."""


def kill_at(patch, step):
    train = DetectionLearner.training_step

    def killed(self, batch, index):
        if self.trainer.global_step == step:
            raise KilledError
        return train(self, batch, index)

    patch.setattr(DetectionLearner, "training_step", killed)


@pytest.mark.parametrize(
    ("accumulate", "every", "step"),
    [
        pytest.param(1, 2, 8, marks=pytest.mark.slow),
        (1, 5, 5),
        pytest.param(2, 1, 5, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_run_killed_in_a_later_epoch_ends_as_one_that_ran_through(
    values, tmp_path, accumulate, every, step
):
    values["optimiser"] |= {"freeze": 3}
    values["loop"] |= {"epochs": 2, "steps": 5, "accumulate": accumulate}
    values["loop"] |= {"checkpoint_every": every}
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, step)
        with pytest.raises(KilledError):
            run(values, tmp_path / "halves")
    check_same_end(values, tmp_path)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_what_asks_a_run_to_stop_ends_it_after_the_step(values, tmp_path, monkeypatch, number):
    values["loop"] |= {"epochs": 1, "steps": 6, "checkpoint_every": 100, "workers": 1}
    train = DetectionLearner.training_step

    def asked(self, batch, index):
        if index == 2:
            os.kill(os.getpid(), number)
        return train(self, batch, index)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(DetectionLearner, "training_step", asked)
        with pytest.raises(KeyboardInterrupt):
            run(values, tmp_path / "halves")
    assert signal.getsignal(number) == before
    last = torch.load(tmp_path / "halves" / "checkpoints" / "last.ckpt", weights_only=False)
    assert last["global_step"] == 3
    check_same_end(values, tmp_path)


def interrupt(arguments, out):
    """Presses Ctrl-C once there is a checkpoint; exit code, output, errors."""
    with subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not (out / "checkpoints" / "last.ckpt").is_file():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to workers too
        return process.wait(60), *process.communicate()


@pytest.mark.slow
def test_ctrl_c_exits_with_130_and_says_how_to_go_on(values, tmp_path):
    values["loop"] |= {"epochs": 1, "steps": 5000, "workers": 1, "checkpoint_every": 2}
    code, said, errors = interrupt(command(values, tmp_path / "run"), tmp_path / "run")
    assert code == 130, errors
    assert "--resume goes on from there" in said
    assert "Traceback" not in errors


def command(values, out, *options):
    """``cytolibra train``, as a module for torchrun."""
    config = out.with_suffix(".json")
    config.write_text(json.dumps(values))
    return ["-m", "scripts.cli", "train", "--config", config, "--out", out, *options]


def call(arguments, **environment):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def check_like_the_double_batch(values, tmp_path):
    """Compares the run in ``two`` with one process that sees both batches."""
    values["loop"]["batch_size"] *= 2
    if "mean_teacher" in values:
        values["mean_teacher"]["crops"] *= 2
    run(values, tmp_path / "one")
    expected, found = state(tmp_path / "one"), state(tmp_path / "two")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=2e-3, atol=2e-4, msg=name)
    rows = [list(csv.DictReader((tmp_path / f / "metrics.csv").open())) for f in ("one", "two")]
    for one, two in zip(*rows, strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():  # the loss, too, is that of all processes
            expected = pytest.approx(float(value or 0), rel=1e-3, abs=1e-3)
            assert float(two[name] or 0) == expected, name


@pytest.fixture
def alike(values):
    """What two processes and one can compute alike: norms that stay as they are, plain steps."""
    values["model"] |= {"head_norm": "none", "loss": {"name": "eqlv2"}}
    values["optimiser"] |= {"backbone_norm": "frozen", "name": "sgd", "lr": 0.01}
    values["loop"] |= {"epochs": 1, "steps": 12, "ema": 0.9, "batch_size": 2, "device": "cpu"}
    return values


@pytest.mark.slow
def test_two_processes_of_torchrun_learn_what_one_learns_from_the_double_batch(alike, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    two = call([*torchrun, *command(alike, tmp_path / "two")])
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("the best epoch is in") == 1  # the first process speaks
    assert "2 processes, each on cpu" in two.stdout
    assert "openvino" in read_card(tmp_path / "two" / "model").graphs  # no screen loads torch
    check_like_the_double_batch(alike, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [2, 5])
def test_a_lesson_killed_in_either_part_ends_as_one_that_ran_through(values, tmp_path, kill_at):
    learn_from_a_teacher(values, tmp_path)
    values["loop"] |= {"epochs": 1, "steps": 8, "checkpoint_every": 1}
    killed = start(values, tmp_path / "halves", kill_at=kill_at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    check_same_end(values, tmp_path)


@pytest.mark.slow
def test_two_processes_learn_from_a_teacher_first_the_stem_then_all(alike, tmp_path):
    learn_from_a_teacher(alike, tmp_path)
    alike["loop"] |= {"devices": 2, "epochs": 2}
    done = call(command(alike, tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "two" / "metrics.csv").open()))
    assert [bool(row["train/cls_logits"]) for row in rows[:2]] == [False, True]


@pytest.mark.slow
def test_two_processes_learn_from_a_teacher_whose_boxes_have_factors_of_their_own(alike, tmp_path):
    alike["model"]["name"] = "reppoints"
    run(alike, tmp_path / "teacher", steps=2)
    alike["distillation"] = {"teacher": str(tmp_path / "teacher" / "model")}
    alike["loop"] |= {"devices": 2, "steps": 3}
    done = call(command(alike, tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    factors = [
        load_detector(tmp_path / one / "model").head.points_to_box.log_factors
        for one in ("teacher", "two")
    ]
    assert factors[0].any()
    assert torch.equal(*factors)


@pytest.mark.slow
def test_two_processes_learn_from_a_mean_teacher_what_one_learns(alike, tmp_path):
    images = shutil.copytree(tmp_path / "images", tmp_path / "others")
    alike["mean_teacher"] = {"images": str(images), "mpp": 0.25, "crops": 2, "floor": 0.005}
    alike["mean_teacher"] |= {"start": 0.2, "boxes": 0.5}
    devices = alike | {"loop": alike["loop"] | {"devices": 2}}
    two = call(command(devices, tmp_path / "two"))
    assert two.returncode == 0, two.stderr
    check_like_the_double_batch(alike, tmp_path)
    believed = [(tmp_path / one / "mean_teacher.csv").read_text() for one in ("one", "two")]
    rows = [list(csv.DictReader(text.splitlines())) for text in believed]
    for one, two_rows in zip(*rows, strict=True):
        for key in ("threshold", "places_a_crop"):
            expected = pytest.approx(float(one[key] or -1), rel=1e-2, abs=1e-3)
            assert float(two_rows[key] or -1) == expected


@pytest.mark.slow
def test_two_processes_of_one_command_stop_together_and_go_on(alike, tmp_path):
    alike["loop"] |= {"devices": 2, "steps": 16, "checkpoint_every": 1}
    stopped, said, errors = interrupt(command(alike, tmp_path / "two"), tmp_path / "two")
    assert stopped == 130, errors
    assert said.count("--resume goes on from there") == 1
    resumed = call(command(alike, tmp_path / "two", "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    through = call(command(alike, tmp_path / "through"))
    assert through.returncode == 0, through.stderr
    expected, found = state(tmp_path / "through"), state(tmp_path / "two")
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_processes_share_each_round_of_crops(ranks):
    shares = [list(ShareSampler(4, 2, rank, ranks)) for rank in range(ranks)]
    rounds = [[i for share in shares for i in share[2 * k : 2 * k + 2]] for k in range(4)]
    assert [i for of_round in rounds for i in of_round] == list(range(4 * 2 * ranks))


def test_crops_are_steered_batch_by_batch_alike_in_all_processes():
    factors = [None, np.array([1.0, 2.0]), np.array([3.0, 1.0])]
    for rank in range(2):
        drawn = list(ShareSampler(3, 2, rank, 2, factors.__getitem__))
        assert drawn[:2] == [2 * rank, 2 * rank + 1]
        assert [one.index for one in drawn[2:]] == [
            4 + 2 * rank,
            5 + 2 * rank,
            8 + 2 * rank,
            9 + 2 * rank,
        ]
        assert [one.factors.tolist() for one in drawn[2:]] == [[1, 2]] * 2 + [[3, 1]] * 2


def test_a_loader_goes_on_where_it_was():
    def loader():
        return CropLoader(range(12), 3, sampler=ShareSampler(4, 3))

    first = loader()
    batches = iter(first)
    seen = [next(batches).tolist() for _ in range(2)]
    again = loader()
    again.load_state_dict(first.state_dict())
    seen += [batch.tolist() for batch in again]
    assert seen == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert len(list(again)) == 4  # the next epoch is whole
    assert len(again) == 4


def test_gradients_of_several_batches_make_one_step(values, tmp_path):
    values["optimiser"] |= {"name": "sgd"}
    run(values, tmp_path / "run", epochs=1, steps=4, accumulate=2)
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=False)
    assert state["global_step"] == 2


def test_figures_go_to_tensorboard(values, tmp_path):
    run(values, tmp_path / "run", epochs=2, steps=10)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    names = set(events.Tags()["scalars"])
    assert {"train/loss", "train/classification", "val/score"} <= names
    assert any(name.startswith("lr-AdamW") for name in names)
    assert [event.step for event in events.Scalars("train/loss")] == [9, 19]
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]
    assert all(n.startswith(("train/", "val/")) for n in header.split(",")[2:])


def test_a_missing_logger_is_named(monkeypatch, tmp_path):
    def missing(*_, **__):
        raise ModuleNotFoundError("mlflow")

    monkeypatch.setattr(loggers, "MLFlowLogger", missing)
    with pytest.raises(ConfigError, match=r"loop.loggers: mlflow is not installed"):
        loop.make_trainer(LoopSettings(loggers=("mlflow",), device="cpu"), tmp_path, [])


def test_a_run_that_gets_no_better_ends_early(values, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.training.judge.field_metrics", lambda *_: {"score": 0.5})
    run(values, tmp_path / "run", epochs=9, steps=1, patience=2)
    run(values, tmp_path / "run", resume=True, epochs=9, steps=1, patience=2)  # it has ended
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]
    assert len(rows) == 3 + 1  # the first, two no better, and the best one again


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_batch(values, tmp_path, monkeypatch):
    from models.detectors.fcos import FCOS

    compute = FCOS.compute_loss

    def broken(self, *arguments):
        losses = compute(self, *arguments)
        return losses | {"bbox_ctrness": losses["bbox_ctrness"] * float("nan")}

    monkeypatch.setattr(FCOS, "compute_loss", broken)
    told = r"no number at step 0 \(bbox_ctrness nan\).*not_finite.pt, of .*images/[12].png"
    with pytest.raises(NotFiniteError, match=told):
        run(values, tmp_path / "run")
    kept = torch.load(tmp_path / "run" / "not_finite.pt", weights_only=True)
    assert len(kept["images"]) == len(kept["targets"]) == len(kept["files"]) == 2


def test_memory_that_runs_out_says_what_to_turn_down(values, tmp_path, monkeypatch):
    from models.detectors.fcos import FCOS

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(FCOS, "compute_loss", full)
    with pytest.raises(
        OutOfMemoryError, match=r"turn down loop.batch_size \(2.*data.crops.size \(64\)"
    ):
        run(values, tmp_path / "run")


def break_image(values, name):
    path = Path(values["data"]["train"]["images"]) / name
    path.write_bytes(path.read_bytes()[:60])
    return path


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_passed_over_and_told(values, tmp_path, workers):
    path = break_image(values, "2.png")
    broken_field = Path(values["data"]["val"]["images"]) / "1.png"
    broken_field.write_bytes(broken_field.read_bytes()[:60])
    said = say(values, tmp_path / "run", steps=8, workers=workers)
    assert said.count(f"{path}: cannot be read; other crops are drawn instead") == 1
    assert said.count(f"{broken_field}: cannot be read; it is left out of the validation") == 1
    assert f"2 images could not be read: {path}, {broken_field}" in said
    truth, _ = load_cells(tmp_path / "run" / "validation.npz")
    assert len(truth) == 1
    assert read_card(tmp_path / "run" / "model").training["unreadable"] == 2


def say(values, out, **loop):
    """What a run says to people."""
    settings = validate(values | {"loop": values["loop"] | loop}, TrainSettings, "test")
    out.mkdir()
    console = Console(record=True, width=400, file=open(os.devnull, "w"))  # noqa: SIM115
    run_training(settings, out, None, console)
    return console.export_text()


def test_what_could_not_be_read_changes_no_other_crop(values, tmp_path):
    fields = read_fields(validate(values, TrainSettings, "test"))[0]

    def crops():
        images, settings = images_of(fields), CropSettings(size=64)
        return CropDataset(fields, images, 0.5, settings, AugmentSettings(), 12, seed=0)

    whole = list(crops())
    path = break_image(values, "2.png")
    again = list(crops())
    for (before, _), (after, target) in zip(whole, again, strict=True):
        assert torch.equal(before, after) == ("unreadable" not in target)
    assert {fields.fields[int(t["field"])].image for _, t in again} == {path.with_name("1.png")}


@pytest.mark.parametrize("workers", [0, 1])
def test_where_nothing_can_be_read_the_reason_is_one_line(values, tmp_path, workers):
    break_image(values, "1.png")
    break_image(values, "2.png")
    with pytest.raises(ConfigError, match=r"[12].png: damaged or truncated image") as caught:
        run(values, tmp_path / "run", workers=workers)
    assert "Traceback" not in str(caught.value)
    assert multiprocessing.active_children() == []


def test_a_run_that_fails_leaves_no_process_that_would_keep_it_from_ending(
    values, tmp_path, monkeypatch
):
    def fail(*_):
        assert multiprocessing.active_children()
        raise ZeroDivisionError

    monkeypatch.setattr(DetectionLearner, "training_step", fail)
    with pytest.raises(ZeroDivisionError) as caught:
        run(values, tmp_path / "run", workers=1, steps=50)
    assert multiprocessing.active_children() == []
    del caught  # which has kept what was being iterated


def test_too_many_unreadable_images_end_the_run(values, tmp_path):
    break_image(values, "2.png")
    with pytest.raises(UnreadableError, match=r"max_unreadable = 0: .*2.png"):
        run(values, tmp_path / "run", steps=8, max_unreadable=0)


def test_a_run_goes_on_with_the_settings_that_it_began_with(values, tmp_path):
    run(values, tmp_path / "run", epochs=1)
    with pytest.raises(ConfigError, match=r"loop.epochs = 3 \(was 1\)"):
        run(values, tmp_path / "run", resume=True, epochs=3)
    values["data"]["train"] |= {"classes": {"LSIL": "HSIL"}}
    before = (tmp_path / "run" / "config.yaml").read_text()
    with pytest.raises(ConfigError, match=r"data\.train\.classes\.LSIL = HSIL \(was not set\)"):
        run(values, tmp_path / "run", resume=True, epochs=1)
    assert (tmp_path / "run" / "config.yaml").read_text() == before
    values["data"]["train"].pop("classes")
    run(values, tmp_path / "run", resume=True, epochs=1, workers=1)


def test_a_run_goes_on_with_the_data_that_it_began_with_wherever_it_lies(values, tmp_path):
    run(values, tmp_path / "run", epochs=1)
    annotations = Path(values["data"]["val"]["annotations"])
    before, config = annotations.read_text(), tmp_path / "run" / "config.yaml"
    content = json.loads(before)
    content["annotations"].pop()
    annotations.write_text(json.dumps(content))
    told = config.read_text()
    message = r"other content of data\.train\.annotations, data\.val\.annotations: "
    with pytest.raises(ConfigError, match=message):
        run(values, tmp_path / "run", resume=True, epochs=1)
    assert config.read_text() == told
    annotations.unlink()
    for part in ("train", "val"):
        source = values["data"][part]
        source["annotations"] = str(tmp_path / "elsewhere.json")
        source["images"] = shutil.move(source["images"], tmp_path / f"{part}-elsewhere")
    (tmp_path / "elsewhere.json").write_text(before)
    run(values, tmp_path / "run", resume=True, epochs=1)
    (image, *_) = sorted((tmp_path / "val-elsewhere").iterdir())
    with Image.open(image) as picture:
        picture.load()
        picture.save(image, compress_level=0)
    with pytest.raises(ConfigError, match=r"other content of data\.val\.images: "):
        run(values, tmp_path / "run", resume=True, epochs=1)


def test_a_checkpoint_that_does_not_know_its_data_goes_on_and_says_so(values, tmp_path):
    run(values, tmp_path / "run", epochs=1)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    older = torch.load(last, weights_only=False)
    assert set(older["callbacks"]["LastCheckpoint"].pop("content")) == {
        "data.train.annotations",
        "data.train.images",
        "data.val.annotations",
        "data.val.images",
        "distillation.teacher",
        "model.backbone_weights",
    }
    torch.save(older, last)
    said = Console(file=io.StringIO())
    settings = validate(values | {"loop": values["loop"] | {"epochs": 1}}, TrainSettings, "test")
    run_training(settings, tmp_path / "run", last, said)
    assert "whether these are the same is not checked" in said.file.getvalue()


def test_a_run_that_was_moved_goes_on_with_its_best_epoch(values, tmp_path):
    run(values, tmp_path / "here", epochs=1)
    (tmp_path / "here").rename(tmp_path / "there")
    run(values, tmp_path / "there", resume=True, epochs=1)
    assert not (tmp_path / "here").exists()


def test_a_figure_that_is_none_is_refused_before_the_first_epoch(values, tmp_path):
    with pytest.raises(ConfigError, match=r"loop.monitor = val/f1: expected one of .*val/score"):
        run(values, tmp_path / "run", monitor="val/f1")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_figure_that_no_cell_defines_is_refused_before_the_first_epoch(values, crowded, tmp_path):
    message = (
        r"loop\.monitor = val/ap50/NILM: data\.val has no cell .*; give fields with such cells; or "
        r"take one of val/ap50/HSIL, .*val/score$"
    )
    with pytest.raises(ConfigError, match=message):
        run(values, tmp_path / "run", monitor="val/ap50/NILM")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("monitor", ["val/score", "val/map50", "val/recall50/abnormal"])
def test_what_is_no_number_on_fields_without_a_cell_is_no_monitor(monitor, coco):
    val = read_coco(*coco)
    config = DetectorConfig(name="fcos", classes=val.classes)
    check_judged(config, monitor, val)
    check_judged(config, "val/grades/right", without_cells(val))  # a grader's own figures
    with pytest.raises(ConfigError, match=r"data\.val has no cell .* with such cells$"):
        check_judged(config, monitor, without_cells(val))


def without_cells(fields):
    none = np.zeros(0, np.int64)
    empty = [
        replace(one, boxes=np.zeros((0, 4)), labels=none, crowd=none.astype(bool))
        for one in fields.fields
    ]
    return replace(fields, fields=tuple(empty))


def test_more_devices_than_there_are_is_one_line(values, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"loop: .*gpu"):
        run(values, tmp_path / "run", device="gpu")


def test_half_precision_on_a_cpu_is_refused():
    with pytest.raises(ConfigError, match="16-mixed is for GPUs"):
        validate({"device": "cpu", "precision": "16-mixed"}, LoopSettings, "loop")


def test_the_range_test_tells_a_learning_rate_and_trains_nothing(values, tmp_path):
    from scripts.training.lr_finder import RANGE, find_lr

    settings = validate(values, TrainSettings, "test")
    found = find_lr(settings, tmp_path, steps=30)
    assert RANGE[0] <= found <= RANGE[1]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["learning_rate.png"]
    assert not list(tmp_path.glob("**/*.ckpt"))

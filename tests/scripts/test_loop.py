"""The loop around a training: killed and resumed, in several processes, and with bad luck."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from configs import ConfigError, validate
from models import load_detector
from models.learner import DetectionLearner, NotFiniteError
from scripts import loop as module
from scripts.failures import OutOfMemoryError
from scripts.feeding import CropLoader, ShareSampler
from scripts.loop import LoopSettings
from scripts.training import TrainSettings, run_training

REPO = Path(__file__).resolve().parents[2]

RUN = """
import json, os, signal, sys
from pathlib import Path
from rich.console import Console
from configs import validate
from models.learner import DetectionLearner
from scripts.training import TrainSettings, run_training

values, out, kill_at, resume = json.loads(sys.argv[1])
step = DetectionLearner.training_step

def killed(self, batch, index):
    if self.trainer.global_step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, index)

DetectionLearner.training_step = killed
out = Path(out)
out.mkdir(exist_ok=True)
last = out / "checkpoints" / "last.ckpt"
settings = validate(values, TrainSettings, "test")
run_training(settings, out, last if resume else None, Console(quiet=True))
"""


def start(values, out, *, kill_at=-1, resume=False, processes=1):
    """A run in processes of its own."""
    torchrun = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        processes,
        "--master-port",
        29876,
    ]
    script = out.parent / "run.py"
    script.write_text(RUN)
    arguments = json.dumps([values, str(out), kill_at, resume])
    command = [sys.executable, *(torchrun if processes > 1 else []), script, arguments]
    environment = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        list(map(str, command)),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def run(values, out, resume=False, **loop):
    settings = validate(values | {"loop": values["loop"] | loop}, TrainSettings, "test")
    out.mkdir(exist_ok=True)
    last = out / "checkpoints" / "last.ckpt"
    return run_training(settings, out, last if resume else None, Console(quiet=True))


def weights(folder):
    return load_detector(folder / "model").state_dict()


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
    for name in ("metrics.csv", "gradients.csv"):
        texts = [(tmp_path / folder / name).read_text() for folder in ("through", "halves")]
        assert texts[0] == texts[1]


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
    ("accumulate", "every", "step"), [(1, 2, 8), (1, 5, 5), (2, 1, 5)], ids=str
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(values, tmp_path):
    values["loop"] |= {"epochs": 1, "steps": 5000, "workers": 1}
    (tmp_path / "config.json").write_text(json.dumps(values))
    where = ["--config", tmp_path / "config.json", "--out", tmp_path / "run"]
    command = [sys.executable, "-m", "scripts", "train", *where]
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        first = tmp_path / "run" / "checkpoints" / "last.ckpt"
        while not first.is_file():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to workers too
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "--resume goes on from there" in out
    assert "Traceback" not in errors


def test_two_processes_learn_what_one_learns_from_the_double_batch(values, tmp_path):
    values["model"] |= {"head_norm": "none", "loss": {"name": "eqlv2"}}
    values["optimiser"] |= {"backbone_norm": "frozen", "name": "sgd", "lr": 0.01}
    values["loop"] |= {"epochs": 1, "steps": 3, "ema": 0, "batch_size": 2, "device": "cpu"}
    two = start(values, tmp_path / "two", processes=2)
    assert two.returncode == 0, two.stderr
    values["loop"]["batch_size"] = 4
    one = start(values, tmp_path / "one")
    assert one.returncode == 0, one.stderr
    expected, found = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=2e-3, atol=2e-4, msg=name)
    configs = [
        json.loads((tmp_path / f / "model" / "model.json").read_text()) for f in ("one", "two")
    ]
    assert configs[0]["metrics"] == pytest.approx(configs[1]["metrics"], abs=0.02)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_processes_share_each_round_of_crops(ranks):
    shares = [list(ShareSampler(4, 2, rank, ranks)) for rank in range(ranks)]
    rounds = [[i for share in shares for i in share[2 * k : 2 * k + 2]] for k in range(4)]
    assert [i for of_round in rounds for i in of_round] == list(range(4 * 2 * ranks))


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
    run(values, tmp_path / "run", epochs=1)
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_a_missing_logger_is_named(monkeypatch, tmp_path):
    def missing(*_, **__):
        raise ModuleNotFoundError("mlflow")

    monkeypatch.setattr(module, "MLFlowLogger", missing)
    with pytest.raises(ConfigError, match=r"loop.loggers: mlflow is not installed"):
        module.make_trainer(LoopSettings(loggers=("mlflow",), device="cpu"), tmp_path, [])


def test_a_run_that_gets_no_better_ends_early(values, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.training.field_metrics", lambda *_: {"score": 0.5})
    run(values, tmp_path / "run", epochs=9, steps=1, patience=2)
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]
    assert len(rows) == 3 + 1  # the first, two no better, and the best one again


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_batch(values, tmp_path, monkeypatch):
    from models.fcos import FCOS

    compute = FCOS.compute_loss

    def broken(self, *arguments):
        losses = compute(self, *arguments)
        return losses | {"bbox_ctrness": losses["bbox_ctrness"] * float("nan")}

    monkeypatch.setattr(FCOS, "compute_loss", broken)
    with pytest.raises(NotFiniteError, match=r"no number at step 0 \(bbox_ctrness\)"):
        run(values, tmp_path / "run")
    kept = torch.load(tmp_path / "run" / "not_finite.pt", weights_only=True)
    assert len(kept["images"]) == len(kept["targets"]) == 2


def test_memory_that_runs_out_says_what_to_turn_down(values, tmp_path, monkeypatch):
    from models.fcos import FCOS

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
    settings = validate(
        values | {"loop": values["loop"] | {"steps": 8, "workers": workers}}, TrainSettings, "test"
    )
    (tmp_path / "run").mkdir()
    console = Console(record=True, width=400, file=open(os.devnull, "w"))  # noqa: SIM115
    with pytest.warns(UserWarning, match=r"2.png: cannot be read"):
        run_training(settings, tmp_path / "run", None, console)
    assert f"1 images could not be read: {path}" in console.export_text()


def test_too_many_unreadable_images_end_the_run(values, tmp_path):
    break_image(values, "2.png")
    with pytest.raises(ConfigError, match=r"max_unreadable = 0: .*2.png"):
        run(values, tmp_path / "run", steps=8, max_unreadable=0)


def test_half_precision_on_a_cpu_is_refused():
    with pytest.raises(ConfigError, match="16-mixed is for GPUs"):
        validate({"device": "cpu", "precision": "16-mixed"}, LoopSettings, "loop")


def test_the_range_test_tells_a_learning_rate_and_trains_nothing(values, tmp_path):
    from scripts.lr_finder import RANGE, find_lr

    settings = validate(values, TrainSettings, "test")
    found = find_lr(settings, tmp_path, steps=30)
    assert RANGE[0] <= found <= RANGE[1]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["learning_rate.png"]
    assert not list(tmp_path.glob("**/*.ckpt"))

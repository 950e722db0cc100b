"""What a system costs: seconds of a training step, and of a field at inference, side by side."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from configs import ConfigError, StrictModel
from data.crops.dataset import WholeFieldDataset, collate
from data.crops.drawing import Sample
from models import ModelSource, build_detector, with_class_counts
from models.learning.learner import Targets, first_stages
from models.learning.mean_teacher import WEAK
from pipeline.network.runtimes import build_runtime
from scripts.comparison.comparison import ComparisonSettings, Run, digest, run_settings, table_runs
from scripts.slides import images_of
from scripts.training.run import make_data, mean_teacher_of, read_fields, views_of
from scripts.training.settings import TrainSettings

FILE = "costs.json"

ROUNDS = 7
"""Of each system, in turn, so that what else the machine does falls on all; the median counts."""


class Costs(StrictModel):
    """What was measured; by detector/loss/system.

    Attributes:
        told: on what.
        step: median seconds of a training step, forth, back and the optimiser's.
        field: median seconds of a validation field, network and decoding; where there is a model.
        settings: whose costs they are; digests without the seed.
    """

    told: str
    settings: dict[str, str]
    step: dict[str, float] = Field(default_factory=dict)
    field: dict[str, float] = Field(default_factory=dict)


def read_costs(out: Path) -> Costs | None:
    """What was measured before; None where nothing was.

    Raises:
        ConfigError: the file is damaged.
    """
    path = out / FILE
    try:
        return Costs.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: is not what --costs of this version wrote; remove it"
        ) from error


def settings_apart(settings: ComparisonSettings, run: Run) -> str:
    """What costs of a run hold for: a digest of its settings, the same for every seed."""
    return digest(run_settings(settings, replace(run, seed=0)))


def measure_costs(settings: ComparisonSettings, out: Path) -> Costs:
    """Measures all systems of the table on this machine's CPU, and keeps it in ``costs.json``.

    Training steps are of fresh detectors on a batch of crops, prepared before; inference is of
    trained models by the runtime that a screening takes, in fp32. Systems of the same scale, crops
    and batch have the same batch and field.

    Raises:
        ConfigError: the fields can't be read, or a system learns from a teacher.
    """
    runs = {_called(run): run for run in table_runs(settings, out)}
    whole = {name: run_settings(settings, run) for name, run in runs.items()}
    if taught := [name for name, of_run in whole.items() if of_run.distillation]:
        raise ConfigError(
            f"--costs: {taught[0]} learns from a teacher (distillation), whose steps are not "
            "measured; leave it out of the runs"
        )
    samples = {_sizes(of_run): _samples(of_run) for of_run in reversed(whole.values())}
    steps = {name: _step_of(of_run, samples[_sizes(of_run)][0]) for name, of_run in whole.items()}
    models = {
        _called(run): out / run.folder / "model"
        for run in table_runs(settings, out)
        if (out / run.folder / "model").is_dir()  # a record has none
    }
    fields = {
        name: _inference_of(folder, samples[_sizes(whole[name])][1])
        for name, folder in models.items()
    }
    each = "; or ".join(
        f"a step has {len(batch[0])} crops, a field {tile.shape[1]} x {tile.shape[0]} px"
        for batch, tile in samples.values()
    )
    costs = Costs(
        told=f"medians of {ROUNDS}, in turn, on {processor()}, {torch.get_num_threads()} threads "
        f"of torch; {each}, by OpenVINO in fp32",
        step=_medians(steps),
        field=_medians(fields),
        settings={name: settings_apart(settings, run) for name, run in runs.items()},
    )
    (out / FILE).write_text(costs.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return costs


def processor() -> str:
    """The CPU's name, as Linux tells it; else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _called(run: Run) -> str:
    return f"{run.detector}/{run.loss}/{run.system}"


def _sizes(of_run: TrainSettings) -> tuple[float, int, int]:
    """By which systems' batches and fields differ in size: scale, side of a crop, crops a batch."""
    return of_run.data.mpp, of_run.data.crops.size, of_run.loop.batch_size


def _samples(
    of_run: TrainSettings,
) -> tuple[tuple[list[torch.Tensor], Targets], NDArray[np.uint8]]:
    """A batch of training crops, and a validation field's (H, W, 3) pixels."""
    train, val = read_fields(of_run)
    data, loop = make_data(of_run, train, val), of_run.loop
    crops = data.crops(loop.batch_size, 0)
    batch = collate([crops[index] for index in range(loop.batch_size)])
    whole: Sample = WholeFieldDataset(val, images_of(val), of_run.data.mpp)[0]
    pixels = (whole[0] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return batch, pixels


def _step_of(
    settings: TrainSettings, batch: tuple[list[torch.Tensor], Targets]
) -> Callable[[], object]:
    """A whole step of a fresh detector; unlabelled crops, too, are those of the batch.

    Stages of the backbone are frozen as the recipe has it.
    """
    cells = torch.cat([target["labels"] for target in batch[1]])
    counts = cells.bincount(minlength=len(settings.model.classes)).clamp(min=1).tolist()
    detector = build_detector(with_class_counts(settings.model, counts))
    for stage in first_stages(detector.backbone.body, settings.optimiser.freeze):
        stage.requires_grad_(False)
    weights = [weight for weight in detector.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=1e-5)

    images, targets = batch
    views = views_of(settings)
    if views is not None:  # the same picture costs as much
        targets = [one | {"view": image} for one, image in zip(targets, images, strict=True)]
    teacher = mean_teacher_of(settings, detector, Path())
    if teacher is not None:
        teacher.ask(copy.deepcopy(detector))

    def step() -> None:
        if views is None:
            losses = detector(images, targets)
        else:
            losses = views(detector, images, targets, progress=1.0)
        if teacher is not None and settings.mean_teacher is not None:
            others = list(islice(cycle(images), settings.mean_teacher.crops))
            losses |= teacher(detector, others, [{WEAK: image} for image in others], 1.0)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()

    return step


def _inference_of(folder: Path, tile: NDArray[np.uint8]) -> Callable[[], object]:
    model = ModelSource.find(folder)
    thresholds = [model.card.thresholds[name] for name in model.card.detector.classes]
    runtime = build_runtime(model, thresholds, "openvino", "cpu", "fp32")
    return lambda: runtime.detect([tile])


def _medians(parts: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each part; without the first round, which builds what is kept."""
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(ROUNDS + 1):
        for name, part in parts.items():
            started = time.perf_counter()
            part()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: float(np.median(values)) for name, values in seconds.items()}

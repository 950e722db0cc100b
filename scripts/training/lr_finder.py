"""Which learning rate a model and its data bear: the range test.

After Smith, "Cyclical learning rates for training neural networks", WACV 2017: the rate rises step
by step, and the loss tells when it is too much.
"""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path

from lightning.pytorch import seed_everything
from lightning.pytorch.tuner.tuning import Tuner
from matplotlib.figure import Figure

from configs import ConfigError
from models import build_detector
from models.learning.learner import DetectionLearner
from scripts.telling import tell_doubts
from scripts.training.failures import explained
from scripts.training.judge import Judge
from scripts.training.loop import make_trainer
from scripts.training.run import (
    groups_of,
    imitation_of,
    make_data,
    read_fields,
    views_of,
    with_counts,
)
from scripts.training.settings import TrainSettings

RANGE = (1e-5, 1.0)


def find_lr(settings: TrainSettings, out: Path, steps: int = 100) -> float:
    """Runs the range test and draws it to ``out/learning_rate.png``; trains nothing that is kept.

    Args:
        settings: of the run that is to come.
        out: an existing folder.
        steps: how many.

    Returns:
        The rate at which the loss falls fastest, for ``optimiser.lr``.

    Raises:
        ConfigError: data or weights are missing or wrong, or no rate stands out.
    """
    train, val = read_fields(settings)
    tell_doubts(train, val)
    model = with_counts(settings, train)
    seed_everything(settings.loop.seed, verbose=False)
    detector = build_detector(model)
    imitation = imitation_of(settings, detector)
    if imitation is not None:  # one loss throughout: that which comes first
        imitation.stem_share = math.ceil(imitation.stem_share)
    judge = Judge(detector.config)
    learner = DetectionLearner(
        detector,
        settings.optimiser,
        judge,
        steps,
        imitation=imitation,
        views=views_of(settings),
        groups=groups_of(settings, train),
    )
    loop = settings.loop.model_copy(
        update={"steps": steps + 1, "epochs": 1, "ema": 0.0, "patience": None, "loggers": ()}
    )
    data = make_data(settings.model_copy(update={"loop": loop}), train, val)
    with explained(loop, settings.data.crops.size) as running, closing(data):
        trainer = running.trainer = make_trainer(loop, out, [], in_parts=learner.in_parts)
        finder = Tuner(trainer).lr_find(
            learner,
            datamodule=data,
            min_lr=RANGE[0],
            max_lr=RANGE[1],
            num_training=steps,
            update_attr=False,
        )
    for leftover in out.glob(".lr_find_*.ckpt"):
        leftover.unlink()
    found = finder.suggestion() if finder else None
    if finder is None or found is None:
        raise ConfigError("no learning rate stands out; take the default, or look at more steps")
    _draw(finder.results["lr"], finder.results["loss"], found, out / "learning_rate.png")
    return found


def _draw(rates: list[float], losses: list[float], found: float, path: Path) -> None:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, linewidth=1.4)
    axes.axvline(found, color="grey", linestyle=":", label=f"{found:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
    axes.grid(alpha=0.25)
    axes.legend()
    figure.savefig(path, dpi=110)

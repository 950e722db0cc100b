"""Hooks of the training loop."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lively import lively
from torch.amp import GradScaler
from torch.utils.data import DataLoader, TensorDataset

from models.learning.callbacks import GradientBalance, WarmedUpEMA
from models.learning.learner import DetectionLearner, OptimiserSettings


class OneWeight(LightningModule):
    """Its weight rises by one a step; a validation tells it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("flags", torch.tensor([True, False]), persistent=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64), persistent=False)
        self.judged, self.buffers_judged = [], []

    def training_step(self, batch, _):
        self.steps += 1
        return -self.weight.sum()

    def validation_step(self, batch, _):
        self.judged.append(float(self.weight))
        self.buffers_judged.append((self.flags.tolist(), int(self.steps)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


@pytest.mark.filterwarnings("ignore")
def test_the_average_is_judged_while_it_is_learned_and_loaded_weights_after(tmp_path):
    """Parts of other packages may hold flags and counts, as EQL does."""
    loader = DataLoader(TensorDataset(torch.zeros(4, 1)))
    one = DataLoader(TensorDataset(torch.zeros(1, 1)))
    module = OneWeight()
    trainer = Trainer(
        default_root_dir=tmp_path,
        max_epochs=1,
        accelerator="cpu",
        callbacks=[WarmedUpEMA(0.5)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, loader, one)
    assert 0 < module.judged[-1] < 4  # the average, not the last weight
    assert module.buffers_judged[-1] == ([True, False], 4)  # of what has no average the last
    module.load_state_dict({"weight": torch.tensor([7.0])})  # as of the best epoch
    trainer.validate(module, one, verbose=False)
    assert module.judged[-1] == 7
    assert float(module.weight) == 7


def in_half_precision():
    """A trainer, as far as one is asked by what its losses are scaled."""
    plugin = SimpleNamespace(scaler=GradScaler("cpu", init_scale=1024.0))
    return SimpleNamespace(precision_plugin=plugin, global_rank=0)


def balance(trainer, scale, tmp_path):
    slot = SimpleNamespace(watchers=[])
    one = GradientBalance(tmp_path / "gradients.csv", slot, ("NILM", "HSIL"))
    one.on_train_start(trainer, SimpleNamespace(device="cpu"))
    gradient = torch.tensor([[-0.5, 0.25], [0.125, 0.25]]) * scale
    slot.watchers[0](gradient.half(), torch.tensor([[1.0, 0], [0, 0]]))
    one.on_train_end(trainer, None)
    return one.state_dict()["sums"]


def test_gradients_are_told_as_they_are_before_half_precision_scales_them(tmp_path):
    exact = SimpleNamespace(precision_plugin=SimpleNamespace())
    expected = [[0.5, 0.0], [0.125, 0.5]]
    assert balance(exact, 1, tmp_path).tolist() == expected
    assert balance(in_half_precision(), 1024, tmp_path).tolist() == expected


def test_the_autoencoder_of_cells_is_told_by_what_its_loss_is_scaled():
    learner = DetectionLearner(lively(causal={}), OptimiserSettings(), lambda *_: {}, 1)
    learner._trainer = in_half_precision()
    learner.on_before_backward(torch.zeros(()))
    assert learner.detector.slot.causal.loss_scale == 1024
    plain = DetectionLearner(lively(), OptimiserSettings(), lambda *_: {}, 1)
    plain.on_before_backward(torch.zeros(()))  # nobody asks

"""Steering by the gradient: its factors, when they hold, and that a checkpoint has all of it."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.learning.steering import GradientSteering, repeats

CLASSES = ("NILM", "HSIL", "SCC", "AIS")
CELLS = (90, 9, 1, 0)


def steering(tmp_path, **changes):
    settings = {"alpha": 0.5, "max_repeat": 3.0, "interval": 2, "momentum": 0.5} | changes
    slot = SimpleNamespace(watchers=[])
    return GradientSteering(tmp_path / "sampling.csv", slot, CLASSES, CELLS, **settings)


def learn(one, batches):
    """Batches by the gradient that each class gets in them."""
    one.on_train_start(None, SimpleNamespace(device="cpu"))
    for gradient in batches:
        [watcher] = one.slot.watchers
        # Of two places, one up and one down.
        watcher(torch.tensor([gradient, [-value for value in gradient]]) / 2, None)
        one.on_train_batch_end(None, None)
    one.on_train_end(None, None)


def test_factors_are_those_of_the_formula():
    shares, drawn = np.array([0.75, 0.24, 0.01, 0.5]), np.array([True, True, True, False])
    factors = repeats(shares, drawn, 0.5, 3.0)
    assert factors.tolist() == pytest.approx([(1 / 2.25) ** 0.5, (1 / 0.72) ** 0.5, 3.0, 1.0])
    assert repeats(shares, drawn, 0.0, 3.0).tolist() == [1, 1, 1, 1]
    assert repeats(np.zeros(4), drawn, 0.5, 8.0).tolist() == [8, 8, 8, 1]


def test_what_an_interval_tells_holds_from_the_one_after_the_next(tmp_path):
    one = steering(tmp_path)
    learn(one, [[6.0, 2, 2, 5]] * 2)  # half of the batches of the next interval are drawn already
    assert [one.factors_at(batch) is None for batch in range(6)] == [True] * 4 + [False] * 2
    first = one.factors_at(4)
    assert first.tolist() == pytest.approx(repeats_of([0.6, 0.2, 0.2]))
    assert one.factors_at(5).tolist() == first.tolist()
    learn(one, [[20.0, 60, 20, 0]] * 2)
    assert one.factors_at(4).tolist() == first.tolist()  # batches asked for again get the same
    # Half of what was known, half of the new shares; the larger sums count no more.
    assert one.factors_at(6).tolist() == pytest.approx(repeats_of([0.4, 0.4, 0.2]))
    assert one.factors_at(8) is None


def repeats_of(shares):
    return [*(min(3.0, (1 / (3 * share)) ** 0.5) for share in shares), 1.0]


def test_steps_without_a_gradient_or_that_overflowed_change_no_share(tmp_path):
    one = steering(tmp_path)
    learn(one, [[0.0] * 4] * 2)
    assert one.factors_at(4) is None
    learn(one, [[6.0, 2, 2, 0], [np.inf, np.nan, 0, 0]])
    assert one.factors_at(6).tolist() == pytest.approx(repeats_of([0.6, 0.2, 0.2]))
    learn(one, [[np.inf] * 4] * 2)
    assert one.factors_at(8).tolist() == one.factors_at(6).tolist()


def test_a_checkpoint_within_an_interval_has_all_of_it(tmp_path):
    batches = np.random.default_rng(0).random((9, 4)).tolist()
    through, before, after = steering(tmp_path), steering(tmp_path), steering(tmp_path)
    learn(through, batches)
    learn(before, batches[:5])
    torch.save(before.state_dict(), tmp_path / "state.pt")
    after.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    learn(after, batches[5:])
    assert after.factors_at(10).tolist() == through.factors_at(10).tolist()
    for one in (through, after):
        one.on_train_epoch_end(SimpleNamespace(is_global_zero=True), None)
        with one.path.open() as file:
            rows = list(csv.DictReader(file))
        assert [row["class"] for row in rows] == list(CLASSES) * 4
        assert (rows[0]["batch"], rows[0]["holds_from"]) == ("2", "4")

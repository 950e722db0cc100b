"""The memory of each class: what goes in, in which order it goes out, and over processes."""

import pytest
import torch

from models.detectors import memory
from models.detectors.memory import ClassMemory, ring_sizes


def made(sizes=(3, 2), confidence=0.5, top_share=0.0, most=2):
    return ClassMemory(sizes, 2, confidence, top_share, most)


def cells(*values):
    """Cells that their first value tells apart."""
    return torch.tensor([[float(value), 0.0] for value in values])


def held(module):
    kept, labels = module.remembered()
    return [
        [round(value) for value in kept[labels == one, 0].tolist()]
        for one in range(len(module.held))
    ]


def test_a_ring_forgets_its_oldest():
    module = made()
    for first in (10, 20):
        scores = torch.tensor([0.6, 0.9, 0.3, 0.8])
        module.add(
            cells(first, first + 1, first + 2, first + 3), torch.tensor([0, 0, 0, 1]), scores
        )
    # By falling score, at most two a step; 10, the oldest, made room... of 11, 10, 21, 20.
    assert held(module) == [[20, 10, 21], [13, 23]]
    assert module.held.tolist() == [3, 2]
    assert module.next_row.tolist() == [1, 0]
    module.add(cells(5), torch.tensor([1]), torch.tensor([0.5]))
    assert held(module) == [[20, 10, 21], [5, 23]]


def test_sure_are_those_above_the_threshold_or_in_the_top_share():
    scores = torch.tensor([0.1, 0.4, 0.2, 0.3, 0.05])
    labels = torch.tensor([0, 0, 0, 0, 1])
    by_threshold = made((9, 9), confidence=0.35, most=4)
    by_threshold.add(cells(1, 2, 3, 4, 5), labels, scores)
    assert held(by_threshold) == [[2], []]
    by_share = made((9, 9), confidence=1.0, top_share=0.3, most=4)
    by_share.add(cells(1, 2, 3, 4, 5), labels, scores)
    assert held(by_share) == [[2, 4], [5]]  # 1.2 of four and 0.3 of one, rounded up
    either = made((9, 9), confidence=0.15, top_share=0.3, most=4)
    either.add(cells(1, 2, 3, 4, 5), labels, scores)
    assert held(either) == [[2, 4, 3], [5]]


def test_no_cell_and_overflow_leave_it_as_it_is():
    module = made()
    module.add(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    wrong = torch.tensor([[torch.nan, 0.0], [torch.inf, 0.0], [1.0, 0.0]])
    module.add(wrong, torch.tensor([0, 1, 1]), torch.tensor([0.9, 0.9, torch.nan]))
    assert held(module) == [[], []]
    assert not module.cells.any()


def test_the_order_of_places_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    embedded, scores = torch.randn(20, 2, generator=generator), torch.rand(20, generator=generator)
    labels = torch.randint(0, 2, (20,), generator=generator)
    order = torch.randperm(20, generator=generator)
    one, other = made((9, 9), most=4, top_share=0.5), made((9, 9), most=4, top_share=0.5)
    one.add(embedded, labels, scores)
    other.add(embedded[order], labels[order], scores[order])
    assert torch.equal(one.cells, other.cells)
    assert one.held.tolist() == [4, 4]


def test_two_processes_remember_what_one_would_of_both_batches(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    embedded, scores = torch.randn(20, 2, generator=generator), torch.rand(20, generator=generator)
    labels = torch.randint(0, 2, (20,), generator=generator)
    alone = made((9, 9), confidence=0.9, most=4, top_share=0.3)
    parts = [slice(0, 4), slice(4, 20)]
    best = torch.stack([alone._best(embedded[p], labels[p], scores[p]) for p in parts])
    alone.add(embedded, labels, scores)
    monkeypatch.setattr(memory, "gathered", lambda _: best)
    monkeypatch.setattr(memory, "sum_over_ranks", lambda _: labels.bincount())
    for part in parts:
        shared = made((9, 9), confidence=0.9, most=4, top_share=0.3)
        shared.add(embedded[part], labels[part], scores[part])
        assert torch.equal(shared.cells, alone.cells)
        assert torch.equal(shared.held, alone.held)
    assert alone.held.tolist() == [3, 4]


def test_the_state_survives_a_restart_bit_by_bit():
    through, before, after = made(), made(), made()
    for module in (through, before):
        module.add(cells(1, 2), torch.tensor([0, 0]), torch.tensor([0.9, 0.8]))
    after.load_state_dict(before.state_dict())
    for module in (through, after):
        module.add(cells(3, 4), torch.tensor([0, 0]), torch.tensor([0.9, 0.8]))
    for name, value in through.state_dict().items():
        assert torch.equal(value, after.state_dict()[name]), name
    assert held(after) == [[4, 2, 3], []]


@pytest.mark.parametrize(
    ("counts", "sizes"), [(None, [256] * 4), ([900, 100, 25, 0], [64, 192, 256, 256])]
)
def test_rare_classes_are_remembered_longer(counts, sizes):
    assert ring_sizes(counts, 4, 64, 256) == sizes

"""Which places are compared, and what the tower says of them."""

import torch

from models.detectors.places import features_at, positives_and_hardest, ranks_in_class


def test_ranks_count_within_a_class():
    assert ranks_in_class(torch.tensor([2, 0, 2, 2, 0])).tolist() == [0, 0, 1, 2, 1]
    assert ranks_in_class(torch.zeros(0, dtype=torch.int64)).tolist() == []


def test_the_hardest_background_comes_after_the_positives():
    scores = torch.tensor([0.9, 0.1, 0.8, 0.3, 0.9])
    labels = torch.tensor([0, -1, -1, -1, 1])
    assert positives_and_hardest(scores, labels, 2).tolist() == [0, 4, 2, 3]
    assert positives_and_hardest(scores, labels, 9).tolist() == [0, 4, 2, 3, 1]
    assert positives_and_hardest(scores, torch.full((5,), -1), 0).tolist() == []


def test_features_are_read_level_after_level():
    levels = [torch.arange(8.0).reshape(2, 1, 2, 2), 10 + torch.arange(2.0).reshape(2, 1, 1, 1)]
    image, place = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 4, 2, 4])
    assert features_at(levels, image, place)[:, 0].tolist() == [1, 10, 6, 11]

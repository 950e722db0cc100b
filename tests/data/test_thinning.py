"""Some of many, evenly spread."""

import numpy as np
import pytest

from data.thinning import evenly


def test_ends_are_taken_and_gaps_are_even():
    assert evenly(101, 5).tolist() == [0, 25, 50, 75, 100]


@pytest.mark.parametrize(("count", "most"), [(0, 5), (1, 5), (5, 5), (5, 9)])
def test_all_are_taken_where_there_are_few(count, most):
    assert evenly(count, most).tolist() == list(range(count))


def test_none_is_taken_twice():
    for count in range(1, 60):
        for most in range(1, 60):
            assert len(np.unique(evenly(count, most))) == min(count, most)

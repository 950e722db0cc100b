"""Work ahead in threads: order, bounds, failures."""

import threading
import time

import pytest

from pipeline.errors import SlideError
from pipeline.flow import in_batches, work_ahead


def test_working_ahead_keeps_the_order_and_a_bound():
    started, threads = [], set()

    def read(item):
        started.append(item)
        threads.add(threading.current_thread().name)
        time.sleep(0.001 * (item % 3))  # some overtake others
        return item

    with work_ahead(read, range(40), 2, ahead=4) as results:
        for expected, item in enumerate(results):
            assert item == expected
            assert len(started) <= item + 4 + 2
    assert sorted(started) == list(range(40))
    assert len(threads) == 2


def test_working_ahead_raises_the_first_failure_in_its_turn():
    def read(item):
        if item == 5:
            raise SlideError("broken")
        return item

    with work_ahead(read, range(100), 2, ahead=8) as results:
        assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(SlideError, match="broken"):
            next(results)


def test_one_flow_feeds_another_and_its_end_ends_both():
    begun = []

    def double(item):
        begun.append(item)
        return 2 * item

    with (
        work_ahead(double, range(100), 2, ahead=3) as first,
        work_ahead(tuple, in_batches(first, 2), 2, ahead=1) as pairs,
    ):
        assert [next(pairs) for _ in range(3)] == [(0, 2), (4, 6), (8, 10)]
    assert len(begun) <= 2 * (3 + 1) + 3 + 2


def test_batches_are_whole_but_for_the_last():
    assert list(in_batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(in_batches([], 2)) == []

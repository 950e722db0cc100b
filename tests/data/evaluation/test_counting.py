"""Cells from reported ones: the ratio, its spread, and intervals that hold what they promise."""

import numpy as np
import pytest

from data.evaluation.counting import Counting, count_cells, fit_counting


def drawn(rng, units, mean, ratio, spread, of=1):
    """Cells, reported ones and hits of fields; ``of`` fields a slide share its ratio."""
    slides = rng.normal(0, spread, units // of)
    ratios = ratio * np.exp(np.repeat(slides, of))
    cells = rng.poisson(mean, units)
    hits = rng.binomial(cells, 0.9)
    reported = hits + rng.poisson(np.maximum(cells / ratios - 0.9 * cells, 0))
    return cells, reported, hits, [f"s{i // of}" for i in range(units)]


def test_the_ratio_is_precision_by_recall():
    cells, reported, hits = (np.array(row) for row in ([10, 20] * 3, [20, 20] * 3, [8, 16] * 3))
    counting = fit_counting(cells, reported, hits)
    assert counting.ratio == pytest.approx((72 / 120) / (72 / 90))
    assert (counting.units, counting.cells, counting.reported) == (6, 90, 120)


def test_fields_that_all_agree_have_no_spread():
    counting = fit_counting(np.full(8, 30), np.full(8, 40), np.full(8, 30))
    assert (counting.spread, counting.error) == (0, 0)
    assert counting.noise == pytest.approx(80 / 320)  # of the false alarms, by chance
    estimate = count_cells(counting, 4000, 0.95)
    assert estimate.cells == 3000
    assert 2940 < estimate.low < 3000 < estimate.high < 3060


def test_spread_between_fields_counts_as_that_of_slides_where_nobody_knows():
    rng = np.random.default_rng(0)
    cells, reported, hits, _ = drawn(rng, 400, 60, 0.7, 0.2)
    counting = fit_counting(cells, reported, hits)
    assert np.sqrt(counting.spread) == pytest.approx(0.2, abs=0.05)


def test_spread_that_evens_out_within_slides_is_told_from_that_between_them():
    rng = np.random.default_rng(1)
    cells, reported, hits, slides = drawn(rng, 400, 60, 0.7, 0.2, of=4)
    shared = fit_counting(cells, reported, hits, slides)
    alike = fit_counting(cells, reported, hits, [f"s{i % 100}" for i in range(400)])
    assert np.sqrt(shared.spread) == pytest.approx(0.2, abs=0.06)
    assert alike.spread < 0.3 * shared.spread
    assert count_cells(alike, 5000, 0.95).high < count_cells(shared, 5000, 0.95).high
    # Slides that are alike inside say less of the mean than as many fields that are not.
    assert shared.error > 2 * alike.error


def test_nineteen_of_twenty_new_slides_lie_within():
    rng = np.random.default_rng(2)
    held = []
    for _ in range(200):
        counting = fit_counting(*drawn(rng, 30, 40, 0.7, 0.15)[:3])
        (true,), (seen,), *_ = drawn(rng, 1, 6000, 0.7, 0.15)
        estimate = count_cells(counting, int(seen), 0.95)
        held.append(estimate.low <= true <= estimate.high)
    assert 0.9 <= np.mean(held) < 1.0


@pytest.mark.parametrize("reported", [0, 1, 5])
def test_few_cells_have_a_wide_interval_above_zero(reported):
    counting = Counting(0.8, 0.04, 0.003, 0.3, 30, 700, 850)
    estimate = count_cells(counting, reported, 0.95)
    assert 0 <= estimate.low <= estimate.cells <= estimate.high
    assert estimate.high >= max(1, reported)
    assert estimate.cells == round(0.8 * reported)


@pytest.mark.parametrize(
    ("cells", "reported", "message"),
    [
        ([3] * 4, [3] * 4, "4 fields say nothing"),
        ([0] * 6, [3] * 6, "no cell is marked"),
        ([3] * 6, [0] * 6, "or none is reported"),
    ],
)
def test_what_says_nothing_is_refused(cells, reported, message):
    hits = np.zeros(len(cells), np.int64)
    with pytest.raises(ValueError, match=message):
        fit_counting(np.array(cells), np.array(reported), hits)

"""Kappa against examples of the literature, by hand, and by a slow bootstrap."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.evaluation import cohen_kappa, fleiss_kappa

COHEN = [[88, 14, 18], [10, 40, 10], [2, 6, 12]]
"""200 diagnoses of two psychiatrists; Cohen (1960), p. 45: 0.49."""

FLEISS_BOOK = [[75, 1, 4], [5, 4, 1], [0, 0, 10]]
"""100 patients by two raters; Fleiss, Levin and Paik, Statistical Methods for Rates and
Proportions (3rd ed., 2003), table 18.1: 0.68."""

FLEISS = (
    "00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031 "
    "00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006"
)
"""30 patients by 6 psychiatrists each into 5 diagnoses; Fleiss (1971), table 1: 0.430."""


def pairs(table):
    both = [(i, j) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)]
    return [i for i, _ in both], [j for _, j in both]


def cohen(table, **options):
    first, second = pairs(table)
    return cohen_kappa(first, second, ["s"] * len(first), range(len(table)), rounds=200, **options)


def test_cohens_own_example():
    kappa = cohen(COHEN)
    assert kappa.value == pytest.approx(0.492, abs=5e-4)
    assert (kappa.observed, kappa.expected) == pytest.approx((0.70, 0.41))


def test_the_example_of_fleiss_levin_and_paik():
    kappa = cohen(FLEISS_BOOK)
    assert kappa.value == pytest.approx(0.23 / 0.34)
    assert (kappa.observed, kappa.expected) == pytest.approx((0.89, 0.66))


def test_weights_count_the_steps():
    # By hand: 40 of 200 are one step apart and 20 two; by chance 0.42 and 0.17 of all.
    assert cohen(COHEN, weighted=True).value == pytest.approx(
        1 - (0.2 + 2 * 0.1) / (0.42 + 2 * 0.17)
    )


def test_a_category_off_the_scale_is_left_out_of_the_weighted_one():
    first, second = pairs(COHEN)
    slides = ["s"] * 201
    kappa = cohen_kappa(
        [*first, 3], [*second, 0], slides, [0, 1, 2, math.nan], weighted=True, rounds=100
    )
    assert kappa.subjects == 200
    assert kappa.value == pytest.approx(9 / 19)
    assert cohen_kappa([*first, 3], [*second, 0], slides, [0] * 4, rounds=100).subjects == 201


def test_fleiss_own_example():
    counts = [[int(count) for count in row] for row in FLEISS.split()]
    kappa = fleiss_kappa(counts, [str(row) for row in range(30)], rounds=200)
    assert kappa.value == pytest.approx(0.430, abs=5e-4)
    assert kappa.observed == pytest.approx(0.556, abs=5e-4)
    assert kappa.expected == pytest.approx(0.220, abs=5e-4)
    assert (kappa.subjects, kappa.clusters, kappa.drawn) == (30, 30, "clusters")


def test_of_several_readers_who_did_not_judge_all_their_pairs_count():
    # By hand: shares of agreeing pairs 1, 1/3 and 0; judgements 4 and 3 of 7. One judged alone.
    kappa = fleiss_kappa([[2, 0], [1, 2], [1, 1], [1, 0]], list("aabb"), rounds=100)
    expected = (4 / 7) ** 2 + (3 / 7) ** 2
    assert kappa.subjects == 3
    assert kappa.value == pytest.approx((4 / 9 - expected) / (1 - expected))


def test_of_two_readers_alike_both_are_nearly_the_same():
    table = [[40, 5], [5, 50]]
    first, second = pairs(table)
    counts = np.eye(2, dtype=int)[first] + np.eye(2, dtype=int)[second]
    fleiss = fleiss_kappa(counts, ["s"] * 100, rounds=100)
    assert fleiss.value == pytest.approx(cohen(table).value)


@pytest.mark.parametrize("weighted", [False, True])
def test_where_all_is_in_one_category_there_is_no_kappa(weighted):
    kappa = cohen_kappa([1, 1, 1], [1, 1, 1], list("abc"), range(3), weighted=weighted)
    assert math.isnan(kappa.value)
    assert math.isnan(kappa.low)
    assert math.isnan(kappa.high)
    assert kappa.undefined == "both readers put all into one category"
    fleiss = fleiss_kappa([[0, 3], [0, 2]], list("ab"))
    assert fleiss.undefined == "all readers put all into one category"


def test_where_nothing_was_judged_twice_there_is_no_kappa():
    for kappa in (
        cohen_kappa([], [], [], range(3)),
        cohen_kappa([], [], [], []),
        cohen_kappa([2], [2], ["a"], [0, 1, math.nan], weighted=True),
        fleiss_kappa([[1, 0], [0, 1]], ["a", "b"]),
        fleiss_kappa([], []),
    ):
        assert kappa.undefined == "nothing was judged by two readers"
        assert math.isnan(kappa.value)
        assert kappa.subjects == 0


def test_the_extremes():
    assert cohen([[5, 0], [0, 5]]).value == 1
    assert cohen([[0, 5], [5, 0]]).value == -1
    assert cohen([[4, 4], [4, 4]]).value == pytest.approx(0)


def test_clusters_are_drawn_whole():
    """Cells of one slide that agree together: drawing cells alone makes the interval too narrow."""
    rng = np.random.default_rng(1)
    slides, first, second = [], [], []
    for slide in range(30):
        agrees = rng.random() < 0.6
        for _ in range(20):
            call = int(rng.integers(2))
            slides.append(str(slide))
            first.append(call)
            second.append(call if agrees else 1 - call)
    whole = cohen_kappa(first, second, slides, range(2))
    alone = cohen_kappa(first, second, [str(i) for i in range(600)], range(2))
    assert whole.value == alone.value
    assert whole.high - whole.low > 3 * (alone.high - alone.low)


def test_the_interval_is_that_of_slides_drawn_one_by_one():
    rng = np.random.default_rng(2)
    slides = np.repeat(np.arange(12), 15)
    first = rng.integers(3, size=180)
    second = np.where(rng.random(180) < 0.7, first, rng.integers(3, size=180))
    found = cohen_kappa(first, second, slides.astype(str).tolist(), range(3), rounds=4000)
    values = []
    for _ in range(800):
        rows = np.concatenate([np.flatnonzero(slides == s) for s in rng.integers(12, size=12)])
        one, two = first[rows], second[rows]
        expected = sum((one == c).mean() * (two == c).mean() for c in range(3))
        values.append(((one == two).mean() - expected) / (1 - expected))
    assert (found.low, found.high) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.02)
    assert found == cohen_kappa(first, second, slides.astype(str).tolist(), range(3), rounds=4000)


def test_of_one_slide_its_cells_are_drawn():
    kappa = cohen(COHEN, seed=3)
    assert (kappa.drawn, kappa.clusters) == ("subjects", 1)
    # Fleiss, Cohen and Everitt (1969): the standard error of this kappa is about 0.05.
    assert (kappa.high - kappa.low) / 3.92 == pytest.approx(0.05, abs=0.01)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from("abc")),
        min_size=1,
        max_size=40,
    )
)
def test_it_is_the_formula_pair_by_pair(rows):
    first, second, slides = map(list, zip(*rows, strict=True))
    for weighted, distance in ((False, lambda i, j: i != j), (True, lambda i, j: abs(i - j))):
        found = cohen_kappa(first, second, slides, range(4), weighted=weighted, rounds=20)
        seen = np.mean([distance(i, j) for i, j in zip(first, second, strict=True)])
        chance = np.mean([distance(i, j) for i in first for j in second])
        if chance == 0:
            assert found.undefined
        else:
            assert found.value == pytest.approx(1 - seen / chance)

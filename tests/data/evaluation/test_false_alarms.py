"""Expected false alarms: rates, their spread, and intervals that hold what they promise."""

from dataclasses import replace

import numpy as np
import pytest

from data.evaluation.false_alarms import expect, fit_rate, fit_share, quantile, share_between


def draw(rng, rate, spread, mm2):
    """Counts of units: gamma rates about ``rate`` of this relative variance, then Poisson."""
    return rng.poisson(rng.gamma(1 / spread, rate * spread, len(mm2)) * mm2)


def draw_fields(rng, rate, between, within, slides, fields, mm2):
    """Counts of fields (slides, fields): each slide has a rate, and each of its fields its own."""
    own = rng.gamma(1 / between, rate * between, slides)[:, None]
    return rng.poisson(own * rng.gamma(1 / within, within, (slides, fields)) * mm2)


def test_rate_and_spread_are_found_again():
    rng = np.random.default_rng(0)
    mm2 = rng.uniform(0.5, 2, 4000)
    fitted = fit_rate(draw(rng, 20.0, 0.5, mm2), mm2)
    assert fitted.per_mm2 == pytest.approx(20, rel=0.05)
    assert fitted.between == pytest.approx(0.5, rel=0.1)
    assert fitted.within == 0


def test_what_fields_of_one_slide_share_is_told_from_what_they_do_not():
    rng = np.random.default_rng(0)
    counts = draw_fields(rng, 50.0, 0.3, 1.0, 400, 6, 0.1).ravel()
    slides = [str(number) for number in range(400) for _ in range(6)]
    fitted = fit_rate(counts, np.full(2400, 0.1), slides)
    assert fitted.between == pytest.approx(0.3, rel=0.25)
    assert fitted.between + fitted.within == pytest.approx(0.3 + 1.0 + 0.3, rel=0.15)
    assert fitted.slides == 400


def test_where_slides_are_unknown_or_single_all_spread_is_taken_to_be_theirs():
    rng = np.random.default_rng(0)
    counts = draw_fields(rng, 50.0, 0.3, 1.0, 40, 6, 0.1).ravel()
    mm2 = np.full(240, 0.1)
    for slides in ((), [str(number) for number in range(240)]):
        assert share_between(counts, mm2, slides) == 1.0
    assert fit_rate(counts, mm2).within == 0


def test_chance_alone_has_no_spread():
    rng = np.random.default_rng(0)
    mm2 = np.ones(4000)
    fitted = fit_rate(rng.poisson(5.0, 4000), mm2)
    assert fitted.between < 0.02
    expected = expect(fitted, 100.0)
    assert expected.mean == pytest.approx(500, rel=0.05)
    assert expected.high - expected.low < 0.6 * expected.mean


@pytest.mark.parametrize(("units", "spread", "rate"), [(10, 0.5, 10.0), (30, 1, 3.0), (11, 0.2, 1)])
def test_a_new_slide_lies_within_its_interval_as_often_as_it_says(units, spread, rate):
    rng = np.random.default_rng(units)
    inside = []
    for _ in range(200):
        mm2 = rng.uniform(5, 15, units)
        fitted = fit_rate(draw(rng, rate, spread, mm2), mm2)
        expected = expect(fitted, 10.0)
        found = draw(rng, rate, spread, np.array([10.0]))[0]
        inside.append(expected.low <= found <= expected.high)
    assert 0.85 <= np.mean(inside) <= 1.0


def test_a_large_slide_judged_by_fields_of_others_lies_within_it_too():
    """Thirty slides of four fields; one of four hundred: its fields even out, its rate does not."""
    rng = np.random.default_rng(5)
    slides = [str(number) for number in range(30) for _ in range(4)]
    inside = []
    for _ in range(150):
        counts = draw_fields(rng, 40.0, 0.3, 0.5, 30, 4, 0.1).ravel()
        expected = expect(fit_rate(counts, np.full(120, 0.1), slides), 40.0)
        found = draw_fields(rng, 40.0, 0.3, 0.5, 1, 400, 0.1).sum()
        inside.append(expected.low <= found <= expected.high)
    assert 0.8 <= np.mean(inside) <= 1.0


def test_none_seen_is_not_none_ever():
    fitted = fit_rate(np.zeros(10, np.int64), np.ones(10))
    expected = expect(fitted, 10.0)
    assert expected.low == 0
    assert expected.high >= 1


def test_more_area_holds_more_and_no_area_nothing():
    fitted = fit_rate(np.array([3, 5, 2, 9, 4, 4]), np.ones(6))
    assert expect(fitted, 0.0) == expect(fitted, 0.0).__class__(0.0, 0, 0)
    highs = [expect(fitted, mm2).high for mm2 in (0.1, 1, 10, 100)]
    assert highs == sorted(highs)
    assert len(set(highs)) == 4


def test_more_units_are_more_certain():
    rng = np.random.default_rng(1)
    counts = draw(rng, 10.0, 0.3, np.ones(200))
    many = fit_rate(counts, np.ones(200))
    few = replace(many, units=10, slides=10, mm2=10.0)
    assert expect(few, 5.0).high > expect(many, 5.0).high


def test_too_few_units_and_no_area_are_refused():
    with pytest.raises(ValueError, match="4 fields or slides"):
        fit_rate(np.ones(4, np.int64), np.ones(4))
    with pytest.raises(ValueError, match="needs an area"):
        fit_rate(np.ones(6, np.int64), np.zeros(6))


def test_quantiles_are_scipy_s():
    from scipy.special import pdtr
    from scipy.stats import poisson

    for mean in (0.01, 0.7, 3.0, 250.0, 1e5):
        for chance in (0.025, 0.5, 0.975):
            found = quantile(lambda number, mean=mean: float(pdtr(number, mean)), chance)
            assert found == poisson.ppf(chance, mean)


def test_fields_of_a_slide_share_how_they_are_confused():
    hits, of = np.tile([4, 0, 0, 0], 10), np.full(40, 4)
    slides = [f"slide{row // 4}" for row in range(40)]
    share, spread = fit_share(hits, of)
    assert share == 0.25
    assert spread == pytest.approx(2 * (1 + 1 / 40) + 1 / 40)  # (10 * 9 + 30 - 40) / 40
    assert fit_share(hits, of, slides)[1] < 0.1  # each slide as much as any other
    assert fit_share(hits[:8], of[:8], slides[:8]) == (
        0.25,
        1.0,
    )  # of others two say nothing
    assert fit_share(0 * hits, of) == (0.5 / 160, 2.0)  # none seen is not none ever
    assert fit_share(hits, 0 * of) == (0.0, 0.0)

"""What all readers share."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import Size
from pipeline.slides.readers.base import levels_of, reason, show


def reduced(size, factor, ceiling):
    sides = (
        -(-side // factor) if ceiling else side // factor for side in (size.width, size.height)
    )
    return Size(*sides)


@given(
    width=st.integers(1000, 200_000),
    height=st.integers(1000, 200_000),
    power=st.integers(1, 6),
    ceiling=st.booleans(),
)
def test_pyramids_of_powers_of_two_whatever_the_rounding(width, height, power, ceiling):
    finest = Size(width, height)
    levels = levels_of((finest, reduced(finest, 2**power, ceiling)))
    assert [level.downsample for level in levels] == [1, 2**power]


@pytest.mark.parametrize("factor", [3, 5, 6, 10])
def test_other_whole_factors(factor):
    finest = Size(4003, 5001)
    assert levels_of((finest, reduced(finest, factor, False)))[1].downsample == factor


def test_a_factor_that_is_not_whole_stays_what_it_is():
    assert levels_of((Size(1000, 2000), Size(400, 800)))[1].downsample == 2.5


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a b ü🔬.svs", "a b ü🔬.svs"), ("a\nb\tc", "a\\nb\\tc"), ("a\udcffb", "a\\udcffb")],
)
def test_names_on_one_line(name, shown):
    assert show(Path(name)) == shown
    show(Path(name)).encode()


@pytest.mark.parametrize(
    ("error", "text"),
    [(ValueError("first\nsecond"), "first"), (KeyError(), "KeyError"), (OSError(" \n"), "OSError")],
)
def test_errors_on_one_line(error, text):
    assert reason(error) == text

"""The mpp comes from the file or the user, and nothing absurd gets through."""

import math

import pytest

from configs import ConfigError
from pipeline.errors import SlideError
from pipeline.slides.mpp import GivenMpp, check_mpp_argument, settle_mpp


def test_file_alone_is_believed():
    scale = settle_mpp((0.25, 0.25), GivenMpp())
    assert (scale.mpp, scale.source, scale.doubts) == (0.25, "file", ())


def test_user_speaks_where_file_is_silent():
    scale = settle_mpp(None, GivenMpp(0.3))
    assert (scale.mpp, scale.source, scale.doubts) == (0.3, "argument", ())


def test_silence_of_both_names_the_option():
    with pytest.raises(SlideError, match="--mpp"):
        settle_mpp(None, GivenMpp())


@pytest.mark.parametrize("absurd", [352.8, 0.049, 5.01, 0.0, -1.0, math.inf, math.nan])
def test_absurd_file_is_refused_with_its_value_unless_user_knows_better(absurd):
    with pytest.raises(SlideError, match=f"absurd {absurd:.4g}.*--mpp"):
        settle_mpp((absurd, absurd), GivenMpp())
    scale = settle_mpp((absurd, absurd), GivenMpp(0.25))
    assert (scale.mpp, scale.source) == (0.25, "argument")
    assert [doubt.code for doubt in scale.doubts] == ["mpp-absurd"]
    assert "absurd" in scale.doubts[0].text


@pytest.mark.parametrize("sane", [0.05, 5.0])
def test_limits_are_sane(sane):
    assert settle_mpp((sane, sane), GivenMpp()).mpp == sane
    check_mpp_argument(sane)


def test_sane_file_wins_and_says_so():
    scale = settle_mpp((0.25, 0.25), GivenMpp(0.5))
    assert (scale.mpp, scale.source) == (0.25, "file")
    assert [doubt.code for doubt in scale.doubts] == ["mpp-argument-unused"]
    assert "0.25" in scale.doubts[0].text
    assert "0.5" in scale.doubts[0].text


def test_user_who_says_nearly_the_same_is_not_bothered():
    assert settle_mpp((0.25, 0.25), GivenMpp(0.26)).doubts == ()


def test_mean_of_nearly_square_pixels():
    assert settle_mpp((0.25, 0.26), GivenMpp()).mpp == pytest.approx(0.255)


@pytest.mark.parametrize("given", [None, 0.25])
def test_pixels_that_are_not_square_are_refused(given):
    with pytest.raises(SlideError, match="not square"):
        settle_mpp((0.25, 0.27), GivenMpp(given))


@pytest.mark.parametrize("absurd", [0.0, -0.25, 0.01, 40.0, math.nan, math.inf])
def test_absurd_argument_is_a_wrong_call(absurd):
    with pytest.raises(ConfigError, match="--mpp"):
        check_mpp_argument(absurd)


def test_no_argument_is_no_wrong_call():
    check_mpp_argument(None)


@pytest.mark.parametrize("stated", [(0.5, 0.5), (0.25, 0.27), (352.8, 352.8), (math.nan, 0.25)])
def test_the_user_can_overrule_the_file_and_it_is_told(stated):
    scale = settle_mpp(stated, GivenMpp(override=0.25))
    assert (scale.mpp, scale.source) == (0.25, "override")
    assert [doubt.code for doubt in scale.doubts] == ["mpp-overruled"]
    assert [fact.source for fact in scale.facts] == ["override", "file"]


@pytest.mark.parametrize("stated", [None, (0.25, 0.25), (0.252, 0.25)])
def test_overruling_what_is_not_said_otherwise_is_no_doubt(stated):
    scale = settle_mpp(stated, GivenMpp(override=0.25))
    assert (scale.mpp, scale.source, scale.doubts) == (0.25, "override", ())


def test_what_is_said_of_this_slide_beats_what_is_said_of_all():
    scale = settle_mpp((0.5, 0.5), GivenMpp(gap=0.4, override=0.3, table=0.25))
    assert (scale.mpp, scale.source) == (0.25, "table")
    assert "--mpp-table" in scale.doubts[0].text


def test_a_scale_that_is_to_be_estimated_waits_for_who_looks_at_the_pixels():
    scale = settle_mpp(None, GivenMpp("estimate"))
    assert (scale.source, scale.facts, scale.doubts) == ("estimate", (), ())


def test_an_estimate_is_for_slides_that_carry_no_scale():
    scale = settle_mpp((0.25, 0.25), GivenMpp("estimate"))
    assert (scale.mpp, scale.source, scale.doubts) == (0.25, "file", ())
    scale = settle_mpp(None, GivenMpp("estimate", table=0.3))
    assert (scale.mpp, scale.source) == (0.3, "table")


def test_an_absurd_scale_is_estimated_anew_and_told():
    scale = settle_mpp((1e-4, 1e-4), GivenMpp("estimate"))
    assert scale.source == "estimate"
    assert [doubt.code for doubt in scale.doubts] == ["mpp-absurd"]
    assert "estimated" in scale.doubts[0].text

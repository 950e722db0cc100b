"""A slide's scale by its pixels, by a reader that measures stripes of a known width."""

import math

import numpy as np
import pytest
from blobs import BlobDetector
from slidefiles import write_image

from configs import Doubt
from models import ModelSource
from models.card import GraphFacts, ScaleFacts
from models.storage.graphs import ExportError, hash_graph, load_openvino, save_openvino
from pipeline.errors import SlideError
from pipeline.in_force import settings_in_force
from pipeline.network import scale
from pipeline.network.scale import (
    ScaleEstimate,
    ScaleSettings,
    check_estimate,
    check_scale,
    estimate_scale,
    find_reader,
    settle_estimate,
)
from pipeline.settings import ScreenSettings
from pipeline.slides import slide as slide_module
from pipeline.slides.mpp import GivenMpp, settle_mpp
from pipeline.slides.slide import open_slide
from pipeline.tiles.foreground import Foreground, ForegroundSettings

FACTS = ScaleFacts(side=224, reach=0.9, within=0.05, between=0.06, known=2.0)
STRIPE = 8.0
"""µm from one dark stripe to the next."""


class Ruler:
    """Tells how large stripes are shown, as far as it can see, and what is unlike stripes."""

    facts = FACTS
    mpp = 0.5

    def __init__(self, sees=0.9):
        self.sees = sees
        self.looks = 0

    def measure(self, places):
        self.looks += 1
        return np.array([self._measure(place) for place in places]).reshape(-1, 2)

    def _measure(self, place):
        row = place.astype(float).mean(axis=(0, 2))
        power = np.abs(np.fft.rfft((row - row.mean()) * np.hanning(len(row)), n=8192)) ** 2
        share = power.max() / (power.sum() + 1)
        found = math.log(8192 / int(power.argmax()) / (STRIPE / self.mpp)) if power.any() else 0.0
        novelty = 1.0 if share > 0.006 else 9.0
        return float(np.clip(found, -self.sees, self.sees)), novelty


def striped(path, mpp, size=1000):
    """A picture of stripes at a scale."""
    wave = np.cos(2 * np.pi * np.arange(size) * mpp / STRIPE)
    row = (150 + 60 * wave).astype(np.uint8)
    return write_image(path, np.broadcast_to(row[None, :, None], (size, size, 3)).copy())


FULL = Foreground(np.ones((4, 4), bool), 300.0)
ANYWHERE = ForegroundSettings(enabled=False)


def estimate(path, start, reader=None):
    with open_slide(path, start) as slide:
        return estimate_scale(slide, FULL, reader or Ruler(), start, 24)


@pytest.mark.parametrize("true", [0.2, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("start", [0.25, 0.5])
def test_the_scale_is_found_from_any_start(tmp_path, true, start):
    found = estimate(striped(tmp_path / "a.png", true), start)
    assert found.mpp == pytest.approx(true, rel=0.03)
    assert found.places >= 1


def test_it_is_found_from_beyond_what_the_network_can_see_at_once(tmp_path):
    ruler = Ruler(sees=0.3)
    found = estimate(striped(tmp_path / "a.png", 0.6), 0.25, ruler)
    assert found.mpp == pytest.approx(0.6, rel=0.03)
    assert ruler.looks >= 3


def test_more_places_err_less_and_never_less_than_slides_differ():
    errors = [FACTS.error(places) for places in (1, 4, 10_000)]
    expected = [math.hypot(0.06, 0.05), math.hypot(0.06, 0.025), 0.06]
    assert errors == pytest.approx(expected, rel=1e-4)


def test_overlapping_places_of_a_small_slide_do_not_count_as_many(tmp_path):
    path = striped(tmp_path / "a.png", 0.5, size=300)  # four of 224 px overlap by a half and more
    found = estimate(path, 0.5)
    assert found.places == 4
    assert found.error == pytest.approx(FACTS.error((300 / 224) ** 2))


def test_what_is_like_nothing_known_gives_no_estimate(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (600, 600, 3), np.uint8)
    assert estimate(write_image(tmp_path / "a.png", noise), 0.5) is None


def test_places_without_cells_give_no_estimate(tmp_path):
    path = striped(tmp_path / "a.png", 0.5)
    empty = Foreground(np.zeros((4, 4), bool), 300.0)
    with open_slide(path, 0.5) as slide:
        assert estimate_scale(slide, empty, Ruler(), 0.5, 24) is None


def test_a_slide_of_a_few_pixels_gives_no_estimate(tmp_path):
    assert estimate(striped(tmp_path / "a.png", 0.5, size=60), 0.5) is None


def test_what_never_comes_to_rest_gives_no_estimate(tmp_path):
    class Restless(Ruler):
        def measure(self, places):
            self.looks += 1
            return np.array([[0.5 if self.looks % 2 else -0.5, 1.0]] * len(places))

    assert estimate(striped(tmp_path / "a.png", 0.5), 0.5, Restless()) is None


def check(path, given, reader=None, **settings):
    with open_slide(path, given) as slide:
        return check_scale(slide, FULL, reader or Ruler(), ScaleSettings(**settings))


def test_a_scale_that_the_cells_bear_out_is_not_told(tmp_path):
    path = striped(tmp_path / "a.png", 0.25)
    assert check(path, GivenMpp(0.25)) == []
    assert check(path, GivenMpp(0.25 * 1.1)) == []


def test_a_scale_that_is_wrong_by_a_third_is_told_with_both_numbers(tmp_path):
    path = striped(tmp_path / "a.png", 0.25)
    (doubt,) = check(path, GivenMpp(0.333))
    assert doubt.code == "scale-contradicts"
    assert "0.25 µm per pixel ± 7%" in doubt.text
    assert "--mpp says 0.333" in doubt.text
    assert "--mpp-override" in doubt.text
    (doubt,) = check(path, GivenMpp(override=0.18))
    assert "--mpp-override says 0.18" in doubt.text


def test_nothing_is_told_without_a_network_or_unasked(tmp_path):
    path = striped(tmp_path / "a.png", 0.25)
    assert check(path, GivenMpp(0.5), check=False) == []
    with open_slide(path, GivenMpp(0.5)) as slide:
        assert check_scale(slide, FULL, None, ScaleSettings()) == []


def test_a_network_that_can_not_be_run_here_is_told(tmp_path):
    path = striped(tmp_path / "a.png", 0.25)
    (doubt,) = check(path, GivenMpp(0.5), "OpenVINO is missing")
    assert doubt.code == "scale-unchecked"
    assert "OpenVINO is missing" in doubt.text
    assert check(path, GivenMpp(0.5), "OpenVINO is missing", check=False) == []


def test_why_the_network_can_not_be_run_is_kept(monkeypatch):
    def refuse(*_):
        raise ExportError("this CPU is too old")

    monkeypatch.setattr(scale, "compile_openvino", refuse)
    assert find_reader(ModelSource.find("cric-fcos-light")) == "this CPU is too old"


@pytest.mark.parametrize(
    ("scale", "changes", "asked"),
    [
        (Ruler(), {}, True),
        (Ruler(), {"scale": {"check": False}}, False),
        (Ruler(), {"scale": {"check": False}, "mpp": "estimate"}, True),
        ("this CPU is too old", {}, False),
        ("this CPU is too old", {"mpp": "estimate"}, False),
    ],
)
def test_results_name_the_network_that_was_asked(scale, changes, asked):
    detector = BlobDetector()
    graphs = {"scale": GraphFacts(sha256="5" * 64)}
    detector.card = detector.card.model_copy(update={"graphs": graphs})
    detector.scale = scale
    force = settings_in_force(ScreenSettings.model_validate(changes), detector)
    assert force["scale"]["network"] == ("5" * 12 if asked else None)


def test_a_network_that_gives_no_numbers_fails_the_slide(tmp_path):
    """NaN is below no limit, so that each place would count as unlike all that is known."""
    openvino = load_openvino()
    from openvino import opset13 as ops

    pixels = ops.parameter([1, -1, -1, 3], openvino.Type.u8)
    bright = ops.reduce_mean(ops.convert(pixels, "f32"), np.array([1, 2, 3]), False)
    root = ops.sqrt(ops.negative(bright))
    save_openvino(openvino.Model([root, bright], [pixels], "scale"), tmp_path, "scale")
    graphs = {"scale": GraphFacts(sha256=hash_graph(tmp_path, "scale"))}
    card = BlobDetector().card.model_copy(update={"graphs": graphs, "scale": FACTS})
    reader = find_reader(ModelSource(card, tmp_path))
    path = striped(tmp_path / "a.png", 0.5)
    told = r"a\.png: .* scale of slides gives no numbers \(NaN\)"
    with pytest.raises(SlideError, match=told):
        check(path, GivenMpp(0.5), reader)
    with open_slide(path, GivenMpp("estimate")) as slide, pytest.raises(SlideError, match=told):
        settle_estimate(slide, reader, ScaleSettings(), ANYWHERE)


@pytest.mark.parametrize("code", [None, "too-dark"])
def test_a_picture_that_is_no_smear_has_no_estimate(tmp_path, code):
    implausible = [Doubt(code=code, text="does not look like it")] if code else []
    with open_slide(striped(tmp_path / "a.png", 0.4), GivenMpp("estimate")) as slide:
        settle_estimate(slide, Ruler(), ScaleSettings(), ANYWHERE)
        if implausible:
            with pytest.raises(SlideError, match="such a picture: does not look like it; give it"):
                check_estimate(slide, implausible)
            slide.settle(settle_mpp(None, GivenMpp(0.4)))  # one that is given stands
        check_estimate(slide, implausible)


def test_a_slide_larger_than_glass_by_its_estimate_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(slide_module, "MAX_SIDE_MM", 0.3)
    with (
        open_slide(striped(tmp_path / "a.png", 0.4), GivenMpp("estimate")) as slide,
        pytest.raises(SlideError, match=r"at 0\.4.* it claims .* which no glass slide has"),
    ):
        settle_estimate(slide, Ruler(), ScaleSettings(), ANYWHERE)


def test_the_error_decides_what_contradicts():
    estimate = ScaleEstimate(0.25, 0.1, 9)
    assert not estimate.contradicts(0.25 * math.exp(0.257))
    assert estimate.contradicts(0.25 * math.exp(0.259))
    assert estimate.contradicts(0.25 * math.exp(-0.259))


def test_an_estimated_scale_is_named_as_that(tmp_path):
    path = striped(tmp_path / "a.png", 0.4)
    with open_slide(path, GivenMpp("estimate")) as slide:
        settle_estimate(slide, Ruler(), ScaleSettings(), ANYWHERE)
        assert slide.mpp == pytest.approx(0.4, rel=0.03)
        assert slide.mpp_source == "estimate"
        (doubt,) = slide.doubts
        assert doubt.code == "mpp-estimated"
        assert f"{slide.mpp:.3g} µm per pixel ± 6%" in doubt.text
        (fact,) = (fact for fact in slide.facts if fact.name == "mpp")
        assert (fact.source, "estimated" in fact.value) == ("data", True)


def test_a_slide_that_states_its_scale_keeps_it(tmp_path):
    path = striped(tmp_path / "a.png", 0.4)
    with open_slide(path, GivenMpp("estimate", override=0.3)) as slide:
        settle_estimate(slide, Ruler(), ScaleSettings(), ANYWHERE)
        assert (slide.mpp, slide.mpp_source, slide.doubts) == (0.3, "override", ())


@pytest.mark.parametrize(
    ("pixels", "reader", "why"),
    [
        ("stripes", None, "no network for it"),
        ("stripes", "no OpenVINO", "can't be run here: no OpenVINO"),
        ("noise", Ruler(), "too few places"),
    ],
)
def test_what_can_not_be_estimated_is_refused_in_one_line(tmp_path, pixels, reader, why):
    path = striped(tmp_path / "a.png", 0.4)
    if pixels == "noise":
        noise = np.random.default_rng(0).integers(0, 255, (600, 600, 3), np.uint8)
        write_image(path, noise)
    with open_slide(path, GivenMpp("estimate")) as slide, pytest.raises(SlideError) as refused:
        settle_estimate(slide, reader, ScaleSettings(), ANYWHERE)
    assert refused.value.code == "mpp-not-estimated"
    assert why in str(refused.value)
    assert "--mpp" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_two_scales_that_fit_alike_are_refused(tmp_path):
    class Undecided(Ruler):
        """Content with whatever scale it is shown."""

        def measure(self, places):
            return np.array([[0.0, 1.0]] * len(places))

    path = striped(tmp_path / "a.png", 0.4)
    with (
        open_slide(path, GivenMpp("estimate")) as slide,
        pytest.raises(SlideError, match="and as well like"),
    ):
        settle_estimate(slide, Undecided(), ScaleSettings(), ANYWHERE)


def test_an_absurd_scale_in_the_file_stays_told(tmp_path):
    path = striped(tmp_path / "a.png", 0.4)
    with open_slide(path, 0.25) as slide:
        slide.settle(settle_mpp((1e-3, 1e-3), GivenMpp("estimate")))
        settle_estimate(slide, Ruler(), ScaleSettings(), ANYWHERE)
        assert [doubt.code for doubt in slide.doubts] == ["mpp-absurd", "mpp-estimated"]
        assert any(fact.source == "file" for fact in slide.facts)

"""How large a slide's cells are shown: its µm per pixel by its pixels alone.

What a slide says of its scale is often wrong, and a detector that sees cells too large or too small
misses them and misjudges their grade, of which the size of the nucleus is a criterion. A small
network beside the model (`models.learning.scale`, made by ``cytolibra scale``) looks at some places
of the slide and tells by which factor they are shown too large. The slide is looked at anew at the
scale that follows, until that stays: the network errs least where things have their size, and what
does not come to rest is no estimate.

It abstains rather than mislead. A place counts that is filled with cells and is like those that the
network has learned from; where fewer than half are, or none, there is no estimate: of histology,
of drawn slides, of blank ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs import Doubt, StrictModel
from models import ModelSource
from models.card import ModelCard, NoNumbersError, ScaleFacts
from models.storage.graphs import ExportError, read_openvino
from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Size
from pipeline.network.openvino_runtime import compile_openvino
from pipeline.slides.mpp import ESTIMATE, PROVISIONAL, SANE_MPP, Scale
from pipeline.slides.readers.base import Fact, show
from pipeline.slides.slide import Slide, check_size
from pipeline.tiles.foreground import Foreground, ForegroundSettings, find_foreground
from pipeline.tiles.places import covering, fullest

GRAPH: Final = "scale"

LEAST_SIDE = 96
"""Shortest side in model pixels of a place that still says something."""

LEAST_FILLED = 0.3
"""Share of a place that is foreground at least."""

LEAST_KNOWN = 0.5
"""Share of the places looked at that must be like those learned from."""

SETTLED = 0.12
"""Magnification, as a logarithm, up to which a look is believed as it is."""

MOST_LOOKS = 6
"""After which what has not come to rest is given up."""

STARTS = (PROVISIONAL, 0.5)
"""µm per pixel from which the scale of a slide is looked for that states none: those of 40x and 20x
objectives on most scanners. Where both lead to a scale it has to be the same."""

TOLD_FROM = 2.58
"""Standard errors by which estimate and slide differ at least before that is told: of slides whose
scale is right, one in a hundred."""


class ScaleSettings(StrictModel):
    """How the scale of slides is checked.

    Attributes:
        check: whether a slide's µm per pixel is held against an estimate by its cells.
        places: at how many places it is looked at.
    """

    check: bool = True
    places: int = Field(24, ge=1, le=1000)


@dataclass(frozen=True)
class ScaleEstimate:
    """A slide's scale by its pixels.

    Attributes:
        mpp: µm per level-0 pixel.
        error: standard error of its logarithm: 0.1 is a tenth.
        places: that it was seen at.
    """

    mpp: float
    error: float
    places: int

    def contradicts(self, mpp: float) -> bool:
        """Whether another scale differs by more than the estimate's error bears."""
        return abs(math.log(mpp / self.mpp)) > TOLD_FROM * self.error

    def __str__(self) -> str:
        percent = 100 * math.expm1(self.error)
        return f"{self.mpp:.3g} µm per pixel ± {percent:.0f}%"


@dataclass(frozen=True)
class Look:
    """What the network says of places of a slide at an assumed scale.

    Attributes:
        magnification: (N,) natural logarithms of how much too large things are shown.
        novelty: (N,) how unlike each place is to what was learned from, 1 on the average.
        independent: how many places without overlap they come to.
    """

    magnification: NDArray[np.float64]
    novelty: NDArray[np.float64]
    independent: float


class ScaleReader:
    """The network that tells the scale, made ready for many slides and several threads.

    Args:
        model: that has a graph "scale".
        threads: of the CPU; None for one a core.

    Raises:
        ModelFileError: the graph is missing, not what the sidecar says, or holds NaN.
        ExportError: OpenVINO is missing, or can't run it here.
    """

    def __init__(self, model: ModelSource, threads: int | None = None) -> None:
        assert model.folder is not None
        assert model.card.scale is not None
        self.facts: ScaleFacts = model.card.scale
        self.mpp = model.card.mpp
        graph = read_openvino(model.folder, GRAPH, model.card.graphs[GRAPH])
        self._compiled = compile_openvino(graph, "fp32", threads)

    def measure(self, places: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """(N, 2) magnification and novelty of (H, W, 3) RGB pictures at the model's mpp.

        Raises:
            NoNumbersError: they are NaN, which would count as unlike all that is known.
        """
        request: Any = self._compiled.create_infer_request()  # each thread has its own
        found = [
            [float(value[0]) for value in request.infer([np.ascontiguousarray(p)[None]]).values()]
            for p in places
        ]
        measured = np.array(found, np.float64).reshape(-1, 2)
        if np.isnan(measured).any():
            raise NoNumbersError(
                "the model's network for the scale of slides gives no numbers (NaN): make it again "
                "with cytolibra scale, or take another model"
            )
        return measured


def find_reader(model: ModelSource, threads: int | None = None) -> ScaleReader | str | None:
    """What tells the scale of slides for a model; None where the model has no network for it.

    Where it has one that can't be run here, as without OpenVINO, it is the reason for that.

    Raises:
        ModelFileError: the model's graph is missing, not what the sidecar says, or holds NaN.
    """
    if not carries_scale(model.card) or model.folder is None:
        return None
    try:
        return ScaleReader(model, threads)
    except ExportError as error:
        return str(error)


def carries_scale(card: ModelCard) -> bool:
    """Whether a model comes with a network that tells the scale of slides."""
    return card.scale is not None and GRAPH in card.graphs


def settle_estimate(
    slide: Slide,
    reader: ScaleReader | str | None,
    settings: ScaleSettings,
    foreground: ForegroundSettings,
) -> None:
    """Gives a slide that states no scale the one by its cells, where the user wants that.

    Others stay as they are. Whether it looks like a smear at that scale is `check_estimate`'s.

    Args:
        slide: an open slide.
        reader: see `find_reader`.
        settings: at how many places it is looked at.
        foreground: how its cells are seen on the overview.

    Raises:
        SlideError: it can't be estimated.
    """
    if slide.mpp_source != ESTIMATE:
        return
    found = _estimate_anew(slide, reader, settings, foreground)
    if isinstance(found, str):
        raise _not_estimated(slide, found)
    text = (
        f"its scale is estimated from its cells: {found} (one standard error, {found.places} "
        "places); lengths are as uncertain, areas twice as much"
    )
    fact = Fact(name="mpp", value=f"{found}, estimated from its cells", source="data")
    stated = tuple(fact for fact in slide.facts if fact.name == "mpp")
    absurd = tuple(doubt for doubt in slide.doubts if doubt.code == "mpp-absurd")
    doubt = Doubt(code="mpp-estimated", text=text)
    slide.settle(Scale(float(f"{found.mpp:.3g}"), ESTIMATE, (fact, *stated), (*absurd, doubt)))
    try:
        check_size(slide)
    except SlideError as error:
        raise _not_estimated(slide, f"at {found} it {error.text}") from error


def check_estimate(slide: Slide, implausible: Sequence[Doubt]) -> None:
    """Takes an estimated scale back where the slide doesn't look like a smear at it.

    Args:
        slide: an open slide.
        implausible: what of it doesn't; see `pipeline.tiles.plausible.find_implausible`.

    Raises:
        SlideError: it doesn't, and its scale is an estimate.
    """
    if implausible and slide.mpp_source == ESTIMATE:
        raise _not_estimated(slide, f"cells don't tell it in such a picture: {implausible[0].text}")


def _not_estimated(slide: Slide, why: str) -> SlideError:
    return SlideError(
        f"{show(slide.path)}: carries no µm per pixel, and it can't be estimated: {why}; give it "
        "with --mpp",
        "mpp-not-estimated",
    )


def check_scale(
    slide: Slide, foreground: Foreground, reader: ScaleReader | str | None, settings: ScaleSettings
) -> list[Doubt]:
    """What is to be told where a slide's cells contradict its scale; nothing where they don't.

    Raises:
        SlideError: the network gives no numbers.
    """
    if reader is None or not settings.check or slide.mpp_source == ESTIMATE:
        return []
    if isinstance(reader, str):
        text = (
            "its µm per pixel was not held against its cells: the model's network for that can't "
            f"be run here: {reader}; --set scale.check=false leaves the check out"
        )
        return [Doubt(code="scale-unchecked", text=text)]
    found = estimate_scale(slide, foreground, reader, slide.mpp, settings.places)
    if found is None or not found.contradicts(slide.mpp):
        return []
    who = {"file": "the slide states", "argument": "--mpp says", "table": "--mpp-table says"}
    text = (
        f"its cells look like {found} (one standard error, {found.places} places), and "
        f"{who.get(slide.mpp_source, '--mpp-override says')} {slide.mpp:g}: at a wrong scale cells "
        "are missed and misjudged; find out the true one and give it with --mpp-override"
    )
    return [Doubt(code="scale-contradicts", text=text)]


def estimate_scale(
    slide: Slide, foreground: Foreground, reader: ScaleReader, start: float, places: int
) -> ScaleEstimate | None:
    """A slide's scale by its cells; None where they don't tell it.

    Args:
        slide: an open slide; what it says of its scale doesn't matter.
        foreground: where its cells are.
        reader: the network.
        start: µm per level-0 pixel that is tried first; from within a factor of
            ``e ** reader.facts.reach`` it finds the scale, from beyond mostly.
        places: at how many places it is looked at.

    Raises:
        SlideError: the network gives no numbers.
    """
    mpp = start
    for _ in range(MOST_LOOKS):
        look = _look(slide, foreground, reader, mpp, places)
        known = look.novelty <= reader.facts.known
        if not known.any():
            return None
        shift = float(np.median(look.magnification[known]))
        mpp = mpp * math.exp(-shift)
        if not SANE_MPP[0] <= mpp <= SANE_MPP[1]:
            return None
        if abs(shift) <= SETTLED:
            if known.mean() < LEAST_KNOWN:
                return None
            independent = look.independent * float(known.mean())
            return ScaleEstimate(mpp, reader.facts.error(independent), int(known.sum()))
    return None


def _estimate_anew(
    slide: Slide,
    reader: ScaleReader | str | None,
    settings: ScaleSettings,
    wanted: ForegroundSettings,
) -> ScaleEstimate | str:
    """The scale of a slide of which nothing is known, or why there is none."""
    if reader is None:
        return "the model has no network for it (cytolibra scale makes one)"
    if isinstance(reader, str):
        return f"the model's network for it can't be run here: {reader}"
    foreground = find_foreground(slide, wanted)
    if not foreground.mask.any():
        return "no cells were seen on its overview"
    tried = [estimate_scale(slide, foreground, reader, mpp, settings.places) for mpp in STARTS]
    found = [one for one in tried if one is not None]
    if not found:
        return "too few places look like what the model's network for it has learned from"
    first, last = found[0], found[-1]
    if first.contradicts(last.mpp):
        return f"its cells look like {first}, and as well like {last}"
    return min(found, key=lambda one: one.error)


def _look(
    slide: Slide, foreground: Foreground, reader: ScaleReader, mpp: float, count: int
) -> Look:
    downsample = reader.mpp / mpp
    bounds = slide.bounds
    side = min(reader.facts.side, int(min(bounds.width, bounds.height) / downsample))
    if side < LEAST_SIDE:
        return Look(np.zeros(0), np.zeros(0), 0.0)
    reach = side * downsample
    corners = fullest(covering(bounds, reach), reach, foreground, count, LEAST_FILLED)
    pictures = list(_read(slide, corners, side, downsample))
    try:
        magnification, novelty = reader.measure(pictures).T
    except NoNumbersError as error:
        raise SlideError(f"{show(slide.path)}: {error}") from error
    # Places of a small slide overlap, and say less together than as many apart.
    most = bounds.area / (reader.facts.side * downsample) ** 2
    return Look(magnification, novelty, min(float(len(pictures)), most))


def _read(
    slide: Slide, corners: NDArray[np.float64], side: int, downsample: float
) -> Iterator[NDArray[np.uint8]]:
    for x, y in corners.tolist():
        try:
            yield slide.read_region(x, y, Size(side, side), downsample)
        except ReadError:
            continue  # what can't be read is told elsewhere

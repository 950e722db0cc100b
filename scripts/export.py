"""``cytolibra export``: a model's network for other runtimes."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs import ConfigError
from scripts.given import refuse_given

if TYPE_CHECKING:
    from data.fields.fieldset import FieldSet
    from models import DenseDetector, ModelCard
    from models.card import GraderGraphKind, GraphKind
    from pipeline.network.detector import TileDetector
    from pipeline.slides.slide import Slide


CROPS_A_TILE = 6
"""Crops of a calibration tile that a grader's ranges are learned from: hundreds do."""


class Target(StrEnum):
    """What a network is written for."""

    openvino = "openvino"
    onnx = "onnx"


Calibration = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="SLIDE_OR_FOLDER", help="Where int8 learns its ranges: slides like yours."
    ),
]


def export(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="Shipped model's name, or a model's folder.")],
    to: Annotated[Target, typer.Option(help="What for.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the exported model.")],
    int8: Annotated[bool, typer.Option("--int8", help="OpenVINO: the network in int8.")] = False,
    calibration: Calibration = None,
    tiles: Annotated[int, typer.Option(min=1, help="How many tiles to calibrate on.")] = 100,
    mpp: Annotated[
        float | None, typer.Option(help="µm per pixel of calibration images that carry none.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="COCO file of fields to measure reduced precision on.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of these fields' images.")] = None,
) -> None:
    """Writes a model's networks for OpenVINO or ONNX, and what reduced precision costs.

    DIR is a model of its own: `cytolibra screen --model DIR` takes it. Networks of the same model
    that it holds stay; another model there is refused. A graph takes (1, H, W, 3)
    uint8 RGB at the model's mpp and gives raw outputs; decoding and NMS stay outside. With --data
    the average precision that bf16 and int8 lose is written into the sidecar, and "auto" heeds it.
    The grader of a second look is exported beside its detector; int8 learns its ranges from crops
    of what that finds on the calibration tiles.
    """
    from models import load_detector
    from models.storage.export import check_folder, copy_model, save_onnx
    from models.storage.graphs import add_graph

    _check_options(context, to, int8, calibration, data, images)
    detector = load_detector(model)
    check_folder(detector, out)  # before all the work
    fields = _read_fields(data, images, detector)
    if to == Target.onnx:
        card = copy_model(detector, out)
        save_onnx(detector, out / "model.onnx")
        add_graph(card, out, "onnx")
        if card.second_look:
            typer.echo("note: the second look's grader is exported for OpenVINO only", err=True)
    else:
        crops = CropCollector(detector)
        _export_openvino(detector, out, _read_tiles(calibration, detector, tiles, mpp, crops))
        _export_grader(detector, out, crops.crops, bool(calibration))
        _measure_cost(out, fields)
    typer.echo(f"{detector.config.name} for {to.value}: {out}")


def add_networks(folder: Path) -> None:
    """Puts the networks of a model that was just trained beside it, so that no screen makes them.

    Raises:
        ExportError: OpenVINO is missing, or can't express the network.
    """
    from models import load_detector

    detector = load_detector(folder)
    _export_openvino(detector, folder, ([], ""))
    _export_grader(detector, folder, [], False)


def _check_options(
    context: typer.Context,
    to: Target,
    int8: bool,
    calibration: list[Path] | None,
    data: Path | None,
    images: Path | None,
) -> None:
    if int8 != bool(calibration):
        raise ConfigError("--int8 and --calibration go together: int8 learns its ranges from tiles")
    if not int8:
        refuse_given(
            context, {"tiles", "mpp"}, "of --calibration, whose tiles int8 learns its ranges from"
        )
    if (data is None) != (images is None):
        raise ConfigError("--data and --images go together: annotated fields and their images")
    if to == Target.onnx and (int8 or data):
        raise ConfigError("--int8 and --data are for --to openvino")


def _read_fields(
    data: Path | None, images: Path | None, detector: DenseDetector
) -> FieldSet | None:
    from data.annotations import read_coco
    from scripts.telling import tell_doubts

    if data is None or images is None:
        return None
    fields = read_coco(data, images, detector.config.classes)
    tell_doubts(fields)
    return fields


def _read_tiles(
    calibration: list[Path] | None,
    detector: DenseDetector,
    count: int,
    mpp: float | None,
    crops: CropCollector,
) -> tuple[list[Any], str]:
    """Tiles to calibrate on, and what the sidecar says of them; tells what was left out.

    Raises:
        ConfigError: there is no slide, one of them can't be read, or none has cells.
        SlideError: see `pipeline.tiles.calibration.sample_tiles`.
    """
    from pipeline.batch.discovery import discover
    from pipeline.slides.mpp import check_mpp_argument
    from pipeline.tiles.calibration import sample_tiles
    from scripts.telling import warn

    if not calibration:
        return [], ""
    check_mpp_argument(mpp)
    found = discover(calibration, Path("nowhere"), with_images=mpp is not None)
    warn(found.doubts)
    if problem := next((job.problem for job in found.jobs if job.problem), None):
        raise ConfigError(f"--calibration: {problem}")
    assert detector.card is not None
    visit = crops if detector.card.second_look else None
    paths = [job.path for job in found.jobs]
    sampled = sample_tiles(paths, detector.card.mpp, count, mpp, visit=visit)
    warn(sampled.doubts)
    told = f"{len(sampled.tiles)} tiles of {sampled.slides} slides or images"
    return sampled.tiles, told


def _export_openvino(detector: DenseDetector, out: Path, tiles: tuple[list[Any], str]) -> None:
    from models.storage.export import copy_model, quantise, to_openvino
    from models.storage.graphs import add_graph, save_openvino

    pixels, told = tiles
    network = to_openvino(detector)
    if pixels:
        network = quantise(network, pixels)
    kind: GraphKind = "openvino-int8" if pixels else "openvino"
    card = copy_model(detector, out)
    save_openvino(network, out, kind)
    add_graph(card, out, kind, told)


class CropCollector:
    """Crops of what a detector takes for cells on calibration tiles, for a grader in int8.

    Args:
        detector: of the model; without a second look nothing is collected.

    Attributes:
        crops: (S, S, 3) RGB each; of each tile the surest, up to `CROPS_A_TILE`.
    """

    def __init__(self, detector: DenseDetector) -> None:
        self._detector = detector
        self._at_work: TileDetector | None = None
        self.crops: list[Any] = []

    def __call__(self, slide: Slide, pixels: Any, origin: tuple[float, float]) -> None:
        """See `pipeline.tiles.calibration.Visit`."""
        import numpy as np

        from pipeline.cells.crops import read_crop
        from scripts.candidates import find_candidates

        card = self._detector.card
        assert card is not None
        assert card.second_look is not None
        facts = card.second_look
        (found,) = self._runner().detect([pixels])
        places = find_candidates(found, card, facts.floor)
        best = np.argsort(-places.scores, kind="stable")[:CROPS_A_TILE]
        centers = places.places.centers[best] * card.mpp / slide.mpp + origin
        for center in centers:
            crop = read_crop(slide, center, facts.size, facts.mpp / slide.mpp)
            if crop is not None:
                self.crops.append(crop)

    def _runner(self) -> TileDetector:
        from pipeline.network.detector import RuntimeSettings, TileDetector
        from scripts.candidates import LOWEST_SCORE

        if self._at_work is None:
            settings = RuntimeSettings(device="cpu", precision="fp32")
            self._at_work = TileDetector(self._detector, settings, LOWEST_SCORE)
        return self._at_work


def _export_grader(detector: DenseDetector, out: Path, crops: list[Any], int8: bool) -> None:
    """The network of the model's second look, where it has one, as the detector's."""
    from models.card import read_card
    from models.grader import GradingNetwork, load_grader
    from models.storage.export import grader_to_openvino, quantise
    from models.storage.graphs import GRADER_FILES, add_grader_graph, save_openvino

    assert detector.card is not None
    assert detector.folder is not None
    facts = detector.card.second_look
    if facts is None:
        return
    if int8 and not crops:
        raise ConfigError("--calibration: on no tile anything was found that a grader looks at")
    network = GradingNetwork(load_grader(detector.folder, facts), facts.temperature).eval()
    graph = grader_to_openvino(network, facts.size)
    if int8:
        graph = quantise(graph, crops)
    kind: GraderGraphKind = "openvino-int8" if int8 else "openvino"
    save_openvino(graph, out, kind, GRADER_FILES)
    told = f"{len(crops)} crops of what the detector found" if int8 else ""
    add_grader_graph(read_card(out), out, kind, told)


def _measure_look_cost(folder: Path, fields: FieldSet) -> None:
    """Writes into the sidecar what int8 of both networks loses with the second look."""
    from models.card import read_card, save_card
    from models.storage.graphs import LOOK_COST

    card = read_card(folder)
    look = card.second_look
    if look is None or not {"openvino-int8"} <= set(card.graphs) & set(look.graphs):
        return
    exact, found = (_figures(folder, name, fields, looks=True) for name in ("fp32", "int8"))
    costs = {f"{LOOK_COST}{name}": round(exact[name] - found[name], 4) for name in exact}
    told = ", ".join(f"{name} {-cost:+.4f}" for name, cost in costs.items())
    typer.echo(f"with the second look, int8: {told}")
    save_card(card.with_grader(metrics=look.metrics | costs), folder)


def _measure_cost(folder: Path, fields: FieldSet | None) -> None:
    """Writes into the sidecar what each reduced precision loses on annotated fields."""
    from models.card import read_card, save_card

    if fields is None:
        return
    card = read_card(folder)
    exact = _figures(folder, "fp32", fields)
    costs = {}
    for precision in _reduced(card):
        found = _figures(folder, precision, fields)
        costs[precision] = {name: round(exact[name] - found[name], 4) for name in exact}
        typer.echo(
            f"{precision}: " + ", ".join(f"{n} {-c:+.4f}" for n, c in costs[precision].items())
        )
    measured_on = f"{len(fields.fields)} fields, {sum(fields.class_counts())} cells"
    save_card(card.model_copy(update={"ap_cost": costs, "ap_cost_data": measured_on}), folder)
    _measure_look_cost(folder, fields)


def _reduced(card: ModelCard) -> list[str]:
    """The reduced precisions that can be measured here."""
    from pipeline.network.precision import computes_bf16

    return ["bf16"] * computes_bf16() + ["int8"] * ("openvino-int8" in card.graphs)


def _figures(
    folder: Path, precision: str, fields: FieldSet, looks: bool = False
) -> dict[str, float]:
    """AP50 of abnormal, any, and the mean of classes, with the second look or without."""
    from configs import validate
    from models import load_detector
    from pipeline.network.detector import RuntimeSettings
    from scripts.evaluation.finding import find
    from scripts.evaluation.precision import CLASS_MEAN, ap50

    options = {"device": "cpu", "name": "openvino", "precision": precision}
    settings = validate(options, RuntimeSettings, "options")
    found = ap50(find(load_detector(folder), settings, fields, looks).best)
    figures = {f"ap50/{name}": value for name, value in found["pooled"].items()}
    figures["map50"] = found["means"][CLASS_MEAN]
    return {name: round(value, 4) for name, value in figures.items() if math.isfinite(value)}

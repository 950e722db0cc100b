"""``cytolibra export``: a model's network for other runtimes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs import ConfigError

if TYPE_CHECKING:
    from data.fields.fieldset import FieldSet
    from models import DenseDetector, ModelCard
    from models.card import GraphKind


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
    """Writes a model's network for OpenVINO or as ONNX, and what reduced precision costs.

    DIR is a model of its own: `cytolibra screen --model DIR` takes it. A graph takes (1, H, W, 3)
    uint8 RGB at the model's mpp and gives raw outputs; decoding and NMS stay outside. With --data
    the average precision that bf16 and int8 lose is written into the sidecar, and "auto" heeds it.
    """
    from models import load_detector
    from models.storage.export import copy_model, save_onnx
    from models.storage.graphs import add_graph

    _check_options(to, int8, calibration, data, images)
    detector = load_detector(model)
    fields = _read_fields(data, images, detector)
    if to == Target.onnx:
        card = copy_model(detector, out)
        save_onnx(detector, out / "model.onnx")
        add_graph(card, out, "onnx")
    else:
        _export_openvino(detector, out, _read_tiles(calibration, detector, tiles, mpp))
        _measure_cost(out, fields)
    typer.echo(f"{detector.config.name} for {to.value}: {out}")


def _check_options(
    to: Target,
    int8: bool,
    calibration: list[Path] | None,
    data: Path | None,
    images: Path | None,
) -> None:
    if int8 != bool(calibration):
        raise ConfigError("--int8 and --calibration go together: int8 learns its ranges from tiles")
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
    calibration: list[Path] | None, detector: DenseDetector, count: int, mpp: float | None
) -> tuple[list[Any], str]:
    """Tiles to calibrate on, and what the sidecar says of them."""
    from pipeline.batch.discovery import discover
    from pipeline.slides.mpp import check_mpp_argument
    from pipeline.tiles.calibration import sample_tiles

    if not calibration:
        return [], ""
    check_mpp_argument(mpp)
    jobs = discover(calibration, Path("nowhere"), with_images=mpp is not None).jobs
    assert detector.card is not None
    found = sample_tiles([job.path for job in jobs], detector.card.mpp, count, mpp)
    return found, f"{len(found)} tiles of {len(jobs)} slides or images"


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


def _reduced(card: ModelCard) -> list[str]:
    """The reduced precisions that can be measured here."""
    from pipeline.network.precision import computes_bf16

    return ["bf16"] * computes_bf16() + ["int8"] * ("openvino-int8" in card.graphs)


def _figures(folder: Path, precision: str, fields: FieldSet) -> dict[str, float]:
    from configs import validate
    from models import load_detector
    from pipeline.network.detector import RuntimeSettings, TileDetector
    from scripts.evaluate import LOWEST_SCORE, measure

    options = {"device": "cpu", "name": "openvino", "precision": precision}
    settings = validate(options, RuntimeSettings, "options")
    found = measure(TileDetector(load_detector(folder), settings, LOWEST_SCORE), fields)
    pooled = {f"ap50/{name}": group["ap50"] for name, group in found["pooled"].items()}
    return {
        n: value for n, value in (pooled | {"map50": found["map50"]}).items() if value is not None
    }

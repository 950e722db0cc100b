"""The sidecar of a model: what a person should know before using it, and where it is found.

A model is a folder ``NAME/`` with ``model.safetensors`` and ``model.json``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from configs import CytoLibraError, StrictModel
from models.config import DetectorConfig

WEIGHTS, SIDECAR = "model.safetensors", "model.json"
ZOO = Path(__file__).parent / "zoo"
DEFAULT_MODEL = "cric-fcos-mobilenet-v2"

GraphKind = Literal["openvino", "openvino-int8", "onnx"]
"""Networks for other runtimes that may lie beside a model's sidecar; see `storage.export`."""

DEFAULT_WIDEST_CELL = 60.0
"""Longest side of a cell in µm, where a model does not say: a superficial squamous cell's."""


class ModelFileError(CytoLibraError):
    """A model file is missing, broken, or of another kind."""

    exit_code = 2


class GraphFacts(StrictModel):
    """An exported network.

    Attributes:
        sha256: of its files, one after the other.
        calibration: what the ranges of an int8 network were learned from.
    """

    sha256: str
    calibration: str = ""


class RateFacts(StrictModel):
    """How often what is no abnormal cell is reported as one; see `data.evaluation.Rate`.

    Attributes:
        per_mm2: false alarms a mm².
        between: variance of the rate between slides, over its mean's square.
        within: the same between fields of one slide.
        units: number of fields or slides that it was seen on.
        slides: of how many slides these are, as far as that is known.
        mm2: their area.
        found: false alarms on them.
        unit_mm2: their mean area, weighted by area.
        confused: of true abnormal cells outside of this group, the share that is reported in it.
    """

    per_mm2: float = Field(ge=0)
    between: float = Field(gt=0)
    within: float = Field(ge=0)
    units: int = Field(ge=1)
    slides: int = Field(ge=1)
    mm2: float = Field(gt=0)
    found: int = Field(ge=0)
    unit_mm2: float = Field(gt=0)
    confused: float = Field(0.0, ge=0, le=1)


class FalseAlarms(StrictModel):
    """What a model reports by chance, and what these figures hold for.

    Attributes:
        groups: by name: each abnormal class, "low grade" and "high grade" where the model has
            several classes of one, and "abnormal".
        unit: what varies: fields, or slides that are known to be normal.
        data: what it was measured on.
        thresholds: the model's, by class, with which these figures hold.
        sha256: of the model's weights; empty in the model's own card.
    """

    groups: dict[str, RateFacts]
    unit: Literal["field", "slide"]
    data: str
    thresholds: dict[str, float]
    sha256: str = ""


class LooksFacts(StrictModel):
    """How the cells of a model's fields vary in one aspect; see `data.evaluation.domain`.

    Attributes:
        looks: names of the figures, of `pipeline.cells.looks`.
        mean: of the fields' means.
        between: covariance from field to field.
        within: covariance of a field's cells.
        limit: distance beyond which cells are none of the model's domain.
        share: of the model's own kind of fields that lie beyond, at most.
    """

    looks: tuple[str, ...]
    mean: tuple[float, ...]
    between: tuple[tuple[float, ...], ...]
    within: tuple[tuple[float, ...], ...]
    limit: float = Field(gt=0)
    share: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _is_square(self) -> LooksFacts:
        sides = {len(self.mean), len(self.between), len(self.within)}
        sides |= {len(row) for row in (*self.between, *self.within)}
        if sides != {len(self.looks)} or not self.looks:
            raise ValueError("each look has a mean, and a row and a column of both covariances")
        return self


class DomainFacts(StrictModel):
    """What the cells that a model was trained on look like; see `pipeline.cells.domain`.

    Attributes:
        aspects: by name: stain and structure.
        fields: number of those that it was learned from.
        checked: number of those that the limits were chosen on, without having seen them.
        data: what they are called.
    """

    aspects: dict[str, LooksFacts]
    fields: int = Field(ge=1)
    checked: int = Field(ge=1)
    data: str


class ModelCard(StrictModel):
    """The sidecar: what a model is, what it saw, how good it is, and what it must not be used for.

    Attributes:
        name: of the model.
        summary: one line for ``cytolibra models``.
        detector: what `build_detector` takes.
        mpp: µm per pixel that the detector expects.
        widest_cell: longest side, in µm, of the cells that it was trained on.
        thresholds: score above which a cell counts, for each class.
        threshold_rule: how the thresholds were chosen.
        training: data, their licence and attribution, and the recipe.
        metrics: by name, on the data that ``training`` names for it.
        limits: what the model is not for.
        licence: of the weights.
        sha256: of the weights' file.
        graphs: exported networks in the same folder.
        ap_cost: for each reduced precision the average precision that it loses against fp32, by
            the metric's name; a gain is negative.
        ap_cost_data: what that was measured on.
        false_alarms: what is reported by chance; None where nobody measured it.
        domain: what its cells look like; None where nobody measured it.
    """

    format: Literal["cytolibra-model-1"] = "cytolibra-model-1"
    name: str
    summary: str = ""
    detector: DetectorConfig
    mpp: float = Field(gt=0)
    widest_cell: float = Field(DEFAULT_WIDEST_CELL, gt=0)
    thresholds: dict[str, float]
    threshold_rule: str = ""
    training: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    limits: str = ""
    licence: str = ""
    sha256: str = ""
    graphs: dict[GraphKind, GraphFacts] = Field(default_factory=dict)
    ap_cost: dict[str, dict[str, float]] = Field(default_factory=dict)
    ap_cost_data: str = ""
    false_alarms: FalseAlarms | None = None
    domain: DomainFacts | None = None

    @model_validator(mode="after")
    def _one_threshold_a_class(self) -> ModelCard:
        if set(self.thresholds) != set(self.detector.classes):
            raise ValueError("thresholds must name each class of the detector, and no other")
        return self


def save_card(card: ModelCard, folder: Path) -> None:
    """Writes a model's sidecar, whole or not at all."""
    text = card.model_dump_json(indent=2, exclude_none=True)
    unfinished = folder / f"{SIDECAR}.part"
    unfinished.write_text(text + "\n", encoding="utf-8")
    os.replace(unfinished, folder / SIDECAR)


def find_model(name_or_path: str | Path) -> Path:
    """The folder of a shipped model, or of one on disk; see `load_detector`."""
    path = Path(name_or_path)
    if path.name in (WEIGHTS, SIDECAR) and path.is_file():
        return path.parent
    if path.is_dir():
        return path
    if (ZOO / str(name_or_path) / SIDECAR).is_file():
        return ZOO / str(name_or_path)
    if path.is_file():
        raise ModelFileError(
            f"{path}: not a model of CytoLibra; expected a folder with {WEIGHTS} and {SIDECAR}"
        )
    shipped = ", ".join(card.name for card in list_models()) or "none"
    raise ModelFileError(f"{name_or_path}: no such model; shipped models: {shipped}")


def read_card(folder: Path) -> ModelCard:
    """Reads a model's sidecar; see `load_detector` for the errors."""
    text = read_file(folder / SIDECAR)
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ModelFileError(
            f"{folder / SIDECAR}: not a model's sidecar: {key} {first['msg']}".replace("  ", " ")
        ) from error


def list_models() -> list[ModelCard]:
    """The cards of the shipped models, by name."""
    return [read_card(path.parent) for path in sorted(ZOO.glob(f"*/{SIDECAR}"))]


def read_file(path: Path) -> bytes:
    """The content of one of a model's files; see `ModelFileError`."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such file, though a model needs it") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error

"""The sidecar of a model: what a person should know before using it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from configs import StrictModel
from models.config import DetectorConfig

GraphKind = Literal["openvino", "openvino-int8", "onnx"]
"""Networks for other runtimes that may lie beside a model's sidecar; see `models.export`."""

DEFAULT_WIDEST_CELL = 60.0
"""Longest side of a cell in µm, where a model does not say: a superficial squamous cell's."""


class GraphFacts(StrictModel):
    """An exported network.

    Attributes:
        sha256: of its files, one after the other.
        calibration: what the ranges of an int8 network were learned from.
    """

    sha256: str
    calibration: str = ""


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

    @model_validator(mode="after")
    def _one_threshold_a_class(self) -> ModelCard:
        if set(self.thresholds) != set(self.detector.classes):
            raise ValueError("thresholds must name each class of the detector, and no other")
        return self

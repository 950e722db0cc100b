"""From a configuration to a detector."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from configs import ConfigError, validate
from configs.plugins import load_part
from models.config import DetectorConfig
from models.detectors.atss import ATSS
from models.detectors.dense import DenseDetector
from models.detectors.fcos import FCOS
from models.detectors.reppoints import RepPoints
from models.detectors.retinanet import RetinaNet
from models.detectors.tower import is_refined
from models.detectors.yolof import YOLOF

DETECTORS: Mapping[str, type[DenseDetector]] = {
    "atss": ATSS,
    "fcos": FCOS,
    "reppoints": RepPoints,
    "retinanet": RetinaNet,
    "yolof": YOLOF,
}


def build_detector(config: DetectorConfig | Mapping[str, Any]) -> DenseDetector:
    """Builds a detector with fresh weights, in training mode.

    Args:
        config: the ``model:`` part of a configuration; see `DetectorConfig` for its keys.

    Raises:
        ConfigError: a key or value is not allowed, loss or history lacks the classes' counts, the
            backbone's weights can't be loaded, or the detector can't carry the abnormal head, the
            tower, the history or the autoencoder.
    """
    if not isinstance(config, DetectorConfig):
        config = validate(config, DetectorConfig, "model")
    detector = find_detector(config.name)(config)
    if config.abnormal_head is not None and config.abnormal_head.contrast:
        _check_layer(detector, "abnormal_head.contrast", "set contrast to 0")
    if config.history is not None:
        _check_layer(detector, "history", "leave history out")
    if config.causal is not None:
        _check_layer(detector, "causal", "leave causal out")
    if config.tower is not None and not is_refined(detector):
        raise ConfigError(
            f"model.tower: {config.name} has no tower for it, as atss, fcos and retinanet have; "
            "take one of these, or leave tower out"
        )
    return detector


def _check_layer(detector: DenseDetector, key: str, remedy: str) -> None:
    if not detector.slot.knows_layer:
        raise ConfigError(
            f"model.{key}: {detector.config.name} doesn't tell which layer gives its class logits "
            f"(LossSlot.set_prior), so cells can't be compared; {remedy}"
        )


def find_detector(name: str) -> type[DenseDetector]:
    """The class of a detector: one of ours, or by import path or entry point.

    Raises:
        ConfigError: it isn't there, or is no `DenseDetector`.
    """
    if name in DETECTORS:
        return DETECTORS[name]
    kind = load_part("detectors", name, "model.name")
    if not (inspect.isclass(kind) and issubclass(kind, DenseDetector)):
        raise ConfigError(f"model.name = {name}: is no subclass of models.DenseDetector")
    return kind

"""Detectors in torchvision's calling convention, and their checkpoints."""

from models.build import build_detector
from models.card import ModelCard
from models.checkpoint import (
    DEFAULT_MODEL,
    ModelFileError,
    find_model,
    list_models,
    load_detector,
    save_detector,
)
from models.config import DetectorConfig, with_class_counts
from models.dense import DenseDetector

__all__ = [
    "DEFAULT_MODEL",
    "DenseDetector",
    "DetectorConfig",
    "ModelCard",
    "ModelFileError",
    "build_detector",
    "find_model",
    "list_models",
    "load_detector",
    "save_detector",
    "with_class_counts",
]

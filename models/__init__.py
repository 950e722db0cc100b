"""Detectors in torchvision's calling convention, and their checkpoints."""

from models.build import build_detector
from models.config import DetectorConfig
from models.dense import DenseDetector

__all__ = ["DenseDetector", "DetectorConfig", "build_detector"]

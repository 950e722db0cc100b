"""What `models` offers, by module."""

from .card import DEFAULT_MODEL as DEFAULT_MODEL
from .card import ModelCard as ModelCard
from .card import ModelFileError as ModelFileError
from .card import find_model as find_model
from .card import list_models as list_models
from .config import DetectorConfig as DetectorConfig
from .config import with_class_counts as with_class_counts
from .detectors.build import build_detector as build_detector
from .detectors.dense import DenseDetector as DenseDetector
from .storage.checkpoint import load_detector as load_detector
from .storage.checkpoint import save_detector as save_detector
from .storage.source import ModelSource as ModelSource

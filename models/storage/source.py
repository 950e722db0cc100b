"""A model, of which only what is needed is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.card import DEFAULT_MODEL, ModelCard, ModelFileError, find_model, read_card

if TYPE_CHECKING:
    from models.detectors.dense import DenseDetector


class ModelSource:
    """Card and folder of a model, and its detector on demand.

    An exported network runs without its detector, so without torch, which takes seconds to load.

    Attributes:
        card: of the model.
        folder: where it lies; None for a detector made in memory.
    """

    def __init__(
        self, card: ModelCard, folder: Path | None, detector: DenseDetector | None = None
    ) -> None:
        self.card = card
        self.folder = folder
        self._detector = detector

    @classmethod
    def find(cls, name_or_path: str | Path = DEFAULT_MODEL) -> ModelSource:
        """A shipped model, by its name, or one on disk; see `load_detector`.

        Raises:
            ModelFileError: there is no such model, or its sidecar is broken.
        """
        folder = find_model(name_or_path)
        return cls(read_card(folder), folder)

    @classmethod
    def of(cls, detector: DenseDetector) -> ModelSource:
        """A detector that is loaded, or was made in memory.

        Raises:
            ModelFileError: it has no card, so that nobody knows its mpp.
        """
        if detector.card is None:
            raise ModelFileError("the detector has no card; load it with models.load_detector")
        return cls(detector.card, detector.folder, detector)

    @property
    def detector(self) -> DenseDetector:
        """The detector, loaded when it is first asked for; see `load_detector` for the errors."""
        if self._detector is None:
            from models.storage.checkpoint import load_detector

            assert self.folder is not None
            self._detector = load_detector(self.folder)
        return self._detector

"""The grader on torch, on GPUs and CPUs."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.card import SecondLookFacts
from models.grader import GradingNetwork, load_grader
from pipeline.network.precision import Precision
from pipeline.network.torch_runtime import DTYPES


class TorchGrader:
    """The grader's own module; see `pipeline.network.grading.Grader`.

    Args:
        folder: of the model.
        facts: of its card.
        device: where it is to run.
        precision: "fp32", "bf16" or "fp16".
        batch_size: crops at once.

    Raises:
        ModelFileError: the weights are missing, or not those that the card names.
    """

    fallback: str | None = None

    def __init__(
        self,
        folder: Path,
        facts: SecondLookFacts,
        device: str,
        precision: Precision,
        batch_size: int,
    ) -> None:
        self.precision = precision
        self.sha256 = facts.sha256
        self.batch_size = batch_size
        self._device = torch.device(device)
        network = GradingNetwork(load_grader(folder, facts), facts.temperature)
        self._network = network.to(self._device).eval()
        self._turn = threading.Lock()

    @torch.inference_mode()
    def grade(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Grader`."""
        pixels = torch.from_numpy(np.require(crops, requirements=["C", "W"]))
        reduced = self.precision != "fp32"
        try:
            with (
                self._turn,
                torch.autocast(self._device.type, DTYPES[self.precision], enabled=reduced),
            ):
                found: torch.Tensor = self._network(pixels.to(self._device))
                return np.asarray(found.float().cpu().numpy(), np.float32)
        except torch.OutOfMemoryError as error:
            raise MemoryError(str(error)) from error

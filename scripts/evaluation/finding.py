"""What a model finds on annotated fields, beside what is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import typer
from rich.progress import track

from data.fields.images import ImageError
from pipeline.cells.second_look import SecondLookSettings
from pipeline.network.detector import RuntimeSettings, TileDetector
from scripts.candidates import LOWEST_SCORE, detect_fields, strongest, to_field_cells, truth_of
from scripts.evaluation.evidence import Evidence
from scripts.evaluation.second_look import Look, look_again
from scripts.slides import images_of

if TYPE_CHECKING:
    from data.evaluation import FieldCells
    from data.fields.fieldset import FieldSet
    from models import DenseDetector
    from pipeline.geometry import Detections


@dataclass(frozen=True)
class Found:
    """What a model found on fields.

    Attributes:
        alone: by its detector.
        look: by its second look; None where there was none.
        ran: which weights, in which runtime and precision.
    """

    alone: Evidence
    look: Look | None
    ran: dict[str, str | None]

    @property
    def best(self) -> Evidence:
        """What a screening with these settings would go by."""
        return self.look.evidence if self.look else self.alone


def find(loaded: DenseDetector, settings: RuntimeSettings, fields: FieldSet, looks: bool) -> Found:
    """What a model finds, with its second look where it has one and is to look."""
    detector = TileDetector(loaded, settings, LOWEST_SCORE, SecondLookSettings(enabled=looks))
    alone, found = _gather(detector, fields)
    ran = detector.runtime
    if ran.fallback:
        typer.echo(f"note: {ran.fallback}", err=True)
    made_by: dict[str, str | None] = {"model": detector.card.name, "sha256": ran.sha256}
    made_by |= {"runtime": ran.name, "precision": ran.precision}
    if detector.second_look is None:
        return Found(alone, None, made_by)
    look = look_again(detector, alone, found)
    return Found(alone, look, made_by | {"second_look": look.sha256})


def gather(detector: TileDetector, fields: FieldSet) -> Evidence:
    """Truth and detections of every field, of the detector alone; see `_gather`."""
    return _gather(detector, fields)[0]


def _gather(detector: TileDetector, fields: FieldSet) -> tuple[Evidence, list[Detections]]:
    """Truth and detections of every field; the latter also with the scores of all classes.

    Of a field the strongest count; see `scripts.candidates.strongest`.
    """
    truth, detected = _detect(detector, fields)
    detected = [strongest(one, len(cells)) for one, cells in zip(detected, truth, strict=True)]
    thresholds = [detector.card.thresholds[name] for name in fields.classes]
    found = [to_field_cells(one) for one in detected]
    return Evidence(fields, detector.card, truth, found, np.array(thresholds)), detected


def _detect(detector: TileDetector, fields: FieldSet) -> tuple[list[FieldCells], list[Detections]]:
    """Truth and detections of every field, in the field's own pixels."""
    truth, found = truth_of(fields), []
    for one in track(
        detect_fields(detector, images_of(fields), fields), "Fields", total=len(truth)
    ):
        if isinstance(one, ImageError):
            raise one
        found.append(one)
    return truth, found

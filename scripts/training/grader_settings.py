"""The configuration of a grader's training run."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from configs import StrictModel
from data.crops.augment import AugmentSettings
from data.crops.grades import GradeSettings
from models.card import CombinationRule
from models.grader import GraderConfig
from models.learning.learner import OptimiserSettings
from scripts.training.loop import LoopSettings
from scripts.training.sources import FieldSources


class GraderDataSettings(StrictModel):
    """What a grader learns from; sources are those of detectors.

    Attributes:
        train: fields to learn from: a source, or a list of sources.
        val: fields to judge by, and to calibrate on; never trained on.
        crops: which places are shown, and how they are moved and turned.
        augment: how crops are changed besides.
        cache: a folder that keeps what was decoded of slides to learn from.
    """

    train: FieldSources
    val: FieldSources
    crops: GradeSettings = GradeSettings()
    augment: AugmentSettings = AugmentSettings()
    cache: Path | None = None


class GraderCardSettings(StrictModel):
    """What the card says of the grader beside the figures.

    Attributes:
        name: of the grader.
        data: the data in a person's words; empty for names and counts of the sources.
        attribution: whom to name.
        limits: what the grader is not for.
        licence: of its weights.
    """

    name: str = "untitled"
    data: str = ""
    attribution: str = ""
    limits: str = ""
    licence: str = ""


class GraderTrainSettings(StrictModel):
    """A grader's training run.

    Attributes:
        grader: the network.
        detector: name or folder of the model that gets the grader; a copy of it does.
        candidates: runs of ``cytolibra train``, each of which left some fields out of its training
            (``data.val``). What looks like a cell on a field comes from the run that left it out:
            on fields that a detector knows it takes little for a cell that is none.
        floor: least score of the detector, of any class, of what is looked at again; None: by
            ``places_a_cell``.
        calibration: runs of this recipe, each of which left other fields out, none of
            ``data.val``, and judged them. By all of their answers the probabilities are calibrated,
            so that ``data.val`` serves for nothing but figures; without them by the validation
            fields.
        places_a_cell: with the floor settled by training fields, so many places are looked at for
            each annotated cell: what a score is worth depends on the detector's loss.
        rule: how both are combined, for the figures of the run and in the card.
        binary: weight of the loss between normal and abnormal, beside that of the classes.
        teachers: models with graders, whose mean probabilities are learned.
        taught: share of the target that is the teachers'; the rest is the annotation's.
        data, optimiser, loop, card: as of a detector's run.
    """

    grader: GraderConfig = GraderConfig()
    detector: str
    candidates: tuple[Path, ...] = ()
    calibration: tuple[Path, ...] = ()
    floor: float | None = Field(None, gt=0, lt=1)
    places_a_cell: float = Field(5.0, gt=1)
    rule: CombinationRule = CombinationRule()
    binary: float = Field(0.5, ge=0)
    teachers: tuple[str, ...] = ()
    taught: float = Field(1.0, ge=0, le=1)
    data: GraderDataSettings
    optimiser: OptimiserSettings = OptimiserSettings()
    loop: LoopSettings = LoopSettings()
    card: GraderCardSettings = GraderCardSettings()

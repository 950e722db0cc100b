"""What runs left out of their training and judged, read back, and whether it goes together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import ConfigError, load_config
from data.fields.fieldset import FieldSet, check_apart
from models.card import ModelCard, read_card
from scripts.evaluation.against import check_same_fields
from scripts.training.grader_judge import EVIDENCE, LookEvidence, load_evidence
from scripts.training.grader_settings import GraderTrainSettings
from scripts.training.sources import DataSettings, RunFields, read_sources


@dataclass(frozen=True)
class Fold:
    """What a grader's run says of the fields that it left out.

    Attributes:
        fields: these.
        evidence: of its detector and grader.
        card: of its model.
    """

    fields: FieldSet
    evidence: LookEvidence
    card: ModelCard


def read_fold(run: Path) -> Fold:
    """What a grader's run left out, and what was found there.

    Raises:
        ConfigError: the folder is no grader's training, or its evidence is of other fields or
            annotations than its data has now.
    """
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"{run}: no folder of cytolibra train: it has no config.yaml")
    settings = load_config(run / "config.yaml", GraderTrainSettings)
    card = read_card(run / "model")
    fields = read_fields_of(settings, card).val
    evidence = load_evidence(run / EVIDENCE)
    check_same_fields(evidence.truth, fields, run / EVIDENCE)
    return Fold(fields, evidence, card)


def read_fields_of(settings: GraderTrainSettings, card: ModelCard) -> RunFields:
    """The fields of a grader's run, as its detector has classes and scale.

    Raises:
        ConfigError: see `scripts.training.sources.read_sources`.
    """
    data = DataSettings(train=settings.data.train, val=settings.data.val, mpp=card.mpp)
    return read_sources(data, card.detector.classes)


def check_runs_apart(
    parts: Sequence[FieldSet], runs: Sequence[str], classes: Sequence[str], whose: str
) -> None:
    """Makes sure that what several runs left out can be judged together, as one model's.

    Args:
        parts: what each run left out.
        runs: their names, for people.
        classes: that all of them are to have, in this order.
        whose: these are.

    Raises:
        ConfigError: an image or a slide is in two parts, or a run is of other classes.
    """
    check_apart(parts, runs)
    for part, run in zip(parts, runs, strict=True):
        if part.classes != tuple(classes):
            raise ConfigError(
                f"{run} is of the classes {', '.join(part.classes)}, {whose} of "
                f"{', '.join(classes)}"
            )

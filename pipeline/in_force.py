"""What is in force where slides are screened: model, settings, and the figures that hold for them.

Told by reports and records; what shapes a result is all here, so that results made otherwise are
told from those that hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from configs import ConfigError
from models.card import Accuracy, FalseAlarms, ModelCard
from pipeline.cells.classes import name_classes, squamous_labels
from pipeline.network.detector import DetectorFacts, LookInForce, TileDetector
from pipeline.network.looking import SecondLook
from pipeline.network.scale import GRAPH, carries_scale
from pipeline.reports.expectation import load_negatives, other_thresholds, version_of, why_not
from pipeline.reports.looked_in_part import least_accuracy, widest_alarms
from pipeline.reports.report import GraderFacts, LookFacts, ModelFacts
from pipeline.reports.slide_rule import load_rule
from pipeline.settings import ASIDE, MADE, ScreenSettings
from pipeline.slides.mpp import ESTIMATE
from pipeline.tiles.tiler import TilerSettings


def describe_model(detector: TileDetector | DetectorFacts, looks: bool = True) -> ModelFacts:
    """What a report says of the detector, and of its grader if that looks again."""
    config = detector.card.detector
    look = detector.second_look if looks else None
    scores = look.thresholds.after if look else detector.thresholds
    thresholds = [round(float(score), 4) for score in scores]
    return ModelFacts(
        name=detector.card.name,
        sha256=detector.runtime.sha256 or None,
        classes=name_classes(config.classes, config.is_abnormal),
        mpp=detector.card.mpp,
        threshold=dict(zip(config.classes, thresholds, strict=True)),
        second_look=describe_grader(look) if look else None,
    )


def describe_grader(look: SecondLook | LookInForce) -> GraderFacts:
    """What a report says of who looks again."""
    alone = [round(float(score), 4) for score in look.thresholds.alone]
    return GraderFacts(
        name=look.facts.name,
        sha256=look.grader.sha256,
        mpp=look.facts.mpp,
        precision=look.grader.precision,
        threshold_alone=dict(zip(look.facts.classes, alone, strict=True)),
    )


@dataclass(frozen=True)
class InForce:
    """What screens, and how: what records and reports of a batch tell.

    Attributes:
        model: what finds the cells.
        settings: all that shapes a result besides slide and model, as JSON.
        fallback: why the runtime is not the one that would be taken first; None where it is.
    """

    model: ModelFacts
    settings: dict[str, JsonValue]
    fallback: str | None


def in_force(settings: ScreenSettings, detector: TileDetector | DetectorFacts) -> InForce:
    """What is in force where this detector screens with these settings, or will once it is ready.

    Raises:
        ConfigError: slide rule or negatives are for another model or other thresholds, a class
            that is to be counted is none of its, the tiles are too small for its cells, or scales
            are to be estimated and the model has no network for it.
    """
    if settings.mpp == ESTIMATE and not carries_scale(detector.card):
        raise ConfigError(
            f"--mpp estimate: the model {detector.card.name} has no network for it; make one with "
            "cytolibra scale, or give a number"
        )
    facts = describe_model(detector)
    squamous_labels(facts.classes, settings.adequacy.squamous)
    if settings.triage.rule:
        load_rule(settings.triage.rule).check(facts.identity, facts.threshold, facts.classes)
    if settings.triage.negatives:
        alarms = load_negatives(settings.triage.negatives)
        if problem := why_not(alarms, facts.threshold, facts.identity):
            raise ConfigError(
                f"--negatives {settings.triage.negatives}: {problem}; "
                "--set triage.negatives=null leaves the file out"
            )
    second = detector.second_look.grader.fallback if detector.second_look else None
    fallback = "; ".join(filter(None, (detector.runtime.fallback, second))) or None
    return InForce(facts, settings_in_force(settings, detector), fallback)


def settings_in_force(
    settings: ScreenSettings, detector: TileDetector | DetectorFacts
) -> dict[str, JsonValue]:
    """The settings as JSON, with what "auto" came to on this machine.

    Neither what a table says, which is each slide's own, nor ``strict``, which changes no result.
    """
    return order_settings({**what_finds(settings, detector), **what_is_made(settings, detector)})


def order_settings(values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Settings in force in the order of `ScreenSettings`, wherever they come from."""
    return {name: values[name] for name in ScreenSettings.model_fields if name in values}


def what_finds(
    settings: ScreenSettings, detector: TileDetector | DetectorFacts
) -> dict[str, JsonValue]:
    """Those settings in force that shape what is found; see `settings_in_force`.

    A threshold does only where it lies below what would be kept: ``kept.floor`` is then lower.
    """
    values = settings.model_dump(mode="json", exclude={*MADE, *ASIDE})
    runtime = detector.runtime
    in_force = {"device": detector.device, "name": runtime.name}
    values["runtime"] |= in_force | {"precision": runtime.precision}
    look = detector.second_look
    if look is None:  # nothing else of it has an effect
        values["second_look"] = {"enabled": False}
    else:  # a grader of the same weights, told otherwise what to look at, grades otherwise
        facts = look.facts.model_dump_json(include={"mpp", "size", "floor", "temperature"})
        values["second_look"]["facts"] = _short_hash(facts)
    if detector.kept is not None:  # lower where a threshold is
        values["kept"]["floor"] = round(detector.kept, 6)
    values["scale"]["network"] = _version_of_scale(settings, detector)
    values["tiler"]["overlap"] = settle_tiler(settings, detector.card).overlap
    return values


def what_is_made(
    settings: ScreenSettings, detector: TileDetector | DetectorFacts
) -> dict[str, JsonValue]:
    """Those settings in force that say what is made of what was found; see `settings_in_force`."""
    values = settings.model_dump(mode="json", include=set(MADE))
    if settings.triage.rule:  # what it says counts, not where it lies
        values["triage"]["rule"] = load_rule(settings.triage.rule).version
    values["triage"]["negatives"] = version_of(*_known_alarms(settings, detector))
    values["triage"]["naming"] = _version_of_naming(detector)
    values["adequacy"]["accuracy"] = version_of(*_known_accuracy(detector))
    if settings.domain.check:
        values["domain"]["facts"] = version_of(detector.card.domain)
    values["reports"] = settings.reports.of_slides()
    return values


def _version_of_scale(
    settings: ScreenSettings, detector: TileDetector | DetectorFacts
) -> str | None:
    """A short hash of the network that is asked for scales; None where none is, or none can be."""
    if not (settings.scale.check or settings.mpp == ESTIMATE):
        return None
    if isinstance(detector, TileDetector) and isinstance(detector.scale, str | None):
        return None  # it can't be run here
    graph = detector.card.graphs.get(GRAPH)
    return graph.sha256[:12] if graph else None


def _version_of_naming(detector: TileDetector | DetectorFacts) -> str:
    """A short hash of what, of a model's card, has a say in what a cell is called."""
    look = detector.second_look
    facts: list[object] = [detector.card.thresholds]
    if look:
        facts += [look.facts.thresholds, look.facts.rule.model_dump(mode="json")]
    return _short_hash(json.dumps(facts, sort_keys=True))


def _short_hash(text: str) -> str:
    """By which results made with other facts are told from these."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _known_alarms(
    settings: ScreenSettings, detector: TileDetector | DetectorFacts
) -> list[FalseAlarms | None]:
    """All by which a slide may be judged: after a second look, and of the detector alone.

    The lab's own normal slides, where there are such, are in place of both.
    """
    if settings.triage.negatives:
        return [load_negatives(settings.triage.negatives)]
    look = detector.second_look
    return [*([look.facts.false_alarms] if look else []), detector.card.false_alarms]


def _known_accuracy(detector: TileDetector | DetectorFacts) -> list[Accuracy | None]:
    """The same of how well cells are found."""
    look = detector.second_look
    return [*([look.facts.accuracy] if look else []), detector.card.accuracy]


def alarms_of(
    settings: ScreenSettings, detector: TileDetector | DetectorFacts, look: LookFacts | None
) -> FalseAlarms | None:
    """How many false alarms to expect of a slide: after what look there was, if any."""
    known = _known_alarms(settings, detector)
    if look is None:
        return known[-1]
    return (
        widest_alarms(known[0], known[-1])
        if look.abnormal_by_detector and len(known) > 1
        else known[0]
    )


def accuracy_of(
    model: ModelFacts, detector: TileDetector | DetectorFacts, look: LookFacts | None
) -> Accuracy | None:
    """How well the cells of a slide are found: after what look there was, if any."""
    alone = detector.card.accuracy
    if look is None or model.second_look is None:
        return alone
    after = _known_accuracy(detector)[0]
    if look.looked_at == look.candidates:
        return after
    if alone and other_thresholds(alone.thresholds, model.second_look.threshold_alone):
        alone = None  # its figures hold for other thresholds
    return least_accuracy(after, alone, model.classes, look.abnormal_by_detector)


def settle_tiler(settings: ScreenSettings, card: ModelCard) -> TilerSettings:
    """The tiler's settings for a model's cells.

    Raises:
        ConfigError: the tiles are too small for them.
    """
    return settings.tiler.for_cells(card.widest_cell / card.mpp, settings.stitcher.slack)

"""What a model reports by chance, from its evidence on annotated fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError, Doubt
from data.evaluation import FEW_UNITS, FieldCells, count_mistakes, expect
from data.fields.fieldset import FieldSet
from models.card import FalseAlarms
from models.config import DetectorConfig
from pipeline.cells.classes import name_classes
from pipeline.reports.expectation import LEVEL, describe_mistakes, rate_of
from scripts.evaluation.evidence import Evidence, areas_of, finite, reported

NO_SCALE = "false alarms a mm² need the scale of every field"

SHOWN_MM2 = 10.0
"""Area for which the table tells how many false alarms to expect."""


def measure_false_alarms(
    evidence: Evidence, data: str, thresholds: dict[str, float] | None = None
) -> FalseAlarms:
    """False alarms a mm² at the operating thresholds, and how grades are confused.

    Args:
        evidence: on annotated fields.
        data: what they are called.
        thresholds: others than the evidence's.

    Raises:
        ConfigError: a field's scale is unknown, there are too few, or no class is abnormal.
    """
    names = list(evidence.classes)
    if thresholds:
        evidence = replace(evidence, thresholds=np.array([thresholds[name] for name in names]))
    if evidence.mm2 is None:
        raise ConfigError(f"{NO_SCALE}; set mpp")
    values = [round(float(value), 4) for value in evidence.thresholds]
    return describe_fields(
        evidence.truth,
        evidence.reported,
        evidence.mm2,
        evidence.card.detector,
        data=data,
        thresholds=dict(zip(names, values, strict=True)),
        slides=slides_of(evidence.fields),
    )


def slides_of(fields: FieldSet) -> list[str]:
    """Which slide each field is of; where nobody says that, its image."""
    return [field.group("slide") for field in fields.fields]


def describe_found(
    fields: FieldSet,
    truth: Sequence[FieldCells],
    found: Sequence[FieldCells],
    config: DetectorConfig,
    *,
    data: str,
    thresholds: Mapping[str, float],
) -> FalseAlarms:
    """`describe_fields`, from all that was found, whatever its score.

    Raises:
        ConfigError: a field's scale is unknown, there are too few, or no class is abnormal.
    """
    areas = areas_of(fields.fields)
    if areas is None:
        raise ConfigError(f"{NO_SCALE}; set mpp")
    values = np.array([thresholds[name] for name in config.classes])
    return describe_fields(
        truth,
        [reported(cells, values, config.is_abnormal) for cells in found],
        areas,
        config,
        data=data,
        thresholds=dict(thresholds),
        slides=slides_of(fields),
    )


def describe_fields(
    truth: Sequence[FieldCells],
    reported: Sequence[FieldCells],
    mm2: NDArray[np.float64],
    config: DetectorConfig,
    *,
    data: str,
    thresholds: dict[str, float],
    slides: Sequence[str] = (),
) -> FalseAlarms:
    """What is reported by chance, from annotated fields.

    Chance is what a normal slide holds: where there are enough fields without an abnormal cell,
    these alone count. Around marked abnormal cells lie some that nobody marked. Fields that are
    ignored wholly have no area to count on, and are left out.

    Args:
        truth: the cells of each field.
        reported: what a screening reports of each.
        mm2: (N,) the fields' areas.
        config: of the detector.
        data: what the fields are called.
        thresholds: with which they were reported.
        slides: (N,) which slide each field is of, where that is known.

    Raises:
        ConfigError: there are too few fields, or no class is abnormal.
    """
    flags = np.array(config.is_abnormal)
    classes = name_classes(config.classes, config.is_abnormal)
    mistakes = count_mistakes(truth, reported, config.is_abnormal)
    judged = mm2 > 0  # of a field that is ignored wholly nothing can be a false alarm
    normal = np.array([not flags[cells.labels[~cells.crowd]].any() for cells in truth], bool)
    if (normal & judged).sum() >= FEW_UNITS:
        kind, used = "fields without an abnormal cell", normal & judged
    else:
        kind, used = "fields, most with abnormal cells", judged
    told = f"{data}: {used.sum()} {kind}, {mm2[used].sum():.2f} mm²"
    if without := int((~judged).sum()):
        told += f", without {without} that {'is' if without == 1 else 'are'} ignored wholly"
    try:
        return describe_mistakes(
            mistakes, mm2, classes, data=told, thresholds=thresholds, slides=slides, normal=used
        )
    except ValueError as error:
        raise ConfigError(f"false alarms: {error}") from error


def by_chance(
    evidence: Evidence, data: str, thresholds: dict[str, float] | None = None
) -> tuple[FalseAlarms | None, ConfigError | None]:
    """As `measure_false_alarms`, or why these fields can't tell; see `unknown_chance`."""
    try:
        return measure_false_alarms(evidence, data, thresholds), None
    except ConfigError as error:
        return None, error


def unknown_chance(told: str, why: ConfigError) -> Doubt:
    """What to tell where fields can't tell false alarms: what goes without them, and why."""
    text = f"{told}: {str(why).removeprefix('false alarms: ')}"
    return Doubt(code="false-alarms-unknown", text=text)


def false_alarm_figures(alarms: FalseAlarms) -> dict[str, Any]:
    """The same for metrics.json and the table, with what `SHOWN_MM2` hold by chance."""
    groups = {}
    for name, facts in alarms.groups.items():
        expected = expect(rate_of(facts), SHOWN_MM2, LEVEL)
        groups[name] = {
            "found": facts.found,
            "per_mm2": finite(facts.per_mm2),
            "between": finite(facts.between),
            "within": finite(facts.within),
            "confused": finite(facts.confused),
            "confused_spread": finite(facts.confused_spread),
            "expected": [expected.low, expected.high],
        }
    return {"data": alarms.data, "unit": alarms.unit, "in_mm2": SHOWN_MM2, "groups": groups}

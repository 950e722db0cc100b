"""Prometheus's text format: families of samples, for node_exporter's textfile collector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.reports.report import encodable


@dataclass(frozen=True)
class Sample:
    """One value.

    Attributes:
        value: finite.
        labels: by name.
        suffix: behind the family's name, such as ``_bucket``.
    """

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True)
class Family:
    """All samples of one name.

    Attributes:
        name: with its unit, and ``_total`` where it counts.
        kind: what it is.
        about: one sentence.
        samples: each with labels of its own.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    about: str
    samples: Sequence[Sample]


def expose(families: Sequence[Family], common: Mapping[str, str]) -> str:
    """The text of families; of those that have samples.

    Args:
        families: of different names.
        common: labels of all samples.
    """
    return "".join(f"{line}\n" for one in families if one.samples for line in _lines(one, common))


def histogram(
    values_below: Mapping[float, int], count: int, total: float, labels: Mapping[str, str]
) -> list[Sample]:
    """The samples of a histogram.

    Args:
        values_below: by upper bound, in rising order, how many values are at most as large.
        count: of all values.
        total: their sum.
        labels: of all samples.
    """
    buckets = [*((_number(bound), below) for bound, below in values_below.items()), ("+Inf", count)]
    return [
        *(Sample(below, {**labels, "le": bound}, "_bucket") for bound, below in buckets),
        Sample(total, labels, "_sum"),
        Sample(count, labels, "_count"),
    ]


def _lines(family: Family, common: Mapping[str, str]) -> Iterator[str]:
    about = family.about.replace("\\", "\\\\").replace("\n", "\\n")
    yield f"# HELP {family.name} {about}"
    yield f"# TYPE {family.name} {family.kind}"
    for sample in family.samples:
        told = {**common, **sample.labels}
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in told.items())
        yield f"{family.name}{sample.suffix}{{{labels}}} {_number(sample.value)}"


def _escaped(value: str) -> str:
    return encodable(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    """As short as it is exact; whole numbers without a point."""
    return str(int(value)) if value == int(value) else repr(float(value))

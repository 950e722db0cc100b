"""Reports and images for tests of objects."""

from __future__ import annotations

import numpy as np
from fakes import CLASSES, MODEL, make_cells, make_report, scored

from pipeline.geometry import Detections, Size
from pipeline.objects.source import Header, derive_source
from pipeline.reports.report import SlideReport

SIZE = Size(4000, 3000)
"""Of the slides of `fakes.make_report`."""

SHA256 = "5a" * 32


def a_report(count: int = 60, **options: object) -> SlideReport:
    """A report whose cells have the scores of all classes."""
    rng = np.random.default_rng(count)
    cells = scored(make_cells(count), rng.random((count, len(CLASSES))).astype(np.float32))
    return make_report("slide.svs", cells, **options)


def with_classes(report: SlideReport, *names: str) -> SlideReport:
    """The same with other names of its classes, in their order."""
    old = [one.name for one in report.model.classes]
    classes = tuple(
        one.model_copy(update={"name": name})
        for one, name in zip(report.model.classes, names, strict=False)
    )
    classes += report.model.classes[len(names) :]
    renamed = dict(zip(old, (one.name for one in classes), strict=True))
    changes = {
        "model": report.model.model_copy(
            update={
                "classes": classes,
                "threshold": {renamed[k]: v for k, v in report.model.threshold.items()},
            }
        ),
        "counts": {renamed[name]: count for name, count in report.counts.items()},
    }
    return report.model_copy(update=changes)


def an_image(patient: str = "") -> Header:
    """An image that objects are about."""
    header = dict(derive_source(SHA256, SIZE))
    if patient:
        header["00100010"] = {"vr": "PN", "Value": [{"Alphabetic": patient}]}
        header["00100020"] = {"vr": "LO", "Value": ["4711"]}
    return header


def no_cells() -> Detections:
    """None."""
    return Detections.empty()


__all__ = ["MODEL", "SHA256", "SIZE", "a_report", "an_image", "no_cells", "with_classes"]

"""Reports made up for tests, without a slide or a model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from configs import Doubt
from models.card import (
    Accuracy,
    CountFacts,
    FalseAlarms,
    Figure,
    LevelFigures,
    RateFacts,
)
from pipeline.cells.classes import CellClass
from pipeline.cells.domain import DomainFinding, doubts_of_domain
from pipeline.geometry import Detections, Rect
from pipeline.reports.adequacy import AdequacySettings, Specimen
from pipeline.reports.pictures import Pictures
from pipeline.reports.report import (
    ModelFacts,
    SlideFacts,
    SlideReport,
    build_report,
    encodable,
    judge_cells,
    measure_area,
    most_suspicious_first,
)
from pipeline.reports.triage import TriageSettings

CLASSES = tuple(
    CellClass(name=name, abnormal=name != "NILM")
    for name in ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
)

MODEL = ModelFacts(
    name="fake",
    sha256="0" * 64,
    classes=CLASSES,
    mpp=0.5,
    threshold={cell_class.name: 0.3 for cell_class in CLASSES},
)


GROUPS = (*(c.name for c in CLASSES if c.abnormal), "high grade", "low grade", "abnormal")


COUNTING = CountFacts(
    ratio=0.9, spread=0.01, error=0.0025, noise=0.2, units=30, cells=700, reported=778
)


def make_alarms(per_mm2: float = 0.1, confused: float = 0.0, **rates: float) -> FalseAlarms:
    """Figures of false alarms: a rate for all groups, others by name, with little spread."""

    def facts(name: str) -> RateFacts:
        rate = rates.get(name.replace("-", "_").replace(" ", "_"), per_mm2)
        return RateFacts(
            per_mm2=rate,
            between=0.05,
            within=0.0,
            units=30,
            slides=30,
            mm2=300.0,
            found=round(rate * 300),
            unit_mm2=10.0,
            confused=0.0 if name == "abnormal" else confused,
        )

    return FalseAlarms(
        groups={name: facts(name) for name in GROUPS},
        unit="slide",
        data="30 made-up slides",
        thresholds=dict(MODEL.threshold),
    )


def make_accuracy(
    counting: CountFacts | None = COUNTING, thresholds: dict[str, float] | None = None
) -> Accuracy:
    """Figures of each level: a recall of 0.9 and a precision of 0.81."""
    figures = LevelFigures(
        cells=100,
        ap50=Figure(value=0.8, low=0.7, high=0.9),
        recall=Figure(value=0.9, low=0.85, high=0.95),
        precision=Figure(value=0.81, low=0.75, high=0.87),
    )
    return Accuracy(
        groups=dict.fromkeys(("any", *GROUPS, "NILM"), figures),
        counting=counting,
        level=0.95,
        data="made-up fields",
        thresholds=thresholds or dict(MODEL.threshold),
    )


def make_cells(count: int, seed: int = 0, classes: int = len(CLASSES)) -> Detections:
    """Random cells on a slide of 4000 x 3000 level-0 pixels."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, (3800, 2800), (count, 2))
    size = rng.uniform(20, 200, (count, 2))
    return Detections(
        np.hstack([corner, corner + size]),
        rng.uniform(0.3, 1, count).astype(np.float32),
        rng.integers(0, classes, count),
    )


def scored(cells: Detections, class_scores: np.ndarray) -> Detections:
    """The same cells with the scores of all classes."""
    return replace(cells, class_scores=class_scores)


def make_report(
    path: Path | str = "slide.svs",
    cells: Detections | None = None,
    *,
    model: ModelFacts = MODEL,
    unread: tuple[tuple[float, float, float, float], ...] = (),
    warnings: tuple[str, ...] = (),  # sentences, of any code
    pictures: Pictures | None = None,
    alarms: FalseAlarms | None = None,  # by default hardly any
    accuracy: Accuracy | None = None,
    adequacy: AdequacySettings | None = None,
    bounds: tuple[int, int, int, int] | None = None,
    csv: str = "plain",
    domain: DomainFinding | None = None,  # outside, it is warned of
    triage: TriageSettings | None = None,
) -> SlideReport:
    """A report of made-up cells, whole in every part."""
    cells = make_cells(50) if cells is None else cells
    boxes = np.array(unread, dtype=float).reshape(-1, 4)
    cells = most_suspicious_first(cells, model.classes)
    area = measure_area(Rect(0, 0, 4000, 3000), 0.25, 6e6, boxes)
    doubts = [*doubts_of_domain(domain), *(Doubt(code="uncoded", text=text) for text in warnings)]
    judgement = judge_cells(
        cells,
        model,
        Specimen(area.slide_mm2, area.screened_mm2, area.unread_mm2, 0.25),
        warnings=doubts,
        alarms=alarms or make_alarms(),
        accuracy=accuracy,
        adequacy=adequacy,
        domain=domain,
        triage=triage,
    )
    return build_report(
        slide=SlideFacts(
            path=encodable(path),
            format="fake",
            width=4000,
            height=3000,
            mpp=0.25,
            mpp_source="file",
            objective=None,
            bounds=bounds,
        ),
        model=model,
        settings={
            "tiler": {"size": 1024, "overlap": 128},
            "threshold": None,
            "reports": {"csv": csv},
        },
        cells=cells,
        area=area,
        judgement=judgement,
        warnings=doubts,
        timing={"tiles": 1.23456},
        pictures=pictures,
        domain=domain,
    )


def make_older_report(version: str) -> dict[str, object]:
    """A report as versions before this one wrote it."""
    values = json.loads(make_report().model_dump_json())
    for name in ("levels", "accuracy"):
        del values[name]
    for name in ("cells", "why"):
        del values["suggestion"][name]
    warnings = ["one"] if version == "1.0" else [{"code": "grey", "text": "one"}]
    return values | {
        "schema_version": version,
        "adequacy": "not_assessed",
        "warnings": warnings,
    }

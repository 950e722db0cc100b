"""Reports made up for tests, without a slide or a model."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from configs import Doubt
from models.card import FalseAlarms, RateFacts
from pipeline.cells.classes import CellClass
from pipeline.geometry import Detections, Rect
from pipeline.reports.pictures import Pictures
from pipeline.reports.report import (
    ModelFacts,
    SlideFacts,
    SlideReport,
    build_report,
    encodable,
    measure_area,
    most_suspicious_first,
)

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
    bounds: tuple[int, int, int, int] | None = None,
    csv: str = "plain",
) -> SlideReport:
    """A report of made-up cells, whole in every part."""
    cells = make_cells(50) if cells is None else cells
    boxes = np.array(unread, dtype=float).reshape(-1, 4)
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
        cells=most_suspicious_first(cells, model.classes),
        area=measure_area(Rect(0, 0, 4000, 3000), 0.25, 6e6, boxes),
        warnings=[Doubt(code="uncoded", text=text) for text in warnings],
        timing={"tiles": 1.23456},
        pictures=pictures,
        alarms=alarms or make_alarms(),
    )

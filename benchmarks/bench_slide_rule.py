"""Does a slide rule sort slides, do graded features help it, and does its bound hold?

    python benchmarks/bench_slide_rule.py --cric CRIC --slides 300 --level 0.05

Slides are mosaics in numbers: the cells that the model reports of four fields drawn by chance,
taken together. Those that the rule is fitted on are of training fields, which the model knows,
those that it is judged on of validation fields. Few fields make many slides here, which are thus
alike, and no patient's: this tells that the machinery works, not how good a rule for patients is.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from configs import validate
from data.annotations import read_coco
from models import load_detector
from models.card import DEFAULT_MODEL
from pipeline.cells.naming import name_cells
from pipeline.geometry import Detections, Rect
from pipeline.in_force import describe_model
from pipeline.network.detector import RuntimeSettings, TileDetector
from pipeline.reports.report import ModelFacts, SlideFacts, SlideReport, build_report, measure_area
from pipeline.reports.rule_out import ANY_ABNORMAL
from scripts.evaluation.set_aside import Wish, fit_with_rule_out, judge_set_aside
from scripts.evaluation.slide_level import LabelledSlides, judge_slides
from scripts.slides import images_of

FIELDS = 4


def main() -> None:
    """Prints a row with and one without the graded features."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cric", type=Path, required=True)
    parser.add_argument("--slides", type=int, default=300)
    parser.add_argument("--level", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    settings = validate({}, RuntimeSettings, "options")
    detector = TileDetector(load_detector(DEFAULT_MODEL), settings, None)
    rng = np.random.default_rng(options.seed)
    learned, judged = (
        draw(*find(detector, options.cric / f"{part}.json", options.cric / part), detector, *more)
        for part, more in (("train", (options.slides, rng)), ("val", (options.slides, rng)))
    )
    table = Table(title=f"{options.slides} slides of {FIELDS} fields each, half of them abnormal")
    names = ("features", "AUC, left out", "AUC, others", "promised", "missed", "set aside")
    for name in names:
        table.add_column(name)
    for name, change in {"with graded scores": lambda s: s, "without": without_scores}.items():
        own, others = change(learned), change(judged)
        rule, *_ = fit_with_rule_out(own, Wish(options.level, None), 0.95, ANY_ABNORMAL)
        figures, aside = judge_slides(others, rule), judge_set_aside(others, rule)
        assert rule.rule_out is not None
        table.add_row(
            name,
            f"{rule.auc.value:.3f}",
            "{value:.3f} ({low:.3f} to {high:.3f})".format(**figures["auc"]),
            f"{rule.rule_out.bound:.1%}",
            "{value:.1%} ({low:.1%} to {high:.1%})".format(**aside["abnormal"]),
            "{value:.1%} ({low:.1%} to {high:.1%})".format(**aside["normal"]),
        )
        weights = dict(zip(rule.features, rule.weights, strict=True))
        table.add_row("", ", ".join(f"{k} {v:.2f}" for k, v in weights.items() if v > 0.005))
    Console(width=150).print(table)


def find(
    detector: TileDetector, data: Path, folder: Path
) -> tuple[list[Detections], NDArray[np.bool_]]:
    """What the model reports of each field, and whether an abnormal cell is marked there."""
    fields = read_coco(data, folder, classes=detector.card.detector.classes)
    images, abnormal = images_of(fields), np.array(detector.card.detector.is_abnormal)
    found = []
    for index, field in enumerate(fields.fields):
        assert field.mpp
        step = detector.card.mpp / field.mpp
        pixels = images.whole(index, (round(field.width / step), round(field.height / step)))
        cells = detector.detect([pixels])[0]
        found.append(name_cells(cells, detector.thresholds, abnormal, 0.5))
    marked = [bool(abnormal[field.labels[~field.crowd]].any()) for field in fields.fields]
    return found, np.array(marked)


def draw(
    cells: list[Detections],
    marked: NDArray[np.bool_],
    detector: TileDetector,
    count: int,
    rng: np.random.Generator,
) -> LabelledSlides:
    """Slides of normal fields alone, and as many of which one field or more is abnormal."""
    normal, abnormal = np.flatnonzero(~marked), np.flatnonzero(marked)
    facts = describe_model(detector)
    slides = []
    for index in range(count):
        ill = int(rng.integers(1, FIELDS)) if index % 2 else 0
        chosen = [*rng.choice(normal, FIELDS - ill), *rng.choice(abnormal, ill)]
        slides.append(Detections.concatenate([cells[field] for field in chosen]))
    return LabelledSlides(
        names=tuple(map(str, range(count))),
        reports=tuple(report_of(one, facts) for one in slides),
        cells=tuple(slides),
        positive=np.arange(count) % 2 == 1,
        groups=np.arange(count),
        notes=(),
    )


def report_of(cells: Detections, model: ModelFacts) -> SlideReport:
    """A report of a slide as large as its fields, all of which was screened."""
    scanned, mpp = Rect(0, 0, 2 * 1376, 2 * 1020), 0.2465
    slide = SlideFacts(
        path="mosaic",
        format="fields",
        width=scanned.width,
        height=scanned.height,
        mpp=mpp,
        mpp_source="file",
        objective=None,
    )
    area = measure_area(scanned, mpp, scanned.area, np.zeros((0, 4)))
    return build_report(slide=slide, model=model, settings={}, cells=cells, area=area, timing={})


def without_scores(slides: LabelledSlides) -> LabelledSlides:
    """The same slides, of whose cells only the best score is known."""
    return replace(slides, cells=tuple(replace(one, class_scores=None) for one in slides.cells))


if __name__ == "__main__":
    main()

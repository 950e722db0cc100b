"""Folders of reports with slides behind them, as `screen` leaves them, without a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fakes import CLASSES, make_report, scored
from slidefiles import picture, write_pyramid

from pipeline.batch.discovery import SlideJob
from pipeline.batch.fingerprint import Fingerprint, hash_content, save_fingerprint, stamp_files
from pipeline.geometry import Detections, Size
from pipeline.reports.pictures import take_pictures
from pipeline.reports.report import SlideReport, most_suspicious_first
from pipeline.reports.writers import write_reports
from pipeline.slides.slide import open_slide

SIZE = Size(1200, 900)


def draw_slide(path: Path, seed: int = 0) -> Path:
    """A small pyramid that shows something else at every place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_pyramid(path, picture(SIZE.width, SIZE.height, seed), levels=2, tile=256)


def cells_on(count: int, seed: int = 0) -> Detections:
    """Cells at random places of such a slide, with the scores of all classes."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, (SIZE.width - 80, SIZE.height - 80), (count, 2)).round(2)
    boxes = np.hstack([corner, (corner + rng.uniform(20, 60, (count, 2))).round(2)])
    labels = rng.integers(0, len(CLASSES), count)
    scores = rng.uniform(0.1, 0.5, (count, len(CLASSES))).round(4).astype(np.float32)
    own = rng.uniform(0.5, 1, count).round(4).astype(np.float32)
    scores[np.arange(count), labels] = own
    return scored(Detections(boxes, own, labels), scores)


def write_result(
    reports: Path,
    name: str,
    slide: Path,
    cells: Detections | None = None,
    *,
    pictures: bool = False,
    fingerprint: bool = True,
    unread: tuple[tuple[float, float, float, float], ...] = (),
) -> SlideReport:
    """The result of a slide, in a folder below that of the reports."""
    cells = most_suspicious_first(cells_on(40) if cells is None else cells, CLASSES)
    taken = None
    if pictures:
        with open_slide(slide) as opened:
            taken = take_pictures(opened, cells, CLASSES)
    report = make_report(slide, cells, pictures=taken, unread=unread)
    facts = report.slide.model_copy(update={"width": SIZE.width, "height": SIZE.height})
    report = report.model_copy(update={"slide": facts})
    folder = reports / name
    folder.mkdir(parents=True)
    write_reports(report, folder)
    if fingerprint:
        job = SlideJob(slide, name)
        known = Fingerprint(recipe="test", files=stamp_files(job), sha256=hash_content(job))
        save_fingerprint(known, folder)
    return report

"""What screening keeps of a slide, made up."""

from dataclasses import replace

import numpy as np
from fakes import MODEL, make_cells, make_report

from configs import Doubt
from pipeline.cells.found import Found
from pipeline.reports.detections import Finder, Kept
from pipeline.tiles.deposit import Deposit
from pipeline.tiles.faults import Faults
from pipeline.tiles.plausible import Focus


def make_kept(count=40, looked=True):
    report = make_report("ä\udcff.svs", make_cells(5))
    rng = np.random.default_rng(1)
    cells = replace(make_cells(count), class_scores=rng.random((count, 6), np.float32))
    if looked:
        grades = np.full((count, 7), np.nan, np.float32)
        grades[3:9] = rng.random((6, 7), np.float32)
        cells = replace(cells, grades=grades)
    return Kept(
        Found(cells, np.linspace(0.1, 0.2, 6, dtype=np.float32), looked, count, 2, 7),
        report.slide,
        report.area,
        (Doubt(code="grey", text="grey"),),
        Finder.of(MODEL),
        {"tiler": {"size": 1536}, "stitcher": {}, "kept": {"most": 10**6}},
        Deposit(rng.random((4, 5)) > 0.5, rng.random((4, 5)) > 0.5, 256.25),
        Focus(2, 9),
        Faults(
            rng.random((4, 5)) > 0.5,
            rng.random((4, 5)) > 0.5,
            np.where(rng.random((2, 3)) > 0.5, np.nan, rng.random((2, 3))).astype(np.float16),
        ),
    )

"""Cells as DICOM annotations: seconds, bytes and memory against the number of cells.

Cells of six classes with the scores of all lie at random. Each number is written in a process of
its own, so that memory is that of the one; highdicom is loaded before the clock runs. Seconds are
of the processor, so that other work on the machine doesn't count.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.cells.classes import name_classes
from pipeline.geometry import Detections, Rect, Size
from pipeline.objects.dicom import be_quiet
from pipeline.objects.dicom_cells import FILE, write_annotations
from pipeline.objects.source import derive_source
from pipeline.reports.adequacy import Specimen
from pipeline.reports.report import (
    ModelFacts,
    SlideFacts,
    SlideReport,
    build_report,
    judge_cells,
    measure_area,
    most_suspicious_first,
)

NAMES = ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
SIZE = Size(100_000, 80_000)


def main() -> None:
    """Prints a line a number of cells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(measure(given.one))
        return
    print("    cells   seconds      MB   MB of memory")
    for count in given.cells:
        subprocess.run([sys.executable, __file__, "--one", str(count)], check=True)


def measure(count: int) -> str:
    """Writes so many cells, and says what that took."""
    import highdicom.ann  # noqa: F401

    be_quiet()
    report, source = make_report(count), derive_source("0" * 64, SIZE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        write_annotations(report, source, Path(folder))
        seconds = time.process_time() - started
        size = (Path(folder) / FILE).stat().st_size
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return f"{count:9,} {seconds:9.2f} {size / 1e6:7.1f} {memory / 1024:14.0f}"


def make_report(count: int) -> SlideReport:
    """A report of cells that lie at random."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, [SIZE.width - 90, SIZE.height - 90], (count, 2))
    boxes = np.hstack([corners, corners + rng.uniform(30, 90, (count, 2))])
    scores = rng.random((count, len(NAMES)), np.float32)
    labels = scores.argmax(axis=1)
    classes = name_classes(NAMES, [name != "NILM" for name in NAMES])
    cells = Detections(boxes, scores.max(axis=1), labels, scores)
    model = ModelFacts(
        name="bench", sha256="0" * 64, classes=classes, mpp=0.5, threshold=dict.fromkeys(NAMES, 0.1)
    )
    cells = most_suspicious_first(cells, classes)
    area = measure_area(
        Rect(0, 0, SIZE.width, SIZE.height), 0.25, SIZE.width * SIZE.height, np.zeros((0, 4))
    )
    specimen = Specimen(area.slide_mm2, area.screened_mm2, 0, 0.25)
    return build_report(
        slide=SlideFacts(
            path="bench.svs",
            format="drawn",
            width=SIZE.width,
            height=SIZE.height,
            mpp=0.25,
            mpp_source="file",
            objective=None,
        ),
        model=model,
        settings={},
        cells=cells,
        area=area,
        judgement=judge_cells(cells, model, specimen),
        timing={},
    )


if __name__ == "__main__":
    main()

"""What focal planes are worth: cells found in the middle one, in the best of each tile, in all.

    cytolibra synth --out stacks --slides 4 --size 6144x6144 --planes 5 --cells-per-mm2 250 \
        --abnormal 0.3 --seed 11
    python benchmarks/bench_planes.py stacks

Each cell of such a slide lies at a depth of its own, which its truth tells. Abnormal cells count as
found where a cell that is called abnormal overlaps them (IoU 0.5), whatever its class; doubles are
found cells beside one that a truth was matched with.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models import DEFAULT_MODEL, ModelSource
from pipeline.network.detector import TileDetector
from pipeline.reports.report import SlideReport
from pipeline.screen import screen_slide
from pipeline.settings import ScreenSettings
from pipeline.slides.slide import open_slide

IOU = 0.5


@dataclass
class Found:
    """Of one way of reading, over all slides.

    Attributes:
        cells: of the truth that were looked for.
        hits: of them that were found.
        calls: cells that were called so.
        doubles: calls that overlap a cell which was found by another call.
        away: µm from the plane in which each hit was found to the cell's depth.
        seconds: of screening.
        readings: of tiles.
    """

    cells: int = 0
    hits: int = 0
    calls: int = 0
    doubles: int = 0
    seconds: float = 0.0
    readings: int = 0
    away: list[float] | None = None


def main() -> None:
    """Prints a table, a row a way of reading."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("slides", type=Path, help="folder that `cytolibra synth --planes` wrote")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--planes", nargs="*", default=["middle", "one", "best", "all"])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="changes")
    options = parser.parse_args()
    paths = sorted(options.slides.glob("*.ome.tif"))
    of_some = f"{'recall':>7} {'precision':>9} {'doubles':>7}"
    head = f"{'planes':8} {'abnormal':>9} {of_some} {'all cells':>9} {of_some}"
    print(head, f"{'µm off':>7} {'tiles':>6} {'s':>6}")
    for way in options.planes:
        suspect, every = Found(away=[]), Found(away=[])
        for path in paths:
            report, seconds = screen(path, options.model, way, options.changes)
            for found, abnormal in ((suspect, True), (every, False)):
                compare(found, path, report, abnormal)
                found.seconds += seconds
                found.readings += sum(plane.tiles for plane in report.planes or ())
        print(f"{way:8} {row(suspect)} {row(every)} {np.mean(suspect.away):7.2f} ", end="")
        print(f"{every.readings:6d} {every.seconds:6.1f}", flush=True)


def row(found: Found) -> str:
    """Count, recall, precision and doubles."""
    recall, precision = found.hits / found.cells, found.hits / max(1, found.calls)
    return f"{found.cells:9d} {recall:7.3f} {precision:9.3f} {found.doubles:7d}"


def screen(path: Path, model: str, way: str, changes: list[str]) -> tuple[SlideReport, float]:
    """A slide's report, and how long that took, the network's loading left out."""
    with open_slide(path) as slide:
        middle = len(slide.planes) // 2 + 1
    settings = ScreenSettings.model_validate(
        {"planes": middle if way == "middle" else way, **nested(changes)}
    )
    detector = TileDetector(
        ModelSource.find(model),
        settings.runtime,
        settings.threshold,
        settings.second_look,
        settings.kept,
    )
    start = time.perf_counter()
    report = screen_slide(path, detector, settings)
    return report, time.perf_counter() - start


def nested(changes: list[str]) -> dict[str, dict[str, str]]:
    """``part.key=value`` as settings have it."""
    values: dict[str, dict[str, str]] = {}
    for change in changes:
        key, _, value = change.partition("=")
        part, _, name = key.partition(".")
        values.setdefault(part, {})[name] = value
    return values


def compare(found: Found, path: Path, report: SlideReport, abnormal: bool) -> None:
    """Adds what was found of a slide's truth: its abnormal cells, or all."""
    name = path.name.removesuffix(".ome.tif")
    content = json.loads((path.parent / f"{name}.truth.json").read_text("utf-8"))
    names = {category["id"]: category["name"] for category in content["categories"]}
    suspect = {one.name for one in report.model.classes if one.abnormal}
    truth = [
        one
        for one in content["annotations"]
        if not abnormal or names[one["category_id"]] in suspect
    ]
    boxes = np.array([one["bbox"] for one in truth], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    is_abnormal = np.array([one.abnormal for one in report.model.classes])
    cells = report.cells
    if abnormal:
        cells = cells[is_abnormal[cells.labels]]
    iou = overlaps(boxes, cells.boxes)
    taken = np.zeros(len(truth), bool)
    places = [plane.z_um or 0.0 for plane in report.planes or ()]
    for call in np.argsort(-cells.scores, kind="stable"):
        free = np.where(taken, 0, iou[:, call])
        if len(free) and free.max() >= IOU:
            hit = int(free.argmax())
            taken[hit] = True
            plane = cells.plane_of(call)
            if found.away is not None and plane is not None:
                found.away.append(abs(places[plane] - truth[hit]["z_um"]))
        elif len(free) and iou[:, call].max() >= 0.2:
            found.doubles += 1
    found.cells += len(truth)
    found.hits += int(taken.sum())
    found.calls += len(cells)


def overlaps(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, M) intersection over union of boxes."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other)]
    return np.asarray(common / (areas[0][:, None] + areas[1][None] - common))


if __name__ == "__main__":
    main()

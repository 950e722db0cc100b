"""What focal planes are worth: cells found in the middle one, in the best of each tile, in all.

    cytolibra synth --out stacks --slides 4 --size 6144x6144 --planes 5 --cells-per-mm2 250 \
        --abnormal 0.3 --seed 11
    python benchmarks/bench_planes.py stacks --cost

Without a folder a small stack is drawn first: what that shows says little.

Each cell of such a slide lies at a depth of its own, which its truth tells. Abnormal cells count as
found where a cell that is called abnormal overlaps them (IoU 0.5), whatever its class; doubles are
found cells beside one that a truth was matched with. What it costs to look for the sharpest plane
of a tile is processor time, without the network; it is compared at several scales.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
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
from pipeline.tiles import planetiles
from pipeline.tiles.focal import plan_planes
from pipeline.tiles.foreground import find_foreground
from pipeline.tiles.planetiles import PlaneTiles
from pipeline.tiles.tiler import TilerSettings, plan_tiles

IOU = 0.5

COARSER = (1, 2, 4)
"""By how much coarser than the model's scale planes are compared, for the cost."""

TILE, MPP = TilerSettings(size=1024, overlap=128), 0.5


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
    parser.add_argument(
        "slides", type=Path, nargs="?", help="folder that `cytolibra synth --planes` wrote"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--planes", nargs="*", default=["middle", "one", "best", "all"])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--cost", action="store_true", help="of looking for the sharpest plane")
    options = parser.parse_args()
    if options.slides:
        compare_ways(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        options.slides, options.cost = Path(folder), True
        drawn = ["--out", folder, "--size", "2048x2048", "--planes", "3", "--abnormal", "0.3"]
        command = [sys.executable, "-m", "scripts", "synth", *drawn]
        repo = Path(__file__).parents[1]
        subprocess.run(command, cwd=repo, check=True, stdout=subprocess.DEVNULL)
        compare_ways(options)


def compare_ways(options: argparse.Namespace) -> None:
    """Prints a row a way of reading, then what the choice costs."""
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
    if options.cost:
        print(f"\nms a tile of {TILE.size} px, read in one plane: {1e3 * cost(paths, 'one'):.1f}")
        for coarser in COARSER:
            planetiles.COARSER = coarser
            print(f"the same in the best, compared 1:{coarser}: {1e3 * cost(paths, 'best'):.1f}")


def cost(paths: list[Path], how: str) -> float:
    """Seconds of processor time that a tile takes to be read, the choice of its plane included."""
    spent, tiles = 0.0, 0
    for path in paths:
        with open_slide(path) as slide:
            foreground = find_foreground(slide, ScreenSettings().foreground)
            slide, plan = plan_planes(slide, how)
            wanted = plan_tiles(slide.bounds, slide.mpp, MPP, TILE, foreground)
            reader = PlaneTiles(slide, plan, wanted.grid, foreground)
            start = time.process_time()
            for job in reader.jobs(wanted.indices):
                reader.read(job)
            spent += time.process_time() - start
            tiles += len(wanted)
    return spent / tiles


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

"""How fast a slide is screened beside what a user would take instead, with the same weights.

- A plain loop, as one would write it by hand: OpenSlide's regions, Pillow's resize, the torch model
  eagerly in float32, one ``batched_nms`` over the slide.
- SAHI, where it is installed (``pip install sahi``): the slide read by OpenSlide, shrunk by Pillow,
  sliced, detected with torch eagerly in float32 and merged by SAHI.
- CytoLibra with torch in float32, which tells what of the differences is the int8 network's.

TIAToolbox is not among them yet. Ways take turns, and medians are printed. Ratios within one run
are to be trusted, seconds depend on the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import openslide
import torch
from bench_screen import draw
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from torchvision.ops import batched_nms, box_iou

from models import DenseDetector, load_detector
from pipeline.detector import RuntimeSettings, TileDetector
from pipeline.geometry import Detections
from pipeline.memory import give_back_large_blocks
from pipeline.screen import screen_slide

SIDE, OVERLAP = 1024, 128
"""Of the others' tiles, in px at the model's scale."""

SAME_CELL = 0.5
"""IoU from which on two boxes are one cell: that of the others' NMS, and of the matching."""

Way = Callable[[], Detections]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8000, help="of the slide in px at 0.25 µm")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    give_back_large_blocks()
    with tempfile.TemporaryDirectory() as folder:
        path = draw(Path(folder), arguments.side)
        Console().print(compare(ways_to_screen(path), arguments.rounds, path.name))


def ways_to_screen(path: Path) -> dict[str, Way]:
    """All ways there are here, CytoLibra's first; their models are loaded once."""
    ours = TileDetector(load_detector())
    in_float32 = TileDetector(load_detector(), RuntimeSettings(name="torch", precision="fp32"))
    model = load_detector().eval()
    model.use_thresholds(ours.thresholds.tolist())
    mpp = ours.card.mpp
    ways: dict[str, Way] = {
        "CytoLibra": lambda: screen_slide(path, ours).cells,
        "CytoLibra, torch fp32": lambda: screen_slide(path, in_float32).cells,
        "plain loop": lambda: screen_plainly(path, model, mpp),
    }
    if find_spec("sahi"):
        ways["SAHI"] = lambda: screen_by_sahi(path, model, mpp)
    return ways


def compare(ways: dict[str, Way], rounds: int, title: str) -> Table:
    """Seconds of each way, and how its cells fit those of the first one."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    cells: dict[str, Detections] = {}
    for number in range(rounds + 1):
        for name, way in ways.items():
            # Beside OpenVINO torch has one thread, see `TileDetector`; else all cores.
            torch.set_num_threads(1 if name == "CytoLibra" else os.cpu_count() or 1)
            start = time.perf_counter()
            cells[name] = way()
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(of_one) for name, of_one in times.items()}
    table = Table(title=f"{title}: the same weights, medians of {rounds} rounds")
    headings = ("way", "seconds", "times CytoLibra's", "cells", "CytoLibra finds of them", "it of")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "way" else "right")
    first = next(iter(ways))
    for name, seconds in median.items():
        table.add_row(
            name,
            f"{seconds:.2f}",
            f"{seconds / median[first]:.1f}",
            str(len(cells[name])),
            f"{share_found(cells[name].boxes, cells[first].boxes):.1%}",
            f"{share_found(cells[first].boxes, cells[name].boxes):.1%}",
        )
    return table


@torch.inference_mode()
def screen_plainly(path: Path, model: DenseDetector, mpp: float) -> Detections:
    """What one would write by hand."""
    found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    with openslide.OpenSlide(path) as slide:
        downsample = mpp / float(slide.properties[openslide.PROPERTY_NAME_MPP_X])
        side = round(SIDE * downsample)
        for x, y in origins(slide.dimensions, (SIDE - OVERLAP) * downsample):
            region = slide.read_region((x, y), 0, (side, side)).convert("RGB")
            tile = region.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            pixels = torch.tensor(np.asarray(tile)).permute(2, 0, 1).float() / 255
            result = model([pixels])[0]
            boxes = result["boxes"] * downsample + torch.tensor([x, y, x, y])
            found.append((boxes, result["scores"], result["labels"]))
    boxes, scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    kept = batched_nms(boxes.float(), scores, torch.zeros_like(labels), SAME_CELL)
    return Detections(boxes[kept].double().numpy(), scores[kept].numpy(), labels[kept].numpy())


def origins(size: tuple[int, int], step: float) -> Iterator[tuple[int, int]]:
    """Top left corners of tiles."""
    for y in np.arange(0, size[1], step):
        for x in np.arange(0, size[0], step):
            yield int(x), int(y)


@torch.inference_mode()
def screen_by_sahi(path: Path, model: DenseDetector, mpp: float) -> Detections:
    """As SAHI's documentation has it, with its merging set to the plain loop's."""
    from sahi.models.torchvision import TorchVisionDetectionModel
    from sahi.predict import get_sliced_prediction

    with openslide.OpenSlide(path) as slide:
        downsample = mpp / float(slide.properties[openslide.PROPERTY_NAME_MPP_X])
        whole = slide.read_region((0, 0), 0, slide.dimensions).convert("RGB")
    size = round(whole.width / downsample), round(whole.height / downsample)
    names = {str(label): name for label, name in enumerate(model.config.classes)}
    result = get_sliced_prediction(
        whole.resize(size, Image.Resampling.BILINEAR),
        TorchVisionDetectionModel(
            model=model, confidence_threshold=0.0, category_mapping=names, device="cpu"
        ),
        slice_height=SIDE,
        slice_width=SIDE,
        overlap_height_ratio=OVERLAP / SIDE,
        overlap_width_ratio=OVERLAP / SIDE,
        perform_standard_pred=False,
        postprocess_type="NMS",
        postprocess_match_metric="IOU",
        postprocess_match_threshold=SAME_CELL,
        postprocess_class_agnostic=True,
        verbose=0,
    )
    found = result.object_prediction_list
    return Detections(
        np.array([one.bbox.to_xyxy() for one in found], float).reshape(-1, 4) * downsample,
        np.array([one.score.value for one in found], np.float32),
        np.array([one.category.id for one in found], np.int64),
    )


def share_found(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Share of boxes that have a partner among others."""
    if not len(boxes) or not len(others):
        return 0.0
    overlaps = box_iou(torch.from_numpy(boxes), torch.from_numpy(others))
    return float((overlaps.amax(dim=1) >= SAME_CELL).float().mean())


if __name__ == "__main__":
    main()

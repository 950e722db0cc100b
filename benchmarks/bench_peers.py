"""How fast a slide is screened beside what a user would take instead, with the same weights.

- A plain loop, as one would write it by hand: OpenSlide's regions, Pillow's resize, the torch model
  eagerly in float32, one ``batched_nms`` over the slide.
- SAHI, where it is installed (``pip install sahi``): the slide read by OpenSlide, shrunk by Pillow,
  sliced, detected with torch eagerly in float32 and merged by SAHI.
- TIAToolbox, where it is installed (``pip install tiatoolbox``): its patches of the slide, detected
  and merged as by the plain loop. It brings no detector of boxes and no merging of its own.
- CytoLibra with torch in float32, which tells what of the differences is the int8 network's.

Two cells are one where their boxes overlap by an IoU of 0.5. Shares are told twice: of all cells
above threshold; and in brackets, of cells that are not cut off at a border of the others' tiles,
with partners that may stay a tenth below their threshold. What a tile's border cuts, the others
report beside the whole cell; what lies about the threshold moves with the grid of tiles.

Ways take turns, and medians are printed. Ratios within one run are to be trusted, seconds depend on
the machine.
"""

from __future__ import annotations

import argparse
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

from models import DEFAULT_MODEL, DenseDetector, load_detector
from pipeline.geometry import Detections
from pipeline.memory import give_back_large_blocks
from pipeline.network.detector import RuntimeSettings, TileDetector
from pipeline.network.devices import count_cores
from pipeline.screen import screen_slide

SIDE, OVERLAP = 1024, 128
"""Of the others' tiles, in px at the model's scale."""

SAME_CELL = 0.5
"""IoU from which on two boxes are one cell: that of the others' NMS, and of the matching."""

NEAR = 0.9
"""Share of its threshold that a partner's score may stay at."""

Way = Callable[[], Detections]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8000, help="of the slide in px at 0.25 µm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    arguments = parser.parse_args()
    give_back_large_blocks()
    with tempfile.TemporaryDirectory() as folder:
        path = draw(Path(folder), arguments.side)
        Console().print(compare(path, arguments.rounds, arguments.model))


def ways_to_screen(path: Path, name: str, downsample: float, share: float = 1.0) -> dict[str, Way]:
    """All ways there are here, CytoLibra's first; their models are loaded once.

    Args:
        path: of the slide.
        name: of the model.
        downsample: the slide's pixels per pixel of the model.
        share: of the model's thresholds at which cells are reported.
    """
    ours = TileDetector(load(name, share))
    in_float32 = TileDetector(load(name, share), RuntimeSettings(name="torch", precision="fp32"))
    model = load(name, share).eval()
    model.use_thresholds(ours.thresholds.tolist())
    ways: dict[str, Way] = {
        "CytoLibra": lambda: screen_slide(path, ours).cells,
        "CytoLibra, torch fp32": lambda: screen_slide(path, in_float32).cells,
        "plain loop": lambda: screen_plainly(path, model, downsample),
    }
    if find_spec("sahi"):
        ways["SAHI"] = lambda: screen_by_sahi(path, model, downsample)
    if find_spec("tiatoolbox"):
        ways["TIAToolbox"] = lambda: screen_by_tiatoolbox(path, model, downsample)
    return ways


def load(name: str, share: float) -> DenseDetector:
    """A model with a share of its thresholds."""
    detector = load_detector(name)
    assert detector.card is not None
    lower = {label: score * share for label, score in detector.card.thresholds.items()}
    detector.card = detector.card.model_copy(update={"thresholds": lower})
    return detector


def compare(path: Path, rounds: int, model: str) -> Table:
    """Seconds of each way, and how its cells fit those of the first one."""
    downsample = downsample_of(path, model)
    ways = ways_to_screen(path, model, downsample)
    cells = {name: run(name, way) for name, way in ways.items()}  # warms up, too
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            run(name, way)
            times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(of_one) for name, of_one in times.items()}
    more = {
        name: run(name, way) for name, way in ways_to_screen(path, model, downsample, NEAR).items()
    }
    table = Table(title=f"{path.name}: the same weights, medians of {rounds} rounds")
    headings = ("way", "seconds", "times CytoLibra's", "cells", "CytoLibra finds of them", "it of")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "way" else "right")
    first = next(iter(ways))
    for name, seconds in median.items():
        its, ours = cells[name].boxes, cells[first].boxes
        whole = its if name.startswith(first) else its[~cut_off(its, downsample)]
        found = share_found(its, ours), share_found(whole, more[first].boxes)
        finds = share_found(ours, its), share_found(ours, more[name].boxes)
        table.add_row(
            name,
            f"{seconds:.2f}",
            f"{seconds / median[first]:.1f}",
            str(len(its)),
            "{:.1%} ({:.1%})".format(*found),
            "{:.1%} ({:.1%})".format(*finds),
        )
    return table


def run(name: str, way: Way) -> Detections:
    """What a way finds, with the threads that are best for it."""
    # Beside OpenVINO torch has one thread, see `TileDetector`; else all cores.
    torch.set_num_threads(1 if name == "CytoLibra" else count_cores())
    return way()


@torch.inference_mode()
def screen_plainly(path: Path, model: DenseDetector, downsample: float) -> Detections:
    """What one would write by hand."""
    found: list[Detections] = []
    with openslide.OpenSlide(path) as slide:
        side = round(SIDE * downsample)
        for x, y in origins(slide.dimensions, (SIDE - OVERLAP) * downsample):
            region = slide.read_region((x, y), 0, (side, side)).convert("RGB")
            tile = region.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            found.append(detect_plainly(model, np.asarray(tile), (x, y), downsample))
    return merge_plainly(found)


@torch.inference_mode()
def screen_by_tiatoolbox(path: Path, model: DenseDetector, downsample: float) -> Detections:
    """TIAToolbox's patches in a plain loop."""
    from tiatoolbox.tools.patchextraction import SlidingWindowPatchExtractor
    from tiatoolbox.wsicore.wsireader import OpenSlideWSIReader

    slide = OpenSlideWSIReader(path)
    patches = SlidingWindowPatchExtractor(
        slide,
        patch_size=(SIDE, SIDE),
        stride=(SIDE - OVERLAP, SIDE - OVERLAP),
        resolution=1 / downsample,
        units="baseline",
    )
    corners = patches.coordinate_list[:, :2] * downsample
    return merge_plainly(
        [
            detect_plainly(model, patch, (x, y), downsample)
            for patch, (x, y) in zip(patches, corners, strict=True)
        ]
    )


def detect_plainly(
    model: DenseDetector, tile: NDArray[np.uint8], origin: tuple[float, float], downsample: float
) -> Detections:
    """One tile through torch, eagerly; boxes in level-0 px."""
    pixels = torch.tensor(tile).permute(2, 0, 1).float() / 255
    result = model([pixels])[0]
    boxes = result["boxes"].double().numpy() * downsample + np.tile(origin, 2)
    return Detections(boxes, result["scores"].numpy(), result["labels"].numpy())


def merge_plainly(found: list[Detections]) -> Detections:
    """One NMS over all tiles."""
    boxes, scores, labels = (
        np.concatenate([getattr(one, part) for one in found])
        for part in ("boxes", "scores", "labels")
    )
    kept = batched_nms(
        torch.from_numpy(boxes).float(),
        torch.from_numpy(scores),
        torch.zeros(len(labels)),
        SAME_CELL,
    ).numpy()
    return Detections(boxes[kept], scores[kept], labels[kept])


def downsample_of(path: Path, model: str) -> float:
    """Level-0 pixels of a slide per pixel of a model."""
    card = load_detector(model).card
    assert card is not None
    with openslide.OpenSlide(path) as slide:
        return card.mpp / float(slide.properties[openslide.PROPERTY_NAME_MPP_X])


def origins(size: tuple[int, int], step: float) -> Iterator[tuple[int, int]]:
    """Top left corners of tiles."""
    for y in np.arange(0, size[1], step):
        for x in np.arange(0, size[0], step):
            yield int(x), int(y)


@torch.inference_mode()
def screen_by_sahi(path: Path, model: DenseDetector, downsample: float) -> Detections:
    """As SAHI's documentation has it, with its merging set to the plain loop's."""
    from sahi.models.torchvision import TorchVisionDetectionModel
    from sahi.predict import get_sliced_prediction

    with openslide.OpenSlide(path) as slide:
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


def cut_off(boxes: NDArray[np.float64], downsample: float) -> NDArray[np.bool_]:
    """Says (N,) which boxes end where one of the others' tiles does."""
    model_px = boxes / downsample
    stride = SIDE - OVERLAP
    ends = np.concatenate([model_px[:, :2], model_px[:, 2:] - SIDE], axis=1)
    return np.asarray((np.abs(ends - np.round(ends / stride) * stride) < 1).any(axis=1))


def share_found(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Share of boxes that have a partner among others."""
    if not len(boxes) or not len(others):
        return 0.0
    overlaps = box_iou(torch.from_numpy(boxes), torch.from_numpy(others))
    return float((overlaps.amax(dim=1) >= SAME_CELL).float().mean())


if __name__ == "__main__":
    main()

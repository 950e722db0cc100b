r"""The loop from end to end: screen, review, export, train on both, evaluate; before and after.

A lab begins with few annotated fields, trains, screens slides, and a reader reviews what was found.
Here the slides are mosaics of real annotated fields that the first training never saw, and the
reader is a script that knows their truth: of each finding above threshold it agrees with its class,
calls it by another, or rejects it, through the same store as a person at ``cytolibra view``. Fields
that ``cytolibra reviews select`` proposes are read in full: what was missed there is added, and
they are marked. Then a second training takes the fields and the reviews, by the same recipe and as
many steps, and both models are evaluated on fields that neither was trained on, paired. (The best
state of each is chosen by them.)

    python benchmarks/review_loop.py --fields CRIC/train.json --images CRIC/train \
      --val CRIC/val.json --val-images CRIC/val --weights mobilenet_v2-b0353104.pth --out runs/loop
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.boxes import box_iou
from pipeline.geometry import within_any
from pipeline.review.catalogue import Catalogue, ReportFolder
from pipeline.review.store import Reader, Reading, ReviewStore, cell_key, parse_change

SAME = 0.5
"""IoU from which on a finding is a cell of the truth."""

READER = "script with the truth"


def main() -> None:
    """Runs what is not there yet, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--fields", type=Path, required=True, help="COCO, to train and to lay out")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--val", type=Path, required=True, help="COCO, to evaluate on")
    parser.add_argument("--val-images", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="of the backbone")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=int, default=60, help="fields that are annotated at first")
    parser.add_argument("--pool", type=int, default=60, help="fields on the slides")
    parser.add_argument("--slides", type=int, default=3)
    parser.add_argument("--select", type=int, default=50, help="fields that are read in full")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    base, pool = split(told.fields, told.out, told.base, told.pool, told.slides, told.seed)
    recipe = [f"data.train.annotations={base}", f"data.train.images={told.images}"]
    before = train("before", recipe, told)
    slides = lay_out(pool, told)
    reports = told.out / "reports"
    call("screen", slides, "--out", reports, "--model", before)
    if not (reports / "reviews.sqlite").exists():
        review(reports, slides, told.select)
    exported = told.out / "reviewed.json"
    call("reviews", "export", reports, "--to", "coco", "--out", exported)
    # A slide counts as one field where crops are drawn: here it stands for those read in full.
    weight = max(1, round(told.select / told.slides))
    both = [
        {"name": "fields", "annotations": str(base), "images": str(told.images)},
        {
            "name": "reviews",
            "annotations": str(exported),
            "images": str(slides),
            "weight": weight,
        },
    ]
    after = train("after", [f"data.train={json.dumps(both)}"], told)
    val = ("--data", told.val, "--images", told.val_images)
    call("evaluate", "--model", after, "--against", before, *val, "--out", told.out / "evaluation")


def split(
    fields: Path, out: Path, base: int, pool: int, slides: int, seed: int
) -> tuple[Path, list[Path]]:
    """Writes the fields of the first training, and those of each slide; by chance, seeded."""
    content = json.loads(fields.read_text(encoding="utf-8"))
    images = list(np.random.default_rng(seed).permutation(len(content["images"])))
    parts = [images[:base], *np.array_split(images[base : base + pool], slides)]
    paths = [out / "base.json", *(out / f"slide-{i + 1}.json" for i in range(slides))]
    for path, part in zip(paths, parts, strict=True):
        path.write_text(json.dumps(only(content, part)), encoding="utf-8")
    return paths[0], paths[1:]


def only(content: dict[str, Any], chosen: list[int]) -> dict[str, Any]:
    """Some images of a COCO file, with what belongs to them."""
    images = [content["images"][i] for i in chosen]
    ids = {image["id"] for image in images}
    kept = [one for one in content["annotations"] if one["image_id"] in ids]
    return content | {"images": images, "annotations": kept}


def train(name: str, data: list[str], told: argparse.Namespace) -> Path:
    """Trains by the recipe of the shipped detector unless that was done; gives the model."""
    out: Path = told.out / name
    if not (out / "model" / "model.json").exists():
        settings = [
            *data,
            f"data.val.annotations={told.val}",
            f"data.val.images={told.val_images}",
            f"model.backbone_weights={told.weights}",
            f"loop.steps={told.steps}",
            f"loop.seed={told.seed}",
        ]
        options = [part for setting in settings for part in ("--set", setting)]
        call("train", "--config", "train/cric", "--out", out, *options)
    return out / "model"


def lay_out(parts: list[Path], told: argparse.Namespace) -> Path:
    """A mosaic of each part's fields, with its truth beside it."""
    slides: Path = told.out / "slides"
    for number, part in enumerate(parts, 1):
        if (slides / f"slide-{number}.tif").exists():
            continue
        place = told.out / f"mosaic-{number}"
        call("synth", "--out", place, "--fields", part, "--images", told.images)
        slides.mkdir(exist_ok=True)
        (place / "mosaic-001.tif").rename(slides / f"slide-{number}.tif")
        (place / "mosaic-001.truth.json").rename(slides / f"slide-{number}.truth.json")
    return slides


def review(reports: Path, slides: Path, fields: int) -> None:
    """Decides every finding as the truth has it, and reads the proposed fields in full."""
    call("reviews", "select", reports, "--fields", str(fields))
    with Catalogue(reports) as catalogue, ReviewStore.open(reports) as store:
        reader = store.reader(READER)
        for result in catalogue:
            truth = slides / f"{Path(result.report.slide.path).stem}.truth.json"
            proposed = [task.box for task in store.tasks() if task.slide == result.key]
            review_slide(store, reader, catalogue, result, *read_truth(truth), proposed)


def read_truth(path: Path) -> tuple[NDArray[np.float64], list[str]]:
    """(N, 4) boxes and the names of a slide's cells."""
    content = json.loads(path.read_text(encoding="utf-8"))
    names = {one["id"]: one["name"] for one in content["categories"]}
    cells = [one for one in content["annotations"] if not one.get("iscrowd")]
    boxes = np.array([one["bbox"] for one in cells], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes, [names[one["category_id"]] for one in cells]


def review_slide(
    store: ReviewStore,
    reader: Reader,
    catalogue: Catalogue,
    result: ReportFolder,
    boxes: NDArray[np.float64],
    names: list[str],
    proposed: list[tuple[float, float, float, float]],
) -> None:
    """One slide, decision by decision, as the page would send them."""
    reading = store.reading(result.key, reader)

    def send(kind: str, **values: Any) -> Reading:
        change = {"kind": kind, "id": uuid.uuid4().hex, "version": reading.version, "seconds": 2}
        return store.apply(result.key, reader, parse_change(change | values))

    table = catalogue.cells(result)
    found = table.cells.boxes
    partner, overlap = best_partner(found, boxes)
    labels = [table.classes[label].name for label in table.cells.labels]
    for row, label in enumerate(labels):
        box = found[row].tolist()
        said = {"label": label, "score": float(table.cells.scores[row]), "box": box}
        is_cell = overlap[row] >= SAME
        verdict = "reject" if not is_cell else "agree"
        called = names[partner[row]] if is_cell else None
        if is_cell and called != label:
            verdict = "class"
        change = {"key": cell_key(box), "verdict": verdict, "said": said}
        reading = send("cell", **change, label=called if verdict == "class" else None)
    missed = np.flatnonzero(~np.isin(np.arange(len(boxes)), partner[overlap >= SAME]))
    for box in proposed:
        for cell in missed[within_any(boxes[missed], np.array([box]))].tolist():
            key, place = f"a{uuid.uuid4().hex}", boxes[cell].tolist()
            reading = send("cell", key=key, verdict="added", label=names[cell], box=place)
        reading = send("region", key=f"r{uuid.uuid4().hex}", box=list(box))
    reading = send("sign", signed=True)
    verdicts = [cell.verdict for cell in reading.cells.values()]
    counts = {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}
    print(f"{result.name}: {counts}, {len(proposed)} fields read in full")


def best_partner(
    found: NDArray[np.float64], boxes: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """For each finding the cell of the truth that it overlaps most, and by which IoU."""
    overlap = box_iou(found, boxes)
    return overlap.argmax(axis=1), overlap.max(axis=1, initial=0)


def call(*command: object) -> None:
    """Runs a command of cytolibra as a user would."""
    words = [sys.executable, "-m", "scripts", *map(str, command)]
    print("+ cytolibra", *words[3:], flush=True)
    subprocess.run(words, check=True)


if __name__ == "__main__":
    main()

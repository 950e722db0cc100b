"""What a recipe loses on disturbed fields, out of fold: ``python -m scripts.robustness RUN...``.

Other microscopes' fields stain, focus and scale otherwise. Where there are none, the fields that a
run did not learn from are disturbed one way at a time, as a stand-in: it tells what a network
bears, not how it does elsewhere. Several runs of one recipe (``data.train.split``,
``data.val.split``) are pooled.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from configs import load_config
from data.crops.stains import StainJitter
from data.evaluation.bootstrap import resampled_ap
from data.fields.fieldset import Field, FieldSet
from models import load_detector
from pipeline.network.detector import RuntimeSettings, TileDetector
from scripts.candidates import LOWEST_SCORE
from scripts.evaluation.evidence import Draws, Evidence, draw
from scripts.evaluation.finding import gather
from scripts.slides import images_of
from scripts.telling import run_for_people
from scripts.training.folds import check_runs_apart
from scripts.training.run import read_fields
from scripts.training.settings import TrainSettings

Pixels = NDArray[np.uint8]
Change = Callable[[Pixels, Field], Pixels]

DEFOCUS = 0.6
"""Standard deviation of the blur in µm: what `pipeline.tiles.plausible` begins to tell of."""

STAIN = 0.3
"""Spread of the matrix that mixes optical densities, twice that of training."""

WRONG_SCALES = (0.75, 1.33)
"""By which the stated µm per pixel is wrong."""


def as_it_is(pixels: Pixels, _: Field) -> Pixels:
    """Nothing is changed."""
    return pixels


def restained(pixels: Pixels, field: Field) -> Pixels:
    """As another stain would show it; a matrix for each field, always the same."""
    jitter = StainJitter(STAIN, p=1.0)
    jitter.set_random_seed(sum(field.image.name.encode()))
    return np.asarray(jitter(image=pixels)["image"])


def defocused(pixels: Pixels, field: Field) -> Pixels:
    """Out of focus by `DEFOCUS`."""
    assert field.mpp is not None
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), DEFOCUS / field.mpp), np.uint8)


def dimmed(pixels: Pixels, _: Field) -> Pixels:
    """By a quarter darker, and warmer."""
    return (pixels * np.array([0.8, 0.75, 0.65])).astype(np.uint8)


CHANGES: Mapping[str, Change] = {
    "as they are": as_it_is,
    "restained": restained,
    "dim and warm": dimmed,
    "defocused": defocused,
}


def main() -> None:
    """Prints the average precision of each disturbance, and what it costs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of cytolibra train")
    run_for_people(lambda: _compare(parser.parse_args().runs))


def _compare(runs: Sequence[Path]) -> None:
    left_out = [read_fields(load_config(run / "config.yaml", TrainSettings))[1] for run in runs]
    names = [str(run) for run in runs]
    check_runs_apart(left_out, names, left_out[0].classes, names[0])
    found: dict[str, list[Evidence]] = {}
    for run, fields in zip(runs, left_out, strict=True):
        for name, evidence in disturb(run, fields):
            found.setdefault(name, []).append(evidence)
    console = Console()
    for table in _tables({name: join(parts) for name, parts in found.items()}):
        console.print(table)


def disturb(run: Path, fields: FieldSet) -> list[tuple[str, Evidence]]:
    """What a run's model finds on the fields that it did not learn from, disturbed each way."""
    settings = RuntimeSettings(device="cpu", precision="fp32")
    detector = TileDetector(load_detector(run / "model"), settings, LOWEST_SCORE)
    found = []
    for name, change in CHANGES.items():
        with tempfile.TemporaryDirectory() as folder:
            found.append((name, gather(detector, redraw(fields, change, Path(folder)))))
    for wrong in WRONG_SCALES:
        found.append((f"scale wrong by {wrong:g}", gather(detector, misstate(fields, wrong))))
    return found


def redraw(fields: FieldSet, change: Change, folder: Path) -> FieldSet:
    """The fields with their pixels changed, as images in a folder."""
    images, changed = images_of(fields), []
    for index, field in enumerate(fields.fields):
        path = folder / f"{index}-{field.image.stem}.png"
        pixels = images.whole(index, (field.width, field.height))
        Image.fromarray(change(pixels, field)).save(path, compress_level=1)
        changed.append(replace(field, image=path, origin=(0, 0)))
    return replace(fields, fields=tuple(changed))


def misstate(fields: FieldSet, factor: float) -> FieldSet:
    """The fields with their µm per pixel wrong by a factor."""
    wrong = [replace(field, mpp=(field.mpp or 1.0) * factor) for field in fields.fields]
    return replace(fields, fields=tuple(wrong))


def join(parts: Sequence[Evidence]) -> Evidence:
    """Evidence of several runs, of other fields and the same classes each, as one."""
    fields = tuple(field for part in parts for field in part.fields.fields)
    return replace(
        parts[0],
        fields=replace(parts[0].fields, fields=fields),
        truth=[cells for part in parts for cells in part.truth],
        found=[cells for part in parts for cells in part.found],
    )


def figures(evidence: Evidence, draws: Draws) -> dict[str, NDArray[np.float64]]:
    """(1 + rounds,) average precision at IoU 0.5: of the fields, then of each draw of them."""
    times = np.concatenate([np.ones((1, draws.times.shape[1]), np.int64), draws.times])
    return {name: resampled_ap(matches, times) for name, matches in evidence.pooled.items()}


def _tables(found: Mapping[str, Evidence]) -> Iterator[Table]:
    """A table for each level: what is found as it is, and what each disturbance costs, paired."""
    home = next(iter(found.values()))
    draws = draw(home.fields, "slide", 0.95)
    values = {change: figures(evidence, draws) for change, evidence in found.items()}
    for name, before in next(iter(values.values())).items():
        table = Table(title=f"{name}: AP50 of {len(home.fields.fields)} fields out of fold")
        for heading in ("fields", "AP50", "difference", "interval"):
            table.add_column(heading, justify="left" if heading == "fields" else "right")
        for change, one in values.items():
            less = one[name] - before
            low, high = draws.interval(less[1:])
            known = low is not None and high is not None
            bounds = f"{low:+.3f} to {high:+.3f}" if known else "-"
            told = f"{less[0]:+.3f}" if one[name] is not before else "-"
            table.add_row(change, f"{one[name][0]:.3f}", told, bounds)
        yield table


if __name__ == "__main__":
    main()

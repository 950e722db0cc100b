"""What a colour profile changes in a model's figures on annotated fields.

    python benchmarks/bench_color.py --profile scanner.icc --data CRIC/val.json --images CRIC/val

Each field is judged as it is stored, and with its colours as the profile has them (color.icc). The
profile is a file of its own, or embedded in a slide or a picture.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from data.pixels.plain import read_picture
from models.card import DEFAULT_MODEL
from pipeline.slides.containers import open_container
from pipeline.slides.readers.profiled import Profile

Metrics = dict[str, Any]


def main() -> None:
    """Prints both figures side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=Path, help="an .icc file, or what embeds one")
    parser.add_argument("--data", type=Path, default=Path("cric/val.json"))
    parser.add_argument("--images", type=Path, default=Path("cric/val"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    given = parser.parse_args()
    if given.profile is None or not given.data.is_file():
        print("left out: give --profile, --data and --images")
        return
    profile = read_profile(given.profile)
    table = Table("fields", "abnormal AP50", "class mean AP50", "mean change of 255", box=None)
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / "fields"
        change = convert(given.images, changed, profile)
        rows = (("as stored", given.images, 0.0), (f"by {profile.name}", changed, change))
        for name, images, by in rows:
            metrics = evaluate(given.model, given.data, images, Path(folder) / "out")
            figures = (metrics["pooled"]["abnormal"]["ap50"], metrics["map50"])
            table.add_row(name, *(f"{figure:.3f}" for figure in figures), f"{by:.1f}")
    Console(width=120).print(table)


def read_profile(path: Path) -> Profile:
    """The profile that a file is, or embeds."""
    if path.suffix.lower() in (".icc", ".icm"):
        return Profile(path.read_bytes())
    reader = open_container(path)
    data = reader.profile()
    reader.close()
    return Profile(data or b"")


def convert(images: Path, out: Path, profile: Profile) -> float:
    """Writes all fields with their colours by a profile; how much that changes in the mean."""
    out.mkdir()
    changes = []
    for path in _pictures(images):
        stored = read_picture(path).pixels
        shown = profile.apply(stored)
        changes.append(np.abs(shown.astype(int) - stored).mean())
        # Under its own name, which the annotations have; nothing is lost on the way.
        buffer = io.BytesIO()
        Image.fromarray(shown).save(buffer, "PNG", compress_level=1)
        (out / path.name).write_bytes(buffer.getvalue())
    return float(np.mean(changes))


def evaluate(model: str, data: Path, images: Path, out: Path) -> Metrics:
    """The figures that ``cytolibra evaluate`` writes."""
    words = ["--model", model, "--data", str(data), "--images", str(images), "--out", str(out)]
    command = [sys.executable, "-m", "scripts", "evaluate", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    metrics: Metrics = json.loads((out / "metrics.json").read_text())
    return metrics


def _pictures(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_file())


if __name__ == "__main__":
    main()

"""What it costs that slides are fetched: a batch from a slow server against the same from the disk.

python benchmarks/bench_staging.py: draws slides, screens them from the disk, then by URL from a
server on this machine whose line lets a slide through in a given share of the time that its
screening takes, as `cytolibra screen` does both. Fetching that is hidden behind screening costs
the first slide's, and no more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data.synth import CLASSES, NamedSource, Scene, write_slide

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from remoteservers import file_server

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Measures and tells."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slides", type=int, default=8)
    parser.add_argument("--side", type=int, default=12000, help="of a slide in px at 0.25 µm")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.9, 1.5])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        slides = draw(root / "slides", given.slides, given.side)
        size = sum(path.stat().st_size for path in slides)
        screen([str(slides[0])], root / "warm")
        one = screen([str(slides[0])], root / "one")
        local = screen([str(root / "slides")], root / "local")
        spent = (local - one) * len(slides) / (len(slides) - 1)
        print(f"{len(slides)} slides, {size / 1e6:.0f} MB; from the disk {local:.1f} s")
        print("| line, MB/s | fetching alone, s | fetched and screened, s | over the disk, s |")
        print("| ---: | ---: | ---: | ---: |")
        for share in given.shares:
            rate = size / (share * spent)
            with file_server(root / "slides") as server:
                server.rate = rate
                urls = [f"{server.url}/{path.name}" for path in slides]
                both = screen(urls, root / f"fetched-{share}")
            print(
                f"| {rate / 1e6:.1f} | {size / rate:.1f} | {both:.1f} | {both - local:+.1f} |",
                flush=True,
            )


def draw(folder: Path, count: int, side: int) -> list[Path]:
    """Drawn slides of ``side`` px a side."""
    folder.mkdir()
    scenes = [
        Scene(seed, (side, side), 0.25, "conventional", 150.0, 0.05, 4) for seed in range(count)
    ]
    names = [NamedSource(f"{seed}.tif", scene) for seed, scene in enumerate(scenes)]
    return [write_slide(folder, name, CLASSES, lambda _: None) for name in names]


def screen(places: list[str], out: Path) -> float:
    """Seconds of a command from its start to its end."""
    command = [sys.executable, "-m", "scripts", "screen", *places, "--out", str(out)]
    began = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

"""Runs a command, and tells for what share of its time the GPU was busy.

    python benchmarks/gpu_busy.py python benchmarks/bench_screen.py

`nvidia-smi` says several times a second for what part of the time before a kernel ran; how many of
the GPU's units it kept busy is not in that. Without a GPU the command runs all the same.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MILLISECONDS = 200
"""From sample to sample."""


def main() -> int:
    """Runs the command; returns its exit code."""
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    smi = shutil.which("nvidia-smi")
    if smi is None:
        print("no nvidia-smi here: the GPU's share of time is not measured", file=sys.stderr)
        return subprocess.run(sys.argv[1:], check=False).returncode
    with tempfile.NamedTemporaryFile("w+") as samples:
        query = ["--query-gpu=index,utilization.gpu", "--format=csv,noheader,nounits"]
        watcher = subprocess.Popen([smi, *query, f"-lms={MILLISECONDS}"], stdout=samples)
        try:
            code = subprocess.run(sys.argv[1:], check=False).returncode
        finally:
            watcher.terminate()
            watcher.wait()
        told = Path(samples.name).read_text("utf-8")
    print(describe(told))
    return code


def describe(told: str) -> str:
    """One line a GPU of what nvidia-smi sampled: ``index, percent`` a line."""
    shares: dict[str, list[float]] = {}
    for line in told.splitlines():
        gpu, _, percent = (part.strip() for part in line.partition(","))
        if percent.replace(".", "", 1).isdigit():  # some GPUs say [N/A]
            shares.setdefault(gpu, []).append(float(percent))
    if not shares:
        return "nvidia-smi told no share: the GPU's share of time is not known"
    return "\n".join(
        f"GPU {gpu}: busy {statistics.fmean(values):.0f}% of the time ({len(values)} samples), "
        f"idle in {sum(value == 0 for value in values) / len(values):.0%} of them"
        for gpu, values in shares.items()
    )


if __name__ == "__main__":
    sys.exit(main())

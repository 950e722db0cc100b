"""Memory stays flat, whatever the slide's size."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]

SCREEN = """
import resource, sys
from pathlib import Path
from blobs import BlobDetector
from pipeline.memory import give_back_large_blocks
from pipeline.screen import screen_slide
from pipeline.settings import ScreenSettings
give_back_large_blocks()
settings = ScreenSettings.model_validate({"foreground": {"enabled": False}})
report = screen_slide(Path(sys.argv[1]), BlobDetector(), settings)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_mb(path):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (REPO, REPO / "tests", REPO / "tests" / "pipeline")))
    }
    result = subprocess.run(
        [sys.executable, "-c", SCREEN, path],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are in other units")
def test_a_slide_of_nine_times_the_area_needs_hardly_more_memory(tmp_path):
    from data.synth import CLASSES, NamedSource, Scene, write_slide

    peaks = []
    for side in (6_000, 18_000):
        scene = Scene(1, (side, side), 0.25, "conventional", 5.0, 0.05, 4)
        source = NamedSource(f"{side}.tif", scene)
        peaks.append(peak_mb(write_slide(tmp_path, source, CLASSES, lambda _: None)))
    assert peaks[1] - peaks[0] < 150, peaks

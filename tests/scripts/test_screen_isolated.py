"""A reader that crashes inside of ``cytolibra screen``."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from distributions import READING, install
from slidefiles import picture

from pipeline.batch.run_record import load_records

REPO = Path(__file__).resolve().parents[2]

CRASHING = f"""{READING}
import os

class Odd(Raw):
    isolate = False

    def open(self, path):
        if path.stem == "b":
            os.abort()
        return RawReader(path)
"""


@pytest.mark.slow
def test_a_crash_costs_a_slide_by_default_and_where_nothing_is_apart_a_run(tmp_path: Path) -> None:
    site, slides = tmp_path / "site", tmp_path / "slides"
    site.mkdir()
    slides.mkdir()
    install(site, "odd-slides", CRASHING, {"raw": "Odd"})
    for name in ("a.raw", "b.raw", "c.raw"):
        with (slides / name).open("wb") as file:
            np.save(file, picture(530, 390))

    def screen(out: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = (sys.executable, "-m", "cytolibra", "screen", str(slides), "--out", out, *words)
        return subprocess.run(
            (*command, "--model", "cric-fcos-light"),
            env=os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{REPO}"},
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
        )

    died = "b.raw: the process that screened it died: it aborted itself, at a second attempt too"
    isolated = screen("isolated", "--isolate")
    assert isolated.returncode == 1, isolated.stderr
    assert died in isolated.stderr
    never = screen("never", "--set", "isolate=never")
    assert never.returncode == -signal.SIGABRT
    by_default = screen("out")
    assert by_default.returncode == 1, by_default.stderr
    assert "warning: the process that screens died: it aborted itself" in by_default.stderr
    assert died in by_default.stderr
    assert "2 screened, 1 failed" in by_default.stdout
    (record,) = load_records(tmp_path / "out")
    assert record.slides["b.raw"].attempts == 3
    assert {name: slide.status for name, slide in record.slides.items()} == {
        "a.raw": "complete",
        "b.raw": "failed",
        "c.raw": "complete",
    }
    for name in ("a.raw", "c.raw"):
        one, other = (tmp_path / out / name / "cells.csv" for out in ("out", "isolated"))
        assert one.read_bytes() == other.read_bytes()

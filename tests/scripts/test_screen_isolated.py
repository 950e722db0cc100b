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
import ctypes

class Odd(Raw):
    isolate = False

    def open(self, path):
        if path.stem == "b":
            ctypes.string_at(0)
        return RawReader(path)
"""


@pytest.mark.slow
def test_a_crash_costs_a_slide_with_isolation_and_at_the_next_run_without(tmp_path: Path) -> None:
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

    died = "b.raw: the process that screened it died: segmentation fault, at a second attempt too"
    isolated = screen("isolated", "--isolate")
    assert isolated.returncode == 1, isolated.stderr
    assert died in isolated.stderr
    assert screen("out").returncode == -signal.SIGSEGV  # nothing spoke against it
    again = screen("out")  # the very same command
    assert again.returncode == 1, again.stderr
    assert died in again.stderr
    (record,) = load_records(tmp_path / "out")
    assert record.slides["b.raw"].attempts == 3
    for name in ("a.raw", "c.raw"):
        one, other = (tmp_path / out / name / "cells.csv" for out in ("out", "isolated"))
        assert one.read_bytes() == other.read_bytes()

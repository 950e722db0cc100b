"""Slides that do to the process that screens them what their names say; without a network."""

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from fakes import MODEL, make_report

from pipeline.batch.engines import Recipe
from pipeline.in_force import InForce
from pipeline.reports.report import SlideReport

KEPT = []


class Deadly:
    """Screens by name: "segv.png" is a segmentation fault, "good.png" a report."""

    def __init__(self, told) -> None:
        self._told = told

    def describe(self) -> InForce:
        """See `pipeline.batch.engines.worker.Worker`."""
        return InForce(MODEL, {}, None)

    def screen(self, path: Path) -> SlideReport:
        """Does what the slide's name says."""
        self._told(path, 1, 2)
        what = path.stem.partition("-")[0]
        if what == "once":  # dies the first time
            marker = path.with_suffix(".died")
            what = "good" if marker.exists() else "segv"
            marker.touch()
        getattr(self, what)(path)
        return make_report(path)

    def good(self, path: Path) -> None:
        """Nothing."""

    def segv(self, path: Path) -> None:
        """Reads where there is nothing."""
        ctypes.string_at(0)

    def abort(self, path: Path) -> None:
        """As C++ does at an error that nobody catches."""
        os.abort()

    def leave(self, path: Path) -> None:
        """As a library that calls exit()."""
        os._exit(3)

    def killed(self, path: Path) -> None:
        """As by the system where memory is short."""
        os.kill(os.getpid(), 9)

    def keeps(self, path: Path) -> None:
        """Leaves memory in use behind."""
        KEPT.append(np.ones(40_000_000, np.uint8))

    def large(self, path: Path) -> None:
        """Needs 140 MB for a while."""
        pixels = np.ones(140_000_000, np.uint8)
        time.sleep(0.5)
        del pixels

    def eats(self, path: Path) -> None:
        """Takes more and more memory, in a process that it starts."""
        code = "kept = []\nimport time\nwhile True: kept.append(b'x' * 5_000_000); time.sleep(.01)"
        subprocess.run([sys.executable, "-c", code], check=False)

    def hangs(self, path: Path) -> None:
        """In C, without letting another thread run; beside a process that it has started."""
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        path.with_suffix(".pids").write_text(f"{os.getpid()} {helper.pid}")
        ctypes.PyDLL(None).sleep(600)

    def wrong(self, path: Path) -> None:
        """An error that can't be pickled."""

        class Odd(Exception):  # noqa: N818 - of somebody else
            def __init__(self, one: int, two: int) -> None:
                super().__init__(f"{one} of {two}")

        raise Odd(1, 2)


class Makes:
    """Makes it, in whatever process."""

    def worker(self, told) -> Deadly:
        """See `pipeline.batch.engines.supervised.Maker`."""
        return Deadly(told or (lambda *_: None))


class MakesAnywhere(Recipe):
    """The same for Ray, which has its recipes say where."""

    def on(self, device: str, threads: int | None) -> Recipe:
        """Wherever."""
        return self

    def worker(self, told=None) -> Deadly:
        """See `Makes`."""
        return Deadly(told or (lambda *_: None))

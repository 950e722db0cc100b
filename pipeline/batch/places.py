"""Where results lie below a folder: the one rule of all that reads what a run has left.

A result that is being written, or was left half written, is none. Links to folders are not
followed, and no result lies in another one. Of a folder that has the record of a run, folders below
it with records of their own are outputs of other runs: they are left out, and told. Of a folder
without a record, as one that holds the outputs of several, all results are taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from configs import ConfigError, Doubt
from pipeline.batch.output import REPORT, has_result
from pipeline.batch.run_record import find_records, is_record
from pipeline.reports.writers import PARTIAL
from pipeline.slides.readers.base import show


@dataclass(frozen=True)
class Places:
    """What was found below a folder.

    Attributes:
        reports: the folder.
        results: folders of results, by name.
        outputs: folders of other runs, not entered.
        several: whether it holds outputs of runs, and has no record itself.
        runs: folders with the records of these results.
    """

    reports: Path
    results: tuple[Path, ...]
    outputs: tuple[Path, ...]
    several: bool
    runs: tuple[Path, ...]

    def name_of(self, result: Path) -> str:
        """What a result is called: its folder as seen from above, with forward slashes."""
        return result.relative_to(self.reports).as_posix()

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """That there are outputs of other runs, if there are."""
        if not self.outputs:
            return ()
        more = f" and {len(self.outputs) - 1} more" if self.outputs[1:] else ""
        text = (
            f"{show(self.outputs[0])}{more}: the output of another run, below the folder of this "
            "one: its slides are left out; name it itself for them"
        )
        return (Doubt(code="outputs-left-out", text=text),)


def find_places(reports: Path) -> Places:
    """All results below a folder.

    Raises:
        ConfigError: there is no such folder, or nothing in it, or it is one slide's.
    """
    check_folder(reports)
    places = look_below(reports)
    if not places.results:
        raise ConfigError(f"{show(reports)}: has no reports of cytolibra screen")
    return places


def check_folder(reports: Path) -> None:
    """Refuses what can't hold the results of a run.

    Raises:
        ConfigError: there is no such folder, or it is one slide's.
    """
    if not reports.is_dir():
        raise ConfigError(f"{show(reports)}: no such folder of reports")
    if has_result(reports):
        raise ConfigError(f"{show(reports)}: is the report of one slide; name the folder above it")


def look_below(folder: Path) -> Places:
    """The same of any folder, even one that is gone or has no results."""
    outputs: list[Path] = []
    results = tuple(sorted(_walk(folder, outputs)))
    if find_records(folder):
        return Places(folder, results, tuple(sorted(outputs)), several=False, runs=(folder,))
    inner = {place for output in outputs for place in _walk(output, [], deep=True)}
    taken = tuple(sorted({*results, *inner}))
    runs = tuple(sorted({*outputs, *_with_records(folder, inner)}))
    return Places(folder, taken, (), several=bool(outputs), runs=runs)


def _with_records(top: Path, results: Iterable[Path]) -> Iterator[Path]:
    """Folders of records between a folder and the results below it."""
    above = {parent for place in results for parent in place.parents if top in parent.parents}
    return (place for place in above if find_records(place))


def _walk(folder: Path, outputs: list[Path], *, deep: bool = False) -> Iterator[Path]:
    """Folders of results; outputs of other runs are entered with ``deep``, else noted."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(PARTIAL)]
        here = Path(place)
        if REPORT in files and here != folder:
            folders.clear()
            yield here
        elif here != folder and not deep and any(map(is_record, files)):
            folders.clear()
            outputs.append(here)

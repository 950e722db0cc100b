"""Records of a comparison's runs: what its table is made of, small enough to be kept beside it.

A record is a run's ``result.json``, and in ``judged.npz`` its figures, as they are and with the
fields drawn anew: some 30 KB, where a run takes 20 MB. With records a table goes on where its runs
are not, and who trains a system of their own compares it with published ones in pairs, without
hours of training.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from configs import ConfigError
from scripts.comparison.comparison import RESULT
from scripts.comparison.judged import JUDGED, Judged, save_judged


def take_records(records: Path, out: Path) -> None:
    """Puts the records that ``out`` has no run of there; they count as runs that are done.

    Raises:
        ConfigError: a record lacks a file, or something can't be copied.
    """
    for result in sorted(records.rglob(RESULT)):
        folder = out / result.parent.relative_to(records)
        if (folder / RESULT).exists():
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (JUDGED, RESULT):  # the result last: with it a run is done
                shutil.copyfile(result.parent / name, folder / name)
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror}") from error


def keep_records(judged: Sequence[Judged], out: Path, records: Path) -> None:
    """Keeps a record of each run that has none.

    Raises:
        ConfigError: a record can't be written.
    """
    for one in judged:
        folder = records / one.run.folder
        if (folder / RESULT).exists():
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_judged(one, folder / JUDGED)
            shutil.copyfile(out / one.run.folder / RESULT, folder / RESULT)
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror}") from error

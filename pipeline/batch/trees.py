"""Where slides are looked for: folders on a disk, or what a store lists; by the same rules.

A search walks a tree, and asks it what it must know of a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from pipeline.batch.series import DicomFiles, Series, sort_dicom
from pipeline.slides.readers.companions import Files, LocalFiles


class Tree(Files, Protocol):
    """Files and folders in which slides are looked for. Paths name them, whatever they lie on."""

    def entries(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Files and folders in a folder that are not hidden, in the order in which they count.

        Raises:
            OSError: it can't be read.
        """

    def place(self, path: Path) -> str:
        """What tells a file or folder from others, however it is named or linked."""

    def sort_dicom(self, files: Iterable[Path]) -> DicomFiles:
        """See `pipeline.batch.series.sort_dicom`."""

    def damaged(self, series: Series) -> Path | None:
        """See `pipeline.batch.series.Series.damaged`; None where that shows only later."""


def _is_file(entry: os.DirEntry[str]) -> bool:
    """As `os.path.isfile`; the entry knows it, unless it is a link."""
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """As `os.path.isdir`, likewise."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


class Disk(LocalFiles):
    """What the operating system sees."""

    def entries(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """See `Tree`; links come last.

        A link to nothing counts as a file, so that it is reported; pipes and the like are left out,
        as they would be waited for.
        """
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
        ordered = sorted(visible, key=lambda entry: (entry.is_symlink(), entry.name))
        files = [Path(e.path) for e in ordered if _is_file(e) or not os.path.exists(e.path)]
        return files, [Path(e.path) for e in ordered if _is_folder(e)]

    def place(self, path: Path) -> str:
        """See `Tree`."""
        return os.path.realpath(path)

    def sort_dicom(self, files: Iterable[Path]) -> DicomFiles:
        """See `Tree`."""
        return sort_dicom(files)

    def damaged(self, series: Series) -> Path | None:
        """See `Tree`."""
        return series.damaged

"""Which files beside a slide's own hold parts of it, by the rules of its format."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol

from pipeline.slides.readers.tmap import tiles_beside


class Files(Protocol):
    """What must be known of the files around a slide, whatever they lie on."""

    def below(self, folder: Path) -> list[Path]:
        """All files below a folder."""

    def open(self, path: Path) -> BinaryIO:
        """Opens a file.

        Raises:
            OSError: it can't be read.
        """

    def exists(self, path: Path) -> bool:
        """Whether it is a file."""


class LocalFiles:
    """What the operating system sees."""

    def below(self, folder: Path) -> list[Path]:
        """See `Files`."""
        return sorted(path for path in folder.rglob("*") if path.is_file())

    def open(self, path: Path) -> BinaryIO:
        """See `Files`."""
        return path.open("rb")

    def exists(self, path: Path) -> bool:
        """See `Files`."""
        return path.is_file()


def companions(path: Path, files: Files) -> tuple[Path, ...]:
    """The other files that hold parts of a slide, but of DICOM, whose reader tells them."""
    if folder := data_folder(path):
        return tuple(files.below(folder))
    if path.suffix.lower() == ".tmap":
        return tuple(tiles_beside(path, files.exists))
    return named_parts(path, files)


def data_folder(path: Path) -> Path | None:
    """The folder beside a MIRAX or VSI file that holds its pixels; None of other formats."""
    match path.suffix.lower():
        case ".mrxs":
            return path.with_suffix("")
        case ".vsi":
            return path.with_name(f"_{path.stem}_")
    return None


def named_parts(path: Path, files: Files) -> tuple[Path, ...]:
    """The files beside a VMS or VMU file that it names: images, and a map."""
    if path.suffix.lower() not in (".vms", ".vmu"):
        return ()
    try:
        with files.open(path) as file:
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ()
    values = {line.partition("=")[2].strip() for line in lines}
    beside = [path.with_name(value) for value in values if value and Path(value).name == value]
    return tuple(sorted(p for p in beside if files.exists(p) and p != path))

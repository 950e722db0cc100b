"""Files that may be shown: those that lie within a folder, links followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def inside(root: Path, path: Path) -> Path | None:
    """Where a file really lies, if that is a regular file within a folder.

    Args:
        root: the folder; may itself be reached by a link.
        path: below it.

    Returns:
        The path without any link; None where it leads out of the folder, is no regular file, or
        is not there.
    """
    try:
        real = Path(os.path.realpath(path, strict=True))
        is_file = stat.S_ISREG(real.stat().st_mode)
    except (OSError, ValueError):
        return None
    return real if is_file and real.is_relative_to(os.path.realpath(root)) else None


def read_inside(root: Path, path: Path, most: int) -> bytes | None:
    """Content of such a file; None also where it is larger than ``most`` bytes."""
    real = inside(root, path)
    if real is None:
        return None
    try:
        # The last name must still be no link: it could have been swapped meanwhile.
        number = os.open(
            real, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        )
        with os.fdopen(number, "rb") as file:
            return file.read(most) if os.fstat(number).st_size <= most else None
    except OSError:
        return None

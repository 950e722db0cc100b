"""Files on a file system that several machines, and several people, write to."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def create(path: Path, text: str) -> None:
    """Makes a file that isn't there: of several who try at once, on any machine, one succeeds.

    Raises:
        FileExistsError: it is there.
        OSError: it can't be written; it is not there then.
    """
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def make_alike(folder: Path, model: Path) -> None:
    """Makes a folder in which those may write who may in another one.

    Raises:
        OSError: it can't be made.
    """
    with suppress(FileExistsError):
        folder.mkdir()
        with suppress(OSError):  # it is for people of a group; some file systems know none
            folder.chmod(model.stat().st_mode & 0o7777)

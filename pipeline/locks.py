"""The lock of a file, by which processes of several people keep out of each other's way."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock


def file_lock(path: Path) -> FileLock:
    """A lock that is not held yet; acquiring it tells whether the file system has any.

    Whoever may write in the folder may lock: who made the file may be another person. A file that
    is merely there is no lock: it outlasts its holder.
    """
    return FileLock(path, mode=0o666, fallback_to_soft=False)

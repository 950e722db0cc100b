"""All that lies below a folder: annotations, their images, and images without any."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from configs import ConfigError


def files_below(top: Path) -> Iterator[Path]:
    """All files below a folder, at any depth, but for hidden ones and those in hidden folders.

    Links to folders are followed, after all that lies there itself; each folder is entered once,
    however it is linked.

    Raises:
        ConfigError: a folder can't be read.
    """
    entered: set[str] = set()
    waiting = [os.fspath(top)]
    for start in waiting:
        for folder, folders, names in os.walk(start, onerror=_refuse_unread):
            place = os.path.realpath(folder)
            folders[:] = sorted(n for n in folders if n[0] != "." and place not in entered)
            waiting += filter(os.path.islink, (os.path.join(folder, name) for name in folders))
            if place not in entered:
                yield from (Path(folder, name) for name in sorted(names) if name[0] != ".")
            entered.add(place)


def _refuse_unread(error: OSError) -> None:
    raise ConfigError(f"{error.filename}: the folder can't be read: {error.strerror}") from error

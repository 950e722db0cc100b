"""What `cytolibra screen` wrote, read back: the slide whose cells they are."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

_CELLS = {"cells.csv", "cells.geojson"}


def screened_slide(path: Path) -> str | None:
    """The file name of the slide whose results ``path`` is a part of.

    Its name is ``cells.csv`` or ``cells.geojson``, and the ``report.json`` beside it names the
    slide; None where that isn't so.
    """
    if path.name.lower() not in _CELLS:
        return None
    try:
        report = json.loads((path.parent / "report.json").read_text(encoding="utf-8"))
        stated = report["slide"]["path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return (
        PurePosixPath(stated.replace("\\", "/")).name or None if isinstance(stated, str) else None
    )

"""All reference pages that are made from code, and where they lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from configs import doubts
from scripts.reference import commands, files, python, settings

FOLDER = Path(__file__).parent.parent.parent / "docs" / "reference"
"""Of the reference pages."""

PAGES: Mapping[str, Callable[[], str]] = {
    "commands.md": commands.page,
    "settings.md": settings.page,
    "files.md": files.page,
    "warnings.md": doubts.page,
    "python.md": python.page,
}
"""Of each page what makes its text."""


def write_pages() -> None:
    """Writes every reference page anew."""
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8", newline="\n")


def stale_pages() -> list[Path]:
    """Reference pages that are not what the code says, or are missing."""
    return [
        FOLDER / name
        for name, make in PAGES.items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text(encoding="utf-8") != make()
    ]

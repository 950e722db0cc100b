"""Paths that people write in tables and annotations, compared with those on disk by their ends.

A person names a file by its whole path or by the end of it: its name, or that behind the names of
some of its folders; from another machine, with slashes of either kind, and with letters composed
or not, which look the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import TypeAlias

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""Of a URL; a drive of Windows has one letter."""

Parts: TypeAlias = tuple[str, ...]
"""A path's parts, from the top, letters composed; without what only says where it begins."""


def path_parts(path: str | PurePath) -> Parts:
    """The parts of a path, as they can be compared."""
    text = composed(str(path).strip())
    pure = PureWindowsPath(text) if "\\" in text else PurePosixPath(text)
    parts = tuple(part for part in pure.parts if part not in (".", "/", "\\"))
    return parts[1:] if parts and _SCHEME.fullmatch(parts[0]) else parts


def shared_end(one: Parts, other: Parts) -> int:
    """How many parts two paths share where one is the end of the other; else 0."""
    length = min(len(one), len(other))
    return length if length and one[-length:] == other[-length:] else 0


def longest_end(path: Parts, known: Container[Parts]) -> Parts | None:
    """The longest end of a path that is among those known; None where none is."""
    ends = (path[start:] for start in range(len(path)))
    return next((end for end in ends if end in known), None)


def composed(text: str) -> str:
    """Text with its letters composed (NFC)."""
    return unicodedata.normalize("NFC", text)

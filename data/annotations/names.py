r"""Which image a name in an annotation file means.

A name is a path, and a file of the same base name in another folder is another image. So a name
means the image whose path below its root is the same, or of which one path is the end of the
other: ``001.png`` is ``s1/001.png`` where no second one is called so, ``C:\data\s1\001.png`` is
``s1/001.png``, but ``s1/001.png`` is never ``s2/001.png``. Letters count the same whether composed
or not. Where nothing else is called so, capitals may differ, the ending among those of plain
images, and folders such as ``images``, which only say what lies in them; that is told.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

from configs import ConfigError
from data.paths import Parts, composed, path_parts, shared_end

PLAIN_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2"}
)
"""Endings of plain images, among which the same picture is often converted."""

HERE = PurePosixPath()
"""No folder."""

_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_DRIVE = re.compile(r"^[a-z]:", re.IGNORECASE)

_LOCAL_FILES = "/data/local-files/?"
"""How Label Studio's own paths begin."""

_UPLOAD = re.compile(r"^[0-9a-f]{4,}-", re.IGNORECASE)
"""What Label Studio puts before the names of files that are uploaded."""

_LAYOUT = frozenset(
    {"images", "image", "img", "imgs", "pictures", "jpegimages"}
    | {"labels", "label", "annotations", "annotation"}
)
"""Folders that tell images from their annotations, not one slide from another."""

_Shared: TypeAlias = Callable[[Parts, Parts], int]


@dataclass(frozen=True)
class Match:
    """An image that was found by a name.

    Attributes:
        image: its file.
        code: of a warning, where something had to be overlooked; else empty.
    """

    image: Path
    code: str = ""


@dataclass(frozen=True)
class _Entry:
    """An image: its path below the root in comparable parts, and the root's own name."""

    path: Path
    parts: Parts
    root: str


class NameIndex:
    """Images by what they are called.

    Args:
        files: images, and the root that each lies below, or is.
    """

    def __init__(self, files: Iterable[tuple[Path, Path]]) -> None:
        entries = [_entry(path, root) for path, root in files]
        self._by_name = _grouped(entries, lambda one: _folded(one.parts[-1]))
        self._by_stem = _grouped(entries, lambda one: _folded(_stem(one.parts[-1])))

    def match(self, name: str, folder: PurePosixPath = HERE) -> Match | None:
        """The image that a name means; None where there is none.

        Args:
            name: as the annotations have it.
            folder: where the file that is named like its image lies within the annotations. The
                image's folders must not be others; `_LAYOUT` doesn't count.

        Raises:
            ConfigError: several could be meant.
        """
        wanted = path_parts(plain_path(name))
        if not wanted:
            return None
        is_own = bool(folder.parts)
        shared = _shared_folders if is_own else shared_end
        wanted = (*path_parts(folder.as_posix()), *wanted) if is_own else wanted
        key = _folded(wanted[-1])
        same = [(one, one.parts) for one in self._by_name.get(key, [])]
        stems = [(one, _bare(one.parts)) for one in self._by_stem.get(key, [])]
        for candidates in (same, stems):
            if found := self._best(name, wanted, candidates, shared):
                return found
        if found := self._otherwise_ending(name, wanted, shared):
            return found
        return None if is_own else self._elsewhere(name, wanted)

    def near(self, name: str) -> list[Path]:
        """Images of the same base name or stem, wherever they lie."""
        wanted = path_parts(plain_path(name))
        if not wanted:
            return []
        last = _folded(wanted[-1])
        alike = [
            *self._by_name.get(last, []),
            *self._by_stem.get(last, []),
            *self._by_stem.get(_stem(last), []),
            *self._by_name.get(_UPLOAD.sub("", last), []),
        ]
        return list(dict.fromkeys(one.path for one in alike))

    def _otherwise_ending(self, name: str, wanted: Parts, shared: _Shared) -> Match | None:
        """An image that differs by its ending only, where both are those of plain images."""
        if PurePosixPath(wanted[-1]).suffix.lower() not in PLAIN_SUFFIXES:
            return None
        alike = self._by_stem.get(_folded(_stem(wanted[-1])), [])
        plain = [one for one in alike if one.path.suffix.lower() in PLAIN_SUFFIXES]
        found = self._best(name, _bare(wanted), [(one, _bare(one.parts)) for one in plain], shared)
        return Match(found.image, "image-other-ending") if found else None

    def _elsewhere(self, name: str, wanted: Parts) -> Match | None:
        """An image whose path is the same but for folders that say only what lies in them."""
        plain = _without_layout(wanted)
        alike = self._by_name.get(_folded(wanted[-1]), [])
        candidates = [(one, _without_layout(one.parts)) for one in alike]
        found = self._best(name, plain, candidates, shared_end) if plain != wanted else None
        return Match(found.image, found.code or "image-other-folder") if found else None

    def _best(
        self,
        name: str,
        wanted: Parts,
        candidates: Sequence[tuple[_Entry, Parts]],
        shared: _Shared,
    ) -> Match | None:
        """Of images the one whose path ends as what is wanted, or the other way round."""
        for fold in (str, _folded):
            key = tuple(map(fold, wanted))
            lengths = [(shared(key, tuple(map(fold, parts))), one) for one, parts in candidates]
            longest = max((length for length, _ in lengths), default=0)
            found = [one for length, one in lengths if length == longest > 0]
            exact = [one for one in found if len(one.parts) == len(wanted) == longest]
            found = exact if len(exact) == 1 else found
            if len(found) > 1:
                places = ", ".join(str(one.path) for one in sorted(found, key=lambda o: o.path))
                raise ConfigError(f"{name}: several images could be meant: {places}")
            if found:
                is_own = shared is _shared_folders
                return Match(found[0].path, _overlooked(wanted, found[0], fold is _folded, is_own))
        return None


def plain_path(name: str) -> str:
    """A name as a relative path with forward slashes, without host, drive and ``..``."""
    if _SCHEME.match(name) or name.startswith(_LOCAL_FILES):
        name = _path_of(name)
    name = _DRIVE.sub("", name.replace("\\", "/"))
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return "/".join(parts)


def is_below(name: str) -> bool:
    """Whether a name, joined to a folder, stays in it."""
    return not (name.startswith(("/", "\\")) or ".." in PurePosixPath(name).parts)


def _path_of(address: str) -> str:
    """The path in a URL; Label Studio gives that of its local files as ``d=``."""
    try:
        parts = urlsplit(address)
    except ValueError:  # no host can be called so
        return address
    return unquote(parse_qs(parts.query).get("d", [parts.path])[0])


def _overlooked(wanted: Parts, found: _Entry, folded: bool, is_own: bool) -> str:
    """The code of what differs between a name and the image that was found by it."""
    if folded:
        return "image-capitals"
    if is_own:  # the root is where images lie, whatever it is called
        return ""
    above = wanted[-len(found.parts) - 1] if len(wanted) > len(found.parts) else ""
    if above and found.root and _folded(above) != _folded(found.root):
        return "image-other-folder"
    return ""


def _shared_folders(one: Parts, other: Parts) -> int:
    """How many parts they share where one's folders are among the other's in the same order."""
    if one[-1] != other[-1]:
        return 0
    fewer, more = sorted((_without_layout(parts)[:-1] for parts in (one, other)), key=len)
    rest = iter(more)
    return 1 + len(fewer) if all(part in rest for part in fewer) else 0


def _entry(path: Path, root: Path) -> _Entry:
    if path == root:
        return _Entry(path, path_parts(path.name), "")
    return _Entry(
        path, path_parts(path.relative_to(root).as_posix()), composed(root.resolve().name)
    )


def _without_layout(parts: Parts) -> Parts:
    return (*(part for part in parts[:-1] if _folded(part) not in _LAYOUT), parts[-1])


def _bare(parts: Parts) -> Parts:
    """A path without its ending."""
    return (*parts[:-1], _stem(parts[-1]))


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _folded(text: str) -> str:
    return composed(text.casefold())


def _grouped(entries: Sequence[_Entry], key: Callable[[_Entry], str]) -> dict[str, list[_Entry]]:
    groups: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        groups[key(entry)].append(entry)
    return dict(groups)

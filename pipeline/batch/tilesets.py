"""Tiles of slides as images on disk: a folder a slide, and one manifest of all of them.

A slide's folder holds its tiles and, hidden, a record of what they are. It appears whole or not at
all, as results of a screen do, and takes the place of the slide's earlier tiles. What is no such
tile is never removed: annotations that people lay beside tiles are theirs.

``manifest.csv`` lists what lies in all of these folders, of whichever call: each row says its own
scale. While slides are in work it leaves out theirs, and each gets its rows as it is done, so that
whatever ends the process the manifest tells of no tile that isn't there. The next call completes it
from the records.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from configs import ConfigError, StrictModel
from pipeline.batch.output import make_output, publish, refusing
from pipeline.reports.tables import defuse, write_csv
from pipeline.reports.writers import PARTIAL, create, make_whole, write_whole
from pipeline.slides.readers.base import show

MANIFEST = "manifest.csv"

COLUMNS = ("image", "slide", "size", "mpp", "x", "y", "downsample")
"""Of the manifest; x, y is a tile's corner in level-0 pixels, ``downsample`` its scale."""

RECORD = ".tiles.json"
"""Of what lies in a slide's folder. Hidden: it is no annotation of any tool's."""

_REMEDY = "move it away or name another --out"

Row = tuple[str | float, ...]


class TileImage(StrictModel):
    """A tile.

    Attributes:
        name: of its file.
        x, y: its corner in level-0 pixels.
    """

    name: str
    x: float
    y: float


class TileSet(StrictModel):
    """The tiles of a slide.

    Attributes:
        slide: its path.
        size: side of a tile in pixels.
        mpp: µm per pixel of the tiles.
        downsample: level-0 pixels per pixel of a tile.
        tiles: row by row.
    """

    slide: str
    size: int
    mpp: float
    downsample: float
    tiles: tuple[TileImage, ...]

    def rows(self, name: str) -> Iterator[Row]:
        """Of the manifest, for a set in the folder ``name`` beside it."""
        for tile in self.tiles:
            image = f"{name}/{tile.name}"
            yield image, self.slide, self.size, self.mpp, tile.x, tile.y, self.downsample


def prepare_tiles(out: Path, names: Collection[str]) -> dict[str, TileSet]:
    """Makes the output folder, and makes sure that tiles can be written there.

    Args:
        out: the output folder.
        names: of the slides' folders below it.

    Returns:
        The sets that lie there, as `find_sets` gives them.

    Raises:
        ConfigError: it can't be written, or something that is no tile would have to go.
    """
    make_output(out)
    if os.path.lexists(out / RECORD):
        raise ConfigError(f"--out {show(out)}: has one slide's tiles; name the folder above it")
    sets = find_sets(out)
    with refusing(out):
        for name in names:
            _refuse_foreign(out, name)
        _refuse_manifest(out, sets)
    return sets


def find_sets(out: Path) -> dict[str, TileSet]:
    """The sets below a folder, each with those of its tiles that are still there, by name.

    Raises:
        ConfigError: a folder or a record can't be read.
    """
    found: dict[str, TileSet] = {}
    for place, folders, _ in os.walk(out, onerror=_refuse_unread):
        inner = [Path(place, name) for name in folders if not name.startswith(PARTIAL)]
        sets = [folder for folder in inner if os.path.lexists(folder / RECORD)]
        found |= {folder.relative_to(out).as_posix(): _load(folder) for folder in sets}
        folders[:] = [folder.name for folder in inner if folder not in sets]
    return dict(sorted(found.items()))


def write_set(out: Path, name: str, write: Callable[[Path], TileSet]) -> TileSet:
    """Makes the set ``name``: ``write`` fills a folder, which takes the place of an earlier one.

    Raises:
        ConfigError: meanwhile something that is no tile was put into the earlier one.
        OSError: it can't be written. In either case the earlier one stays as it was.
    """
    made: list[TileSet] = []

    def fill(folder: Path) -> None:
        made.append(write(folder))
        write_whole(folder / RECORD, made[0].model_dump_json())
        _refuse_foreign(out, name)

    try:
        publish(out, name, fill)
    except OSError as error:  # what writes pixels doesn't say where
        raise OSError(error.errno, error.strerror or str(error), str(out / name)) from error
    return made[0]


def write_manifest(out: Path, sets: Mapping[str, TileSet]) -> None:
    """Writes the manifest of these sets.

    Raises:
        ConfigError: it can't be written; an earlier one stays.
    """

    def write(partial: Path) -> None:
        with create(partial) as stream:
            write_csv(stream, [COLUMNS])
            for name, tiles in sets.items():
                write_csv(stream, tiles.rows(name))

    with refusing(out):
        make_whole(out / MANIFEST, write)


def add_to_manifest(out: Path, name: str, tiles: TileSet) -> None:
    """Adds a set to the manifest.

    Raises:
        OSError: it can't be written.
    """
    with (out / MANIFEST).open("a", encoding="utf-8", newline="") as stream:
        write_csv(stream, tiles.rows(name))


def _load(folder: Path) -> TileSet:
    path = folder / RECORD
    try:
        tiles = TileSet.model_validate_json(path.read_bytes())
        here = set(os.listdir(folder))
    except (OSError, ValidationError) as error:
        raise ConfigError(f"{show(path)}: is no record of tiles; {_REMEDY}") from error
    return tiles.model_copy(update={"tiles": tuple(t for t in tiles.tiles if t.name in here)})


def _refuse_unread(error: OSError) -> None:
    raise ConfigError(f"{show(error.filename)}: can't be read: {error.strerror}") from error


def _refuse_foreign(out: Path, name: str) -> None:
    """Refuses a slide's place where anything but its earlier tiles lies.

    Raises:
        ConfigError: it does, or the place is within another slide's folder.
        OSError: it can't be looked at.
    """
    place = out / name
    for above in place.relative_to(out).parents:
        if os.path.lexists(out / above / RECORD):
            raise ConfigError(f"{show(out / above)}: has another slide's tiles; {_REMEDY}")
    try:
        here = set(os.listdir(place))
    except FileNotFoundError:
        if os.path.lexists(place):
            raise ConfigError(f"{show(place)}: is a link to nothing; {_REMEDY}") from None
        return
    except NotADirectoryError:
        raise ConfigError(f"{show(place)}: a file is in the way; {_REMEDY}") from None
    if RECORD in here:
        here -= {RECORD, *(tile.name for tile in _load(place).tiles)}
    if here:
        raise ConfigError(
            f"{show(place / min(here))}: is no tile of an earlier call and would be lost; {_REMEDY}"
        )


def _refuse_manifest(out: Path, sets: Mapping[str, TileSet]) -> None:
    """Refuses a manifest that is somebody else's, or tells of tiles of which there is no record.

    Raises:
        ConfigError: it is, or does.
        OSError: it can't be read.
    """
    path = out / MANIFEST
    if not os.path.lexists(path):
        return
    known = {defuse(str(image)) for name, tiles in sets.items() for image, *_ in tiles.rows(name)}
    try:
        text = path.read_bytes().decode(errors="replace")  # which may be cut within a letter
        head, *rows = csv.reader(io.StringIO(text, newline=""))
    except (ValueError, csv.Error, IsADirectoryError):  # no table, or empty
        text, head, rows = "", [], []
    if tuple(head) != COLUMNS:
        raise ConfigError(f"{show(path)}: is no manifest of tiles and would be lost; {_REMEDY}")
    if rows and (len(rows[-1]) < len(COLUMNS) or not text.endswith("\n")):
        del rows[-1]  # whatever ended an earlier call cut it off
    for image in (row[0] for row in rows if row):
        if image not in known and os.path.isfile(out / image):
            raise ConfigError(
                f"{show(path)}: lists {show(image)}, which no record knows, as of an earlier "
                "version; name another --out"
            )

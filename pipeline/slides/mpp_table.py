"""``--mpp-table``: µm per pixel, a slide a row, for slides that say nothing or say it wrongly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from configs import ConfigError
from data.paths import Parts, longest_end, path_parts
from data.tables import number, read_records
from pipeline.slides.mpp import SANE_MPP, is_sane
from pipeline.slides.readers.base import show

COLUMNS = ("slide", "mpp")


@dataclass(frozen=True)
class MppTable:
    """What a table says of slides' scales.

    A row names a slide by its whole path or by the end of it: its file's name, or that behind the
    names of some of its folders. Of several rows that fit one slide the longest name holds.

    Attributes:
        path: the table's file.
        rows: µm per level-0 pixel by the slide's name, in parts.
    """

    path: Path
    rows: Mapping[Parts, float]

    def find(self, slide: Path) -> float | None:
        """The scale of a slide, in µm per level-0 pixel; None where no row names it."""
        row = self._row(slide)
        return None if row is None else self.rows[row]

    def check(self, slides: Iterable[Path]) -> list[str]:
        """Makes sure that each row means one slide; returns the rows that mean none, as text.

        Raises:
            ConfigError: a row fits several slides.
        """
        meant: dict[Parts, list[Path]] = defaultdict(list)
        for slide in slides:
            row = self._row(slide)
            if row is not None:
                meant[row].append(slide)
        for row, fitting in meant.items():
            if len(fitting) > 1:
                shown = " and ".join(show(slide) for slide in fitting[:2])
                raise ConfigError(
                    f"{show(self.path)}: {_text(row)} may be {shown}; put folders in front of it"
                )
        return [_text(row) for row in self.rows if row not in meant]

    def _row(self, slide: Path) -> Parts | None:
        return longest_end(path_parts(slide.absolute()), self.rows)


def load_mpp_table(path: Path) -> MppTable:
    """Reads a CSV with the columns slide and mpp, as any spreadsheet writes it.

    Raises:
        ConfigError: it can't be read, lacks a column, names a slide twice, or states a scale that
            no microscope gives; the message names file and line.
    """
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as error:
        raise ConfigError(f"--mpp-table {show(path)}: can't be read: {error.strerror}") from error
    return _load(path, stamp)


@lru_cache(maxsize=4)
def _load(path: Path, stamp: int) -> MppTable:
    """The table; read once for all slides of a batch, and again after it was changed."""
    rows: dict[Parts, float] = {}
    for line, (name, text) in _read_rows(path):
        key = path_parts(name)
        if not key:
            raise ConfigError(f"{show(path)}: line {line}: names no slide")
        if key in rows:
            raise ConfigError(f"{show(path)}: line {line}: {name} is there twice")
        rows[key] = _parse(text, f"{show(path)}: line {line}: {name}")
    if not rows:
        raise ConfigError(f"{show(path)}: has no rows; expected the columns slide and mpp")
    return MppTable(path, rows)


def _read_rows(path: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """The line and the two values of each row."""
    sheet, records = read_records(path)
    names = [name.lower() for name in sheet.header]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise ConfigError(
            f"{show(path)}: needs one column {' and one '.join(missing)}; it has "
            f"{', '.join(sheet.header)}"
        )
    for line, record in records:
        yield line, (record["slide"], record["mpp"])


def _parse(text: str, place: str) -> float:
    try:
        mpp = number(text, "," if "," in text else ".")  # nobody parts thousands of µm
    except ValueError as error:
        raise ConfigError(f"{place}: µm per pixel: {error}") from None
    if not is_sane(mpp):
        low, high = SANE_MPP
        raise ConfigError(f"{place}: {mpp:g} must be {low:g} to {high:g} µm per pixel")
    return mpp


def _text(row: Parts) -> str:
    return "/".join(row)

"""What is odd about annotations: noted file by file, told once for all files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from configs import Doubt

_SHOWN = 3
"""Files, and sentences of one code, that are shown; the rest is counted."""


class Remark(NamedTuple):
    """Something odd that was settled by a rule, on its way to a `Doubt`.

    Attributes:
        code: a key of `configs.doubts.ANNOTATIONS`.
        text: what was done, without the file; ``{count}`` stands for how often.
        count: how often it was.
    """

    code: str
    text: str
    count: int = 1


def doubts_of(remarks: Iterable[tuple[Path, Remark]]) -> tuple[Doubt, ...]:
    """Remarks by file as doubts: what is the same in several files is told once.

    Of a code with very many different sentences only the first are told, and how many more.
    """
    counts: Counter[tuple[str, str]] = Counter()
    files: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path, remark in remarks:
        key = remark.code, remark.text
        counts[key] += remark.count
        if path not in files[key][-1:]:
            files[key].append(path)
    by_code: dict[str, list[Doubt]] = defaultdict(list)
    for (code, text), count in counts.items():
        sentence = text.replace("{count}", str(count))
        where = _places(files[code, text])
        by_code[code].append(Doubt(code=code, text=f"{where}: {sentence}"))
    return tuple(doubt for doubts in by_code.values() for doubt in _first(doubts))


def _places(paths: list[Path]) -> str:
    shown = ", ".join(str(path) for path in paths[:_SHOWN])
    return shown if len(paths) <= _SHOWN else f"{shown} and {len(paths) - _SHOWN} more files"


def _first(doubts: list[Doubt]) -> list[Doubt]:
    if len(doubts) <= _SHOWN:
        return doubts
    last = doubts[_SHOWN - 1]
    rest = f"{last.text} (and the like {len(doubts) - _SHOWN} times more)"
    return [*doubts[: _SHOWN - 1], Doubt(code=last.code, text=rest)]

"""What was odd about annotations, gathered over a set: each kind is told once, with how often."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from configs import Doubt
from data.annotations.drawing import CROWD, DIFFICULT, Drawing, Remark
from data.annotations.placing import Placed

_IGNORED = {
    CROWD: "crowds are ignored: neither cells nor background (crowds: cells takes them as cells)",
    DIFFICULT: "difficult objects are ignored: neither cells nor background",
}


class Log:
    """Counts remarks, and the files that they are about."""

    def __init__(self) -> None:
        self._counts: Counter[Remark] = Counter()
        self._files: dict[Remark, dict[Path, None]] = defaultdict(dict)

    def add(self, code: str, text: str, path: Path, count: int = 1) -> None:
        """Takes note of something odd in or about a file; of nothing if the count is 0."""
        if count:
            remark = Remark(code, text)
            self._counts[remark] += count
            self._files[remark][path] = None

    def drawing(self, drawing: Drawing, path: Path) -> None:
        """Takes note of what a reader remarked and left out."""
        for remark, count in drawing.remarks.items():
            self.add(*remark, path, count)
        for kind, count in drawing.left_out.items():
            self.add("shapes-left-out", f"{kind} are no cells, and are left out", path, count)

    def ignored(self, drawing: Drawing, placed: Placed, path: Path, crowds_are_cells: bool) -> None:
        """Takes note of what a file itself wants ignored: each place once."""
        is_ignored, whys = drawing.is_ignored(crowds_are_cells), np.array(drawing.whys, object)
        if not is_ignored.any():
            return
        for why, text in _IGNORED.items():
            places = placed.boxes[is_ignored & (whys == why)]
            self.add("crowds-ignored", text, path, len(np.unique(places, axis=0)))

    def classes_alike(self, classes: Sequence[str]) -> None:
        """Takes note of classes that only differ in capitals and blanks."""
        alike = defaultdict(list)
        for name in classes:
            alike["".join(name.split()).casefold()].append(name)
        for names in alike.values():
            if len(names) > 1:
                text = f"{', '.join(names)} count as different classes; map them to one if they are"
                self._counts[Remark("classes-alike", text)] += 1

    def table_unused(self, names: Sequence[str]) -> None:
        """Takes note of names in the table of classes by which nothing is called."""
        if names:
            text = f"nothing is called {', '.join(names)}, which the table of classes renames"
            self._counts[Remark("classes-unused", text)] += 1

    def settings_idle(self, texts: Iterable[str]) -> None:
        """Takes note of settings that changed nothing: a sentence for each."""
        self._counts.update(Remark("annotation-setting-idle", text) for text in texts)

    def doubts(self) -> Iterator[Doubt]:
        """What was odd, in the order in which it was met."""
        for remark, count in self._counts.items():
            files = list(self._files[remark])
            where = files[0].name if files else ""
            if len(files) > 1:
                where = f"{len(files)} files, such as {where}"
            if count > 1 and where and count != len(files):
                where = f"{count} in {where}"
            yield Doubt(code=remark.code, text=f"{remark.text} ({where})" if where else remark.text)

"""Class names: from those of the annotators to those of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

UNCLASSIFIED = "unclassified"
"""What a shape without a class is called, so that a table can name it."""

IGNORE, REGION, DROP = "ignore", "region", "drop"
"""Targets that are no class: neither cell nor background; exhaustively annotated; left out."""

_MEANINGS = {"ignore": IGNORE, "region": REGION, "roi": REGION}
"""What some names mean by themselves; QuPath writes the first two as ``Ignore*``, ``Region*``."""


@dataclass(frozen=True)
class ClassTable:
    """Turns the annotators' names into the model's.

    Attributes:
        renamed: a class, or `IGNORE`, `REGION` or `DROP`, by the annotators' name.
        classes: the model's names; None takes every name that isn't renamed as it is: a table may
            rename some names and leave the rest, which is told.
    """

    renamed: Mapping[str, str]
    classes: tuple[str, ...] | None = None

    def target(self, name: str) -> str | None:
        """The class that a name stands for, or `IGNORE`, `REGION`, `DROP`; None if unknown."""
        if name in self.renamed:
            return self._known(self.renamed[name].strip())
        if self.classes and name in self.classes:
            return name
        meaning = _MEANINGS.get(name.rstrip("*").casefold())
        return meaning or self._known(name)

    def all_classes(self, names: Iterable[str], declared: Sequence[str]) -> tuple[str, ...]:
        """The classes of the labels: the model's, else what is declared, then the others sorted.

        Args:
            names: the names that were drawn.
            declared: names that the files list, in their order; they need not be drawn.
        """
        if self.classes is not None:
            return self.classes
        targets = [self.target(name) for name in (*declared, *sorted(set(names)))]
        return tuple(dict.fromkeys(t for t in targets if t and t not in (IGNORE, REGION, DROP)))

    def kept(self, names: Iterable[str]) -> list[str]:
        """Names that a table leaves as they are, which may be meant or a slip."""
        if self.classes is not None or not self.renamed:
            return []
        targets = {*self.renamed.values(), *_MEANINGS.values()}
        return sorted({name for name in names if name not in self.renamed and name not in targets})

    def unused(self, names: Iterable[str]) -> list[str]:
        """Names in the table by which nothing is called."""
        return sorted(set(self.renamed) - set(names))

    def _known(self, name: str) -> str | None:
        if name in (IGNORE, REGION, DROP):
            return name
        if self.classes is not None:
            return name if name in self.classes else None
        return None if name == UNCLASSIFIED else name

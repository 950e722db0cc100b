"""Readings and frames for tests of what is made of reviews."""

from pipeline.cells.classes import name_classes
from pipeline.review.exchange.truth import SlideFrame
from pipeline.review.store import (
    CellDecision,
    Reader,
    Reading,
    RegionMark,
    Said,
    SlideDecision,
    SlideKey,
    cell_key,
)

CLASSES = name_classes(("NILM", "LSIL", "HSIL"), (False, True, True))


def frame_of(path, size=(1000, 800), origin=(0, 0)):
    return SlideFrame(path.name, path, size, 0.25, origin, CLASSES)


def decision(box, verdict, label=None, said=None, key=None):
    said_ = Said(said, 0.6, box) if said else None
    named = said if verdict == "agree" else label
    key = key or (cell_key(box) if said else "a" + "0" * 32)
    return CellDecision(key, box, verdict, named, "", said_, "2026-11-27T06:00:00Z", 2.0, 1)


def reading(cells, regions=(), category=None, signed="2026-11-27T07:00:00Z"):
    return Reading(
        slide=SlideKey("f" * 64, "a.tif"),
        reader=Reader(1, "Ada"),
        round="reading",
        version=len(cells),
        cells={cell.key: cell for cell in cells},
        regions={f"r{i}": RegionMark(f"r{i}", box, "") for i, box in enumerate(regions)},
        decision=SlideDecision(None, category, "", signed),
    )

"""Readers at work: hands that write into a store as a page would."""

import itertools

from pipeline.review.store import Reading, ReviewStore, SlideKey, cell_key, parse_change

SLIDE = SlideKey("5" * 64, "slide-1")
OTHER = SlideKey("6" * 64, "slide-2")

_numbers = itertools.count(1)


def new_id() -> str:
    return f"{next(_numbers):032x}"


def box(place: int) -> tuple[float, float, float, float]:
    """Boxes that don't touch, one a number."""
    return (place * 100.0, 10.5, place * 100.0 + 40, 50.5)


def key(place: int) -> str:
    return cell_key(box(place))


def added(number: int) -> str:
    return f"a{number:032x}"


def said(place: int, label: str = "HSIL", score: float = 0.8) -> dict:
    return {"label": label, "score": score, "box": box(place)}


class Hand:
    """One reader, who knows the version of what he reads."""

    def __init__(self, store: ReviewStore, name: str, slide: SlideKey = SLIDE) -> None:
        self.store, self.reader, self.slide = store, store.reader(name), slide

    def reading(self, round: str = "reading") -> Reading:
        return self.store.reading(self.slide, self.reader, round)

    def enter(self, kind: str, round: str = "reading", **content) -> Reading:
        whole = {"kind": kind, "id": new_id(), "version": self.reading(round).version, **content}
        return self.store.apply(self.slide, self.reader, parse_change(whole), round)

    def cell(self, place: int, verdict: str = "agree", report: str = "HSIL", **more) -> Reading:
        whole = {"key": key(place), "verdict": verdict, "said": said(place, report), **more}
        return self.enter("cell", **whole)

    def draw(self, number: int, where, label: str = "HSIL", **more) -> Reading:
        return self.enter(
            "cell", key=added(number), verdict="added", label=label, box=where, **more
        )

    def sign(self, **more) -> Reading:
        return self.enter("sign", signed=True, **more)

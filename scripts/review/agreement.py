"""``cytolibra reviews agreement``: how far readers agree, and how sure that figure is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs import CytoLibraError

if TYPE_CHECKING:
    from data.evaluation import Kappa
    from pipeline.review.store.ratings import Ratings

_OFF_SCALE = "unsatisfactory"

_FEW_SLIDES = 20
"""Of fewer it is told that the interval tends to be too narrow, as percentiles of few draws are."""


def agreement(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of reports and reviews.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Count readings that are not signed off, too.")
    ] = False,
    level: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="Level of the intervals.")
    ] = 0.95,
    rounds: Annotated[
        int, typer.Option(min=100, max=100_000, help="Rounds of the bootstrap.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap's draws.")] = 0,
) -> None:
    """Tells how far readers agree on cells, categories and adequacy: kappa with intervals.

    For each pair of readers Cohen's kappa, unweighted and weighted by the steps between categories;
    for three readers or more Fleiss' kappa of all. Intervals draw whole slides anew.
    """
    from pipeline.review.store.ratings import collect
    from scripts.review.opening import open_reviews

    with open_reviews(folder) as store:
        ratings = collect(store, unsigned=unsigned)
    if len(ratings[0].readers) < 2:
        raise CytoLibraError(
            f"{folder}: no slide was read {'' if unsigned else 'and signed off '}by two readers: "
            "there is nothing to compare"
        )
    rows = [
        row
        for table in ratings
        for row in compare(table, _severity(table, folder), level=level, rounds=rounds, seed=seed)
    ]
    if as_json:
        facts = {"level": level, "rounds": rounds, "seed": seed, "unsigned": unsigned}
        typer.echo(json.dumps({**facts, "agreement": [_plain(row) for row in rows]}, indent=2))
    else:
        _print(rows, level)


@dataclass(frozen=True)
class Row:
    """Agreement of two readers, or of all, on one kind of thing.

    Attributes:
        subject: cells, category or adequacy.
        readers: their names; all where it is Fleiss' kappa.
        measure: cohen or fleiss.
        slides: from which what counts comes.
        both: what each of two decided; of all, what two or more did. Only these count.
        one_only: what one of them alone decided.
        unsure: what else two looked at, but of one of them or both the call is unsure.
        equal: of those that count, how many have the same call by all who decided.
        kappa: unweighted.
        weighted: by the steps between categories; None of all readers, and where the categories
            have no order.
        scale: the order by which it is weighted.
    """

    subject: str
    readers: tuple[str, ...]
    measure: str
    slides: int
    both: int
    one_only: int
    unsure: int
    equal: int
    kappa: Kappa
    weighted: Kappa | None
    scale: tuple[str, ...]


def compare(
    ratings: Ratings, scale: Sequence[str], *, level: float, rounds: int, seed: int
) -> Iterator[Row]:
    """Agreement of each pair of readers, and of all where they are more than two.

    Args:
        ratings: their calls.
        scale: categories by severity; those that are not in it are off the scale.
        level: of the intervals.
        rounds: of the bootstrap.
        seed: of its draws.
    """
    import numpy as np

    from data.evaluation import cohen_kappa, fleiss_kappa
    from pipeline.review.store.ratings import IS_UNSURE, UNDECIDED

    place = {name: float(index) for index, name in enumerate(scale)}
    positions = [place.get(name, math.nan) for name in ratings.categories]
    slides = np.asarray(ratings.slides, dtype=object)
    names = [reader.name for reader in ratings.readers]
    groups = list(combinations(range(len(names)), 2))
    if len(names) > 2:
        groups.append(tuple(range(len(names))))  # type: ignore[arg-type]
    options: dict[str, Any] = {"level": level, "rounds": rounds, "seed": seed}
    for group in groups:
        calls = ratings.calls[:, group]
        looked = (calls != UNDECIDED).sum(axis=1)
        decided = ((calls != UNDECIDED) & (calls != IS_UNSURE)).sum(axis=1)
        counts = decided > 1
        one, where = calls[counts], list(slides[counts])
        table = (one[:, :, None] == np.arange(len(positions))).sum(axis=1)
        if len(group) == 2:
            kappa = cohen_kappa(one[:, 0], one[:, 1], where, positions, **options)
            weighted = (
                cohen_kappa(one[:, 0], one[:, 1], where, positions, weighted=True, **options)
                if len(scale) > 2
                else None
            )
        else:
            kappa, weighted = fleiss_kappa(table, where, **options), None
        yield Row(
            ratings.subject,
            tuple(names[index] for index in group),
            "cohen" if len(group) == 2 else "fleiss",
            len(set(where)),
            int(counts.sum()),
            int((looked == 1).sum()),
            int(((looked > 1) & ~counts).sum()),
            int((table.max(axis=1, initial=0) == table.sum(axis=1)).sum()),
            kappa,
            weighted,
            tuple(scale) if weighted else (),
        )


def _severity(ratings: Ratings, folder: Path) -> tuple[str, ...]:
    """The categories by severity, "no cell" first; empty where they have no order.

    Bethesda's where all categories are its own; else the classes of the model, in whose order the
    reports name them.
    """
    from pipeline.cells.classes import BETHESDA, find_category
    from pipeline.review.store import REJECTED

    if ratings.subject == "adequacy":
        return ()
    named = [name for name in ratings.categories if name not in {REJECTED, _OFF_SCALE}]
    known = [find_category(name) for name in named]
    if all(known):
        ranked = {category.name: category.severity for category in known if category}
        spelled = {
            category.name: name for name, category in zip(named, known, strict=True) if category
        }
        if len(spelled) < len(named):  # two spellings of one category: neither is the other
            return ()
        steps = [spelled.get(c.name, c.name) for c in BETHESDA]
        assert ranked.keys() <= {c.name for c in BETHESDA}
        return (REJECTED, *steps) if ratings.subject == "cells" else tuple(steps)
    classes = _classes(folder)
    if not set(named) <= set(classes):
        return ()
    return (REJECTED, *classes) if ratings.subject == "cells" else tuple(classes)


def _classes(folder: Path) -> list[str]:
    """The model's classes, of the first report that can be read."""
    from pipeline.batch.output import load_report
    from pipeline.batch.places import look_below

    for place in look_below(folder).results:
        report = load_report(place)
        if report:
            return [one.name for one in report.model.classes]
    return []


def _plain(row: Row) -> dict[str, Any]:
    """A row as JSON has it: null for what is undefined."""
    return _without_nan(asdict(row))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def _print(rows: Sequence[Row], level: float) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    for subject, those in groupby(rows, key=lambda row: row.subject):
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column(subject, min_width=12)
        for head in ("both", "one", "unsure", "equal", f"kappa [{level * 100:g} %]", "weighted"):
            table.add_column(head, justify="right", no_wrap=True)
        for row in those:
            who = ", ".join(row.readers) if row.measure == "cohen" else f"all {len(row.readers)}"
            share = f"{row.equal / row.both:.0%}" if row.both else "–"
            numbers = (f"{row.both:,}", f"{row.one_only:,}", f"{row.unsure:,}", share)
            kappas = (_show(row.kappa), _show(row.weighted) if row.weighted else "–")
            table.add_row(Text(who), *numbers, *kappas)
        Console().print(table)
    for line in _remarks(rows):
        typer.echo(line)


def _show(kappa: Kappa) -> str:
    if kappa.undefined:
        return "–"
    spread = "" if math.isnan(kappa.low) else f" [{kappa.low:.2f}, {kappa.high:.2f}]"
    return f"{kappa.value:.2f}{spread}"


def _remarks(rows: Sequence[Row]) -> Iterator[str]:
    """What a person has to know of the figures, a line each."""
    yield "both: decided by both (of all: by two or more); one: by one alone, and not compared"
    yield "kappa: Cohen's of two readers, Fleiss' of all; weighted: by steps of severity"
    if any(1 < row.slides < _FEW_SLIDES for row in rows):
        yield f"intervals of fewer than {_FEW_SLIDES} slides tend to be too narrow"
    for row in rows:
        who = f"{row.subject}, {', '.join(row.readers)}"
        yield from (f"{who}: {remark}" for remark in _on_row(row))


def _on_row(row: Row) -> Iterator[str]:
    if row.kappa.undefined:
        yield f"kappa is undefined: {row.kappa.undefined}"
        return
    if row.kappa.drawn == "subjects":
        yield f"all of one slide, so its {row.subject} are drawn anew, not slides"
    if row.kappa.lost:
        yield f"{row.kappa.lost} rounds of the bootstrap have no kappa and are left out"
    if row.weighted and row.weighted.subjects < row.both:
        off = row.both - row.weighted.subjects
        yield f"{off} of {row.both} are off the scale and left out of the weighted kappa"
    if row.weighted and row.weighted.undefined:
        yield f"weighted kappa is undefined: {row.weighted.undefined}"
    elif row.weighted and row.weighted.lost:
        yield f"{row.weighted.lost} rounds have no weighted kappa and are left out"

"""``cytolibra reviews select``: which fields to annotate next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.review.catalogue import Catalogue, ReportFolder
    from pipeline.review.exchange.selecting import Chosen, Squares
    from pipeline.review.store import ReviewStore, Task, TaskField


def select(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of reports.")],
    fields: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
    field_um: Annotated[
        float, typer.Option(min=20, max=5000, help="Side of a field in µm.")
    ] = 250.0,
    per_slide: Annotated[
        int | None,
        typer.Option(
            min=1, help="Most of one slide; without it twice its even share.", show_default=False
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Withdraw what was proposed before and isn't done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Proposes fields to annotate: where the model is unsure, each unlike the others.

    They become tasks, which cytolibra view shows; a field is done when a reader has marked it as
    read. Fields that touch what was read in full are left out, and so are those proposed before.
    Of several copies of a slide the first counts.
    """
    from pipeline.review.catalogue import Catalogue
    from pipeline.review.exchange.selecting import choose, share_of_slide
    from pipeline.review.store import ReviewStore

    with Catalogue(folder) as catalogue, ReviewStore.open(folder) as store:
        before = [task for task in store.tasks() if task.done or not replace]
        results = [one for one in catalogue if catalogue.of_key(one.key) is one]  # no copies
        _refuse_mixed(results)
        found = [
            _squares(number, one, catalogue, store, field_um, before)
            for number, one in enumerate(results)
        ]
        most = per_slide or share_of_slide(fields, len(results))
        chosen = choose(found, fields, most)
        if not chosen:
            raise ConfigError(
                f"{folder}: no field is left to propose: none has cells, or all were read or "
                "proposed before (--replace withdraws what was proposed and isn't done)"
            )
        wanted = [_field(one, results[one.slide]) for one in chosen]
        added = store.add_tasks(wanted, replace=replace)
    if as_json:
        told = {"fields": [_plain(one, results) for one in chosen], "added": added}
        typer.echo(json.dumps(told, indent=2))
    else:
        _print(chosen, results, added)


def _refuse_mixed(results: Sequence[ReportFolder]) -> None:
    """Refuses reports of models with different classes.

    Raises:
        ConfigError: there are some.
    """
    for one in results[1:]:
        if one.report.model.classes != results[0].report.model.classes:
            raise ConfigError(
                f"{results[0].folder} and {one.folder} are of models with different classes, whose "
                "scores don't compare; screen all slides with one model, or select from a folder "
                "of reports for each"
            )


def _squares(
    number: int,
    result: ReportFolder,
    catalogue: Catalogue,
    store: ReviewStore,
    field_um: float,
    before: Sequence[Task],
) -> Squares:
    import numpy as np

    from pipeline.review.exchange.selecting import square_up

    report = result.report
    marks = [mark.box for mark in store.marks(result.key)]
    known = [*marks, *(task.box for task in before if task.slide == result.key)]
    thresholds = [report.model.threshold[c.name] for c in report.model.classes]
    return square_up(
        number,
        catalogue.cells(result).cells,
        np.array(thresholds),
        (report.slide.width, report.slide.height),
        field_um / report.slide.mpp,
        np.array(known, np.float64).reshape(-1, 4),
    )


def _field(chosen: Chosen, result: ReportFolder) -> TaskField:
    from pipeline.review.store import TaskField

    reason = f"{chosen.cells} cells, unsure {chosen.worth:.2f}"
    return TaskField(result.key, chosen.box, reason, chosen.score)


def _plain(chosen: Chosen, results: Sequence[ReportFolder]) -> dict[str, object]:
    return {
        "slide": results[chosen.slide].name,
        "box": [round(side, 2) for side in chosen.box],
        "cells": chosen.cells,
        "unsure": round(chosen.worth, 4),
        "score": round(chosen.score, 4),
    }


def _print(chosen: Sequence[Chosen], results: Sequence[ReportFolder], added: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("slide")
    for head in ("x", "y", "cells", "unsure", "score"):
        table.add_column(head, justify="right")
    for one in chosen:
        x, y = round(one.box[0]), round(one.box[1])
        figures = (f"{x:,}", f"{y:,}", str(one.cells), f"{one.worth:.2f}", f"{one.score:.2f}")
        table.add_row(Text(results[one.slide].name), *figures)
    Console().print(table)
    typer.echo(f"{added} fields; cytolibra view shows them as fields to annotate")
    if added < len(chosen):
        typer.echo(f"{len(chosen) - added} more were proposed by another process meanwhile")

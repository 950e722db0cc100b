"""``cytolibra reviews``: what was decided about a folder of reports; a module a command."""

from __future__ import annotations

import typer

from scripts.review.agreement import agreement
from scripts.review.export import export
from scripts.review.select import select

reviews = typer.Typer(
    help="What was decided about a folder of reports: agreement, export, what to read next.",
    no_args_is_help=True,
)
for command in (agreement, export, select):
    reviews.command()(command)


@reviews.callback()
def about() -> None:
    """What was decided about a folder of reports: agreement, export, what to read next."""

"""``cytolibra reviews``: what was decided about a folder of reports; a module a command."""

from __future__ import annotations

import typer

from scripts.review.agreement import agreement

reviews = typer.Typer(
    help="What was decided about a folder of reports: agreement of readers.", no_args_is_help=True
)
reviews.command()(agreement)


@reviews.callback()
def about() -> None:
    """What was decided about a folder of reports: agreement of readers."""

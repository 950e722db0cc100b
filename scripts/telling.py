"""Telling people what was odd: one way for all commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import typer

from configs import ConfigError, CytoLibraError, Doubt

if TYPE_CHECKING:
    from data.fields.fieldset import FieldSet


def warn(doubts: Iterable[Doubt | str]) -> None:
    """Writes doubts to stderr, a line each: ``warning: TEXT [code]``."""
    for doubt in doubts:
        typer.echo(f"warning: {doubt}", err=True)


def tell_doubts(*sets: FieldSet) -> None:
    """The same of each doubt about sets, once."""
    warn(doubts_of(*sets))


def refuse_doubts(fields: FieldSet) -> None:
    """Turns doubts into an error, for ``--strict``.

    Raises:
        ConfigError: there are any; names all.
    """
    if fields.doubts:
        listed = "; ".join(map(str, fields.doubts))
        raise ConfigError(f"--strict: nothing was written, as there are warnings: {listed}")


def run_for_people(run: Callable[[], None]) -> None:
    """Ends the process with one line, not a traceback, where people can mend what is wrong.

    For modules that are called by ``python -m``; `scripts.cli` does it for commands.
    """
    try:
        run()
    except CytoLibraError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.exit_code)


def doubts_of(*sets: FieldSet) -> list[Doubt]:
    """What is odd about sets, each once: those to train on and to validate on may share it."""
    return list(dict.fromkeys(doubt for fields in sets for doubt in fields.doubts))

"""The ``cytolibra`` command: one module a subcommand, loaded only when it is called."""

from __future__ import annotations

import functools
import importlib
import io
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from scripts.build_info import describe_version
from scripts.completion import asked_words, prepare
from scripts.supervision import supervise

SUMMARIES = {
    "screen": "Screens slides, and folders of slides.",
    "rescore": "Makes new reports of screened slides by other thresholds and rules, in seconds.",
    "status": "Tells how a batch stands: what is done, running, failed and why, and the time left.",
    "retry": "Screens once more what failed, by the command, settings and model of its run.",
    "view": "Opens a folder of reports as a reading room in the browser.",
    "reviews": "What was decided about a folder of reports: agreement, export, what to read next.",
    "train": "Trains a detector on annotated fields and slides, or a grader for its second look.",
    "evaluate": "Figures of a model on annotated fields, with intervals, as a page and as JSON.",
    "calibrate": "Fits the rule that tells which slides are suspicious, for a wanted sensitivity.",
    "scale": "Teaches a model to tell how large a slide's cells are shown: its µm per pixel.",
    "compare": "Trains detectors x losses by one recipe and writes a table of them.",
    "config": "Prints the settings of a command, resolved, with help and origin of each.",
    "data": "Looks at annotated fields before they are trained on, and splits them.",
    "tile": "Writes the tiles of slides and their manifest.",
    "merge": "Writes the cells of all slides of a batch as Parquet, DuckDB, COCO or SpatialData.",
    "objects": "Writes DICOM and FHIR objects of results that are there, for archives and labs.",
    "convert": "Converts annotations of many formats to COCO.",
    "export": "Writes a model's networks for OpenVINO or ONNX, and what reduced precision costs.",
    "synth": "Makes pyramidal slides whose cells are known, each with its truth as COCO.",
    "models": "Lists the shipped models and your own; shows a model's card.",
    "doctor": "Says what this machine can run; tries the shipped model, and a folder for reports.",
    "completion": "Prints the lines by which a shell completes commands and options.",
}
"""What each subcommand does; the function of the same name in ``scripts.NAME`` does it."""

LEFT_OUT = frozenset(
    {"albumentations", "lightning", "matplotlib", "tensorboard", "torch", "torchvision"}
)
"""What an installation for screening alone may lack, as the container does."""


_INTERRUPTED = 130
_BATCHES = ("screen", "rescore", "retry")
"""Commands that read slides: they end at once when interrupted, whatever is in work, and go on in
another process where a slide ends theirs."""


def build_app(called: str | None) -> typer.Typer:
    """The command line, with the one subcommand that is called loaded.

    The others only lend their names and summaries to ``--help``: loading torch takes seconds.
    """
    app = typer.Typer(
        name="cytolibra",
        help="Screens cervical cytology slides. Research use only; not for diagnosis.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, summary in SUMMARIES.items():
        command = _load(name) if name == called else _unloaded
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, help=summary)
        else:
            app.command(name, help=None if name == called else summary)(command)
    return app


def main() -> None:
    """Runs the command line of this process."""
    for stream in (sys.stdout, sys.stderr):  # a path may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    asked = asked_words()
    words = sys.argv[1:] if asked is None else asked
    called = next((word for word in words if not word.startswith("-")), None)
    if asked is not None:
        prepare()
    elif called in _BATCHES:
        supervise()
    try:
        build_app(called)(prog_name="cytolibra")
    except SystemExit as end:
        if end.code == _INTERRUPTED and called in _BATCHES:
            # What was finished is written. Threads that are within a tile would be waited for.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(_INTERRUPTED)
        raise
    except ModuleNotFoundError as error:
        if error.name not in LEFT_OUT:
            raise
        typer.echo(
            f"error: {error.name} is not installed here, and cytolibra {called} needs it; "
            "screening on a CPU by a shipped or exported model does without. Install all of "
            "CytoLibra: pip install cytolibra",
            err=True,
        )
        sys.exit(2)
    except KeyboardInterrupt:  # while it was loaded
        typer.echo("interrupted", err=True)
        sys.exit(130)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(describe_version())
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print version and build, and exit.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Takes what stands before the subcommand."""


def _unloaded() -> None:
    """Stands for a subcommand that is not called."""


def _load(name: str) -> Callable[..., None] | typer.Typer:
    loaded = getattr(importlib.import_module(f"scripts.{name}"), name)
    if not isinstance(loaded, typer.Typer):
        return _for_people(loaded)
    for command in (*loaded.registered_commands, loaded.registered_callback):
        if command and command.callback:
            command.callback = _for_people(command.callback)
    return loaded


def _for_people(command: Callable[..., None]) -> Callable[..., None]:
    """Turns errors that people can mend into one line and an exit code."""

    @functools.wraps(command)
    def call(*arguments: Any, **options: Any) -> None:
        from configs import CytoLibraError

        try:
            command(*arguments, **options)
        except CytoLibraError as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None

    return call


if __name__ == "__main__":
    main()

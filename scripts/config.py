"""``cytolibra config``: what a command's settings come to, and who said each."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from configs import StrictModel

SCHEMAS = Path(__file__).parent.parent / "configs" / "schema"
"""Where the JSON Schemas of settings lie."""


class Kind(StrEnum):
    """Commands that take settings; train takes those of detectors and of graders."""

    screen = "screen"
    train = "train"
    grader = "grader"
    compare = "compare"


Files = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings: a YAML file, or a preset of this command's (screen/default; train/cric; "
        "compare/cric; …); may be repeated, a later one overrides an earlier one.",
    ),
]
"""The option of every command that takes settings."""

Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One setting, such as tiler.overlap=128; overrides all files. Where a setting has an "
        "option of its own, that overrides --set.",
    ),
]


def config(
    command: Annotated[Kind, typer.Argument(help="Whose settings.")],
    files: Files = None,
    set_: Overrides = None,
    schema: Annotated[
        bool,
        typer.Option("--schema", help="Print the JSON Schema, by which editors complete YAML."),
    ] = False,
) -> None:
    """Prints the settings of a command, resolved, with help and origin of each.

    What is printed is YAML, and can be given to that command with --config.
    """
    from configs.describing import json_schema, listing, to_json
    from configs.layers import join, read_layers
    from configs.loading import resolve

    model = model_of(command)
    if schema:
        typer.echo(to_json(json_schema(model, title_of(command))), nl=False)
        return
    layers = read_layers(files, set_ or ())
    typer.echo(listing(resolve(layers, model), join(layers, model)), nl=False)


def model_of(command: Kind) -> type[StrictModel]:
    """The settings class of a command."""
    if command is Kind.screen:
        from pipeline.settings import ScreenSettings

        return ScreenSettings
    if command is Kind.train:
        from scripts.training.settings import TrainSettings

        return TrainSettings
    if command is Kind.grader:
        from scripts.training.grader_settings import GraderTrainSettings

        return GraderTrainSettings
    from scripts.comparison.comparison import ComparisonSettings

    return ComparisonSettings


def title_of(command: Kind) -> str:
    """What the schema of a command's settings is called."""
    if command is Kind.grader:
        return "Settings of cytolibra train for a grader"
    return f"Settings of cytolibra {command}"


def write_schemas() -> None:
    """Writes the JSON Schemas of all settings anew."""
    from configs.describing import json_schema, to_json

    SCHEMAS.mkdir(exist_ok=True)
    for kind in Kind:
        text = to_json(json_schema(model_of(kind), title_of(kind)))
        (SCHEMAS / f"{kind}.schema.json").write_text(text, encoding="utf-8", newline="\n")

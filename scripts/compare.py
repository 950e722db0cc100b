"""``cytolibra compare``: detectors and losses by one recipe, as a table with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from configs import ConfigError, load_config
from scripts.config import Files, Overrides


def compare(
    out: Annotated[Path, typer.Option(help="Folder for the runs and the table.")],
    config: Files = None,
    set_: Overrides = None,
    only_table: Annotated[
        bool,
        typer.Option("--only-table", help="Trains nothing; writes the table of what is there."),
    ] = False,
) -> None:
    """Trains detectors x losses by one recipe and writes a table of them.

    Start it once for each core or GPU, with the same --out: the processes share the runs. A run
    that is done is not made again.
    """
    from scripts.comparison.comparison import ComparisonSettings, run_comparison
    from scripts.comparison.comparison_table import write_table

    settings = load_config(config, ComparisonSettings, set_ or [])
    console = Console()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: can't be made: {error.strerror}") from error
    if not only_table:
        run_comparison(settings, out, console)
    console.print(f"The table: {write_table(settings, out)}", soft_wrap=True)

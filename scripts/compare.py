"""``cytolibra compare``: detectors and losses by one recipe, as a table with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from configs import ConfigError, load_config
from scripts.config import Files, Overrides
from scripts.telling import warn


def compare(
    out: Annotated[Path, typer.Option(help="Folder for the runs and the table.")],
    config: Files = None,
    set_: Overrides = None,
    only_table: Annotated[
        bool,
        typer.Option("--only-table", help="Trains nothing; writes the table of what is there."),
    ] = False,
    costs: Annotated[
        bool,
        typer.Option("--costs", help="Measures what each system costs; keep the machine idle."),
    ] = False,
    records: Annotated[
        Path | None,
        typer.Option(
            help="Folder of records, some KB a run: what it has is not trained again, and it gets "
            "what is."
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(help="A page into which the table goes, too, where it has a place for it."),
    ] = None,
) -> None:
    """Trains detectors x losses by one recipe and writes a table of them.

    Start it once for each core or GPU, with the same --out: the processes share the runs. A run
    that is done is not made again. Where the configuration has systems, the table is of these.
    """
    from scripts.comparison.comparison import ComparisonSettings, check_made, run_comparison
    from scripts.comparison.comparison_table import judge_all, write_table
    from scripts.comparison.costs import measure_costs
    from scripts.comparison.records import keep_records, take_records
    from scripts.comparison.systems_table import write_page

    settings = load_config(config, ComparisonSettings, set_ or [])
    if costs and not settings.systems:
        raise ConfigError("--costs: the configuration names no systems whose costs could be told")
    console = Console()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: can't be made: {error.strerror}") from error
    if records is not None:
        take_records(records, out)
    if not only_table:
        run_comparison(settings, out, console)
    warn(check_made(settings, out))
    if costs:
        measure_costs(settings, out)
    judged = judge_all(settings, out)
    if records is not None:
        keep_records(judged, out, records)
    table = write_table(settings, out, judged)
    if page is not None:
        write_page(page, table.read_text(encoding="utf-8"))
    console.print(f"The table: {table}", soft_wrap=True)

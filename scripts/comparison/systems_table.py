"""The table of systems: what is added to a detector, what it wins, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

from configs import ConfigError
from scripts.comparison.comparison import ComparisonSettings, table_runs
from scripts.comparison.costs import Costs, read_costs, settings_apart
from scripts.comparison.judged import (
    MEAN,
    Judged,
    difference,
    how_drawn,
    markdown,
    merged_names,
    paired,
    schedule,
    spread,
)

Row = tuple[str, str, str]
"""Detector, loss and system."""

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
"""Between these lines of a page the table stands."""

NONE_YET = "None of these systems has been trained yet, so there are no figures."


def systems_sections(
    settings: ComparisonSettings, out: Path, judged: Sequence[Judged]
) -> list[str]:
    """Figures, differences to the plain detector, and costs; as far as they are there."""
    rows = _rows(settings, out, judged)
    done = {row: runs for row, runs in rows.items() if runs}
    if not done:
        return [NONE_YET]
    names = ["abnormal", "any", MEAN, *merged_names(settings)]
    return [
        schedule(settings, out),
        _means(done, names),
        _missing(rows),
        _differences(settings, done, names),
        _costs(settings, done, read_costs(out)),
    ]


def write_page(page: Path, table: str) -> None:
    """Puts a table between the two lines of a page that are kept for it.

    Raises:
        ConfigError: the page can't be read or written, or lacks these lines.
    """
    try:
        text = page.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        if BEGIN not in text or END not in rest:
            raise ConfigError(f"--page {page}: has no lines {BEGIN} and {END}, in this order")
        page.write_text(f"{before}{BEGIN}\n\n{table.strip()}\n\n{END}{after}", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--page {page}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--page {page}: is no text in UTF-8") from error


def _rows(
    settings: ComparisonSettings, out: Path, judged: Sequence[Judged]
) -> dict[Row, list[Judged]]:
    """The runs of each row that is planned, in the order of the settings."""
    of_run = {one.run: one for one in judged}
    planned = list(dict.fromkeys(table_runs(settings, out)))
    rows: dict[Row, list[Judged]] = {
        row: []
        for row in product(settings.detectors, settings.losses, settings.systems)
        if row in {(run.detector, run.loss, run.system) for run in planned}
    }
    for run in planned:
        if run in of_run and run.system:
            rows[run.detector, run.loss, run.system].append(of_run[run])
    return rows


def _means(rows: Mapping[Row, Sequence[Judged]], names: Sequence[str]) -> str:
    table = [["detector", "loss", "system", "seeds", *names]]
    for row, runs in rows.items():
        table.append([*row, str(len(runs)), *(spread(runs, name) for name in names)])
    return "AP50 in percent, mean ± standard deviation over seeds\n\n" + markdown(table)


def _missing(rows: Mapping[Row, Sequence[Judged]]) -> str:
    names = [
        f"{system} ({detector}, {loss})" for (detector, loss, system), r in rows.items() if not r
    ]
    return f"No run of: {', '.join(names)}." if names else ""


def _differences(
    settings: ComparisonSettings, rows: Mapping[Row, Sequence[Judged]], names: Sequence[str]
) -> str:
    """Each system against the plain one with the same detector and loss; seeds that both have."""
    assert settings.plain is not None
    table = [["detector", "loss", "system", "seeds", *names]]
    for row, runs in rows.items():
        detector, loss, system = row
        pairs = paired(runs, rows.get((detector, loss, settings.plain), []))
        if system != settings.plain and pairs:
            table.append([*row, str(len(pairs)), *(difference(pairs, name) for name in names)])
    if len(table) == 1:
        return ""
    every = [one for runs in rows.values() for one in runs]
    return (
        f"Difference to {settings.plain} in points of AP50, with {how_drawn(every)}\n\n"
        + markdown(table)
    )


def _costs(
    settings: ComparisonSettings, rows: Mapping[Row, Sequence[Judged]], costs: Costs | None
) -> str:
    """Seconds of a step and of a field, and by how much more than the plain detector's."""
    if costs is None:
        return "Costs were not measured; `--costs` does."
    assert settings.plain is not None
    table = [["detector", "loss", "system", "training, ms a step", "inference, ms a field"]]
    others = {
        row
        for row, runs in rows.items()
        if costs.settings.get("/".join(row)) not in (None, settings_apart(settings, runs[0].run))
    }
    for row in rows:
        of_plain = (*row[:2], settings.plain)
        cells = list(_cost_cells(costs, "/".join(row), "/".join(of_plain)))
        if any(cells) and not {row, of_plain} & others:
            table.append([*row, *(cell or "–" for cell in cells)])
    told = f"Costs: {costs.told}\n\n" + markdown(table)
    if others:
        named = ", ".join(f"{system} ({of}, {loss})" for of, loss, system in sorted(others))
        told += f"\n\nMeasured with other settings, and left out: {named}; `--costs` does it anew."
    return told


def _cost_cells(costs: Costs, row: str, plain: str) -> Iterator[str]:
    for seconds in (costs.step, costs.field):
        value, base = seconds.get(row), seconds.get(plain)
        if value is None:
            yield ""
        else:
            more = f" ({value / base - 1:+.1%})" if base and row != plain else ""
            yield f"{1000 * value:.1f}{more}"

"""A paper plan: a batch of up to a million slides on many machines, simulated from measured rates.

Compares ``--shard``, claims and Ray: how long it takes, what it costs in machine hours, and what
those are spent on. The rates, and where each is from, stand in ``clustersim.py``; ``--inputs``
prints them, ``--set storage.gigabytes_per_s=5`` changes one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import matplotlib
from clustersim import CAUSES, WAYS, Outcome, Rates, Way, simulate
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from configs import ConfigError, load_config

sys.path.append(str(Path(__file__).parents[1]))
from scripts.evaluation.svg import ACCENT, INK, MUTED, STYLE, alone, to_svg

Runs = Mapping[tuple[Way, int], Outcome]

_NAMES: Mapping[Way, str] = {"shards": "--shard", "claims": "claims", "ray": "Ray"}
_COLORS: Mapping[Way, str] = {"shards": MUTED, "claims": ACCENT, "ray": INK}
_OF_CAUSES = {
    "work": ACCENT,
    "storage": "#4a90c2",
    "file server": "#c98a2b",
    "driver": "#8d5a97",
    "start": "#b5533c",
    "summary": "#7a7a7a",
    "lost": "#000000",
    "idle": "#c9d2d6",
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slides", type=int, default=1_000_000)
    parser.add_argument("--machines", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", nargs="*", help="YAML files of rates")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--inputs", action="store_true", help="print the rates, simulate nothing")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="SVG of what is told")
    given = parser.parse_args()
    if min(given.slides, *given.machines) < 1:
        parser.error("--slides, --machines: at least 1")
    try:
        rates = load_config(given.config, Rates, given.set)
    except ConfigError as problem:
        parser.error(str(problem))
    if given.inputs:
        print("\n".join(table_of_inputs(rates)))
        return
    with ProcessPoolExecutor() as pool:
        coming = {
            (way, machines): pool.submit(simulate, rates, given.slides, machines, way, given.seed)
            for machines in given.machines
            for way in WAYS
        }
        runs = {key: run.result() for key, run in coming.items()}
    print("\n".join(table_of_runs(runs)))
    if given.plot:
        given.plot.write_text(draw(runs, rates, given.slides), encoding="utf-8")


def table_of_inputs(rates: Rates) -> Iterator[str]:
    """All rates, and where they are from, as Markdown."""
    yield "| rate | value | what it is, and where from |"
    yield "| --- | ---: | --- |"
    for part, values in rates:
        for name, info in type(values).model_fields.items():
            value = getattr(values, name)
            yield f"| `{part}.{name}` | {value:g} | {info.description} |"


def table_of_runs(runs: Runs) -> Iterator[str]:
    """How each batch went, as Markdown."""
    yield (
        "| machines | shared by | days | machine hours | of these work | most of the rest "
        "| machines lost | slides begun again |"
    )
    yield "| ---: | --- | ---: | ---: | ---: | --- | ---: | ---: |"
    for (way, machines), run in runs.items():
        yield (
            f"| {machines:,} | {_NAMES[way]} | {run.hours / 24:.1f} | {run.machine_hours:,.0f} "
            f"| {run.share('work'):.0%} | {run.breaks}: {run.share(run.breaks):.0%} "
            f"| {run.losses:,} | {run.redone:,} |"
        )


def draw(runs: Runs, rates: Rates, slides: int) -> str:
    """Slides an hour by the number of machines, and what machine hours are spent on, as SVG."""
    counts = sorted({machines for _, machines in runs})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        speed, shares = figure.subplots(1, 2, width_ratios=(1, 1.25))
        _draw_speed(speed, runs, counts, rates, slides)
        _draw_shares(shares, runs, _shown(counts))
        return alone(to_svg(figure, "Slides an hour, and what machine hours are spent on"))


def _draw_speed(axes: Axes, runs: Runs, counts: list[int], rates: Rates, slides: int) -> None:
    for way in WAYS:
        speeds = [slides / runs[way, count].hours for count in counts]
        axes.plot(counts, speeds, color=_COLORS[way], marker="o", markersize=3, label=_NAMES[way])
    storage = 3600 * rates.storage.gigabytes_per_s / rates.slides.gigabytes
    axes.axhline(storage, color=_OF_CAUSES["storage"], linestyle=":", label="what storage gives")
    axes.set(xscale="log", yscale="log", xlabel="machines of two cores", title="Slides an hour")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.0f}")
        axis.set_minor_formatter("")
    axes.legend(loc="lower right")


def _draw_shares(axes: Axes, runs: Runs, counts: Sequence[int]) -> None:
    bars = [(way, count) for count in reversed(counts) for way in reversed(WAYS)]
    left = [0.0] * len(bars)
    for cause in CAUSES:
        widths = [100 * runs[bar].share(cause) for bar in bars]
        axes.barh(range(len(bars)), widths, left=left, color=_OF_CAUSES[cause], label=cause)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(bars)), [f"{count:,}, {_NAMES[way]}" for way, count in bars])
    axes.set(xlim=(0, 100), xlabel="%", title="What machine hours are spent on")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=4)


def _shown(counts: Sequence[int]) -> list[int]:
    """Powers of ten where there are any, else all."""
    return [n for n in counts if n > 1 and n == 10 ** (len(str(n)) - 1)] or list(counts)


if __name__ == "__main__":
    main()

"""``cytolibra status``: how a batch stands, by its files alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.doubts import listed
from scripts.telling import warn

if TYPE_CHECKING:
    from pipeline.batch.state import BatchState, Running, RunState

_NAMED = 3
"""Slides that are named where several failed alike; --json names all."""

_EVERY_S = 5.0

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder that screen writes to.", show_default=False)
]


def status(
    reports: Folder,
    watch: Annotated[
        bool, typer.Option("--watch", help="Tell it again every few seconds, until all has ended.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="As JSON; with --watch a line each time.")
    ] = False,
    summary: Annotated[
        bool,
        typer.Option(
            "--summary", help="Write summary.csv and summary.html by what is there now, too."
        ),
    ] = False,
) -> None:
    """Tells how a batch stands: what is done, running, failed and why, and the time left.

    Reads the files in the folder alone, from any machine that sees them, while runs go on and after
    they have ended. Without --summary nothing is written.

    Exit codes: 0 nothing has failed so far, 1 slides have failed, 2 there is no batch, or its
    record is damaged or of a newer version, 130 interrupted.
    """
    from pipeline.batch.known import KnownResults
    from pipeline.batch.state import read_state

    if summary:
        _summarise(reports, quiet=as_json)
    known = KnownResults(reports)
    while True:
        state = read_state(reports, known=known)
        if as_json:
            typer.echo(json.dumps(_as_json(state), indent=None if watch else 2))
        else:
            for line in _lines(state):
                typer.echo(line)
            warn(state.doubts)
        if not watch or not any(run.alive for run in state.runs):
            raise typer.Exit(1 if state.failed else 0)
        time.sleep(_EVERY_S)
        if not as_json:
            typer.echo()


def _summarise(reports: Path, *, quiet: bool) -> None:
    """Writes the summary; of what is told of it on standard output nothing where that is JSON."""
    from pipeline.batch.batch_summary import summarise_folder

    page, doubts = summarise_folder(reports)
    typer.echo(f"summary: {page}", err=quiet)
    warn(doubts)


def _lines(state: BatchState) -> Iterator[str]:
    counts = _counts(state)
    told = [f"{count} {what.replace('_', ' ')}" for what, count in counts.items() if count]
    yield f"{len(state.slides)} slides: {', '.join(told) or 'none in it'}"
    for run in state.runs:
        yield _run_line(run)
    for one in state.running:
        yield f"  {_shown(one.slide)}: {_by_whom(one)}"
    if state.rate is not None:
        left = "" if state.left_s is None else f", about {_span(state.left_s)} left"
        yield f"{_per_hour(state.rate)} slides an hour{left}"
    for failure in state.failures:
        reason = failure.reason
        named = listed([_shown(name) for name in failure.slides], _NAMED)
        code = f" [{reason.code}]" if reason.code else ""
        yield f"failed, {reason.slides}: {_shown(reason.text)}{code} ({named})"


def _counts(state: BatchState) -> dict[str, int]:
    """Each slide counts once."""
    ended = {*state.done, *state.failed}
    running = {one.slide for one in state.running}
    cut = {name for run in state.runs for name in run.cut_short}
    before = {name for run in state.runs for name in run.done_before}
    outdated = {name for run in state.runs for name in run.outdated}
    of = {
        "done": len(state.done),
        "running": 0,
        "failed": len(state.failed),
        "not_reached": 0,
        "not_reached_with_an_earlier_result": 0,
        "not_reached_with_a_result_of_other_settings": 0,
        "cut_short": 0,
    }
    for name, slide in state.slides.items():
        if name in ended:
            continue
        kind = "not_reached"
        if slide.status == "running":
            kind = "running" if name in running else "cut_short" if name in cut else kind
        elif name in before:
            kind = "not_reached_with_an_earlier_result"
        elif name in outdated:
            kind = "not_reached_with_a_result_of_other_settings"
        of[kind] += 1
    return of


def _run_line(run: RunState) -> str:
    from scripts.screening.call import how_to_go_on

    record = run.record
    if run.alive:
        named = [f"process {one.pid} on {_shown(one.host)}" for one in run.holders[:_NAMED]]
        if len(run.holders) > _NAMED:
            named.append(f"{len(run.holders) - _NAMED} more")
        who = f" by {', '.join(named)}" if named else ""
        return f"{run.name}: goes on{who}, since {record.started}"
    ended = {
        "running": "its process is gone",
        "complete": "came to its end",
        "stopped": "gave up early",
        "interrupted": "was interrupted",
    }[record.status]
    at = f", at {record.ended}" if record.ended else ""
    cut_short = record.status in ("running", "interrupted")
    onward = f"; {how_to_go_on('--overwrite' in record.command)}" if cut_short else ""
    return f"{run.name}: {ended}{at}{onward}"


def _by_whom(one: Running) -> str:
    if one.sign is None:
        return "running"
    sign = one.sign
    since = f"since {_shown(sign.at)}"
    try:
        spent = (datetime.now(UTC) - datetime.fromisoformat(sign.at)).total_seconds()
        since += f" ({_span(max(0.0, spent))})"
    except (ValueError, TypeError):  # no time, or one without a zone
        pass
    return f"running by process {sign.pid} on {_shown(sign.node)}, {since}"


def _as_json(state: BatchState) -> dict[str, Any]:
    return {
        "slides": len(state.slides),
        "counts": _counts(state),
        "slides_per_hour": state.rate and round(state.rate, 3),
        "seconds_left": state.left_s and round(state.left_s, 1),
        "runs": [
            {
                "record": run.name,
                "status": run.record.status,
                "alive": run.alive,
                "started": run.record.started,
                "ended": run.record.ended,
                "command": list(run.record.command),
                "processes": [
                    {"host": one.host, "pid": one.pid, "since": one.since} for one in run.holders
                ],
            }
            for run in state.runs
        ],
        "running": [
            {
                "slide": one.slide,
                "host": one.sign.node if one.sign else None,
                "pid": one.sign.pid if one.sign else None,
                "since": one.sign.at if one.sign else None,
            }
            for one in state.running
        ],
        "failed": [
            {
                "code": failure.reason.code or None,
                "reason": failure.reason.text,
                "slides": list(failure.slides),
            }
            for failure in state.failures
        ],
        "warnings": list(state.doubts),
    }


def _per_hour(rate: float) -> str:
    return f"{rate:.1f}" if rate < 100 else f"{rate:,.0f}"


def _span(seconds: float) -> str:
    """Such as 45 s, 12 min, 3 h 20 min or 2 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


def _shown(text: str) -> str:
    """What files say, such that it can't steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)

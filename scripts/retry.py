"""``cytolibra retry``: the command of a batch once more, for the slides that failed."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs import ConfigError
from scripts.screen import screen
from scripts.screening.call import (
    ScreenCall,
    how_to_go_on,
    keep_metrics,
    screen_all,
    tell_result,
)
from scripts.screening.options import EngineName, LogFormat
from scripts.status import Folder
from scripts.supervision import resumption
from scripts.telling import warn

if TYPE_CHECKING:
    from pipeline.batch.run_record import RunRecord
    from pipeline.batch.state import BatchState, Failure
    from pipeline.cloud.urls import Url


def retry(
    reports: Folder,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Only what failed for this: its code, or words of it, as cytolibra status tells.",
        ),
    ] = None,
) -> None:
    """Screens once more what failed, by the command, settings and model of its run.

    Slides that are done, or were not reached, are left as they are. Where several shards have
    failures, each shard's are screened here, one shard after the other. Paths that were given
    relative to a folder are so now: call it in the same folder.

    Exit codes: 0 nothing has failed, or all of it is done now, 1 some failed again, or none has and
    some were not reached, 2 the call is wrong, 130 interrupted.

    Research use only. Not a medical device; not for diagnosis. Findings require review by a
    qualified cytologist.
    """
    from pipeline.batch.state import read_state

    state = read_state(reports)
    warn(state.doubts)
    chosen = _chosen_of_runs(state, only)
    if not chosen:
        typer.echo(f"{len(state.slides)} slides: none has failed")
        ended = not any(run.alive for run in state.runs)
        if ended and (left := sum(one.status != "complete" for one in state.slides.values())):
            warn([f"{left} slides were not reached: the run's own command screens them"])
            raise typer.Exit(1)
        return
    due = [(record, names, _read_command(record)) for record, names in chosen]
    worst = 0
    for record, names, options in due:
        code = _again(reports, record, names, options)
        worst = max(worst, code)
        if code == 130:
            break
    raise typer.Exit(worst)


def _chosen_of_runs(
    state: BatchState, only: str | None
) -> Sequence[tuple[RunRecord, frozenset[str]]]:
    """The slides to mend, by the runs that told of them last.

    A process that goes on from one that has died takes those that this one had chosen: what it has
    begun counts as failed no more.

    Raises:
        ConfigError: nothing failed for what is asked for.
    """
    from pipeline.batch.run_record import record_name

    resumed = resumption()
    if chosen := resumed.noted.get("chosen"):
        named = [(run.record, chosen.get(record_name(run.record.shard, ""))) for run in state.runs]
        return [(record, frozenset(names)) for record, names in named if names]
    failed = frozenset(name for one in _chosen(state, only) for name in one.slides)
    runs = [(run.record, failed & _latest_of(run.record, state)) for run in state.runs]
    due = [(record, names) for record, names in runs if names]
    resumed.note(chosen={record_name(one.shard, ""): sorted(names) for one, names in due})
    return due


def _chosen(state: BatchState, only: str | None) -> Sequence[Failure]:
    """The failures to mend.

    Raises:
        ConfigError: nothing failed for what is asked for.
    """
    if only is None or not state.failures:
        return state.failures
    words = only.casefold().strip()
    alike = [one for one in state.failures if one.reason.code == words]
    alike = alike or [one for one in state.failures if words and words in _told(one).casefold()]
    if not alike:
        known = "; ".join(_told(one) for one in state.failures)
        raise ConfigError(f"--only {only}: nothing failed for that; there are: {known}")
    return alike


def _told(failure: Failure) -> str:
    reason = failure.reason
    return f"{reason.text} [{reason.code}]" if reason.code else reason.text


def _latest_of(record: RunRecord, state: BatchState) -> set[str]:
    """Slides of which a run was the last to tell, so that no other one takes them, too."""
    return {name for name, slide in record.slides.items() if state.slides[name] is slide}


def _read_command(record: RunRecord) -> dict[str, Any]:
    """What the command of a run gave to ``cytolibra screen``, by the names of its options.

    Raises:
        ConfigError: it is of another command, or of another version.
    """
    from pipeline.batch.run_record import record_name

    name = record_name(record.shard, ".json")
    words = list(record.command)
    if record.rescores:
        raise ConfigError(
            f"{name}: its last run was cytolibra rescore, which screens nothing; what failed there "
            "has no report by its settings: rescore it by those of before, given anew, or screen "
            "it again by cytolibra screen"
        )
    if words[1:2] != ["screen"] or record.model_given is None:
        raise ConfigError(f"{name}: tells of no cytolibra screen that could be called again")
    found: dict[str, Any] = {}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(functools.wraps(screen)(lambda **options: found.update(options)))
    try:
        app(words[2:], standalone_mode=False)
    except Exception as error:  # of the parser's kinds, which differ between its versions
        problem = getattr(error, "message", None) or str(error)
        raise ConfigError(f"{name}: its command can't be read: {problem}") from error
    if not found:
        raise ConfigError(f"{name}: its command screens nothing")
    return found


def _again(reports: Path, record: RunRecord, names: frozenset[str], options: dict[str, Any]) -> int:
    """Screens some slides of a run again; the exit code."""
    from configs.loading import validate
    from pipeline.settings import ScreenSettings

    settings = validate(record.given, ScreenSettings, "the settings in run.json")
    settings.check_mpp()
    slides: list[Path | Url] = options["slides"]
    paths = [path for path in slides if isinstance(path, Path)]
    lost = next((path for path in paths if not path.is_absolute() and not path.exists()), None)
    if lost:
        raise ConfigError(
            f"{lost}: is not here; call retry in the folder in which cytolibra screen was called"
        )
    typer.echo(f"{len(names)} failed slide(s) once more: {shlex.join(record.command)}")
    assert record.model_given is not None  # what has none can't be called again
    call = ScreenCall(
        slides=slides,
        out=reports,
        model=record.model_given,
        settings=settings,
        overwrite=options["overwrite"],
        fail_fast=options["fail_fast"],
        shard=record.shard,
        engine=EngineName(options["engine"]),
        workers=options["workers"],
        log_format=LogFormat(options["log_format"]),
        command=record.command,
        only=names,
    )
    with keep_metrics(options["metrics"]) as measured:
        result = screen_all(call, measured)
    tell_result(result, reports, how_to_go_on(overwrite=False))
    taken = result.screened + result.reused + result.rescored + len(result.failed) + result.pending
    if taken < len(names):
        typer.echo(
            f"error: {len(names) - taken} slide(s) that failed are no longer found where they were",
            err=True,
        )
        return max(1, result.exit_code)
    return result.exit_code

"""``cytolibra rescore``: other thresholds and rules on slides that were screened, in seconds."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from configs import ConfigError, Doubt
from scripts.config import Files, Overrides
from scripts.screening.call import check_extras, how_to_go_on, settings_given, tell_result
from scripts.screening.doubts import doubts_of_dicom
from scripts.screening.options import CsvKind, Model, Negatives, Rule, Threshold
from scripts.supervision import resumption
from scripts.telling import warn

if TYPE_CHECKING:
    from pipeline.batch.discovery import SlideJob
    from pipeline.batch.places import Places
    from pipeline.batch.plan import BatchPlan
    from pipeline.batch.rescore import Result
    from pipeline.batch.run_record import RunRecord
    from pipeline.reports.report import SlideReport
    from pipeline.settings import ScreenSettings


def rescore(
    reports: Annotated[
        Path,
        typer.Argument(metavar="REPORTS", help="Folder that screen wrote.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the new reports. Default: in their place."),
    ] = None,
    threshold: Threshold = None,
    rule: Rule = None,
    negatives: Negatives = None,
    config: Files = None,
    set_: Overrides = None,
    csv: CsvKind = None,
    model: Model = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Write reports anew that are as they should be, and over those of other slides.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Tell of which settings the reports are, and what would become of each; write "
            "nothing.",
        ),
    ] = False,
) -> None:
    """Makes new reports of screened slides by other thresholds and rules, in seconds.

    Thresholds, slide rule, false alarms, adequacy and how tables are written can be others; what
    shapes what is found can't: screen again for that. Settings that are not given stay those of the
    run that screened; --set threshold=null goes back to the model's own thresholds. Pictures are
    taken from the slides, where they still are. Slides that failed when they were screened, or were
    not reached, stay so in the new summary; cytolibra screen does them.

    Exit codes: 0 all reports are as they should be, 1 some could not be made, 2 the call is wrong,
    130 interrupted.

    Research use only. Not a medical device; not for diagnosis. Findings require review by a
    qualified cytologist.
    """
    from pipeline.batch.places import find_places
    from pipeline.batch.rescore import Result, describe_state, find_results, find_unscreened
    from pipeline.reports.report import encodable

    places = find_places(reports)
    _check_place(places, out or reports)
    results = find_results(places)
    left = find_unscreened(reports, results)
    flags = {
        "threshold": threshold,
        "triage.rule": rule,
        "triage.negatives": negatives,
        "reports.csv": csv.value if csv else None,
    }
    record = _latest(reports)
    settings = _settle(record, config, set_ or (), flags)
    plan = _plan(reports, out or reports, results, record, model, settings, overwrite)
    for line in describe_state(results):
        typer.echo(line)
    taken = [*(result.job for result in results), *left.failed]
    plan = replace(
        plan,
        doubts=(*plan.doubts, *places.doubts),
        not_read=left.not_read,
        only=frozenset(encodable(job.name) for job in taken),
    )
    warn(plan.doubts)
    if dry_run:
        without = (Result(job, None, None) for job in left.failed)
        raise typer.Exit(_look_ahead([*results, *without], plan))
    raise typer.Exit(_rescore_all([*taken, *left.waiting], plan, settings.isolate))


def _check_place(places: Places, out: Path) -> None:
    """Refuses a folder of several runs, and one for new reports that would be taken for others.

    Raises:
        ConfigError: there is no one run that says of which settings and slides the old reports are;
            or the new ones would lie among them.
    """
    from pipeline.slides.readers.base import show

    if places.several:
        raise ConfigError(
            f"{show(places.reports)}: holds the outputs of runs, each with settings, slides and a "
            f"summary of its own; rescore each by itself, {show(places.runs[0])} first"
        )
    if places.reports.resolve() in out.resolve().parents:
        raise ConfigError(
            f"--out {show(out)}: lies in {show(places.reports)}, whose slides would be there "
            "twice; name a folder beside it"
        )


def _latest(reports: Path) -> RunRecord | None:
    """The record of the last run that told what it was given."""
    from pipeline.batch.run_record import load_records

    told = [record for record in load_records(reports) if record.given]
    return max(told, key=lambda record: record.started, default=None)


def _settle(
    record: RunRecord | None,
    config: Sequence[str] | None,
    overrides: Sequence[str],
    flags: Mapping[str, str | float | Path | None],
) -> ScreenSettings:
    """What was given to the run that screened, with what is given now over it.

    ``strict`` alone holds only where it is given now: what was refused then has no report here.

    Raises:
        ConfigError: a setting is not allowed, or is one that does nothing here.
    """
    from configs.layers import join, plain, read_layers
    from configs.loading import validate
    from pipeline.settings import ScreenSettings

    given = [f"{key}={value}" for key, value in flags.items() if value is not None]
    layers = read_layers(config or [], [*overrides, *given])
    changes = plain(join(layers, ScreenSettings))
    before = validate(record.given if record else {}, ScreenSettings, "the settings in run.json")
    values = _over(before.model_dump(mode="json"), changes)
    settings = validate(values, ScreenSettings, "settings")
    _refuse_idle(before, settings, changes)
    settings.check_mpp()
    check_extras(settings)
    strict = settings.strict and "strict" in changes
    return settings.model_copy(update={"reports": settings.reports.settled(), "strict": strict})


def _refuse_idle(
    before: ScreenSettings, settings: ScreenSettings, changes: Mapping[str, Any]
) -> None:
    """Refuses what is given now, is other than before, and would do nothing.

    Files are the same wherever they are named from: records have their whole paths.

    Raises:
        ConfigError: there is such a setting.
    """
    from pipeline.settings import MADE

    had, has = (settings_given(one, "")[0] for one in (before, settings))
    for name in has:
        if name not in changes or name in {*MADE, *_AT_WORK} or has[name] == had[name]:
            continue
        what = "how slides are fetched, which is not done" if name == "cloud" else _FOUND
        raise ConfigError(f"{name}: shapes {what} here; give it to cytolibra screen")


_AT_WORK = frozenset({"strict", "isolate", "limits"})
"""Settings beside those of what is made that hold here: which reports fail, and how slides are
read for their pictures."""

_FOUND = "what the network finds, which is not done again"


def _over(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with others over them."""
    merged = dict(before)
    for key, value in changes.items():
        known = merged.get(key)
        nested = isinstance(value, dict) and isinstance(known, dict)
        merged[key] = _over(known, value) if nested else value  # type: ignore[arg-type]
    return merged


def _plan(
    reports: Path,
    out: Path,
    results: Sequence[Result],
    record: RunRecord | None,
    model: str | None,
    settings: ScreenSettings,
    overwrite: bool,
) -> BatchPlan:
    """What is to be made of the results, by what most of them have in common.

    Raises:
        ConfigError: nothing was kept of any slide, the model is another one, or rule or false
            alarms don't fit it.
    """
    from models import DEFAULT_MODEL, ModelSource
    from pipeline.batch.engines import RescoringAside
    from pipeline.batch.plan import BatchPlan
    from pipeline.batch.rescore import Rescorer, most_common_found
    from pipeline.reports.detections import DetectionsError, load_facts

    given = model or (record.model_given if record else None) or DEFAULT_MODEL
    like = most_common_found(results)
    if like is None or like.fingerprint is None:
        raise ConfigError(
            f"{reports}: no result tells by which settings it was found: fingerprint.json is "
            "missing, damaged, or of a version that kept nothing of what the network found; "
            "screen the slides again"
        )
    for result in [like, *results]:  # the first of these that can be read stands for all
        known = result.fingerprint
        if known is None or known.found != like.fingerprint.found:
            continue
        try:
            facts = load_facts(reports / result.job.name)
        except DetectionsError:
            continue
        break
    else:
        raise ConfigError(
            f"{reports}: no file of what the network found can be read; screen the slides again"
        )
    resumed = resumption()
    apart = RescoringAside(settings, resumed.isolates) if settings.isolate != "never" else None
    rescorer = Rescorer(ModelSource.find(given).card, settings, like.fingerprint.found, apart)
    if problem := rescorer.other_model(facts):
        raise ConfigError(f"--model {given}: {problem}; name the model that did, or screen again")
    force = rescorer.in_force(facts)
    return BatchPlan(
        out=out,
        model=force.model,
        settings=force.settings,
        command=("cytolibra", *sys.argv[1:]),
        overwrite=overwrite,
        strict=settings.strict,
        rescorer=rescorer,
        source=reports,
        screens=False,
        resumed=resumed.since,
        doubts=[
            *resumed.doubts,
            *(() if record else (_settings_unknown(),)),
            *doubts_of_dicom([result.job for result in results], settings),
        ],
        reports=settings.reports,
        given=settings_given(settings, given),
    )


def _settings_unknown() -> Doubt:
    text = (
        "no run.json that can be read tells with which settings and model the slides were "
        "screened: what is not given now is as by default"
    )
    return Doubt(code="settings-unknown", text=text)


def _rescore_all(jobs: Sequence[SlideJob], plan: BatchPlan, isolate: str) -> int:
    from pipeline.batch.batch import screen_batch
    from pipeline.batch.engines import LocalEngine
    from scripts.progress import show_progress

    if isolate != "never":
        resumption().allow()
    jobs = sorted(jobs, key=lambda job: job.name)
    with show_progress(Console()) as progress:
        result = screen_batch(jobs, LocalEngine(_never, slots=2), plan, progress)
    tell_result(result, plan.out, how_to_go_on(plan.overwrite))
    return result.exit_code


def _never(path: Path) -> SlideReport:
    raise AssertionError(f"{path}: nothing is screened here")


def _look_ahead(results: Sequence[Result], plan: BatchPlan) -> int:
    """What would become of each report, a line each; the exit code.

    Raises:
        ConfigError: the new reports can't be written.
    """
    from pipeline.batch.fingerprint import hash_recipe
    from pipeline.batch.output import check_output
    from pipeline.batch.plan import current_result, why_not_rescored, why_of_another, why_refused

    check_output(plan.out, [result.job for result in results])
    recipe, refused, due = hash_recipe(plan.settings, plan.model), 0, 0
    for result in results:
        job, report, known = result.job, result.report, result.fingerprint
        alike = report is not None and known is not None and known.recipe == recipe
        if not plan.overwrite and current_result(job, plan, recipe):
            verdict = "as it should be"
        elif job.problem:
            verdict, refused = f"can't be rescored: {job.problem}", refused + 1
        elif problem := why_of_another(job, plan):
            verdict, refused = f"can't be rescored: {problem}", refused + 1
        elif problem := why_not_rescored(job, plan):
            verdict, refused = f"can't be rescored: {problem}; screen it again", refused + 1
        elif report and alike and (problem := why_refused(job, report.warnings, plan)):
            verdict, refused = f"can't be rescored: {problem}", refused + 1
        else:
            verdict, due = "to be rescored", due + 1
            verdict += "; the slide is not there: no pictures" if job.gone else ""
        typer.echo(f"{job.name}: {verdict}")
    idle = len(results) - due - refused
    typer.echo(f"{due} to rescore, {idle} with nothing to do, {refused} that can't be")
    return 1 if refused else 0

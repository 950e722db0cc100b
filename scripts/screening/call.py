"""What a command screens, from its call to the batch."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from configs import ConfigError, Doubt
from scripts.screening.doubts import doubts_of_dicom, doubts_of_workers
from scripts.screening.options import EngineName, LogFormat
from scripts.telling import warn

if TYPE_CHECKING:
    from pydantic import JsonValue

    from pipeline.batch.discovery import Discovery
    from pipeline.batch.engines import Engine, Recipe
    from pipeline.batch.metrics import RunMetrics
    from pipeline.batch.plan import BatchPlan, BatchResult
    from pipeline.batch.run_record import Shard
    from pipeline.batch.staging import Staging
    from pipeline.cloud.store import Stores
    from pipeline.cloud.urls import Url
    from pipeline.in_force import InForce
    from pipeline.settings import ScreenSettings
    from scripts.progress import Several


@dataclass(frozen=True)
class ScreenCall:
    """What is to be screened, by what and how.

    Attributes:
        slides: slides and folders.
        out: the output folder.
        model: name or path.
        settings: as they were given.
        overwrite: whether to screen slides whose results are there.
        fail_fast: whether to stop at the first slide that fails.
        shard: the part that is screened here; None for all.
        engine: who screens.
        workers: processes; None for the engine's default.
        log_format: how the log is written.
        command: for the record; None for what this process was called with.
        only: names of the slides that are taken; None for all.
    """

    slides: Sequence[Path | Url]
    out: Path
    model: str
    settings: ScreenSettings
    overwrite: bool = False
    fail_fast: bool = False
    shard: Shard | None = None
    engine: EngineName = EngineName.local
    workers: int | None = None
    log_format: LogFormat = LogFormat.text
    command: Sequence[str] | None = None
    only: frozenset[str] | None = None


def screen_all(call: ScreenCall, metrics: RunMetrics | None = None) -> BatchResult:
    """Screens what is found.

    Args:
        call: what, by what and how.
        metrics: of the run, which are kept up; None where nobody wants them.

    Raises:
        ConfigError: the call is wrong; nothing was started.
    """
    from pipeline.batch.metrics import RunMetrics

    with ExitStack() as held:
        found, staging = _find(call, held)
        return _screen_found(call, found, staging, metrics or RunMetrics(""))


def discover_slides(call: ScreenCall, stores: Stores, scratch: Path | None = None) -> Discovery:
    """The slides of a call; those that are elsewhere are fetched into ``scratch``, later.

    Raises:
        ConfigError: they can't be found.
    """
    from pipeline.batch.discovery import discover
    from pipeline.slides.mpp_table import load_mpp_table

    settings = call.settings
    table = load_mpp_table(settings.mpp_table) if settings.mpp_table else None
    with_images = settings.mpp is not None or settings.mpp_override is not None
    return discover(
        call.slides, call.out, with_images=with_images, table=table, stores=stores, scratch=scratch
    )


def _find(call: ScreenCall, held: ExitStack) -> tuple[Discovery, Staging | None]:
    """The slides, and who fetches those that are elsewhere, if there are any.

    Args:
        call: what to screen.
        held: gives back connections and the scratch folder at its end.

    Raises:
        ConfigError: they can't be found or fetched.
    """
    from pipeline.batch.staging import Staging
    from pipeline.cloud.scratch import Scratch
    from pipeline.cloud.store import Stores

    cloud = call.settings.cloud
    stores = held.enter_context(Stores(cloud))
    scratch = Scratch(cloud, call.out)
    found = discover_slides(call, stores, scratch.folder)
    if not any(job.remote and job.remote.files for job in found.jobs):
        return found, None
    if call.engine is EngineName.ray and cloud.scratch is None:
        raise ConfigError(
            "--engine ray: slides that are fetched must be seen by all machines of the cluster; "
            "name a folder on a share by --set cloud.scratch=FOLDER"
        )
    return found, Staging(held.enter_context(scratch), cloud)


def _screen_found(
    call: ScreenCall, found: Discovery, staging: Staging | None, metrics: RunMetrics
) -> BatchResult:
    """Screens slides.

    Args:
        call: by what and how.
        found: the slides.
        staging: fetches those that are elsewhere.
        metrics: of the run.
    """
    from models import ModelSource
    from pipeline.batch.batch import screen_batch
    from pipeline.batch.engines import LocalEngine, Recipe, RescoringAside, Worker
    from pipeline.batch.fingerprint import hash_found
    from pipeline.batch.plan import is_done
    from pipeline.batch.staging import StagingEngine, StagingRescorer
    from scripts.progress import Several, show_progress
    from scripts.supervision import resumption

    resumed, settings = resumption(), call.settings
    doubts = [*resumed.doubts, *found.doubts, *doubts_of_dicom(found.jobs, settings)]
    may_isolate = settings.isolate != "never"
    apart = RescoringAside(settings, resumed.isolates) if may_isolate else None
    plan = _planned(call, found)

    def ready(force: InForce) -> BatchPlan:
        """What to do by what is in force."""
        shaped = hash_found(force.settings, force.model)
        card = ModelSource.find(call.model).card
        rescorer = StagingRescorer(card, settings, shaped, apart, staging)
        return plan(model=force.model, settings=force.settings, rescorer=rescorer)

    with show_progress(Console()) as progress:
        heard = Several(progress, metrics)
        recipe = Recipe(call.model, settings)
        in_force = recipe.foresee() if call.engine is EngineName.local else None
        if in_force and is_done(found.jobs, ready(in_force)):
            runner: Engine = LocalEngine(Worker(recipe).screen)  # has nothing to load a network for
        else:
            isolates = settings.isolates_all or resumed.isolates
            runner, in_force = _start_engine(call, recipe, heard, staging, isolates)
        if call.engine is EngineName.local and (call.workers or 1) > 1:
            doubts += doubts_of_workers(in_force) if runner.slots == call.workers else []
        if in_force.fallback:
            doubts.append(Doubt(code="runtime-fallback", text=in_force.fallback))
        warn(doubts)
        what = replace(ready(in_force), doubts=doubts)
        if staging:
            runner = StagingEngine(runner, staging, found.jobs, settings.cloud.ahead)
        metrics.describe(in_force.model.name)
        if may_isolate:
            resumed.allow()
        result = screen_batch(found.jobs, runner, what, heard)
        metrics.end(result.exit_code)
        return result


def _planned(call: ScreenCall, found: Discovery) -> partial[BatchPlan]:
    """What to do, but for what is in force."""
    from pipeline.batch.known import KnownResults
    from pipeline.batch.plan import BatchPlan
    from pipeline.cloud.urls import without_secrets
    from scripts.supervision import resumption

    return partial(
        BatchPlan,
        out=call.out,
        command=[without_secrets(word) for word in call.command or ("cytolibra", *sys.argv[1:])],
        overwrite=call.overwrite,
        fail_fast=call.fail_fast,
        shard=call.shard,
        strict=call.settings.strict,
        not_read=found.not_read,
        reports=call.settings.reports,
        given=settings_given(call.settings, call.model),
        only=call.only,
        known=KnownResults(call.out),
        log_format=call.log_format.value,
        resumed=resumption().since,
    )


def _start_engine(
    call: ScreenCall,
    recipe: Recipe,
    progress: Several,
    staging: Staging | None,
    isolates: bool,
) -> tuple[Engine, InForce]:
    """Ray, a process for each of several devices or workers, or this process alone."""
    from pipeline.batch.engines import (
        LocalEngine,
        ProcessEngine,
        RayEngine,
        Worker,
        devices_for,
        processes_of,
    )

    settings = recipe.settings
    if call.engine is EngineName.ray:
        places = [place for place in call.slides if isinstance(place, Path)]
        places += [staging.folder] if staging else []  # where slides will lie when they are fetched
        cluster = RayEngine(recipe, call.workers, progress.tiles_done, progress.warn, places)
        return cluster, cluster.describe()
    devices = devices_for(settings.runtime.device, call.workers)
    processes = partial(ProcessEngine, told=progress.tiles_done, limits=settings.limits)
    if len(devices) > 1 or isolates:
        several = processes(processes_of(recipe, devices))
        return several, several.describe()
    stop = threading.Event()
    here = Worker(recipe, stop, progress.tiles_done)
    in_force = here.describe()
    aside = processes([recipe]) if settings.isolate == "auto" else None
    return LocalEngine(here.screen, stop, aside=aside), in_force


def settings_given(settings: ScreenSettings, model: str | Path) -> tuple[dict[str, JsonValue], str]:
    """Settings and model as they are recorded, so that cytolibra rescore can go by them."""
    values = settings.model_dump(mode="json")
    paths = ((values, "mpp_table"), (values["cloud"], "scratch"))
    for part, name in (*paths, *((values["triage"], n) for n in _TRIAGE_FILES)):
        part[name] = str(Path(part[name]).absolute()) if part[name] else None
    return values, str(Path(model).absolute()) if Path(model).is_dir() else str(model)


_TRIAGE_FILES = ("rule", "negatives")


def check_extras(settings: ScreenSettings) -> None:
    """Looks for what the settings need and an installation may lack, before anything is screened.

    Raises:
        ConfigError: it isn't there.
    """
    from pipeline.objects.writing import check_installed
    from pipeline.reports.arrow_cells import import_extra

    if settings.reports.parquet:
        import_extra("pyarrow", "parquet", "reports.parquet")
    if settings.reports.dicom:
        check_installed()


@contextmanager
def keep_metrics(path: Path | None) -> Iterator[RunMetrics | None]:
    """A run's metrics, of which a file is kept; None where none is asked for.

    Raises:
        ConfigError: the file can't be written.
    """
    if path is None:
        yield None
        return
    from pipeline.batch.metrics import metrics_file

    with metrics_file(path, lambda problem: typer.echo(f"warning: {problem}", err=True)) as kept:
        yield kept


def how_to_go_on(overwrite: bool) -> str:
    """What is to be done where a batch was cut short, in words.

    Args:
        overwrite: whether it was to do slides whose results are there: nothing tells those that it
            has done from others.
    """
    if not overwrite:
        return "the same command goes on from there"
    return (
        "the same command does all slides again, for its --overwrite; without that it does those "
        "that have no result of these settings, and leaves the others as they are, new or old"
    )


def tell_result(result: BatchResult, out: Path, onward: str) -> None:
    """Says how a batch went.

    Args:
        result: it.
        out: the output folder.
        onward: what is to be done where it was cut short; see `how_to_go_on`.
    """
    counts = {
        "screened": result.screened,
        "rescored": result.rescored,
        "done before": result.reused,
        "failed": len(result.failed),
        "not reached": result.pending,
        "not read": result.not_read,
    }
    told = [f"{count} {what}" for what, count in counts.items() if count]
    if result.warned:
        told.append(f"{result.warned} with warnings")
    if result.outside:
        told.append(f"{result.outside} out of the model's domain")
    typer.echo(f"{', '.join(told) or 'no slides in this shard'}; see {out / 'summary.html'}")
    warn(result.doubts)
    if result.interrupted:
        typer.echo(f"interrupted: what is done stays; {onward}", err=True)
    if result.strict and result.not_read:
        typer.echo("error: with --strict files that are not read are failures", err=True)
    if result.problem:
        typer.echo(f"error: {result.problem}", err=True)

"""``cytolibra screen``: slides and folders in, reports out."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from configs import ConfigError, Doubt, load_config
from scripts.config import Files, Overrides

if TYPE_CHECKING:
    from pydantic import JsonValue

    from pipeline.batch.discovery import Discovery, SlideJob
    from pipeline.batch.engines import Engine, Recipe
    from pipeline.batch.metrics import RunMetrics
    from pipeline.batch.plan import BatchPlan, BatchResult
    from pipeline.batch.run_record import Shard
    from pipeline.batch.staging import Staging
    from pipeline.cloud.store import Stores
    from pipeline.cloud.urls import Url
    from pipeline.in_force import InForce
    from pipeline.objects.writing import Dicom as DicomKind
    from pipeline.settings import ScreenSettings
    from scripts.progress import Several


class Runtime(StrEnum):
    """What runs the network."""

    auto = "auto"
    torch = "torch"
    openvino = "openvino"


class Csv(StrEnum):
    """Dialect of cells.csv and summary.csv."""

    plain = "plain"
    excel = "excel"
    excel_comma = "excel-comma"
    excel_point = "excel-point"


class LogFormat(StrEnum):
    """How the log is written."""

    text = "text"
    json = "json"


class EngineName(StrEnum):
    """Who screens the slides."""

    local = "local"
    ray = "ray"


def _parse_mpp(text: str) -> str:
    """A number, or "estimate", as a setting; else told as of any option that is no number."""
    try:
        return text if text == "estimate" else repr(float(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor estimate") from None


def _parse_place(text: str) -> Path | Url:
    """A path, or a URL."""
    from pipeline.cloud.urls import parse_url

    try:
        return parse_url(text) or Path(text)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None


Slides = Annotated[
    list[Path],
    typer.Argument(
        metavar="SLIDE_OR_FOLDER",
        parser=_parse_place,
        help="Slides, and folders, which are searched recursively; by URL, too: s3://, gs://, "
        "az://, for single files https://, for archives dicomweb+https:// (an extra).",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder for the reports.")]
Model = Annotated[
    str | None,
    typer.Option(metavar="NAME_OR_PATH", help="Default: the accurate one of cytolibra models."),
]
Device = Annotated[
    str | None, typer.Option(metavar="auto|cpu|cuda[:i]", help="Where the network runs.")
]
Precision = Annotated[
    str | None, typer.Option(metavar="auto|fp32|bf16|fp16|int8", help="How exactly it computes.")
]
Mpp = Annotated[
    str | None,
    typer.Option(
        metavar="X|estimate",
        parser=_parse_mpp,
        help="µm per pixel of slides that carry none, or estimate: from the look of their cells, "
        "and told; plain images in folders are slides then.",
    ),
]
MppOverride = Annotated[
    float | None,
    typer.Option(metavar="X", help="µm per pixel of all slides, whatever they say; it is told."),
]
MppTableFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="CSV of slide and mpp: the scale of each slide that it names, whatever that says.",
    ),
]
Planes = Annotated[
    str | None,
    typer.Option(
        metavar="one|best|all|N|z=X",
        help="Focal planes of slides that have several: the best-focused one, which is the "
        "default; the best of each tile; all; or that of a number from 1, or of a place in µm.",
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="A slide with warnings fails, and so do files that are not read."
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(metavar="X", help="One score for all classes. Default: the model's, per class."),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Tell for each slide what would be done, what is refused and why, the area, and for "
        "how long; screen nothing.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Screen slides whose results are there again.")
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first slide that fails.")]
Rule = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Slide rule of cytolibra calibrate: which are suspicious."),
]
Negatives = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="False alarms on normal slides of your own, by cytolibra calibrate --negatives.",
    ),
]
CsvKind = Annotated[
    Csv | None,
    typer.Option(
        "--csv",
        help="Of cells.csv and summary.csv. excel: as Excel reads it, by this machine's locale; "
        "excel-comma has decimal commas and semicolons.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Processes, a slide each. Default: one a GPU; with Ray, the whole cluster's. On a CPU "
        "one uses all cores: more won't help.",
    ),
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        help="Read and screen every slide in a process of its own, so that one that crashes a "
        "decoder costs itself alone (isolate=always). By default only those in doubt are. It costs "
        "the start of a process, and speed, as slides no longer overlap.",
    ),
]
ShardText = Annotated[
    str | None,
    typer.Option(metavar="i/n", help="Screen the i-th of n parts; the others run elsewhere."),
]
Metrics = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Keep a file for Prometheus (node_exporter's textfile format, *.prom) that tells how "
        "it goes.",
    ),
]


Dicom = Annotated[
    bool,
    typer.Option(
        "--dicom",
        help="Write cells.ann.dcm and report.sr.dcm of DICOM slides, too, into their study (an "
        "extra).",
    ),
]
DicomDerived = Annotated[
    bool,
    typer.Option(
        "--dicom-derived",
        help="The same of all slides: those that are no DICOM get UIDs derived from their content.",
    ),
]
Fhir = Annotated[
    bool, typer.Option("--fhir", help="Write report.fhir.json of each slide, too: FHIR R4.")
]


def screen(
    slides: Slides,
    out: Out,
    model: Model = None,
    device: Device = None,
    runtime: Annotated[Runtime | None, typer.Option(help="What runs the network.")] = None,
    precision: Precision = None,
    mpp: Mpp = None,
    mpp_override: MppOverride = None,
    mpp_table: MppTableFile = None,
    planes: Planes = None,
    threshold: Threshold = None,
    config: Files = None,
    set_: Overrides = None,
    overwrite: Overwrite = False,
    fail_fast: FailFast = False,
    strict: Strict = False,
    dry_run: DryRun = False,
    shard: ShardText = None,
    rule: Rule = None,
    negatives: Negatives = None,
    engine: Annotated[
        EngineName, typer.Option(help="This machine, or a cluster by Ray (an extra).")
    ] = EngineName.local,
    workers: Workers = None,
    isolate: Isolate = False,
    csv: CsvKind = None,
    xlsx: Annotated[
        bool,
        typer.Option(
            "--xlsx",
            help="Write summary.xlsx, too: slides, and their most suspicious cells. One that is "
            "there is kept up in any case.",
        ),
    ] = False,
    parquet: Annotated[
        bool,
        typer.Option(
            "--parquet", help="Write cells.parquet of each slide, too, for programs (an extra)."
        ),
    ] = False,
    dicom: Dicom = False,
    dicom_derived: DicomDerived = False,
    fhir: Fhir = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(help="Of the log: run.log for people, or run.log.jsonl for programs."),
    ] = LogFormat.text,
    metrics: Metrics = None,
) -> None:
    """Screens slides, and folders of slides.

    Writes a folder for each slide (report.html, report.json, cells.csv, cells.geojson, previews),
    and summary.html (the work list, most suspicious first), summary.csv, run.json and run.log for
    all. Slides whose results are there, made of the same content, settings and weights, are not
    screened again; where only thresholds, rule and the like are others, new reports are made of
    what was found. The same command on several machines, at once and with one --out, shares them.

    Exit codes: 0 all slides are done, 1 some failed, 2 the call is wrong, 130 interrupted.

    Research use only. Not a medical device; not for diagnosis. Findings require review by a
    qualified cytologist.
    """
    from pipeline.batch.output import check_local
    from pipeline.batch.run_record import Shard

    flags = {
        "mpp": mpp,
        "mpp_override": mpp_override,
        "mpp_table": mpp_table,
        "planes": planes,
        "strict": strict or None,
        "isolate": "always" if isolate else None,
        "threshold": threshold,
        "runtime.name": runtime.value if runtime else None,
        "runtime.device": device,
        "runtime.precision": precision,
        "triage.rule": rule,
        "triage.negatives": negatives,
        "reports.csv": csv.value if csv else None,
        "reports.xlsx": xlsx or None,
        "reports.parquet": parquet or None,
        "reports.dicom": dicom_kind(dicom, dicom_derived),
        "reports.fhir": fhir or None,
    }
    settings = _read_settings(config, set_ or (), flags)
    check_local(out)
    part = Shard.parse(shard) if shard else None
    if dry_run:
        if metrics:
            raise ConfigError("--dry-run: screens nothing that --metrics could tell of")
        if engine is not EngineName.local or (workers or 1) > 1:
            raise ConfigError(
                "--dry-run: looks from this process alone; leave --engine and --workers"
            )
        raise typer.Exit(_look_ahead(slides, out, model, settings, overwrite, part))
    with keep_metrics(metrics) as measured:
        result = screen_all(
            slides,
            out,
            model,
            settings,
            overwrite,
            fail_fast,
            part,
            engine,
            workers,
            log_format=log_format,
            metrics=measured,
        )
    tell_result(result, out)
    raise typer.Exit(result.exit_code)


def _read_settings(
    config: Sequence[str] | None,
    overrides: Sequence[str],
    flags: Mapping[str, str | float | Path | None],
) -> ScreenSettings:
    from pipeline.settings import ScreenSettings

    given = [f"{key}={value}" for key, value in flags.items() if value is not None]
    settings = load_config(config, ScreenSettings, [*overrides, *given])
    settings.mpp_of(Path())  # a wrong value or table is told now
    check_extras(settings)
    # Here, by the locale of who calls: workers may run under another one.
    return settings.model_copy(update={"reports": settings.reports.settled()})


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


def dicom_kind(dicom: bool, derived: bool) -> DicomKind | None:
    """Of which slides DICOM objects are asked for, as `ReportSettings.dicom` has it."""
    if derived:
        return "derived"
    return "source" if dicom else None


def screen_all(
    slides: Sequence[Path | Url],
    out: Path,
    model: str | None,
    settings: ScreenSettings,
    overwrite: bool,
    fail_fast: bool,
    shard: Shard | None,
    engine: EngineName,
    workers: int | None,
    command: Sequence[str] | None = None,
    only: frozenset[str] | None = None,
    log_format: LogFormat = LogFormat.text,
    metrics: RunMetrics | None = None,
) -> BatchResult:
    """Screens what is found.

    Args:
        slides: slides and folders.
        out: the output folder.
        model: name or path; None for the default.
        settings: as they were given.
        overwrite: whether to screen slides whose results are there.
        fail_fast: whether to stop at the first slide that fails.
        shard: the part that is screened here.
        engine: who screens.
        workers: processes; None for the engine's default.
        command: for the record; None for what this process was called with.
        only: names of the slides that are taken; None for all.
        log_format: how the log is written.
        metrics: of the run, which are kept up; None where nobody wants them.

    Raises:
        ConfigError: the call is wrong; nothing was started.
    """
    from models import DEFAULT_MODEL
    from pipeline.batch.known import KnownResults
    from pipeline.batch.plan import BatchPlan
    from pipeline.cloud.urls import without_secrets
    from scripts.supervision import resumption

    given = model or DEFAULT_MODEL
    with ExitStack() as held:
        found, staging = _find(slides, out, settings, engine, held)
        plan = partial(
            BatchPlan,
            out=out,
            command=[without_secrets(word) for word in command or ("cytolibra", *sys.argv[1:])],
            overwrite=overwrite,
            fail_fast=fail_fast,
            shard=shard,
            strict=settings.strict,
            not_read=found.not_read,
            reports=settings.reports,
            given=settings_given(settings, given),
            only=only,
            known=KnownResults(out),
            log_format=log_format.value,
            resumed=resumption().since,
        )
        places = [place for place in slides if isinstance(place, Path)]
        places += [staging.folder] if staging else []
        return _screen_found(
            found, places, staging, plan, given, settings, engine, workers, metrics
        )


def _find(
    slides: Sequence[Path | Url],
    out: Path,
    settings: ScreenSettings,
    engine: EngineName,
    held: ExitStack,
) -> tuple[Discovery, Staging | None]:
    """The slides, and who fetches those that are elsewhere, if there are any.

    Args:
        slides: slides and folders.
        out: the output folder.
        settings: as they were given.
        engine: who screens.
        held: gives back connections and the scratch folder at its end.

    Raises:
        ConfigError: they can't be found or fetched.
    """
    from pipeline.batch.staging import Staging
    from pipeline.cloud.scratch import Scratch
    from pipeline.cloud.store import Stores

    stores = held.enter_context(Stores(settings.cloud))
    scratch = Scratch(settings.cloud, out)
    found = _discover(slides, out, settings, stores, scratch.folder)
    if not any(job.remote and job.remote.files for job in found.jobs):
        return found, None
    if engine is EngineName.ray and settings.cloud.scratch is None:
        raise ConfigError(
            "--engine ray: slides that are fetched must be seen by all machines of the cluster; "
            "name a folder on a share by --set cloud.scratch=FOLDER"
        )
    return found, Staging(held.enter_context(scratch), settings.cloud)


def _screen_found(
    found: Discovery,
    places: Sequence[Path],
    staging: Staging | None,
    plan: Callable[..., BatchPlan],
    given: str,
    settings: ScreenSettings,
    engine: EngineName,
    workers: int | None,
    metrics: RunMetrics | None,
) -> BatchResult:
    """Screens slides.

    Args:
        found: the slides.
        places: where they lie, or will lie when they have been fetched.
        staging: fetches those that are elsewhere.
        plan: what to do, but for what is in force.
        given: the model's name or path.
        settings: as they were given.
        engine: who screens.
        workers: processes; None for the engine's default.
        metrics: of the run, which are kept up; None where nobody wants them.
    """
    from models import ModelSource
    from pipeline.batch.batch import screen_batch
    from pipeline.batch.engines import LocalEngine, Recipe, RescoringAside, Worker
    from pipeline.batch.fingerprint import hash_found
    from pipeline.batch.metrics import RunMetrics
    from pipeline.batch.plan import is_done
    from pipeline.batch.staging import StagingEngine, StagingRescorer
    from scripts.progress import Several, show_progress
    from scripts.supervision import resumption

    resumed = resumption()
    doubts = [*resumed.doubts, *found.doubts, *doubts_of_dicom(found.jobs, settings)]

    apart = None
    if settings.isolate != "never":
        apart = RescoringAside(settings, resumed.isolates)

    def ready(force: InForce) -> BatchPlan:
        """What to do by what is in force."""
        shaped = hash_found(force.settings, force.model)
        card = ModelSource.find(given).card
        rescorer = StagingRescorer(card, settings, shaped, apart, staging)
        return plan(model=force.model, settings=force.settings, rescorer=rescorer)

    with show_progress(Console()) as progress:
        measured = metrics or RunMetrics("")
        heard = Several(progress, measured)
        recipe = Recipe(given, settings)
        in_force = recipe.foresee() if engine is EngineName.local else None
        if in_force and is_done(found.jobs, ready(in_force)):
            runner: Engine = LocalEngine(Worker(recipe).screen)  # has nothing to load a network for
        else:
            isolates = settings.isolates_all or resumed.isolates
            runner, in_force = _start_engine(engine, workers, recipe, heard, places, isolates)
        if engine is EngineName.local and (workers or 1) > 1 and runner.slots == workers:
            doubts += _doubt_of_workers(in_force)
        if in_force.fallback:
            doubts.append(Doubt(code="runtime-fallback", text=in_force.fallback))
        for doubt in doubts:
            typer.echo(f"warning: {doubt}", err=True)
        what = replace(ready(in_force), doubts=doubts)
        if staging:
            runner = StagingEngine(runner, staging, found.jobs, settings.cloud.ahead)
        measured.describe(in_force.model.name)
        if settings.isolate != "never":
            resumed.allow()
        result = screen_batch(found.jobs, runner, what, heard)
        measured.end(result.exit_code)
        return result


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


def settings_given(settings: ScreenSettings, model: str | Path) -> tuple[dict[str, JsonValue], str]:
    """Settings and model as they are recorded, so that cytolibra rescore can go by them."""
    values = settings.model_dump(mode="json")
    paths = ((values, "mpp_table"), (values["cloud"], "scratch"))
    for part, name in (*paths, *((values["triage"], n) for n in _TRIAGE_FILES)):
        part[name] = str(Path(part[name]).absolute()) if part[name] else None
    return values, str(Path(model).absolute()) if Path(model).is_dir() else str(model)


_TRIAGE_FILES = ("rule", "negatives")


def _doubt_of_workers(force: InForce) -> list[Doubt]:
    """Several processes on one CPU gain nothing, which is told."""
    runtime = force.settings["runtime"]
    if not isinstance(runtime, dict) or runtime["device"] != "cpu":
        return []
    text = (
        "one process keeps all cores of this machine busy: several share them, each with a network "
        "of its own, and take longer; leave --workers"
    )
    return [Doubt(code="workers-share-cores", text=text)]


def doubts_of_dicom(jobs: Sequence[SlideJob], settings: ScreenSettings) -> list[Doubt]:
    """Slides that get no DICOM objects where those of DICOM slides are wanted, which is told.

    What does not lie here, so that its content can't be asked, goes by its ending.
    """
    from pipeline.objects.source import is_dicom
    from pipeline.slides.readers.base import show

    if settings.reports.dicom != "source":
        return []
    others = [
        job.where
        for job in jobs
        if not job.gone
        and not (
            job.remote.is_dicom
            if job.remote
            else is_dicom(job.path)
            if job.path.is_file()
            else job.path.suffix.lower() == ".dcm"
        )
    ]
    if not others:
        return []
    text = (
        f"{len(others)} of {len(jobs)} slides are no DICOM, {show(others[0])} first: no DICOM "
        "objects of theirs; --dicom-derived gives them UIDs of their own"
    )
    return [Doubt(code="no-dicom-identity", text=text)]


def _look_ahead(
    slides: Sequence[Path | Url],
    out: Path,
    model: str | None,
    settings: ScreenSettings,
    overwrite: bool,
    shard: Shard | None,
) -> int:
    """What would be screened; the exit code."""
    from models import DEFAULT_MODEL, ModelSource
    from pipeline.batch.fingerprint import hash_found
    from pipeline.batch.plan import BatchPlan
    from pipeline.batch.rescore import Rescorer
    from pipeline.cloud.store import Stores
    from pipeline.in_force import in_force
    from pipeline.network.detector import TileDetector
    from scripts.dry_run import dry_run

    with Stores(settings.cloud) as stores:
        found = _discover(slides, out, settings, stores)
    source = ModelSource.find(model or DEFAULT_MODEL)
    detector = TileDetector(
        source, settings.runtime, settings.threshold, settings.second_look, settings.kept
    )
    force = in_force(settings, detector)
    for doubt in [*found.doubts, *doubts_of_dicom(found.jobs, settings)]:
        typer.echo(f"warning: {doubt}", err=True)
    plan = BatchPlan(
        out=out,
        model=force.model,
        settings=force.settings,
        overwrite=overwrite,
        shard=shard,
        strict=settings.strict,
        rescorer=Rescorer(source.card, settings, hash_found(force.settings, force.model)),
    )
    return dry_run(found, plan, detector, settings)


def _discover(
    slides: Sequence[Path | Url],
    out: Path,
    settings: ScreenSettings,
    stores: Stores,
    scratch: Path | None = None,
) -> Discovery:
    from pipeline.batch.discovery import discover
    from pipeline.slides.mpp_table import load_mpp_table

    table = load_mpp_table(settings.mpp_table) if settings.mpp_table else None
    with_images = settings.mpp is not None or settings.mpp_override is not None
    return discover(
        slides, out, with_images=with_images, table=table, stores=stores, scratch=scratch
    )


def _start_engine(
    name: EngineName,
    workers: int | None,
    recipe: Recipe,
    progress: Several,
    slides: Sequence[Path],
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
    if name is EngineName.ray:
        cluster = RayEngine(recipe, workers, progress.tiles_done, progress.warn, slides)
        return cluster, cluster.describe()
    devices = devices_for(settings.runtime.device, workers)
    processes = partial(ProcessEngine, told=progress.tiles_done, limits=settings.limits)
    if len(devices) > 1 or isolates:
        several = processes(processes_of(recipe, devices))
        return several, several.describe()
    stop = threading.Event()
    here = Worker(recipe, stop, progress.tiles_done)
    in_force = here.describe()
    aside = processes([recipe]) if settings.isolate == "auto" else None
    return LocalEngine(here.screen, stop, aside=aside), in_force


def tell_result(result: BatchResult, out: Path) -> None:
    """Says how a batch went."""
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
    for doubt in result.doubts:
        typer.echo(f"warning: {doubt}", err=True)
    if result.interrupted:
        typer.echo("interrupted: what is done stays; the same command goes on from there", err=True)
    if result.strict and result.not_read:
        typer.echo("error: with --strict files that are not read are failures", err=True)
    if result.problem:
        typer.echo(f"error: {result.problem}", err=True)

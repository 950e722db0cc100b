"""``cytolibra screen``: slides and folders in, reports out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs import ConfigError, load_config
from scripts.config import Files, Overrides
from scripts.screening.call import (
    ScreenCall,
    check_extras,
    how_to_go_on,
    keep_metrics,
    screen_all,
    tell_result,
)
from scripts.screening.options import (
    CsvKind,
    Device,
    Dicom,
    DicomDerived,
    DryRun,
    EngineName,
    FailFast,
    Fhir,
    Isolate,
    LogFormat,
    Metrics,
    Model,
    Mpp,
    MppOverride,
    MppTableFile,
    Negatives,
    Out,
    Overwrite,
    Planes,
    Precision,
    Rule,
    Runtime,
    ShardText,
    Slides,
    Strict,
    Threshold,
    Workers,
    check_scales,
    dicom_kind,
)

if TYPE_CHECKING:
    from pipeline.settings import ScreenSettings


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
    from models import DEFAULT_MODEL
    from pipeline.batch.output import check_local
    from pipeline.batch.run_record import Shard
    from scripts.screening.dry_run import look_ahead

    check_scales(mpp, mpp_override)
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
    call = ScreenCall(
        slides=slides,
        out=out,
        model=model or DEFAULT_MODEL,
        settings=_read_settings(config, set_ or (), flags),
        overwrite=overwrite,
        fail_fast=fail_fast,
        shard=Shard.parse(shard) if shard else None,
        engine=engine,
        workers=workers,
        log_format=log_format,
    )
    check_local(out)
    if dry_run:
        if metrics:
            raise ConfigError("--dry-run: screens nothing that --metrics could tell of")
        if engine is not EngineName.local or (workers or 1) > 1:
            raise ConfigError(
                "--dry-run: looks from this process alone; leave --engine and --workers"
            )
        raise typer.Exit(look_ahead(call))
    with keep_metrics(metrics) as measured:
        result = screen_all(call, measured)
    tell_result(result, out, how_to_go_on(overwrite))
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

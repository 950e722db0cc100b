"""The options of ``cytolibra screen``, of which other commands have some."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs import ConfigError

if TYPE_CHECKING:
    from pipeline.cloud.urls import Url
    from pipeline.objects.writing import Dicom as DicomKind


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


def check_scales(mpp: object, override: float | None) -> None:
    """Refuses two options of which one would do nothing.

    Raises:
        ConfigError: both are given.
    """
    if mpp is not None and override is not None:
        raise ConfigError(
            "--mpp is of slides that carry no scale, and --mpp-override of all, whatever they say: "
            "leave one"
        )


def dicom_kind(dicom: bool, derived: bool) -> DicomKind | None:
    """Of which slides DICOM objects are asked for, as `ReportSettings.dicom` has it."""
    if derived:
        return "derived"
    return "source" if dicom else None

"""``cytolibra evaluate``: how well a model finds and names the cells of annotated fields."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from configs import ConfigError

if TYPE_CHECKING:
    from data.evaluation import FieldCells
    from data.fields.fieldset import Field, FieldSet
    from data.fields.images import Pixels
    from models import DenseDetector
    from models.card import DomainFacts, FalseAlarms, ModelCard
    from pipeline.network.detector import RuntimeSettings, TileDetector
    from scripts.evaluation.evidence import Draws, Evidence
    from scripts.evaluation.thresholds import Chosen, Target

LOWEST_SCORE = 0.01
"""Detections below it can't move average precision by a visible amount."""


def evaluate(
    model: Annotated[
        str | None, typer.Option(help="Shipped model's name, or a model's folder.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Annotations: a file, folder or glob.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the slides or images.")] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for metrics.json, report.html, detections.json and truth.json. A name "
            "that ends in .json is that of the metrics; the others go beside it."
        ),
    ] = Path(),
    by: Annotated[
        str, typer.Option(help="What is drawn anew for the intervals: field, slide or patient.")
    ] = "field",
    level: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    at_sensitivity: Annotated[
        list[str] | None,
        typer.Option(
            help="Find thresholds with this sensitivity: 0.9 for each abnormal class, "
            "abnormal=0.9 for all of them merged, HSIL=0.95 for one; may be repeated."
        ),
    ] = None,
    at_precision: Annotated[
        list[str] | None, typer.Option(help="The same for a precision, such as NILM=0.8.")
    ] = None,
    write_thresholds: Annotated[
        bool, typer.Option("--write-thresholds", help="Write them into the model's model.json.")
    ] = False,
    save_model: Annotated[
        Path | None, typer.Option(help="Folder for a copy of the model with these thresholds.")
    ] = None,
    write_false_alarms: Annotated[
        bool,
        typer.Option(
            "--write-false-alarms",
            help="Write the false alarms a mm² into the model's model.json, by which a report "
            "tells what is more than chance. With new thresholds they are written anew anyway.",
        ),
    ] = False,
    write_domain: Annotated[
        Path | None,
        typer.Option(
            "--write-domain",
            metavar="TRAIN",
            help="Write what the cells of the fields that the model learned from (annotations: a "
            "file, folder or glob) look like into its model.json, by which a report tells a slide "
            "that is none of its domain. cytolibra train does so by itself.",
        ),
    ] = None,
    domain_images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --write-domain: their images.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Compare with another model, or with what an evaluation (detections.json) or a "
            "training run (validation.npz) kept."
        ),
    ] = None,
    screened: Annotated[
        Path | None,
        typer.Option(
            help="Instead of model, data and images: a folder that cytolibra screen wrote, to be "
            "judged slide by slide against --labels."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV of slides with known outcome: slide, label, patient.")
    ] = None,
    rule: Annotated[
        Path | None, typer.Option(help="Slide rule of cytolibra calibrate that is to be judged.")
    ] = None,
    positive: Annotated[
        str | None, typer.Option(help="Least severe category of a label that counts as positive.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    runtime: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="Of the network: auto, fp32, bf16, fp16 or int8.")
    ] = "auto",
) -> None:
    """Figures of a model on annotated fields, with intervals, as a page and as JSON.

    AP and AR by COCO's rules, FROC, confusion, calibration, and the worst errors as pictures. With
    --screened and --labels sensitivity, specificity and ROC area of whole slides.
    """
    if screened or labels:
        _judge_slides(screened, labels, rule, positive, out)
        return
    if model is None or data is None or images is None:
        raise ConfigError(
            "give --model, --data and --images; or --screened and --labels for slides"
        )
    from configs import validate
    from data.fields.splits import check_leaks
    from models import load_detector
    from pipeline.network.detector import RuntimeSettings
    from scripts.evaluation.evidence import draw
    from scripts.evaluation.false_alarms import (
        check_card_writable,
        false_alarm_figures,
    )
    from scripts.evaluation.false_alarms import write_false_alarms as write_alarms
    from scripts.evaluation.figures import compute_figures
    from scripts.evaluation.files import name_outputs, write_outputs
    from scripts.evaluation.thresholds import check_writable, read_targets, save_thresholds
    from scripts.telling import tell_doubts

    options = {"device": device, "name": runtime, "precision": precision}
    settings = validate(options, RuntimeSettings, "options")
    loaded = load_detector(model)
    targets = read_targets(at_sensitivity or [], at_precision or [], loaded.config)
    check_writable(loaded, bool(targets), write_thresholds, save_model)
    if write_false_alarms:
        check_card_writable(loaded.folder, "--write-false-alarms")
    if write_domain:
        check_card_writable(loaded.folder, "--write-domain")
    learned = _read_learned(loaded, write_domain, domain_images)
    fields = _read_fields(loaded, data, images)
    if learned:
        check_leaks(learned, fields)
    draws = draw(fields, by, level)
    evidence, ran = _find(loaded, settings, fields)
    figures = compute_figures(evidence, draws) | {"settings": {"data": str(data), **ran}}
    figures["warnings"] = [doubt.model_dump() for doubt in fields.doubts]
    if against:
        figures["against"] = _compare(evidence, against, settings, draws)
    domain = _measure_domain(learned, evidence) if learned else None
    chosen, problem = _choose(evidence, targets, draws, data.name)
    figures |= {"operating": chosen.figures} if chosen else {}
    alarms, unknown = _false_alarms(evidence, data.name)
    figures |= {"false_alarms": false_alarm_figures(alarms)} if alarms else {}
    write_outputs(name_outputs(out), evidence, images, figures)
    _tell(figures, fields.notes, name_outputs(out).page)
    tell_doubts(fields)
    if problem:
        raise problem
    if write_false_alarms and unknown:
        raise unknown
    if write_false_alarms and alarms:
        assert loaded.card is not None
        assert loaded.folder is not None
        write_alarms(loaded.card, loaded.folder, alarms)
        loaded.card = loaded.card.model_copy(update={"false_alarms": alarms})
        typer.echo(f"False alarms written: {loaded.folder}")
    if domain:
        loaded.card = _write_domain(loaded, domain)
        typer.echo(f"Looks of its cells written: {loaded.folder}")
    if chosen:
        new, _ = _false_alarms(evidence, data.name, dict(chosen.thresholds))
        for folder in save_thresholds(loaded, chosen, new, write_thresholds, save_model):
            typer.echo(f"Thresholds written: {folder}")


def _false_alarms(
    evidence: Evidence, data: str, thresholds: dict[str, float] | None = None
) -> tuple[FalseAlarms | None, ConfigError | None]:
    """What is reported by chance, or why these fields can't tell."""
    from scripts.evaluation.false_alarms import measure_false_alarms

    try:
        return measure_false_alarms(evidence, data, thresholds), None
    except ConfigError as error:
        return None, error


def _read_learned(
    loaded: DenseDetector, annotations: Path | None, images: Path | None
) -> FieldSet | None:
    """The fields that the model learned from, where they are asked for.

    Raises:
        ConfigError: one of the two is missing, or they can't be read.
    """
    if (annotations is None) != (images is None):
        raise ConfigError("--write-domain and --domain-images go together")
    if annotations is None or images is None:
        return None
    from scripts.slides import read_annotated

    return read_annotated(annotations, images, loaded.config.classes)


def _measure_domain(learned: FieldSet, evidence: Evidence) -> DomainFacts:
    from scripts.domain import measure_domain

    found = [(cells.boxes[:, :2] + cells.boxes[:, 2:]) / 2 for cells in evidence.reported]
    return measure_domain(learned, evidence.fields, found, evidence.card.training.get("data", ""))


def _write_domain(loaded: DenseDetector, domain: DomainFacts) -> ModelCard:
    """Writes it into the model's sidecar.

    Raises:
        ConfigError: it can't be written.
    """
    from models.card import save_card

    assert loaded.card is not None
    assert loaded.folder is not None
    card = loaded.card.model_copy(update={"domain": domain})
    try:
        save_card(card, loaded.folder)
    except OSError as error:
        raise ConfigError(f"{loaded.folder}: can't be written: {error.strerror}") from error
    return card


def _judge_slides(
    screened: Path | None, labels: Path | None, rule: Path | None, positive: str | None, out: Path
) -> None:
    """Figures of whole slides, as a table and in metrics.json."""
    from pipeline.reports.slide_rule import load_rule
    from scripts.evaluation.files import name_outputs, write_text
    from scripts.evaluation.set_aside import judge_set_aside, set_aside_table
    from scripts.evaluation.slide_level import judge_slides, read_labelled, slide_table

    if screened is None or labels is None:
        raise ConfigError("--screened and --labels go together")
    slides = read_labelled(screened, labels, positive)
    known = load_rule(rule) if rule else None
    figures = judge_slides(slides, known)
    aside = judge_set_aside(slides, known) if known and known.rule_out else None
    figures |= {"rule_out": aside} if aside else {}
    place = name_outputs(out).metrics
    write_text(place, json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    for note in slides.notes:
        typer.echo(note)
    Console().print(slide_table(figures))
    if aside:
        Console().print(set_aside_table(aside))
    Console().print(f"All figures: {place}", soft_wrap=True)


def measure(
    detector: TileDetector, fields: FieldSet, by: str = "field", level: float = 0.95
) -> dict[str, Any]:
    """All figures of a detector on annotated fields.

    Args:
        detector: made with so low a threshold that all of the curves is there (`LOWEST_SCORE`).
        fields: with the detector's classes.
        by: what is drawn anew for the intervals: "field", "slide" or "patient".
        level: of the intervals.

    Returns:
        See `scripts.evaluation.figures.compute_figures`.
    """
    from scripts.evaluation.evidence import draw
    from scripts.evaluation.figures import compute_figures

    return compute_figures(gather(detector, fields), draw(fields, by, level))


def gather(detector: TileDetector, fields: FieldSet) -> Evidence:
    """Truth and detections of every field.

    Of a field the best 1,000 detections count, or ten for each of its cells where that is more: at
    the lowest scores a detector finds something at every place, and COCO's rules know a limit too.
    """
    import numpy as np

    from data.evaluation import MAX_DETECTIONS, most_certain
    from scripts.evaluation.evidence import Evidence

    truth, found = _detect(detector, fields)
    limits = [max(MAX_DETECTIONS, 10 * len(cells)) for cells in truth]
    found = [most_certain(cells, limit) for cells, limit in zip(found, limits, strict=True)]
    thresholds = [detector.card.thresholds[name] for name in fields.classes]
    return Evidence(fields, detector.card, truth, found, np.array(thresholds))


def _read_fields(loaded: DenseDetector, data: Path, images: Path) -> FieldSet:
    """Annotated images, and slides cut into parts that the detector takes whole."""
    from data.fields.regions import cut_fields
    from scripts.slides import read_annotated

    assert loaded.card is not None
    return cut_fields(read_annotated(data, images, loaded.config.classes), loaded.card.mpp)


def _find(
    loaded: DenseDetector, settings: RuntimeSettings, fields: FieldSet
) -> tuple[Evidence, dict[str, str | None]]:
    """The evidence, and what made it."""
    from pipeline.network.detector import TileDetector

    detector = TileDetector(loaded, settings, LOWEST_SCORE)
    evidence = gather(detector, fields)
    ran = detector.runtime
    if ran.fallback:
        typer.echo(f"note: {ran.fallback}", err=True)
    made_by = {"model": detector.card.name, "sha256": ran.sha256}
    return evidence, {**made_by, "runtime": ran.name, "precision": ran.precision}


def _compare(
    evidence: Evidence, against: str, settings: RuntimeSettings, draws: Draws
) -> dict[str, Any]:
    from models import load_detector
    from scripts.evaluation.against import differences, is_kept, read_kept, rename

    if is_kept(against):
        return {
            "model": against,
            "ap50": differences(evidence, read_kept(against, evidence), draws),
        }
    loaded = load_detector(against)
    other, ran = _find(loaded, settings, evidence.fields)
    other = rename(other.found, loaded.config.classes, evidence)
    return {**ran, "model": against, "ap50": differences(evidence, other, draws)}


def _choose(
    evidence: Evidence, targets: Mapping[str, Target], draws: Draws, data: str
) -> tuple[Chosen | None, ConfigError | None]:
    """Thresholds, or why there are none: all that was found is written before anyone is told."""
    from scripts.evaluation.thresholds import choose_thresholds

    try:
        return (choose_thresholds(evidence, targets, draws, data) if targets else None), None
    except ConfigError as error:
        return None, error


def _tell(figures: dict[str, Any], notes: Sequence[str], page: Path) -> None:
    from scripts.evaluation.table import (
        against_table,
        false_alarm_table,
        figures_table,
        operating_table,
    )

    console = Console()
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    console.print(figures_table(figures, figures["settings"]["model"]))
    if "false_alarms" in figures:
        console.print(false_alarm_table(figures["false_alarms"]))
    if "operating" in figures:
        console.print(operating_table(figures["operating"]))
    if "against" in figures:
        console.print(against_table(figures["against"], figures["intervals"]["level"]))
    console.print(f"All figures: {page}", soft_wrap=True, highlight=False)


def _detect(detector: TileDetector, fields: FieldSet) -> tuple[list[FieldCells], list[FieldCells]]:
    """Truth and detections of every field, in the field's own pixels."""
    import numpy as np

    from data.evaluation import FieldCells
    from data.fields.regions import downsample_of
    from pipeline.flow import work_ahead
    from scripts.slides import images_of

    images = images_of(fields)

    def read(index: int) -> tuple[Field, Pixels]:
        field = fields.fields[index]
        downsample = downsample_of(field, detector.card.mpp)
        size = (round(field.width / downsample), round(field.height / downsample))
        return field, images.whole(index, size)

    def detect(task: tuple[Field, Pixels]) -> FieldCells:
        field, pixels = task
        cells = detector.detect([pixels])[0]
        height, width = pixels.shape[:2]
        scale = np.tile([field.width / width, field.height / height], 2)
        nowhere = np.zeros(len(cells), bool)
        return FieldCells(cells.boxes * scale, cells.labels, cells.scores, nowhere)

    truth = [
        FieldCells(field.boxes, field.labels, np.ones(len(field.labels)), field.crowd)
        for field in fields.fields
    ]
    count, lanes = len(truth), detector.lanes
    with (  # one thread reads: the slides that are open are its own
        work_ahead(read, range(count), threads=1, ahead=lanes) as tasks,
        work_ahead(detect, tasks, threads=lanes, ahead=lanes) as found,
    ):
        return truth, list(track(found, "Fields", total=count))

"""``cytolibra evaluate``: how well a model finds and names the cells of annotated fields."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from configs import ConfigError, Doubt
from scripts.annotation_options import Reading, reads_annotations
from scripts.given import refuse_but, refuse_given

if TYPE_CHECKING:
    from data.annotations import AnnotationSettings
    from data.fields.fieldset import FieldSet
    from models import DenseDetector
    from models.card import DomainFacts
    from pipeline.network.detector import RuntimeSettings, TileDetector
    from pipeline.reports.slide_rule import SlideRule
    from scripts.evaluation.evidence import Draws, Evidence
    from scripts.evaluation.finding import Found
    from scripts.evaluation.thresholds import Chosen, Target


_OF_SLIDES = frozenset({"screened", "labels", "rule", "positive"})
"""Options that judge whole slides; all others but --out are of annotated fields."""


@reads_annotations()
def evaluate(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option(help="Shipped model's name, or a model's folder.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Annotations: a file, folder or glob.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the slides or images.")] = None,
    split: Annotated[
        Path | None,
        typer.Option(help="A split, by file or name (cric-400), of which --part is judged."),
    ] = None,
    part: Annotated[str, typer.Option(help="The part of --split, such as test.")] = "",
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
            "tells what is more than chance. With new thresholds they are written anew anyway, or "
            "taken out where the fields can't tell them.",
        ),
    ] = False,
    write_accuracy: Annotated[
        bool,
        typer.Option(
            "--write-accuracy",
            help="Write recall, precision and AP50 of each level, and how many cells there are for "
            "each reported, into the model's model.json: reports show them, and the number of "
            "squamous cells is estimated by them. With new thresholds they are written anew "
            "anyway.",
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
    second_look: Annotated[
        str | None,
        typer.Option(
            help="Of a model with a grader: both judges it with its second look and tells what "
            "that changes; on, with it only; off, the detector alone. Default: both.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    runtime: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="Of the network: auto, fp32, bf16, fp16 or int8.")
    ] = "auto",
    *,
    reading: Reading,
) -> None:
    """Figures of a model on annotated fields, with intervals, as a page and as JSON.

    AP and AR by COCO's rules, FROC, confusion, calibration, and the worst errors as pictures. With
    --screened and --labels sensitivity, specificity and ROC area of whole slides.
    """
    if screened or labels:
        refuse_but(context, _OF_SLIDES | {"out"}, "of --data, not of --screened")
        _judge_slides(screened, labels, rule, positive, out)
        return
    refuse_given(context, _OF_SLIDES, "of --screened, not of --data")
    if bool(split) != bool(part):
        raise ConfigError("--split, a file or name, and --part, one of its parts, go together")
    if model is None or data is None or images is None:
        raise ConfigError(
            "give --model, --data and --images; or --screened and --labels for slides"
        )
    from configs import validate
    from data.fields.splits import check_leaks
    from models import load_detector
    from pipeline.network.detector import RuntimeSettings
    from scripts.evaluation.evidence import draw
    from scripts.evaluation.files import name_outputs, write_outputs
    from scripts.evaluation.finding import find
    from scripts.evaluation.second_look import find_mode
    from scripts.evaluation.thresholds import read_targets
    from scripts.evaluation.wishes import Measured, Wishes
    from scripts.telling import warn

    options = {"device": device, "name": runtime, "precision": precision}
    settings = validate(options, RuntimeSettings, "options")
    loaded = load_detector(model)
    assert loaded.card is not None
    mode = find_mode(loaded.card, second_look)
    targets = read_targets(at_sensitivity or [], at_precision or [], loaded.config)
    wishes = Wishes(
        write_thresholds, save_model, write_false_alarms, write_accuracy, write_domain is not None
    )
    wishes.check(loaded, bool(targets))
    learned = _read_learned(loaded, write_domain, domain_images, reading.settings)
    fields = _read_fields(loaded, data, images, reading.settings, split, part)
    draws = draw(fields, by, level)
    if learned:
        check_leaks(learned, fields)
    found = find(loaded, settings, fields, mode != "off")
    figures = _figures(found, mode, draws, data)
    if against:
        figures["against"] = _compare(found.best, against, settings, draws, mode != "off")
    domain = _measure_domain(learned, found.best) if learned else None
    chosen, problem = _choose(found.best, targets, draws, data.name)
    figures |= {"operating": chosen.figures} if chosen else {}
    write_outputs(name_outputs(out), found.best, images, figures)
    _tell(figures, fields.notes, name_outputs(out).page)
    warn(Doubt.model_validate(one) for one in figures["warnings"])
    if problem:
        raise problem
    measured = Measured(found, mode, draws, figures, data.name)
    wishes.fulfil(loaded, measured, domain, chosen)


def _figures(found: Found, mode: str, draws: Draws, data: Path) -> dict[str, Any]:
    """All figures of the fields, but for thresholds and what the model is compared with."""
    from scripts.evaluation.false_alarms import by_chance, false_alarm_figures, unknown_chance
    from scripts.evaluation.figures import compute_figures
    from scripts.evaluation.second_look import look_figures
    from scripts.telling import doubts_of

    evidence = found.best
    figures = compute_figures(evidence, draws) | {"settings": {"data": str(data), **found.ran}}
    doubts = [*doubts_of(evidence.fields), *draws.doubts]
    if found.look and mode == "both":
        figures["second_look"] = look_figures(found.look, found.alone, draws)
    alarms, unknown = by_chance(evidence, data.name)
    if alarms:
        figures["false_alarms"] = false_alarm_figures(alarms)
    if unknown:
        doubts.append(unknown_chance("no false alarms a mm² are told", unknown))
    return figures | {"warnings": [doubt.model_dump() for doubt in doubts]}


def _read_learned(
    loaded: DenseDetector,
    annotations: Path | None,
    images: Path | None,
    settings: AnnotationSettings,
) -> FieldSet | None:
    """The fields that the model learned from, where they are asked for; tells what is odd there.

    Raises:
        ConfigError: one of the two is missing, or they can't be read.
    """
    if (annotations is None) != (images is None):
        raise ConfigError("--write-domain and --domain-images go together")
    if annotations is None or images is None:
        return None
    from scripts.slides import read_annotated
    from scripts.telling import tell_doubts

    learned = read_annotated(annotations, images, loaded.config.classes, settings)
    for note in learned.notes:
        typer.echo(f"--write-domain: {note}")
    tell_doubts(learned)
    return learned


def _measure_domain(learned: FieldSet, evidence: Evidence) -> DomainFacts:
    from scripts.domain import measure_domain

    found = [(cells.boxes[:, :2] + cells.boxes[:, 2:]) / 2 for cells in evidence.reported]
    return measure_domain(learned, evidence.fields, found, evidence.card.training.get("data", ""))


def _judge_slides(
    screened: Path | None, labels: Path | None, rule: Path | None, positive: str | None, out: Path
) -> None:
    """Figures of whole slides, as a table and in metrics.json."""
    from pipeline.reports.slide_rule import load_rule, name_positive
    from scripts.evaluation.files import name_outputs, write_text
    from scripts.evaluation.set_aside import judge_set_aside, set_aside_table
    from scripts.evaluation.slide_level import judge_slides, read_labelled, slide_table
    from scripts.telling import warn

    if screened is None or labels is None:
        raise ConfigError("--screened and --labels go together")
    slides = read_labelled(screened, labels, positive)
    known = load_rule(rule) if rule else None
    meaning = name_positive(positive)
    figures = {"positive": meaning} | judge_slides(slides, known)
    aside = judge_set_aside(slides, known) if known and known.rule_out else None
    figures |= {"rule_out": aside} if aside else {}
    differ = list(_other_positive(known, positive)) if known else []
    figures["notes"] = [*slides.notes, *map(str, differ)]
    place = name_outputs(out).metrics
    write_text(place, json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    for note in slides.notes:
        typer.echo(note)
    Console().print(slide_table(figures))
    if aside:
        Console().print(set_aside_table(aside, meaning))
    warn(differ)
    Console().print(f"All figures: {place}", soft_wrap=True)


def _other_positive(rule: SlideRule, positive: str | None) -> Iterator[Doubt]:
    """What is odd where other labels count as positive than those that a rule was fitted for."""
    from pipeline.reports.slide_rule import name_positive
    from scripts.evaluation.labels import find_least

    if rule.least != find_least(positive):
        text = (
            f"the rule was fitted for {rule.positive}, and here {name_positive(positive)} counts "
            "as positive: it promises nothing of that; --positive says what counts"
        )
        yield Doubt(code="positive-differs", text=text)


def measure(
    detector: TileDetector, fields: FieldSet, by: str = "field", level: float = 0.95
) -> dict[str, Any]:
    """All figures of a detector on annotated fields.

    Args:
        detector: made with so low a threshold that all of the curves is there: see
            `scripts.candidates.LOWEST_SCORE`.
        fields: with the detector's classes.
        by: what is drawn anew for the intervals: "field", "slide" or "patient".
        level: of the intervals.

    Returns:
        See `scripts.evaluation.figures.compute_figures`; and ``warnings``.

    Raises:
        ConfigError: ``by`` or ``level`` is none, or nobody says the patient of any field.
    """
    from scripts.evaluation.evidence import draw
    from scripts.evaluation.figures import compute_figures
    from scripts.evaluation.finding import gather
    from scripts.telling import doubts_of

    draws = draw(fields, by, level)
    doubts = [*doubts_of(fields), *draws.doubts]
    figures = compute_figures(gather(detector, fields), draws)
    return figures | {"warnings": [doubt.model_dump() for doubt in doubts]}


def _read_fields(
    loaded: DenseDetector,
    data: Path,
    images: Path,
    settings: AnnotationSettings,
    split: Path | None,
    part: str,
) -> FieldSet:
    """Annotated images, and slides cut into parts that the detector takes whole."""
    from data.fields.regions import cut_fields
    from data.fields.scarcity import with_class_doubts
    from data.fields.splits import take_part
    from scripts.slides import read_annotated

    assert loaded.card is not None
    fields = read_annotated(data, images, loaded.config.classes, settings)
    fields = take_part(fields, split, part) if split else fields
    return cut_fields(with_class_doubts(fields, "judge by"), loaded.card.mpp)


def _compare(
    evidence: Evidence, against: str, settings: RuntimeSettings, draws: Draws, looks: bool
) -> dict[str, Any]:
    from models import load_detector
    from scripts.evaluation.against import differences, is_kept, read_kept, rename
    from scripts.evaluation.finding import find

    if is_kept(against):
        return {
            "model": against,
            "ap50": differences(evidence, read_kept(against, evidence), draws),
        }
    loaded = load_detector(against)
    found = find(loaded, settings, evidence.fields, looks)
    other = rename(found.best.found, loaded.config.classes, evidence)
    return {**found.ran, "model": against, "ap50": differences(evidence, other, draws)}


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
        level_table,
        look_table,
        operating_table,
    )

    console = Console()
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    console.print(figures_table(figures, figures["settings"]["model"]))
    console.print(level_table(figures["confusion_levels"]))
    if "second_look" in figures:
        console.print(look_table(figures["second_look"], figures["intervals"]["level"]))
    if "false_alarms" in figures:
        console.print(false_alarm_table(figures["false_alarms"]))
    if "operating" in figures:
        console.print(operating_table(figures["operating"]))
    if "against" in figures:
        console.print(against_table(figures["against"], figures["intervals"]["level"]))
    console.print(f"All figures: {page}", soft_wrap=True, highlight=False)

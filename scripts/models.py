"""``cytolibra models``: the shipped models, your own, and what their cards say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from models import ModelCard
    from models.card import Figure, SecondLookFacts

models = typer.Typer(help="Lists the shipped models and your own; shows a model's card.")


@models.callback(invoke_without_command=True)
def list_all(context: typer.Context) -> None:
    """Lists the shipped models and your own, with their cards.

    Your own are those in the folders that the environment variable CYTOLIBRA_MODELS names.
    """
    if context.invoked_subcommand is None:
        _list()


@models.command()
def show(
    model: Annotated[
        str, typer.Argument(metavar="NAME_OR_DIR", help="A model's name, or its folder.")
    ],
) -> None:
    """Shows all that a model's card says: data, parents, licences, figures, limits."""
    from models import find_model
    from models.card import read_card

    folder = find_model(model)
    card = read_card(folder)
    typer.echo(describe_card(card))
    made = [*_provenance(card.training, "  "), *_grader(card, "  ")]
    typer.echo("\n".join([f"  folder: {folder}", *made]))


def _list() -> None:
    from models import DEFAULT_MODEL, ModelFileError, list_models
    from models.card import own_folders, read_card, shipped_names

    cards = list_models()
    if not cards:
        typer.echo("no model is shipped with this installation")
    for card in cards:
        typer.echo(describe_card(card, " (default)" if card.name == DEFAULT_MODEL else "") + "\n")
    for folder in own_folders():
        try:
            card = read_card(folder)
        except ModelFileError as error:
            typer.echo(f"warning: {error}", err=True)
            continue
        hidden = "; called by its folder, as a shipped one has its name"
        mark = f" (your own, {folder}{hidden if card.name in shipped_names() else ''})"
        typer.echo(describe_card(card, mark) + "\n")


def describe_card(card: ModelCard, mark: str = "") -> str:
    """A card as lines for people.

    Args:
        card: of a model.
        mark: stands behind its name.
    """
    alone = ", detector alone" if card.second_look else ""
    what = {
        "what": card.summary,
        "detector": f"{card.detector.name} on {card.detector.backbone}",
        "classes": ", ".join(_describe_classes(card)),
        "scale": f"{card.mpp:g} µm per pixel",
    }
    origin = {
        "thresholds": card.threshold_rule,
        **{f"trained: {key}": value for key, value in card.training.items() if _is_short(value)},
        f"metrics{alone}": _listed_metrics(card.metrics),
        "limits": card.limits,
        "licence": card.licence,
        "sha256": card.sha256,
    }
    return "\n".join([f"{card.name}{mark}", *_told(what), *_in_force(card), *_told(origin)])


def _told(facts: Mapping[str, str]) -> Iterator[str]:
    return (f"  {name}: {value}" for name, value in facts.items() if value)


def _listed_metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())


def _in_force(card: ModelCard) -> Iterator[str]:
    """Thresholds and figures with which slides are screened, then those without a second look."""
    if (look := card.second_look) is not None:
        yield "  with its second look:"
        yield from _at_thresholds(look, card.detector.classes)
        yield "  by the detector alone:"
    else:
        yield "  at its thresholds:"
    yield from _at_thresholds(card, card.detector.classes)


def _at_thresholds(part: ModelCard | SecondLookFacts, classes: Sequence[str]) -> Iterator[str]:
    from pipeline.cells.classes import ABNORMAL, HIGH_GRADE, LOW_GRADE

    listed = ", ".join(f"{name} {part.thresholds[name]:.2f}" for name in classes)
    yield f"    counts from: {listed}"
    if (found := part.accuracy) is not None:
        for name, facts in found.groups.items():
            if name in ("any", ABNORMAL, LOW_GRADE, HIGH_GRADE):  # classes: see the sidecar
                yield (
                    f"    {name}: {facts.cells} cells, AP50 {_figure(facts.ap50)}, "
                    f"recall {_figure(facts.recall)}, precision {_figure(facts.precision)}"
                )
        yield f"      {found.level:.0%} intervals; {found.data}"
    if (alarms := part.false_alarms) is not None:
        rate = alarms.groups[ABNORMAL]
        yield f"    false alarms: {rate.per_mm2:.1f} abnormal cells a mm² where there is none"
        yield f"      {rate.units} {alarms.unit}s, {rate.mm2:.1f} mm²; {alarms.data}"


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return "not known"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.2f}"
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"


def _provenance(training: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Sources and parents, a line each; those of a parent stand below it, further in."""
    for source in training.get("sources", ()):
        cells = ", ".join(f"{name} {count}" for name, count in source["cells"].items())
        yield f"{indent}{source['part']}: {source['name']}, {source['images']} images; {cells}"
        yield from _terms(source, indent + "  ")
        yield f"{indent}  annotations sha256: {source['annotations_sha256']}"
        yield f"{indent}  images sha256: {source['images_sha256']}"
    for parent in training.get("parents", ()):
        yield f"{indent}{parent['role']}: {parent['name']}"
        inner = indent + "  "
        if parent.get("data"):
            yield f"{inner}data: {parent['data']}"
        yield from _terms(parent, inner)
        yield f"{inner}sha256: {parent['sha256']}"
        yield from _provenance(parent, inner)


def _grader(card: ModelCard, indent: str) -> Iterator[str]:
    """What the grader of the second look was made of, where there is one."""
    if (look := card.second_look) is None:
        return
    told, inner = look.training, indent + "  "
    yield f"{indent}grader: {look.name}"
    if told.get("data"):
        yield f"{inner}data: {told['data']}"
    if told.get("threshold_rule"):
        yield f"{inner}thresholds: {told['threshold_rule']}"
    if look.metrics:
        yield f"{inner}metrics: {_listed_metrics(look.metrics)}"
    if look.limits:
        yield f"{inner}limits: {look.limits}"
    yield from _terms({"licence": look.licence, "attribution": told.get("attribution")}, inner)
    yield from _provenance(told, inner)


def _terms(facts: Mapping[str, Any], indent: str) -> Iterator[str]:
    yield f"{indent}licence: {facts.get('licence') or 'not stated'}"
    if facts.get("attribution"):
        yield f"{indent}attribution: {facts['attribution']}"


def _describe_classes(card: ModelCard) -> list[str]:
    """Each class, abnormal ones marked."""
    return [
        f"{name}{'*' if abnormal else ''}"
        for name, abnormal in zip(card.detector.classes, card.detector.is_abnormal, strict=True)
    ] + ["* abnormal"]


def _is_short(value: object) -> bool:
    return isinstance(value, str | int | float)

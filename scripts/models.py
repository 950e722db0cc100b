"""``cytolibra models``: the shipped models and their cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from models import ModelCard


def models() -> None:
    """Lists the shipped models with their cards."""
    from models import DEFAULT_MODEL, list_models

    cards = list_models()
    if not cards:
        typer.echo("no model is shipped with this installation")
    for card in cards:
        typer.echo(describe_card(card, is_default=card.name == DEFAULT_MODEL))


def describe_card(card: ModelCard, is_default: bool) -> str:
    """A card as lines for people."""
    lines = [f"{card.name}{' (default)' if is_default else ''}"]
    facts = {
        "what": card.summary,
        "detector": f"{card.detector.name} on {card.detector.backbone}",
        "classes": ", ".join(_describe_classes(card)),
        "scale": f"{card.mpp:g} µm per pixel",
        "thresholds": card.threshold_rule,
        **{f"trained: {key}": value for key, value in card.training.items() if _is_short(value)},
        "metrics": ", ".join(f"{name} {value:.3f}" for name, value in card.metrics.items()),
        "limits": card.limits,
        "licence": card.licence,
        "sha256": card.sha256,
    }
    lines.extend(f"  {name}: {value}" for name, value in facts.items() if value)
    return "\n".join(lines) + "\n"


def _describe_classes(card: ModelCard) -> list[str]:
    """Each class with its threshold, abnormal ones marked."""
    return [
        f"{name}{'*' if abnormal else ''} from {card.thresholds[name]:.2f}"
        for name, abnormal in zip(card.detector.classes, card.detector.is_abnormal, strict=True)
    ] + ["* abnormal"]


def _is_short(value: object) -> bool:
    return isinstance(value, str | int | float)

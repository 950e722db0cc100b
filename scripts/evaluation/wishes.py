"""What an evaluation writes into the model that it judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from scripts.evaluation.accuracy import measure_accuracy
from scripts.evaluation.cards import check_card_writable, update_card
from scripts.evaluation.false_alarms import by_chance, unknown_chance
from scripts.evaluation.figures import compute_figures
from scripts.evaluation.thresholds import check_writable, save_thresholds
from scripts.telling import warn

if TYPE_CHECKING:
    from configs import Doubt
    from models import DenseDetector
    from models.card import Accuracy, DomainFacts, FalseAlarms
    from scripts.evaluation.evidence import Draws
    from scripts.evaluation.finding import Found
    from scripts.evaluation.thresholds import Chosen


@dataclass(frozen=True)
class Measured:
    """What a model's card can be made of.

    Attributes:
        found: by the model.
        mode: whether with its second look: both, on or off.
        draws: of the intervals.
        figures: of `Found.best`.
        data: what the fields are called.
    """

    found: Found
    mode: str
    draws: Draws
    figures: dict[str, Any]
    data: str


@dataclass(frozen=True)
class Wishes:
    """What is to be written into the model.

    Attributes:
        thresholds: those that are found.
        copy: a folder for a copy of the model with these thresholds.
        false_alarms: how many it reports by chance.
        accuracy: recall, precision and AP50 of each level.
        domain: what the cells look like that it learned from.
    """

    thresholds: bool
    copy: Path | None
    false_alarms: bool
    accuracy: bool
    domain: bool

    def check(self, loaded: DenseDetector, found: bool) -> None:
        """Before anything is measured.

        Args:
            loaded: the model.
            found: whether thresholds will be.

        Raises:
            ConfigError: something is asked for that can't be written.
        """
        check_writable(loaded, found, self.thresholds, self.copy)
        for name in ("false_alarms", "accuracy", "domain"):
            if getattr(self, name):
                check_card_writable(loaded.folder, f"--write-{name.replace('_', '-')}")

    def fulfil(
        self,
        loaded: DenseDetector,
        measured: Measured,
        domain: DomainFacts | None,
        chosen: Chosen | None,
    ) -> None:
        """Writes all that was asked for, and says where.

        Args:
            loaded: the model; its card becomes the one that was written.
            measured: of it.
            domain: likewise.
            chosen: the thresholds that were found.

        Raises:
            ConfigError: these fields can't tell false alarms, or the model can't be written.
        """
        if self.false_alarms or self.accuracy:
            _write_card(loaded, measured, self)
        if domain:
            _write_domain(loaded, domain)
        if chosen:
            _write_thresholds(loaded, measured, chosen, self)


def _write_card(loaded: DenseDetector, measured: Measured, wishes: Wishes) -> None:
    """Of the detector alone, and of its second look, in their parts of the card."""
    found, draws, figures = measured.found, measured.draws, measured.figures
    card, folder = loaded.card, loaded.folder
    assert card is not None
    assert folder is not None
    sides = [(found.alone, False)] if measured.mode != "on" else []
    sides += [(found.look.evidence, True)] if found.look else []
    doubts: list[Doubt] = []
    for evidence, looks in sides:
        new: dict[str, FalseAlarms | Accuracy] = {}
        if wishes.false_alarms:
            alarms, unknown = by_chance(evidence, measured.data)
            if alarms is None:
                assert unknown is not None
                raise unknown
            new["false_alarms"] = alarms
        if wishes.accuracy:
            known = figures if evidence is found.best else compute_figures(evidence, draws)
            told = known | {"settings": figures["settings"]}
            new["accuracy"], unsure = measure_accuracy(evidence, draws, told, measured.data)
            doubts += unsure
        card = update_card(card, folder, looks, **new)
    loaded.card = card  # thresholds that are written after it keep them
    told_names = " and ".join(name.replace("_", " ") for name in new)
    typer.echo(f"Written, {told_names}: {folder}")
    warn(dict.fromkeys(doubts))


def _write_domain(loaded: DenseDetector, domain: DomainFacts) -> None:
    """Writes into the model's card what the cells look like that it learned from."""
    assert loaded.card is not None
    assert loaded.folder is not None
    loaded.card = update_card(loaded.card, loaded.folder, domain=domain)
    typer.echo(f"Looks of its cells written, by {domain.fields} fields: {loaded.folder}")


def _write_thresholds(
    loaded: DenseDetector, measured: Measured, chosen: Chosen, wishes: Wishes
) -> None:
    """Writes new thresholds, and what holds with them, where it is asked for."""
    found, data = measured.found, measured.data
    thresholds = dict(chosen.thresholds)
    alarms, unknown = by_chance(found.best, data, thresholds)
    accuracy, doubts = measure_accuracy(
        found.best, measured.draws, measured.figures, data, thresholds
    )
    if unknown:
        told = "with the new thresholds the model knows no false alarms"
        doubts.append(unknown_chance(told, unknown))
    looks = found.look is not None
    for folder in save_thresholds(
        loaded, chosen, alarms, accuracy, wishes.thresholds, wishes.copy, looks
    ):
        typer.echo(f"Thresholds written: {folder}")
    warn(doubts)

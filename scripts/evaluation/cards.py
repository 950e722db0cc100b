"""What was measured, written into a model's card."""

from __future__ import annotations

from pathlib import Path

from configs import ConfigError
from models.card import ZOO, ModelCard, save_card


def check_card_writable(folder: Path | None, option: str) -> None:
    """Refuses to change a shipped model.

    Args:
        folder: the model's.
        option: by which it was asked for.

    Raises:
        ConfigError: it is one.
    """
    if folder is not None and folder.resolve().is_relative_to(ZOO):
        raise ConfigError(f"{option}: a shipped model stays as it is; copy its folder")


def update_card(card: ModelCard, folder: Path, looks: bool = False, **figures: object) -> ModelCard:
    """Writes a model's sidecar with these figures in place of those it had.

    Args:
        card: of the model.
        folder: likewise.
        looks: whether they were measured with its second look.
        figures: fields of the card, or of its part for the second look.

    Returns:
        The card as written.

    Raises:
        ConfigError: it can't be written.
    """
    card = card.with_grader(**figures) if looks else card.model_copy(update=figures)
    try:
        save_card(card, folder)
    except OSError as error:
        raise ConfigError(f"{folder}: can't be written: {error.strerror}") from error
    return card

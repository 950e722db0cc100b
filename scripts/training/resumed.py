"""Whether a run can be gone on with under the settings of now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configs import ConfigError, load_yaml

MAY_CHANGE = (
    "card.",
    "data.train.annotations",
    "data.train.images",
    "data.val.annotations",
    "data.val.images",
    "loop.checkpoint_every",
    "loop.deterministic",
    "loop.device",  # and loop.devices
    "loop.loggers",
    "loop.max_unreadable",
    "loop.nodes",
    "loop.patience",
    "loop.precision",
    "loop.workers",
    "model.backbone_weights",
)
"""What a run may go on with otherwise: where files lie, and on what it is computed."""


def changed_settings(path: Path, now: Mapping[str, Any]) -> str:
    """Compares settings with those that a run began with.

    Args:
        path: the run's ``config.yaml``.
        now: the settings of now.

    Returns:
        What differs, for people; empty where nothing does.

    Raises:
        ConfigError: it differs in what can't change in the middle of a run.
    """
    before = dict(flatten(load_yaml(path))) if path.is_file() else {}
    differing = {
        key: f"{key} = {value} (was {before[key]})"
        for key, value in flatten(now)
        if key in before and before[key] != value
    }
    fixed = [text for key, text in differing.items() if not key.startswith(MAY_CHANGE)]
    if fixed:
        raise ConfigError(
            f"--resume: the run began with other settings: {', '.join(fixed)}; set them back, or "
            "start another run"
        )
    return ", ".join(differing.values())


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; lists are values."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

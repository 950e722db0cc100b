"""Whether a run can be gone on with under the settings of now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from configs import ConfigError, load_yaml

SOURCES = ("data.train", "data.val")
"""Keys of one source, or of a list of sources."""

MAY_CHANGE = (
    "card.",
    "data.*.annotations",
    "data.*.images",
    "grader.backbone_weights",
    "loop.checkpoint_every",
    "loop.deterministic",
    "loop.device",  # and loop.devices
    "loop.loggers",
    "loop.max_unreadable",
    "loop.nodes",
    "loop.patience",
    "loop.precision",
    "loop.workers",
    "mean_teacher.images",
    "model.backbone_weights",
)
"""What a run may go on with otherwise: where files lie, and on what it is computed. Keys, what they
begin with, or patterns of it."""


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
    after = dict(flatten(now))
    differing = {
        key: f"{key} = {value} (was {before[key]})"
        for key, value in after.items()
        if key in before and before[key] != value
    }
    differing |= {key: f"{key} is set (was null)" for key in _turned_on(before, after)}
    differing |= {key: f"{key} = null (was set)" for key in _turned_on(after, before)}
    fixed = [text for key, text in differing.items() if not _may_change(key)]
    if fixed:
        raise ConfigError(
            f"--resume: the run began with other settings: {', '.join(fixed)}; set them back, or "
            "start another run"
        )
    return ", ".join(differing.values())


def _turned_on(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Groups of keys that one has, where the other has none in their place."""
    off = [key for key, value in before.items() if value is None]
    return [key for key in off if any(other.startswith(f"{key}.") for other in after)]


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; lists are values, but those of sources are numbered groups.

    How many sources there are is a value too: a run can't go on with others.
    """
    for key, value in values.items():
        if f"{prefix}{key}" in SOURCES:
            sources = value if isinstance(value, list) else [value]
            yield f"{prefix}{key}", f"{len(sources)} source{'s' * (len(sources) > 1)}"
            for number, source in enumerate(sources):
                name = key if len(sources) == 1 else f"{key}.{number}"
                yield from flatten(source, f"{prefix}{name}.")
        elif isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _may_change(key: str) -> bool:
    return any(fnmatch(key, f"{pattern}*") for pattern in MAY_CHANGE)

"""Whether a run can be gone on with under the settings of now, and with the data of now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from configs import ConfigError, StrictModel, load_yaml, validate

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
begin with, or patterns of it. What lies there has to be the same: see `check_content`."""


MACHINES = ("device", "precision")
"""Of ``loop``: what is checked against the machine, and a run may have begun on another one."""


def changed_settings(path: Path, settings: StrictModel) -> str:
    """Compares settings with those that a run began with.

    Options that its version did not have count with their defaults.

    Args:
        path: the run's ``config.yaml``.
        settings: those of now.

    Returns:
        What differs, for people; empty where nothing does, or the file is gone.

    Raises:
        ConfigError: it differs in what can't change in the middle of a run; or the file is of no
            settings that are known now.
    """
    if not path.is_file():
        return ""
    before = dict(flatten(_as_of_now(path, type(settings))))
    after = dict(flatten(settings.model_dump(mode="json")))
    differing = dict(_differences(before, after))
    fixed = [text for key, text in differing.items() if not _may_change(key)]
    if fixed:
        raise ConfigError(
            f"--resume: the run began with other settings: {', '.join(fixed)}; set them back, or "
            "start another run"
        )
    return ", ".join(differing.values())


def check_content(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Makes sure that data and weights are those that a run began with, wherever they lie.

    Args:
        before: digests by setting, as the checkpoint has them. What its version did not keep
            counts as the same.
        now: those of now.

    Raises:
        ConfigError: some have other content.
    """
    differing = [key for key, content in before.items() if now.get(key, "") != content]
    if differing:
        raise ConfigError(
            f"--resume: the run began with other content of {', '.join(differing)}: figures and "
            "card would be of both; give it what it began with, or start another run"
        )


def _as_of_now(path: Path, kind: type[StrictModel]) -> dict[str, Any]:
    """What a run began with, as this version would have written it."""
    values = load_yaml(path)
    loop = values.get("loop")
    of_machine = {}
    if isinstance(loop, Mapping):
        of_machine = {key: loop[key] for key in MACHINES if key in loop}
        values["loop"] = {key: value for key, value in loop.items() if key not in MACHINES}
    try:
        written = validate(values, kind, str(path)).model_dump(mode="json")
    except ConfigError as error:
        raise ConfigError(
            f"--resume: {error}; the run began with another version, or the file was changed: go "
            "on with that version, or start another run"
        ) from error
    written["loop"] |= of_machine
    return written


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys that differ, and how, for people; of a group that one of both lacks its key alone."""
    keys = dict.fromkeys((*after, *before))
    missing = object()  # as no value is
    differing = [key for key in keys if before.get(key, missing) != after.get(key, missing)]
    for key in differing:
        if any(key.startswith(f"{group}.") for group in differing):
            continue
        if key in before and key in after:
            yield key, f"{key} = {after[key]} (was {before[key]})"
        elif key in after:
            group = after[key] is None and _has_group(before, key)
            yield key, f"{key} = null (was set)" if group else f"{key} = {after[key]} (was not set)"
        else:
            group = before[key] is None and _has_group(after, key)
            yield (
                key,
                f"{key} is set (was null)" if group else f"{key} is not set (was {before[key]})",
            )


def _has_group(values: Mapping[str, Any], key: str) -> bool:
    return any(other.startswith(f"{key}.") for other in values)


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

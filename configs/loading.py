"""From YAML text and ``key=value`` overrides to a checked, frozen settings object."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from configs.errors import ConfigError

PRESETS = Path(__file__).parent

Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """Base of every settings model: unknown keys are errors, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def load_config(
    source: str | Path | None, model: type[Model], overrides: Iterable[str] = ()
) -> Model:
    """Reads a YAML file (or a preset by name), applies overrides and checks the result.

    Args:
        source: path of a YAML file, a preset such as ``train/fcos_mobilenet_v2``,
            or None for the model's defaults.
        model: the pydantic model that the settings must fit.
        overrides: ``dotted.key=value`` strings; values are read as YAML.

    Raises:
        ConfigError: the file is missing or not YAML, or a key or value is not allowed;
            the message names the file, the key, the value and what is allowed.
    """
    values = {} if source is None else load_yaml(source)
    name = "settings" if source is None else str(source)
    return validate(apply_overrides(values, overrides), model, name)


def load_yaml(source: str | Path) -> dict[str, Any]:
    """Reads a mapping from a YAML file or preset; see `load_config` for the errors."""
    path = _resolve(source)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found {type(values).__name__}")
    return values


def apply_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Returns a copy of ``values`` with ``dotted.key=value`` strings applied in order.

    Raises:
        ConfigError: an override has no ``=``, leads through a single value, or through a list
            without the number of one of its entries.
    """
    result = copy.deepcopy(dict(values))
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set {override}: expected key=value, such as tiler.overlap=128")
        *parents, last = key.split(".")
        node: Any = result
        for parent in parents:
            at = _place(node, parent, override)
            child = node.setdefault(at, {}) if isinstance(node, dict) else node[at]
            if not isinstance(child, dict | list):
                raise ConfigError(f"--set {override}: {parent} is a single value, not a group")
            node = child
        at = _place(node, last, override)
        try:
            node[at] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value is not valid YAML") from error
    return result


def _place(node: dict[str, Any] | list[Any], part: str, override: str) -> Any:
    """A part of a dotted key as what finds its value: of a list a number, from 0 on."""
    if isinstance(node, dict):
        return part
    if part.isdecimal() and int(part) < len(node):
        return int(part)
    raise ConfigError(
        f"--set {override}: {part} stands where a list has {len(node)} entries; number the one "
        f"that is meant, 0 to {len(node) - 1}"
    )


def validate(values: Mapping[str, Any], model: type[Model], name: str) -> Model:
    """Checks ``values`` against ``model``; ``name`` says in errors where they came from."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(detail, model) for detail in error.errors()]
        raise ConfigError(f"{name}: " + "; ".join(lines)) from error


def _resolve(source: str | Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    preset = PRESETS / f"{source}.yaml"
    if preset.is_file():
        return preset
    presets = sorted(str(p.relative_to(PRESETS).with_suffix("")) for p in PRESETS.rglob("*.yaml"))
    raise ConfigError(f"{source}: no such file or preset; presets: {', '.join(presets)}")


def _explain(detail: ErrorDetails, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in detail["loc"]) or "(top level)"
    if detail["type"] == "extra_forbidden":
        allowed = sorted(_fields_at(model, detail["loc"][:-1]))
        near = difflib.get_close_matches(str(detail["loc"][-1]), allowed, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"unknown key {key}; {hint}allowed here: {', '.join(allowed)}"
    if detail["type"] == "missing":
        return f"{key} is missing"
    return f"{key} = {_shortened(repr(detail['input']))}: {detail['msg']}"


def _shortened(text: str, most: int = 100) -> str:
    return text if len(text) <= most else text[:most] + "…"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """Names of the fields of the model nested at ``location``; empty where it is no model."""
    current: Any = model
    for part in location:
        if isinstance(part, int):  # an entry of a list is of the model that was found in it
            continue
        field = getattr(current, "model_fields", {}).get(str(part))
        current = _model_in(field.annotation) if field else None
    return set(getattr(current, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    arguments = getattr(annotation, "__args__", ())
    return next((found for a in arguments if (found := _model_in(a))), None)

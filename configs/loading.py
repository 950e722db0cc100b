"""From YAML text and ``key=value`` overrides to a checked, frozen settings object."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from configs.errors import ConfigError
from configs.layers import OVERRIDES, Layer, inside, join, plain, read_layers

Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """Base of every settings model: unknown keys are errors, numbers finite, instances frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def load_config(
    source: str | Path | Sequence[str | Path] | None,
    model: type[Model],
    overrides: Iterable[str] = (),
) -> Model:
    """Reads YAML files or presets by name, applies overrides and checks the result.

    Args:
        source: path of a YAML file, a preset such as ``train/cric``, several of them, each over
            the one before (see `configs.layers`), or None for the model's defaults.
        model: the pydantic model that the settings must fit.
        overrides: ``dotted.key=value`` strings; values are read as YAML.

    Raises:
        ConfigError: a file is missing or not YAML, or a key or value is not allowed;
            the message names the files, the key, the value and what is allowed.
    """
    return resolve(read_layers(source, overrides), model)


def resolve(layers: Sequence[Layer], model: type[Model]) -> Model:
    """The settings that layers make together; see `load_config` for the errors."""
    named = [layer.name for layer in layers if layer.name != OVERRIDES]
    name = " + ".join(dict.fromkeys(named)) or "settings, without --config"
    return validate(plain(join(layers, model)), model, name)


def validate(values: Mapping[str, Any], model: type[Model], name: str) -> Model:
    """Checks ``values`` against ``model``; ``name`` says in errors where they came from.

    A truth value is no number: pydantic has True be 1, and YAML 1.1 has yes and on be true, so
    that ``mpp: yes`` would be a scale of 1 µm a pixel. That is looked at here, where people's
    settings come in, as it would make reading of the models that programs write many times slower.
    """
    wrong = [
        f"{key} = {_shortened(repr(value))}: is true or false (as yes, no, on and off are in "
        "YAML), which it can't be"
        for key, value in _misplaced_truths(values, model, "", set())
    ]
    if wrong:
        raise ConfigError(f"{name}: " + "; ".join(wrong))
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(detail, model) for detail in error.errors()]
        raise ConfigError(f"{name}: " + "; ".join(lines)) from error


def _misplaced_truths(
    value: Any, kind: Any, key: str, seen: set[tuple[int, int]]
) -> Iterator[tuple[str, Any]]:
    """Values that are True or False, or hold one, where their type takes none; with their keys.

    Args:
        value: as YAML has it.
        kind: a type or field that it has to fit; None for unknown.
        key: dotted, of the value.
        seen: lists and mappings that were looked at as what they stand for: YAML's aliases may
            name one a million times.
    """
    if not _takes_truth(kind):
        if _holds_truth(value):
            yield key, value
    elif isinstance(value, Mapping | list | tuple) and (id(value), id(kind)) not in seen:
        seen.add((id(value), id(kind)))
        for name, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            below = inside(kind, str(name)) if isinstance(value, Mapping) else kind
            yield from _misplaced_truths(inner, below, f"{key}.{name}" if key else str(name), seen)


def _holds_truth(value: Any) -> bool:
    """Whether a value is True or False, or a list or mapping that has one."""
    left, seen = [value], set[int]()
    while left:
        one = left.pop()
        if isinstance(one, bool):
            return True
        if isinstance(one, Mapping | list | tuple) and id(one) not in seen:
            seen.add(id(one))
            left.extend(one.values() if isinstance(one, Mapping) else one)
    return False


def _takes_truth(kind: Any) -> bool:
    """Whether True and False may stand in what a type describes; of unknown ones they may."""
    if isinstance(kind, FieldInfo):
        return _takes_truth(kind.annotation)
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _takes_truth(parts[0])
    if origin is Literal:
        return any(isinstance(value, bool) for value in parts)
    if parts:
        return any(_takes_truth(one) for one in parts if one is not Ellipsis)
    plain = isinstance(kind, type) and issubclass(kind, _NO_TRUTH)
    return not plain or kind is bool


_NO_TRUTH = (int, float, str, bytes, PurePath, type(None))


def _explain(detail: ErrorDetails, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in detail["loc"] if part != "") or "(top level)"
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
        models = list(_models_in(current))
        field = next((m.model_fields[part] for m in models if part in m.model_fields), None)
        # Of several kinds pydantic puts the name of the chosen one into the location.
        named = [m for m in models if part in _names_of(m)]
        current = field.annotation if field else named[0] if named else current
    return {name for one in list(_models_in(current))[:1] for name in one.model_fields}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models among the alternatives of a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for argument in getattr(annotation, "__args__", ()):
            yield from _models_in(argument)


def _names_of(model: type[BaseModel]) -> tuple[Any, ...]:
    """The names by which a model is chosen among several."""
    field = model.model_fields.get("name")
    return get_args(field.annotation) if field else ()

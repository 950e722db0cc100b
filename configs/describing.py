"""Settings for people and for editors: each key's help, a commented listing, a JSON Schema.

The help of a key stands once, in the docstring of its settings class under ``Attributes:``.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from configs.layers import EXTENDS, Said, Tree

WIDTH = 100
"""Columns of a listing."""

DEFAULT = "default"
"""Where a value comes from that no layer says."""

_ENTRY = re.compile(r"^ {4}(\w[\w, ]*): (.*)$")


def help_of(model: type[BaseModel]) -> dict[str, str]:
    """What a settings class and those that it extends say of each of their fields, in YAML's words.

    Of a group that shares its entry with others, or has none, what its own class says first.
    """
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        found |= _attributes(kind.__doc__ or "")
    texts = list(found.values())
    for name, field in model.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            shared = texts.count(found.get(name, "")) > 1
            found[name] = _summary(group) if shared or name not in found else found[name]
    return {name: _in_yaml(found[name]) for name in model.model_fields if found.get(name)}


def listing(settings: BaseModel, tree: Tree) -> str:
    """Resolved settings as YAML, with help above each key and its origin behind it.

    Args:
        settings: checked.
        tree: what they were made of; see `configs.layers.join`.
    """
    return "\n".join(_lines(settings, tree, "")) + "\n"


def json_schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    """The JSON Schema of a file of settings.

    A file may say a part, and stand on others for the rest, so nothing is required but what tells
    the alternatives of a key apart.
    """
    schema = model.model_json_schema(schema_generator=_WithHelp)
    chosen = {ref for union in _unions(schema) for ref in _references(union)}
    for name, part in {"": schema, **schema.get("$defs", {})}.items():
        if f"#/$defs/{name}" not in chosen:
            part.pop("required", None)
    text = {"type": "string", "minLength": 1}
    schema["properties"][EXTENDS] = {
        "anyOf": [text, {"type": "array", "items": text}],
        "description": "Files and presets that this one stands on; what it says overrides them.",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def described_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a file that is written, with what docstrings say of its keys."""
    return model.model_json_schema(schema_generator=_WithHelp, mode="serialization")


def to_json(schema: Mapping[str, Any]) -> str:
    """A schema as it is written to a file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


class _WithHelp(GenerateJsonSchema):
    """Describes properties by the docstring of their class."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        for name, text in help_of(schema["cls"]).items():
            if name in made.get("properties", {}):
                made["properties"][name].setdefault("description", text)
        if "description" in made:
            made["description"] = _in_yaml(_summary(schema["cls"]))
        return made

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        made = super().dataclass_schema(schema)
        for name, text in _attributes(schema["cls"].__doc__ or "").items():
            if name in made.get("properties", {}):
                made["properties"][name].setdefault("description", _in_yaml(text))
        return made


def _unions(node: Any) -> Iterator[Sequence[Any]]:
    """The alternatives that one of several keys tells apart, wherever they stand in a schema."""
    if isinstance(node, Mapping):
        if "discriminator" in node:
            yield node.get("oneOf", ())
        for value in node.values():
            yield from _unions(value)
    elif isinstance(node, list):
        for value in node:
            yield from _unions(value)


def _references(union: Sequence[Any]) -> Iterator[str]:
    for alternative in union:
        if "$ref" in alternative:
            yield alternative["$ref"]


def _summary(kind: type[BaseModel]) -> str:
    """The first sentence of a class's docstring."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split())


def _in_yaml(text: str) -> str:
    """A docstring's words as someone who writes YAML reads them."""
    return re.sub(r"\bNone\b", "null", text).replace("``", "`")


def _attributes(docstring: str) -> dict[str, str]:
    """The entries under ``Attributes:``; one may name several fields."""
    _, _, section = inspect.cleandoc(docstring).partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break
        if entry := _ENTRY.match(line):
            names = [name.strip() for name in entry[1].split(",")]
            found |= dict.fromkeys(names, entry[2].strip())
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def _lines(settings: BaseModel, tree: Any, indent: str) -> Iterator[str]:
    helps = help_of(type(settings))
    for name in type(settings).model_fields:
        yield from _comment(helps.get(name, ""), indent)
        yield from _entry(name, getattr(settings, name), _below(tree, name), indent)
    for name, value in (settings.model_extra or {}).items():  # of a part of another package
        yield from _entry(_yaml(name), value, _below(tree, name), indent)


def _entry(name: str, value: Any, tree: Any, indent: str) -> Iterator[str]:
    """A key with its value: a group, a mapping of groups, or one line."""
    if isinstance(value, BaseModel):
        yield f"{indent}{name}:"
        yield from _lines(value, tree, indent + "  ")
    elif isinstance(value, Mapping) and any(isinstance(v, BaseModel) for v in value.values()):
        yield f"{indent}{name}:"
        for key, inner in value.items():
            yield from _entry(_yaml(key), inner, _below(tree, key), indent + "  ")
    else:
        yield f"{indent}{name}: {_yaml(_jsonable(value))}  # {', '.join(_origins(tree)) or DEFAULT}"


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(text, WIDTH - len(indent) - 2):
        yield f"{indent}# {line}"


def _below(tree: Any, name: str) -> Any:
    return tree.get(name) if isinstance(tree, Mapping) else tree


def _origins(tree: Any) -> list[str]:
    """Who said what stands in a tree, each once."""
    if isinstance(tree, Said):
        return [tree.by]
    if not isinstance(tree, Mapping):
        return []
    return list(dict.fromkeys(by for inner in tree.values() for by in _origins(inner)))


def _yaml(value: Any) -> str:
    """A value on one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False
    )
    return text.removesuffix("...\n").strip()


def _jsonable(value: Any) -> Any:
    """A value as YAML can say it, settings within lists included."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)

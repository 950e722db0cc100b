"""Tables in Markdown, and the rows that a JSON Schema comes to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Schema = Mapping[str, Any]


class Row(NamedTuple):
    """A key of a file, or of settings.

    Attributes:
        path: from the root, such as ``model.classes[].name``.
        kind: which values it takes.
        default: as JSON; empty where there is none.
        text: what it means.
    """

    path: str
    kind: str
    default: str
    text: str


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; line ends and bars within cells are kept out of its way."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(_cell(text) for text in line)} |" for line in lines]


def code(text: str) -> str:
    """Text as code; nothing where there is none."""
    return f"`{text}`" if text else ""


def rows_of(schema: Schema) -> Iterator[Row]:
    """A row for each key of a JSON Schema, groups before what they hold."""
    yield from _rows(schema, schema.get("$defs", {}), "")


def _rows(node: Schema, parts: Schema, path: str) -> Iterator[Row]:
    for name, value in node.get("properties", {}).items():
        place = f"{path}{name}"
        described = value.get("description") or _resolve(value, parts).get("description", "")
        default = value.get("default", ...)
        groups = list(_groups(value, parts, place))
        is_group = any(inner == f"{place}." for inner, _, _ in groups)
        shown = "" if default is ... or (is_group and default) else json.dumps(default)
        yield Row(place, _kind(value, parts), shown, described)
        for inner, group, said in groups:
            for row in _rows(group, parts, inner):
                yield row._replace(text=f"{said}{row.text}")


def _groups(value: Schema, parts: Schema, place: str) -> Iterator[tuple[str, Schema, str]]:
    """The groups of keys below a value: the start of their paths, they, and when they hold."""
    value = _resolve(value, parts)
    if "properties" in value:
        yield f"{place}.", value, ""
    elif "items" in value:
        yield from _groups(value["items"], parts, f"{place}[]")
    elif isinstance(value.get("additionalProperties"), Mapping):
        yield from _groups(value["additionalProperties"], parts, f"{place}.NAME")
    groups = [group for one in _alternatives(value) for group in _groups(one, parts, place)]
    for path, group, _ in groups:
        yield path, group, _condition(group) if len(groups) > 1 else ""


def _condition(group: Schema) -> str:
    """By which value of a key one of several groups is chosen."""
    for name, value in group["properties"].items():
        if "const" in value:
            return f"({name} {value['const']}) "
    return ""


def _kind(value: Schema, parts: Schema) -> str:
    """Which values a schema lets pass, in words."""
    value = _resolve(value, parts)
    if "const" in value:
        return json.dumps(value["const"], ensure_ascii=False)
    if "enum" in value:
        return ", ".join(json.dumps(one, ensure_ascii=False) for one in value["enum"])
    if inner := list(_alternatives(value)):
        return " or ".join(dict.fromkeys(_kind(one, parts) for one in inner))
    kind: str = value.get("type", "")
    if kind == "array":
        return f"list of {_kind(value['items'], parts)}" if "items" in value else "list"
    if kind == "object" or "properties" in value:
        return "group"
    names = {"number": "number", "integer": "whole number", "string": "text", "": "any"}
    names |= {"boolean": "true, false", "null": "null"}
    return " ".join([names.get(kind, kind), *_limits(value)])


def _limits(value: Schema) -> Iterator[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    for key, sign in signs.items():
        if key in value:
            yield f"{sign} {value[key]}"


def _alternatives(value: Schema) -> Iterator[Schema]:
    yield from value.get("anyOf", ())
    yield from value.get("oneOf", ())


def _resolve(value: Schema, parts: Schema) -> Schema:
    """What a reference leads to."""
    while "$ref" in value:
        value = parts[value["$ref"].rpartition("/")[2]]
    return value


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")

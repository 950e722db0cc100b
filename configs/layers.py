"""Settings in layers: presets and files, one over the other, and who said what.

A file may stand on others, by ``extends: train/cric`` or a list of such; what it says overrides
what they say, and of several files the later one overrides the earlier. What several files stand on
counts once, below them all: the second one's would undo what the first one changes. Groups are
joined key by key; anything else, lists among them, is replaced as a whole. A group that chooses
one of several kinds by its ``name``, such as a loss or a step of augmentation, is replaced as a
whole where the name changes: the settings of one loss mean nothing to another.
"""

from __future__ import annotations

import copy
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.types import Discriminator

from configs.errors import ConfigError

PRESETS = Path(__file__).parent

EXTENDS = "extends"
"""The key that names what a file stands on."""

OVERRIDES = "--set"
"""Where a value of the command line comes from."""

Tree: TypeAlias = dict[str, Any]
"""Nested settings; leaves are `Said`."""


@dataclass(frozen=True)
class Layer:
    """What one file, preset or command line says.

    Attributes:
        name: which of these.
        values: nested, as YAML has them.
    """

    name: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Said:
    """A value, and the name of the layer that it comes from."""

    value: Any
    by: str


def read_layers(
    source: str | Path | Sequence[str | Path] | None, overrides: Iterable[str] = ()
) -> list[Layer]:
    """The layers of settings, from the lowest to the highest.

    Args:
        source: a YAML file or a preset by its name, or several, each over the one before.
        overrides: ``dotted.key=value``, above all files.

    Raises:
        ConfigError: a file is missing, not YAML, or extends itself, or what an earlier one that
            it extends stands on already; or an override is wrong.
    """
    given: Sequence[str | Path] = (
        () if source is None else [source] if isinstance(source, str | Path) else source
    )
    read: set[Path] = set()
    layers = [layer for one in given for layer in _read(one, None, (), read)]
    values = apply_overrides({}, overrides)
    return [*layers, Layer(OVERRIDES, values)] if values else layers


def join(layers: Iterable[Layer], model: type[BaseModel]) -> Tree:
    """One tree of what the layers say, each leaf as `Said`.

    Args:
        layers: from the lowest to the highest.
        model: of the settings; it tells which groups choose a kind by a name.
    """
    tree: Tree = {}
    for layer in layers:
        tree = _join(tree, _said(layer.values, layer.name), model)
    return tree


def plain(tree: Any) -> Any:
    """A tree's values alone."""
    if isinstance(tree, Mapping):
        return {key: plain(value) for key, value in tree.items()}
    return tree.value


def load_yaml(source: str | Path) -> dict[str, Any]:
    """Reads a mapping from a YAML file or preset, as it stands there.

    Raises:
        ConfigError: it is missing, not YAML, no mapping, or says a key twice.
    """
    path = find(source)
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found {type(values).__name__}")
    if _holds_itself(values, (), set()):
        raise ConfigError(f"{path}: not valid YAML: a group holds itself, by an alias")
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
            node[at] = yaml.load(text, Loader=_Loader)
        except (yaml.YAMLError, RecursionError) as error:
            problem = getattr(error, "problem", None)
            reason = f": {problem}" if problem else ""
            raise ConfigError(f"--set {override}: the value is not valid YAML{reason}") from error
        if _holds_itself(node[at], (), set()):
            raise ConfigError(f"--set {override}: the value holds itself, by an alias")
    return result


def _place(node: dict[str, Any] | list[Any], part: str, override: str) -> Any:
    """A part of a dotted key as what finds its value: of a list a number, from 0 on."""
    return part if isinstance(node, dict) else _number_of(part, node, f"--set {override}")


def _number_of(part: Any, entries: Sequence[Any], where: str) -> int:
    """A key, which YAML may have read as a number, as that of one of a list's entries.

    Raises:
        ConfigError: it is none; begins with ``where``.
    """
    text = str(part)
    if text.isdecimal() and len(text) < _MOST_DIGITS and int(text) < len(entries):
        return int(text)
    if not entries:
        raise ConfigError(
            f"{where}: {part} stands where a list is empty; say the list as a whole, in brackets"
        )
    raise ConfigError(
        f"{where}: {part} stands where a list has {len(entries)} "
        f"{'entry' if len(entries) == 1 else 'entries'}; number the one that is meant, "
        f"{'0' if len(entries) == 1 else f'0 to {len(entries) - 1}'}"
    )


def find(source: str | Path, beside: Path | None = None) -> Path:
    """The file that is meant by a path or a preset's name.

    Args:
        source: the path or name.
        beside: a folder that a path may be relative to, and that goes first.

    Raises:
        ConfigError: there is none; names the presets.
    """
    path = Path(source)
    for candidate in (beside / path if beside else path, PRESETS / f"{source}.yaml"):
        if candidate.is_file():
            return candidate
    presets = sorted(p.relative_to(PRESETS).with_suffix("") for p in PRESETS.rglob("*.yaml"))
    told = ", ".join(preset.as_posix() for preset in presets)
    raise ConfigError(f"{source}: no such file or preset; presets: {told}")


_MOST_DIGITS = 10
"""Of an entry's number: Python reads no integer of any length."""

OF_VALUES = (ValueError, LookupError, AttributeError, ArithmeticError)
"""What YAML's reader raises, none of its own errors, for a date or a number that is none."""

_OTHERWISE_READ = re.compile(r"[-+]?0[0-9_]*[0-9]|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
"""Octal numbers and those of base 60: YAML 1.1 has 010 be 8, and 1:30 be 90."""

_DEEPEST = 100
"""Values within each other; YAML's reader goes on until Python's stack is full."""


class _Loader(yaml.SafeLoader):
    """Refuses what is nested without end, and a key that stands twice in one mapping.

    YAML's own loader drops the first of two. What looks like a date or a number, and is none, is
    an error of YAML here: there it is one of whatever type Python raises. So is a number that
    people and YAML 1.1 read as two different ones.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self._depth >= _DEEPEST:
            place = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "nested too deeply", place)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int | float) and _OTHERWISE_READ.fullmatch(node.value):
                problem = f"{node.value} would be read as {value}; write that, or quote a text"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
            return value
        except OF_VALUES as error:
            kind = node.tag.rpartition(":")[2]
            problem = f"{str(node.value)[:40]!r} is no {kind}; in quotes it is a text"
            mark = node.start_mark
            raise yaml.constructor.ConstructorError(None, None, problem, mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value == "<<":
                continue
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} stands twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _holds_itself(value: Any, above: tuple[int, ...], seen: set[int]) -> bool:
    """Whether YAML's aliases make a circle; what was looked at once is not looked at again."""
    if not isinstance(value, dict | list):
        return False
    if id(value) in above:
        return True
    if id(value) in seen:
        return False
    seen.add(id(value))
    inner = value.values() if isinstance(value, dict) else value
    return any(_holds_itself(one, (*above, id(value)), seen) for one in inner)


def _read(
    source: str | Path, beside: Path | None, above: tuple[Path, ...], read: set[Path]
) -> Iterator[Layer]:
    """A file's layers: first those that it extends and nobody has ``read``, then its own."""
    path = find(source, beside)
    own = path.resolve()
    if own in above:
        raise ConfigError(f"{path}: extends itself, by way of {above[-1]}")
    if above and own in read:
        return
    read.add(own)
    values = load_yaml(path)
    extended = values.pop(EXTENDS, [])
    bases = [extended] if isinstance(extended, str) else extended
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: {EXTENDS}: expected a file or preset, or a list of them")
    before = set(read)
    for base in bases:
        try:
            if find(base, path.parent).resolve() in read - before:
                raise ConfigError(
                    f"{path}: {EXTENDS}: {base} lies below what stands before it in the list, so "
                    "it can't override that, too; put it first, or leave it out"
                )
            yield from _read(base, path.parent, (*above, own), read)
        except ConfigError as error:
            if str(error).startswith(f"{base}: no such"):
                raise ConfigError(f"{path}: {EXTENDS}: {error}") from error
            raise
    yield Layer(_called(path), values)


def _called(path: Path) -> str:
    """A preset by its name, a file by its path."""
    if path.is_relative_to(PRESETS):
        return path.relative_to(PRESETS).with_suffix("").as_posix()
    return str(path)


def _said(value: Any, by: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _said(inner, by) for key, inner in value.items()}
    return Said(value, by)


def _join(low: Tree, high: Tree, kind: Any) -> Tree:
    result = dict(low)
    for key, value in high.items():
        below = result.get(key)
        inner = inside(kind, key)
        if isinstance(below, Said) and isinstance(below.value, list) and isinstance(value, dict):
            value = _join_entries(key, below, value, inner)
        elif (
            isinstance(below, dict)
            and isinstance(value, dict)
            and not _chooses_another(below, value, inner)
        ):
            value = _join(below, value, inner)
        result[key] = value
    return result


def _join_entries(key: str, below: Said, value: Tree, kind: Any) -> Said:
    """A list with some of its entries changed, each named by its number, from 0 on."""
    entries = copy.deepcopy(below.value)
    by = ""
    for number, said in value.items():
        at = _number_of(number, entries, f"{key}.{number}")
        entry = entries[at]
        if isinstance(entry, dict) and isinstance(said, dict):
            low = _said(entry, below.by)
            another = _holds_free_groups(kind) and _names_another(low, said, "name")
            entry = plain(said if another else _join(low, said, None))
        else:
            entry = plain(said)
        entries[at] = entry
        by = by or next(_names(said), "")  # an empty group says nothing
    return Said(entries, f"{below.by}, {by}" if by else below.by)


def _names(tree: Any) -> Iterator[str]:
    """Of the layers by which a tree's leaves are said."""
    if isinstance(tree, dict):
        for value in tree.values():
            yield from _names(value)
    else:
        yield tree.by


def _chooses_another(below: Tree, value: Tree, kind: Any) -> bool:
    """Whether a group takes another of several kinds than the layers below it."""
    key = _chosen_by(kind)
    return key is not None and _names_another(below, value, key)


def _names_another(below: Tree, value: Tree, key: str) -> bool:
    return key in value and key in below and plain(value)[key] != plain(below)[key]


def _holds_free_groups(kind: Any) -> bool:
    """Whether a list's entries are groups whose keys hang on the kind that ``name`` chooses."""
    return any(_is_mapping(one) and typing.get_args(one)[1] is Any for one in _types_in(kind))


def inside(kind: Any, key: str) -> Any:
    """What stands at a key of a model or of a mapping: a field, a type, or None for unknown."""
    for model in _types_in(kind):
        if _is_model(model):
            if key in model.model_fields:
                return model.model_fields[key]
        else:
            _, value = typing.get_args(model)
            return value
    return None


def _types_in(kind: Any) -> Iterator[Any]:
    """Models and mappings among the alternatives of a field or type."""
    if isinstance(kind, FieldInfo):
        yield from _types_in(kind.annotation)
    elif _is_model(kind) or _is_mapping(kind):
        yield kind
    else:
        for argument in getattr(kind, "__args__", ()):
            yield from _types_in(argument)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_mapping(kind: Any) -> bool:
    """Whether a type is a mapping that says what it holds, such as ``dict[str, int]``."""
    origin = typing.get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _chosen_by(kind: Any) -> str | None:
    """The key by which one of several models is chosen; None where there is no choice."""
    metadata = getattr(kind, "__metadata__", ())
    marks = [kind, *metadata, *(kind.metadata if isinstance(kind, FieldInfo) else ())]
    for mark in marks:
        if isinstance(mark, FieldInfo) and isinstance(mark.discriminator, str):
            return mark.discriminator
        choice = mark.discriminator if isinstance(mark, FieldInfo) else mark
        if isinstance(choice, Discriminator):
            return "name"
    return None

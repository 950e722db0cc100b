"""What the numbers of YOLO's classes mean.

It stands in ``classes.txt`` or ``obj.names``, a name a line, or in a YAML file with ``names``
(Ultralytics), beside the labels or up to two folders above: the nearest holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from configs import ConfigError
from configs.layers import OF_VALUES
from data.annotations.drawing import Remark
from data.annotations.values import as_text, shown

CLASS_FILES = ("classes.txt", "obj.names")


@dataclass(frozen=True)
class ClassNames:
    """The classes of a folder of labels.

    Attributes:
        names: by number; empty where nobody says.
        keypoints: how many a box has, and how many numbers each; None for boxes without.
        remarks: where files contradict each other or themselves.
    """

    names: dict[int, str] = field(default_factory=dict)
    keypoints: tuple[int, int] | None = None
    remarks: tuple[Remark, ...] = ()


def class_names(folder: Path) -> ClassNames:
    """What is known of the classes of the labels in a folder.

    Raises:
        ConfigError: the nearest file of them can't be read, or isn't as it should be.
    """
    for place in (folder, folder.parent, folder.parent.parent):
        if found := list(_found(place)):
            return _agreed(found)
    return ClassNames()


def _agreed(found: list[tuple[Path, ClassNames]]) -> ClassNames:
    """Of the files in one folder the first, with a remark where another one says otherwise."""
    first, chosen = found[0]
    remarks = list(chosen.remarks)
    for path, other in found[1:]:
        if other.names != chosen.names:
            text = f"{first.name} and {path.name} name other classes: {first.name} holds"
            remarks.append(Remark("class-files-differ", text))
    keypoints = next((one.keypoints for _, one in found if one.keypoints), None)
    return ClassNames(chosen.names, keypoints, tuple(remarks))


def _found(place: Path) -> Iterator[tuple[Path, ClassNames]]:
    for name in CLASS_FILES:
        if (place / name).is_file():
            yield place / name, _listed(place / name)
    for path in sorted([*place.glob("*.yaml"), *place.glob("*.yml")]):
        if names := _from_yaml(path):
            yield path, names


def _listed(path: Path) -> ClassNames:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not text in UTF-8: {error}") from error
    return ClassNames({i: line.strip() for i, line in enumerate(lines) if line.strip()})


def _from_yaml(path: Path) -> ClassNames | None:
    """Ultralytics' ``names``, a list or a mapping; None where it is another YAML file."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, RecursionError, *OF_VALUES) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    given = content.get("names") if isinstance(content, dict) else None
    if not given:
        return None
    if not isinstance(given, list | dict):
        raise ConfigError(f"{path}: names is {shown(given)}, neither a list nor a mapping")
    pairs = enumerate(given) if isinstance(given, list) else given.items()
    names = {_number(path, key): _name(path, name) for key, name in pairs}
    count, remarks = content.get("nc"), []
    if isinstance(count, int) and count != len(names):
        text = f"{path.name} says nc: {count}, but names {len(names)} classes: the names hold"
        remarks.append(Remark("class-count", text))
    return ClassNames(names, _keypoints(path, content.get("kpt_shape")), tuple(remarks))


def _number(path: Path, key: object) -> int:
    if isinstance(key, bool) or not str(key).strip().isdecimal():
        raise ConfigError(f"{path}: names: {shown(key)} is no number of a class")
    return int(str(key))


def _name(path: Path, name: object) -> str:
    try:
        return as_text(name, f"{path}: a name among names")
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _keypoints(path: Path, shape: object) -> tuple[int, int] | None:
    if shape is None:
        return None
    match shape:
        case [int(count), 2 | 3 as size] if count > 0:
            return count, size
    raise ConfigError(f"{path}: kpt_shape is {shown(shape)}, not [keypoints, 2 or 3]")

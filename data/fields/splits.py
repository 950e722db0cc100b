"""Splits of annotated fields: by patient, slide or field, with each class shared out evenly.

What belongs together stays together. A split is kept as a small CSV file, so that everybody
trains and validates on the same fields.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError, Doubt
from configs.layers import PRESETS
from data.fields.fieldset import Field, FieldSet, Grouping
from data.tables import read_records

PUBLISHED = PRESETS / "splits"
"""Splits of public sets, by name: whose figures are of one part can be compared."""

COLUMNS = ("part", "image", "slide", "patient")

HASHED_WHOLE = 64 << 20
"""Bytes of a file up to which all of it is compared; of larger ones three pieces of 1 MiB are."""

PIECE = 1 << 20


def split_fields(
    fields: FieldSet,
    shares: Mapping[str, float],
    by: Grouping = "slide",
    seed: int = 0,
    together: Iterable[tuple[int, int]] = (),
) -> dict[str, list[Field]]:
    """Shares fields out, each class as evenly as whole groups allow.

    Iterative stratification over groups (Sechidis et al., "On the stratification of multi-label
    data", ECML 2011): the class with the fewest cells left goes first, its largest groups first,
    each to the part that still wants most of that class.

    Args:
        fields: the annotated fields.
        shares: how much of everything each part should have; sums to 1.
        by: what is never torn apart.
        seed: settles ties.
        together: pairs of indices of fields that stay together too, with all that belongs to each.

    Returns:
        The fields of each part, in their order.

    Raises:
        ConfigError: the shares are none, or there are fewer groups than parts.
    """
    if not shares or min(shares.values()) <= 0 or not math.isclose(sum(shares.values()), 1):
        told = ", ".join(f"{name}={share:g}" for name, share in shares.items())
        raise ConfigError(f"parts {told}: shares are positive and sum to 1")
    groups = _groups([field.group(by) for field in fields.fields], together)
    if len(groups) < len(shares):
        raise ConfigError(f"there are {len(groups)} groups by {by} for {len(shares)} parts")
    counts = np.array([_counts(fields, members) for members in groups])
    part_of = stratify(counts, np.array(list(shares.values())), np.random.default_rng(seed))
    parts: dict[str, list[int]] = {name: [] for name in shares}
    for members, part in zip(groups, part_of, strict=True):
        parts[list(shares)[part]].extend(members)
    return {name: [fields.fields[i] for i in sorted(members)] for name, members in parts.items()}


def _groups(names: Sequence[str], together: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Indices that belong together, by the names of their groups and by pairs."""
    first: dict[str, int] = {}
    same_name = [(first.setdefault(name, index), index) for index, name in enumerate(names)]
    groups: dict[int, list[int]] = defaultdict(list)
    for index, root in enumerate(joined(len(names), [*same_name, *together]).tolist()):
        groups[root].append(index)
    return list(groups.values())


def joined(count: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """(count,) the least index that each is connected with by pairs, directly or through others."""
    root = np.arange(count)
    for one, other in pairs:
        low, high = sorted((int(root[one]), int(root[other])))
        if low != high:
            root[root == high] = low
    return root


def same_contents(fields: FieldSet) -> list[tuple[int, int]]:
    """Pairs of indices of fields whose images have the same content, under whatever names."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for index, field in enumerate(fields.fields):
        by_size[field.image.stat().st_size].append(index)
    first: dict[str, int] = {}
    alike = [index for several in by_size.values() if len(several) > 1 for index in several]
    pairs = [(first.setdefault(_hash(fields.fields[i].image), i), i) for i in alike]
    return [(one, other) for one, other in pairs if one != other]


def stratify(
    counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The part of each group; see `split_fields`.

    Args:
        counts: (groups, kinds) of what is to be shared out evenly.
        shares: (parts,) summing to 1.
        rng: settles ties.

    Returns:
        (groups,) indices of parts; none is empty where there are enough groups: the last ones go to
        parts that have none yet.
    """
    part_of = np.full(len(counts), -1)
    wanted = shares[:, None] * counts.sum(axis=0)
    groups_wanted = shares * len(counts)
    noise = rng.random(len(counts))
    while (part_of < 0).any():
        left = part_of < 0
        kinds = np.where(counts[left].sum(axis=0) > 0, counts[left].sum(axis=0), np.inf)
        kind = int(np.argmin(kinds))
        amount = counts[:, kind] if np.isfinite(kinds[kind]) else np.zeros(len(counts), np.int64)
        group = max(np.flatnonzero(left), key=lambda g: (amount[g], noise[g]))
        wish = wanted[:, kind] if amount[group] else groups_wanted
        empty = sorted(set(range(len(shares))) - set(part_of.tolist()))
        few = np.count_nonzero(left) <= len(empty)
        open_to: Sequence[int] = empty if few else range(len(shares))
        part = max(open_to, key=lambda p: (wish[p], groups_wanted[p], -p))
        part_of[group] = part
        wanted[part] -= counts[group]
        groups_wanted[part] -= 1
    return part_of


def save_split(parts: Mapping[str, Sequence[Field]], path: Path) -> None:
    """Writes a split as CSV: part, image, slide, patient.

    Raises:
        ConfigError: it can't be written.
    """
    names = Counter(field.image.name for members in parts.values() for field in members)
    rows = [
        (part, _name(field, names), field.slide, field.patient)
        for part, members in parts.items()
        for field in members
    ]
    unfinished = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(rows)
        os.replace(unfinished, path)
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror}") from error


def find_split(split: Path) -> Path:
    """The file of a split: as it is named, or one of `PUBLISHED` by its name.

    Raises:
        ConfigError: there is neither; names those that are published.
    """
    published = PUBLISHED / f"{split.name}.csv"
    if split.is_file() or split.name != str(split) or split.suffix:
        return split
    if published.is_file():
        return published
    known = ", ".join(sorted(path.stem for path in PUBLISHED.glob("*.csv")))
    raise ConfigError(f"split {split}: no such file, nor a published split; there is {known}")


def take_part(fields: FieldSet, split: Path, part: str) -> FieldSet:
    """The fields that a split gives to a part.

    Where the part has images that aren't among the fields, a doubt tells it.

    Args:
        fields: all fields of the set.
        split: a file, or the name of a published one; see `find_split`.
        part: its name.

    Raises:
        ConfigError: the file can't be read, has no such part, or does not know a field.
    """
    split = find_split(split)
    part_of = _read_split(split)
    if part not in part_of.values():
        known = ", ".join(sorted(set(part_of.values())))
        raise ConfigError(f"{split}: has no part {part}; it has {known}")
    names = Counter(field.image.name for field in fields.fields)
    unknown = [field.image for field in fields.fields if _name(field, names) not in part_of]
    if unknown:
        raise ConfigError(f"{split}: does not say to which part {unknown[0]} belongs")
    own = tuple(field for field in fields.fields if part_of[_name(field, names)] == part)
    if not own:
        raise ConfigError(f"{split}: none of the images that it gives to {part} is there")
    there = {_name(field, names) for field in fields.fields}
    wanted = [image for image, one in part_of.items() if one == part]
    if missing := [image for image in wanted if image not in there]:
        text = (
            f"{split.name} gives {len(wanted)} images to {part}, of which {len(missing)} are not "
            f"there, such as {missing[0]}; the part is taken without them"
        )
        fields = replace(fields, doubts=(*fields.doubts, Doubt(code="split-incomplete", text=text)))
    return replace(fields, fields=own)


SIDES = ("data.train", "data.val")


def check_leaks(ours: FieldSet, judged: FieldSet, sides: tuple[str, str] = SIDES) -> None:
    """Makes sure that nothing that is judged by was learned from.

    Args:
        ours: what is learned from.
        judged: what is judged by.
        sides: what the two are called.

    Raises:
        ConfigError: a slide, a patient, or an identical image is on both sides; names both.
    """
    for what in ("slide", "patient"):
        known = {getattr(f, what): f for f in ours.fields if getattr(f, what)}
        for field in judged.fields:
            name = getattr(field, what)
            if name in known:
                raise ConfigError(
                    f"{what} {name} is in {sides[0]} ({known[name].image}) and in {sides[1]} "
                    f"({field.image}); a figure on it would say nothing: split by {what}"
                )
    check_images(_images(ours), judged, sides)


def check_images(ours: Iterable[Path], judged: FieldSet, sides: tuple[str, str]) -> None:
    """Makes sure that no image that is judged by is among some, by whatever name.

    Args:
        ours: files of images; nobody need have annotated them.
        judged: what is judged by.
        sides: what the two are called.

    Raises:
        ConfigError: an identical image is on both sides; names both.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in ours:
        by_size[path.stat().st_size].append(path)
    hashes: dict[Path, str] = {}

    def content(path: Path) -> str:
        if path not in hashes:
            hashes[path] = _hash(path)
        return hashes[path]

    for path in _images(judged):
        for other in by_size.get(path.stat().st_size, []):
            if path.resolve() == other.resolve():
                raise ConfigError(f"{path}: is in {sides[0]} and in {sides[1]}; validate on others")
            if content(path) == content(other):
                raise ConfigError(
                    f"{path} of {sides[1]} has the same content as {other} of {sides[0]}; "
                    "take one of them out"
                )


def _name(field: Field, names: Counter[str]) -> str:
    """How a split calls an image: by its name, or by its path where several have that."""
    return field.image.name if names[field.image.name] == 1 else field.image.as_posix()


def _images(fields: FieldSet) -> list[Path]:
    return list(dict.fromkeys(field.image for field in fields.fields))


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = path.stat().st_size
        if size <= HASHED_WHOLE:
            digest.update(file.read())
        else:
            for start in (0, size // 2, size - PIECE):
                file.seek(start)
                digest.update(file.read(PIECE))
    return digest.hexdigest()


def _counts(fields: FieldSet, members: Sequence[int]) -> NDArray[np.int64]:
    """Cells of each class in some fields, and as one more kind the fields themselves."""
    labels = [fields.fields[i].labels[~fields.fields[i].crowd] for i in members]
    cells = np.bincount(np.concatenate(labels), minlength=len(fields.classes))
    return np.append(cells, len(members))


def _read_split(path: Path) -> dict[str, str]:
    _, rows = read_records(path)
    if not rows or not {"part", "image"} <= set(rows[0][1]):
        raise ConfigError(f"{path}: a split has the columns part and image")
    part_of: dict[str, str] = {}
    for line, row in rows:
        if part_of.setdefault(row["image"], row["part"]) != row["part"]:
            raise ConfigError(f"{path}: line {line}: {row['image']} is in two parts")
    return part_of

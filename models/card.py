"""The sidecar of a model: what a person should know before using it, and where it is found.

A model is a folder ``NAME/`` with ``model.safetensors`` and ``model.json``; one that looks
twice has ``grader.safetensors`` too.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PositiveFloat,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from configs import CytoLibraError, StrictModel
from models.config import DetectorConfig

WEIGHTS, SIDECAR, GRADER = "model.safetensors", "model.json", "grader.safetensors"
RUN_MODEL = "model"
"""Folder of the model within that of a training run."""

MODELS_ENV = "CYTOLIBRA_MODELS"
"""Environment variable that names the folders of a user's own models."""

ZOO = Path(__file__).parent / "zoo"
DEFAULT_MODEL = "cric-fcos-mobilenet-v2"

GraphKind = Literal["openvino", "openvino-int8", "onnx", "scale"]
"""Networks that may lie beside a model's sidecar: its own for other runtimes, see `storage.export`,
and one that tells a slide's scale, see `learning.scale`."""

Threshold = Annotated[float, Field(gt=0, le=1, strict=True)]
"""A score from which on a cell counts. One of 59 (percent) would find nothing, without a word."""

ModelScale = Annotated[float, Field(ge=0.05, le=5)]
"""µm per pixel that a network is made for."""

GraderGraphKind = Literal["openvino", "openvino-int8"]
"""The same of a grader."""

DEFAULT_WIDEST_CELL = 60.0
"""Longest side of a cell in µm, where a model does not say: a superficial squamous cell's."""


class ModelFileError(CytoLibraError):
    """A model file is missing, broken, or of another kind."""

    exit_code = 2


class NoNumbersError(ModelFileError):
    """A network's outputs are NaN, which is below every threshold: nothing would be found."""

    def __init__(
        self,
        text: str = "the network gives no numbers (NaN): its weights are damaged, or too large for "
        "the precision it runs in; take --precision fp32, or another model",
    ) -> None:
        super().__init__(text)


class GraphFacts(StrictModel):
    """An exported network.

    Attributes:
        sha256: of its files, one after the other.
        calibration: what the ranges of an int8 network were learned from.
    """

    sha256: str
    calibration: str = ""


class RateFacts(StrictModel):
    """How often what is no abnormal cell is reported as one; see `data.evaluation.Rate`.

    Attributes:
        per_mm2: false alarms a mm².
        between: variance of the rate between slides, over its mean's square.
        within: the same between fields of one slide.
        units: number of fields or slides that it was seen on.
        slides: of how many slides these are, as far as that is known.
        mm2: their area.
        found: false alarms on them.
        unit_mm2: their mean area, weighted by area.
        confused: of true abnormal cells outside of this group, the share that is reported in it.
        confused_spread: variance of that share between slides, over its mean's square; 0 in cards
            that don't know it.
    """

    per_mm2: float = Field(ge=0)
    between: float = Field(gt=0)
    within: float = Field(ge=0)
    units: int = Field(ge=1)
    slides: int = Field(ge=1)
    mm2: float = Field(gt=0)
    found: int = Field(ge=0)
    unit_mm2: float = Field(gt=0)
    confused: float = Field(0.0, ge=0, le=1)
    confused_spread: float = Field(0.0, ge=0)


class FalseAlarms(StrictModel):
    """What a model reports by chance, and what these figures hold for.

    Attributes:
        groups: by name: each abnormal class, "low grade" and "high grade" where the model has
            several classes of one, and "abnormal".
        unit: what varies: fields, or slides that are known to be normal.
        data: what it was measured on.
        thresholds: the model's, by class, with which these figures hold.
        sha256: of the model's weights, with "+" and its grader's after a second look; empty in the
            model's own card.
    """

    groups: dict[str, RateFacts]
    unit: Literal["field", "slide"]
    data: str
    thresholds: dict[str, Threshold]
    sha256: str = ""


class Figure(StrictModel):
    """A measured figure and its interval; None where the fields can't tell."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class LevelFigures(StrictModel):
    """How well the cells of a class, or of several merged, are found.

    Attributes:
        cells: marked ones that it was measured on.
        ap50: average precision at IoU 0.5.
        recall: share of these cells that is reported so at the thresholds.
        precision: share of what is reported so that is such a cell.
    """

    cells: int = Field(ge=0)
    ap50: Figure
    recall: Figure
    precision: Figure


class CountFacts(StrictModel):
    """How many cells there are for each that is reported; see `data.evaluation.Counting`.

    Attributes:
        ratio: cells a reported one: precision by recall, of any cell.
        spread: variance of that ratio between slides, over its square.
        error: variance of its mean, over its square.
        noise: variance that each reported cell adds, over the ratio's square.
        units: number of fields or slides that it was measured on.
        cells, reported: their cells, and what was reported of them.
    """

    ratio: float = Field(gt=0)
    spread: float = Field(ge=0)
    error: float = Field(ge=0)
    noise: float = Field(ge=0)
    units: int = Field(ge=1)
    cells: int = Field(ge=1)
    reported: int = Field(ge=1)


class Accuracy(StrictModel):
    """How well cells are found and named at the thresholds, and what that was measured on.

    Attributes:
        groups: by name: "any", "abnormal", "low grade" and "high grade" as far as the model has
            such classes, and each class.
        counting: of cells of any class; None where the fields are too few.
        level: of the intervals.
        data: what it was measured on.
        thresholds: the model's, by class, with which these figures hold.
    """

    groups: dict[str, LevelFigures]
    counting: CountFacts | None = None
    level: float
    data: str
    thresholds: dict[str, Threshold]


class SourceFacts(StrictModel):
    """Annotated fields that a model learned from, or was chosen by.

    Attributes:
        part: what they were for.
        name: what people call them: the settings' name, else that of the annotations.
        images: how many.
        cells: of each class.
        licence: the settings', else what the annotation file states of its images.
        attribution: whom to name.
        annotations_sha256: of the annotation files, one after the other, by name.
        images_sha256: of each image's size and of some bytes at its start, middle and end, one
            after the other by name: enough to know them again, and slides stay where they are.
    """

    part: Literal["train", "val"]
    name: str
    images: int
    cells: dict[str, int]
    licence: str = ""
    attribution: str = ""
    annotations_sha256: str
    images_sha256: str


class ParentFacts(StrictModel):
    """Weights that a model started from or learned from, with what is known of them.

    Attributes:
        role: what they were for.
        name: a model's name, torchvision's name of weights that are its, else that of the file.
        sha256: of the weights' file.
        licence: of the weights, where it is known.
        attribution: whom to name.
        data: what they were trained on, in a person's words.
        sources: what they were trained on.
        parents: theirs.
    """

    role: Literal["teacher", "backbone"]
    name: str
    sha256: str
    licence: str = ""
    attribution: str = ""
    data: str = ""
    sources: tuple[SourceFacts, ...] = ()
    parents: tuple[ParentFacts, ...] = ()


class _Origin(BaseModel):
    """What of a card's ``training`` others build on; the rest is for people."""

    sources: tuple[SourceFacts, ...] = ()
    parents: tuple[ParentFacts, ...] = ()


def _check_origin(training: dict[str, Any]) -> dict[str, Any]:
    _Origin.model_validate(training)
    return training


Training = Annotated[dict[str, Any], AfterValidator(_check_origin)]
"""What a model was made of, see `ModelCard`; ``sources`` are `SourceFacts`, ``parents``
`ParentFacts`."""


class CombinationRule(StrictModel):
    """How the scores of detector and grader become one; see `pipeline.cells.second_look.combine`.

    Attributes:
        background: exponent of the grader's doubt that there is a cell at all.
        share: of the detector's share of a class in its best score.
        evidence: of the grader's probability that a cell is abnormal.
        grade: of the grader's probability of a class.
        weights: (C + 1,) by which the grader's probabilities are multiplied first, and made to sum
            to one again: it is calibrated for classes as they come, and rare ones are told best
            where they count as much as frequent ones. None: as they are.
    """

    background: float = Field(0.2, ge=0)
    share: float = Field(0.5, ge=0)
    evidence: float = Field(0.3, ge=0)
    grade: float = Field(0.3, ge=0)
    weights: tuple[PositiveFloat, ...] | None = None


class SecondLookFacts(StrictModel):
    """A grader that looks again, more closely, at what the detector found.

    Its weights are `GRADER` in the model's folder. It takes (N, size, size, 3) RGB around the
    centres of boxes, and gives (N, C + 1) probabilities, background last.

    Attributes:
        name: of the grader.
        backbone: of its network, such as "mobilenet_v2".
        classes: the detector's, in their order.
        mpp: µm per pixel of its crops.
        size: their side in pixels.
        mean, std: of RGB between 0 and 1; the network has them inside.
        temperature: by which its logits are divided; exported graphs have it inside.
        floor: the detector's least score, of any class, of what is looked at again.
        rule: how its probabilities and the detector's scores become one score a class.
        thresholds: score from which on a cell counts after the second look, for each class; the
            card's own hold without it.
        false_alarms: what is reported by chance with these thresholds; None where nobody
            measured it.
        accuracy: how well cells are found and named with them; likewise.
        sha256: of the weights' file.
        graphs: exported networks in the model's folder.
        training, metrics, limits, licence: as in the model's card.
    """

    name: str
    backbone: str
    classes: tuple[str, ...]
    mpp: ModelScale = 0.25
    size: int = Field(128, ge=8)
    mean: tuple[float, float, float]
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    temperature: float = Field(1.0, gt=0)
    floor: float = Field(0.05, gt=0, lt=1)
    rule: CombinationRule = CombinationRule()
    thresholds: dict[str, Threshold]
    false_alarms: FalseAlarms | None = None
    accuracy: Accuracy | None = None
    sha256: str
    graphs: dict[GraderGraphKind, GraphFacts] = Field(default_factory=dict)
    training: Training = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    limits: str = ""
    licence: str = ""

    @model_validator(mode="after")
    def _one_threshold_a_class(self) -> SecondLookFacts:
        if set(self.thresholds) != set(self.classes):
            raise ValueError("thresholds must name each class of the grader, and no other")
        weights = self.rule.weights
        if weights is not None and len(weights) != len(self.classes) + 1:
            raise ValueError("rule.weights must be one a class, and one of background")
        return self


class ScaleFacts(StrictModel):
    """How well the network of the graph "scale" tells how large cells are shown.

    Errors are of natural logarithms: 0.1 is a tenth of the scale.

    Attributes:
        side: of a place that it looks at, in px at the model's mpp.
        reach: greatest magnification, as a logarithm, that it has seen.
        within: standard deviation of the error between places of one slide.
        between: the same between slides.
        known: novelty up to which a place is like those that it has learned from.
        data: what that was measured on.
    """

    side: int = Field(ge=32)
    reach: float = Field(gt=0)
    within: float = Field(ge=0)
    between: float = Field(ge=0)
    known: float = Field(gt=0)
    data: str = ""

    def error(self, places: float) -> float:
        """Standard error of the middle of so many places of one slide."""
        return math.sqrt(self.between**2 + self.within**2 / max(places, 1.0))


class LooksFacts(StrictModel):
    """How the cells of a model's fields vary in one aspect; see `data.evaluation.domain`.

    Attributes:
        looks: names of the figures, of `pipeline.cells.looks`.
        mean: of the fields' means.
        between: covariance from field to field.
        within: covariance of a field's cells.
        limit: distance beyond which cells are none of the model's domain.
        share: of the model's own kind of fields that lie beyond, at most.
    """

    looks: tuple[str, ...]
    mean: tuple[float, ...]
    between: tuple[tuple[float, ...], ...]
    within: tuple[tuple[float, ...], ...]
    limit: float = Field(gt=0)
    share: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _is_square(self) -> LooksFacts:
        sides = {len(self.mean), len(self.between), len(self.within)}
        sides |= {len(row) for row in (*self.between, *self.within)}
        if sides != {len(self.looks)} or not self.looks:
            raise ValueError("each look has a mean, and a row and a column of both covariances")
        return self


class DomainFacts(StrictModel):
    """What the cells that a model was trained on look like; see `pipeline.cells.domain`.

    Attributes:
        aspects: by name: stain and structure.
        fields: number of those that it was learned from.
        checked: number of those that the limits were chosen on, without having seen them.
        data: what they are called.
    """

    aspects: dict[str, LooksFacts]
    fields: int = Field(ge=1)
    checked: int = Field(ge=1)
    data: str


class ModelCard(StrictModel):
    """The sidecar: what a model is, what it saw, how good it is, and what it must not be used for.

    Attributes:
        name: of the model.
        summary: one line for ``cytolibra models``.
        detector: what `build_detector` takes.
        mpp: µm per pixel that the detector expects.
        widest_cell: longest side, in µm, of the cells that it was trained on.
        thresholds: score above which a cell counts, for each class.
        threshold_rule: how the thresholds were chosen.
        training: what it was made of: ``data`` and ``attribution`` in a person's words,
            ``sources`` (names, counts, licences, hashes) and ``parents`` (weights that it started
            from or learned from, with theirs), ``cells`` of each class, ``fields``, and the recipe.
        metrics: by name, on the data that ``training`` names for it.
        limits: what the model is not for.
        licence: of the weights.
        sha256: of the weights' file.
        graphs: exported networks in the same folder.
        ap_cost: for each reduced precision the average precision that it loses against fp32, by
            the metric's name; a gain is negative.
        ap_cost_data: what that was measured on.
        false_alarms: what is reported by chance; None where nobody measured it.
        accuracy: how well cells are found and named, by level; None where nobody measured it.
        second_look: the grader that looks again at what was found; None where there is none.
        scale: how well the graph "scale" tells a slide's scale; None where there is none.
        domain: what its cells look like; None where nobody measured it.
    """

    format: Literal["cytolibra-model-1"] = "cytolibra-model-1"
    name: str
    summary: str = ""
    detector: DetectorConfig
    mpp: ModelScale
    widest_cell: float = Field(DEFAULT_WIDEST_CELL, gt=0)
    thresholds: dict[str, Threshold]
    threshold_rule: str = ""
    training: Training = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    limits: str = ""
    licence: str = ""
    sha256: str = ""
    graphs: dict[GraphKind, GraphFacts] = Field(default_factory=dict)
    ap_cost: dict[str, dict[str, float]] = Field(default_factory=dict)
    ap_cost_data: str = ""
    false_alarms: FalseAlarms | None = None
    accuracy: Accuracy | None = None
    second_look: SecondLookFacts | None = None
    scale: ScaleFacts | None = None
    domain: DomainFacts | None = None

    @model_validator(mode="after")
    def _one_threshold_a_class(self) -> ModelCard:
        if set(self.thresholds) != set(self.detector.classes):
            raise ValueError("thresholds must name each class of the detector, and no other")
        return self

    @model_validator(mode="after")
    def _grader_of_these_classes(self) -> ModelCard:
        look = self.second_look
        if look and look.classes != tuple(self.detector.classes):
            raise ValueError(
                f"second_look tells {', '.join(look.classes)} apart, the detector "
                f"{', '.join(self.detector.classes)}: train a grader for this detector, or take "
                "second_look out"
            )
        return self

    def with_grader(self, **changes: object) -> ModelCard:
        """The card with changes in its part for the second look, which it has."""
        assert self.second_look is not None
        return self.model_copy(update={"second_look": self.second_look.model_copy(update=changes)})


def save_card(card: ModelCard, folder: Path) -> None:
    """Writes a model's sidecar, whole or not at all."""
    values = card.model_dump(mode="json", exclude_none=True)
    # With what is None: left out, it would read back as a default, such as focal loss's alpha.
    values["detector"] = card.detector.model_dump(mode="json")
    content = TypeAdapter(dict[str, Any]).dump_json(values, indent=2)
    unfinished = folder / f"{SIDECAR}.part"
    unfinished.write_bytes(content + b"\n")
    os.replace(unfinished, folder / SIDECAR)


def find_model(name_or_path: str | Path) -> Path:
    """The folder of a model: one on disk, a shipped one, or one of `own_folders`.

    A path goes before a name, and a shipped model's name before that of an own one.

    Raises:
        ModelFileError: there is none, or several own models have that name.
    """
    path = Path(name_or_path)
    if path.name in (WEIGHTS, SIDECAR) and path.is_file():
        return path.parent
    if (path / SIDECAR).is_file() or (path / WEIGHTS).is_file():
        return path
    if (path / RUN_MODEL / SIDECAR).is_file():
        return path / RUN_MODEL
    if (ZOO / str(name_or_path) / SIDECAR).is_file():
        return ZOO / str(name_or_path)
    if (found := _own_model(str(name_or_path))) is not None:
        return found
    if path.is_dir():
        return path
    if path.is_file():
        raise ModelFileError(
            f"{path}: not a model of CytoLibra; expected a folder with {WEIGHTS} and {SIDECAR}"
        )
    shipped = ", ".join(card.name for card in list_models()) or "none"
    own = _own_names()
    own_names = ", ".join(name for _, name in own if name) or f"none in {MODELS_ENV}"
    broken = ", ".join(str(folder) for folder, name in own if not name)
    unread = f"; with a card that can't be read: {broken}" if broken else ""
    raise ModelFileError(
        f"{name_or_path}: no such model; shipped models: {shipped}; your own: {own_names}{unread}"
    )


def _own_model(name: str) -> Path | None:
    found = [folder for folder, own in _own_names() if own == name]
    if len(found) > 1:
        places = ", ".join(map(str, found))
        raise ModelFileError(f"{name}: several of your models are called so; name one: {places}")
    return found[0] if found else None


def _own_names() -> list[tuple[Path, str]]:
    """Folders of own models, and the names on their cards; empty where a card is broken."""

    def name(folder: Path) -> str:
        try:
            return read_card(folder).name
        except ModelFileError:
            return ""

    return [(folder, name(folder)) for folder in own_folders()]


def own_folders() -> list[Path]:
    """The models in the folders that the environment variable CYTOLIBRA_MODELS names.

    Several folders stand there as in PATH. A model is a folder in one of them, that folder itself,
    or what ``cytolibra train`` wrote there (``RUN/model``).

    Raises:
        ModelFileError: a folder that is named there is none.
    """
    found: dict[Path, None] = {}
    for text in filter(None, os.environ.get(MODELS_ENV, "").split(os.pathsep)):
        root = Path(text).expanduser()
        if not root.is_dir():
            raise ModelFileError(f"{MODELS_ENV}: {root}: no such folder")
        for pattern in (SIDECAR, f"*/{SIDECAR}", f"*/{RUN_MODEL}/{SIDECAR}"):
            found |= {path.parent: None for path in sorted(root.glob(pattern))}
    return list(found)


def read_card(folder: Path) -> ModelCard:
    """Reads a model's sidecar; see `load_detector` for the errors."""
    text = read_file(folder / SIDECAR)
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "value_error":  # our own words, of parts that don't go together
            words = f"{key}: {first['ctx']['error']}" if key else first["ctx"]["error"]
        else:
            words = f"not a model's sidecar: {key} {first['msg']}"
        raise ModelFileError(f"{folder / SIDECAR}: {words}") from error


def shipped_names() -> frozenset[str]:
    """The names of the shipped models, without reading their cards."""
    return frozenset(path.parent.name for path in ZOO.glob(f"*/{SIDECAR}"))


def list_models() -> list[ModelCard]:
    """The cards of the shipped models, by name."""
    return [read_card(path.parent) for path in sorted(ZOO.glob(f"*/{SIDECAR}"))]


def read_file(path: Path) -> bytes:
    """The content of one of a model's files; see `ModelFileError`."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such file, though a model needs it") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error

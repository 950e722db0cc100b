"""Cells compared with hard background, and classes with what former steps were sure of.

The idea is that of HERO (Jiang et al. 2024): a coarse comparison of regions with what is none, a
finer one of classes, for which a memory keeps confident samples, and more boxes by augmentation.
Its abstract says so much and no formula, and is about a detector with two stages; the formulas, and
that it goes by places of a dense detector, are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert, roi_align

from configs import ConfigError
from models.config import DetectorConfig, HierarchySettings, HistorySettings, JitterSettings
from models.detectors.contrast import embed, projection
from models.detectors.memory import ClassMemory, ring_sizes
from models.detectors.places import (
    IGNORED,
    anchors_a_place,
    features_at,
    place_labels,
    positives_and_hardest,
    ranks_in_class,
)
from models.detectors.training_only import TrainingOnly


class _Looked(NamedTuple):
    """What of a batch is compared: embedded cells of length 1, and what they are.

    Attributes:
        cells: (P, D) at positive places.
        of_cells: (P,) their classes.
        sure: (P,) scores of these.
        background: (B, D).
        views: (V, D) of annotated cells.
        of_views: (V,) their classes.
    """

    cells: Tensor
    of_cells: Tensor
    sure: Tensor
    background: Tensor
    views: Tensor
    of_views: Tensor


class HistoricalComparison(TrainingOnly):
    """Embeds places of the classification tower, compares them, and remembers the sure ones.

    Args:
        config: of the detector; has a history.

    Attributes:
        memory: of each class; None where classes are not compared.
        batches: () how many were seen.
    """

    batches: Tensor
    weights: Tensor
    nearness: Tensor

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        assert config.history is not None
        settings, self.classes = config.history, len(config.classes)
        self.settings = settings
        self.strides = [2**level for level in config.pyramid.levels]
        # So that weights drawn after these are those of a detector without them.
        with torch.random.fork_rng(devices=[]):
            self.project = projection(config.pyramid.channels, settings.embedding)
        self.memory = _memory(settings, self.classes) if settings.classes else None
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        weights = class_weights(settings, self.classes)
        self.register_buffer("weights", weights, persistent=False)
        nearness = class_nearness(settings.hierarchy, config.classes)
        self.register_buffer("nearness", nearness, persistent=False)

    def forward(
        self,
        levels: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]],
        scores: Tensor,
        labels: Tensor,
    ) -> dict[str, Tensor]:
        """The weighted losses, scalars; then remembers this batch's cells.

        Several processes compare each its own places, with a memory of the places of all; each must
        call it equally often.

        Args:
            levels: (B, channels, H, W) of the classification tower.
            targets: for each image ``boxes`` and ``labels``.
            scores: (B, A, C) class scores in 0..1 of each anchor.
            labels: (B, A) their class indices, `BACKGROUND` or `IGNORED`.

        Returns:
            ``history_cells`` and ``history_classes``, as far as they have a weight.
        """
        looked = self._look_at(levels, targets, scores.detach(), labels)
        cells = torch.cat([looked.cells, looked.views])
        losses = {}
        with torch.autocast(cells.device.type, enabled=False):
            if self.settings.cells:
                loss = contrast_of_cells(cells, looked.background, self.settings.temperature)
                losses["history_cells"] = self.settings.cells * loss
            if self.memory is not None:
                of_cells = torch.cat([looked.of_cells, looked.of_views])
                loss = self._of_classes(self.memory, cells, of_cells)
                losses["history_classes"] = self.settings.classes * loss
        if self.training:
            if self.memory is not None and self.batches >= self.settings.warm_up:
                self.memory.add(looked.cells.detach(), looked.of_cells, looked.sure)
            self.batches += 1
        return losses

    def _look_at(
        self,
        levels: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]],
        scores: Tensor,
        labels: Tensor,
    ) -> _Looked:
        """Chooses places, and embeds them and the views; see `forward`."""
        settings = self.settings
        # Of the batch's number alone: a resumed run goes on with the same ones.
        draw = torch.Generator().manual_seed(int(self.batches))
        anchors = anchors_a_place(levels, labels.shape[1])
        sure, here = place_labels(scores, labels, anchors)
        places = torch.nonzero(here != IGNORED)  # (N, 2) image and place
        sure, here = sure[here != IGNORED], here[here != IGNORED]
        kept = at_most(here, settings.most_places, draw)
        places, sure, here = places[kept], sure[kept], here[kept]
        views, of_views = jittered(levels, self.strides, targets, settings.jitter, draw)
        kept = at_most(of_views, settings.most_places, draw)
        views, of_views = views[kept], of_views[kept]

        count = int((here >= 0).sum())
        hard = settings.hard_background * (count + len(views))
        chosen = positives_and_hardest(sure, here, hard)
        features = torch.cat([features_at(levels, *places[chosen].T).float(), views])
        of_parts = [count, len(chosen) - count, len(views)]
        cells, background, seen_again = torch.split(embed(self.project, features), of_parts)
        of_cells, sure = here[chosen[:count]], sure[chosen[:count]]
        return _Looked(cells, of_cells, sure, background, seen_again, of_views)

    def _of_classes(self, memory: ClassMemory, compared: Tensor, labels: Tensor) -> Tensor:
        if self.batches < self.settings.warm_up:
            return compared.sum() * 0.0  # all processes wait for a gradient of every weight
        return contrast_of_classes(
            compared,
            labels,
            *memory.remembered(),
            self.settings.temperature,
            self.weights,
            self.nearness,
        )


def contrast_of_cells(cells: Tensor, background: Tensor, temperature: float) -> Tensor:
    r"""How well each cell picks the other cells out of all, and out of the background; a scalar.

    .. math:: L = -\frac{1}{P} \sum_i \frac{1}{P - 1} \sum_{p \ne i} \log \frac{e^{s_{ip}}}
        {\sum_{q \ne i} e^{s_{iq}} + \sum_b e^{s_{ib}}}, \quad s_{ij} = z_i \cdot z_j / \tau

    0 where there is one cell, or no background.

    Args:
        cells: (P, D) of length 1.
        background: (B, D) likewise.
        temperature: tau.
    """
    if len(cells) < 2 or not len(background):
        return cells.sum() * 0.0 + background.sum() * 0.0
    own = torch.eye(len(cells), dtype=torch.bool, device=cells.device)
    likeness = (cells @ torch.cat([cells, background]).T) / temperature
    likeness[:, : len(cells)].masked_fill_(own, -torch.inf)
    picked = likeness.log_softmax(dim=1)[:, : len(cells)].masked_fill(own, 0.0)
    return -picked.sum() / (len(cells) * (len(cells) - 1))


def contrast_of_classes(
    cells: Tensor,
    labels: Tensor,
    memory: Tensor,
    of_memory: Tensor,
    temperature: float,
    weights: Tensor,
    nearness: Tensor,
) -> Tensor:
    r"""How well each cell picks those of its class out of all others and the memory; a scalar.

    .. math:: L = -\sum_i \frac{w_i}{\sum_j w_j} \frac{1}{|S_i|} \sum_{p \in S_i} \log
        \frac{e^{s_{ip}}}{\sum_{a \ne i} \lambda_{y_i y_a} e^{s_{ia}}}

    S are those of i's class, of the batch but for i, and of the memory; cells without any have no
    part in it.

    Args:
        cells: (P, D) of length 1.
        labels: (P,) their classes.
        memory: (M, D) of length 1.
        of_memory: (M,) their classes.
        temperature: of s, as in `contrast_of_cells`.
        weights: (C,) w of each class.
        nearness: (C, C) lambda.
    """
    own = torch.eye(len(cells), len(cells) + len(memory), dtype=torch.bool, device=cells.device)
    of_all = torch.cat([labels, of_memory])
    alike = (labels[:, None] == of_all) & ~own  # (P, P + M)
    has_any = alike.any(dim=1)
    if not has_any.any():
        return cells.sum() * 0.0
    likeness = (cells @ torch.cat([cells, memory]).T) / temperature
    among = likeness + nearness.log()[labels][:, of_all]
    picked = likeness - among.masked_fill(own, -torch.inf).logsumexp(dim=1, keepdim=True)
    of_cell = picked.masked_fill(~alike, 0.0).sum(dim=1)[has_any] / alike.sum(dim=1)[has_any]
    share = weights[labels[has_any]]
    return -(of_cell * share).sum() / share.sum()


def at_most(labels: Tensor, most: int, draw: torch.Generator) -> Tensor:
    """(K,) places in order: all of the background, and so many positives, drawn evenly by class.

    Args:
        labels: (N,) class indices, below 0 for the background.
        most: positives to keep; of classes with few places all.
        draw: settles which.
    """
    positive = torch.nonzero(labels >= 0).squeeze(1)
    if len(positive) <= most:
        return torch.arange(len(labels), device=labels.device)
    shuffled = positive[torch.randperm(len(positive), generator=draw).to(positive.device)]
    dropped = shuffled[ranks_in_class(labels[shuffled]).argsort(stable=True)[most:]]
    kept = torch.ones_like(labels, dtype=torch.bool)
    kept[dropped] = False
    return torch.nonzero(kept).squeeze(1)


def jittered(
    levels: Sequence[Tensor],
    strides: Sequence[int],
    targets: Sequence[dict[str, Tensor]],
    settings: JitterSettings | None,
    draw: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Features of moved and scaled boxes of all cells, in float32, and their classes.

    A box is read on the level where its side is four to eight places, or the nearest that there is.

    Args:
        levels: (B, channels, H, W) maps.
        strides: of each level, in pixels.
        targets: for each image ``boxes`` (N, 4) xyxy in pixels, and ``labels`` (N,).
        settings: how many, and how far; None for none.
        draw: settles where they lie.

    Returns:
        (V, channels) and (V,).
    """
    if settings is None:
        none = levels[0].new_zeros(0)
        return none.float().reshape(0, levels[0].shape[1]), none.long()
    boxes = torch.cat([one["boxes"] for one in targets]).float()
    counts = torch.tensor([len(one["boxes"]) for one in targets])
    image = torch.arange(len(targets)).repeat_interleave(counts).to(boxes)
    labels = torch.cat([one["labels"] for one in targets])
    views = moved(boxes.repeat(settings.count, 1), settings.size, draw)
    image, labels = image.repeat(settings.count), labels.repeat(settings.count)

    sides = (views[:, 2:] - views[:, :2]).prod(dim=1).sqrt()
    wanted = (sides / (4 * strides[0])).log2().floor().clamp(0, len(levels) - 1)
    features = views.new_zeros(len(views), levels[0].shape[1])
    for index, (level, stride) in enumerate(zip(levels, strides, strict=True)):
        here = torch.nonzero(wanted == index).squeeze(1)
        regions = torch.cat([image[here, None], views[here]], dim=1)
        with torch.autocast(level.device.type, enabled=False):
            read = roi_align(level.float(), regions, 1, 1 / stride, sampling_ratio=2, aligned=True)
        features = features.index_copy(0, here, read.flatten(1))
    return features, labels


def moved(boxes: Tensor, size: float, draw: torch.Generator) -> Tensor:
    """(N, 4) boxes (x + dx w, y + dy h, w e^dw, h e^dh) of (N, 4) xyxy; each d in -size..size."""
    centred = box_convert(boxes, "xyxy", "cxcywh")
    by = ((2 * torch.rand(len(boxes), 4, generator=draw) - 1) * size).to(boxes.device)
    centres = centred[:, :2] + by[:, :2] * centred[:, 2:]
    return box_convert(
        torch.cat([centres, centred[:, 2:] * by[:, 2:].exp()], dim=1), "cxcywh", "xyxy"
    )


def class_weights(settings: HistorySettings, classes: int) -> Tensor:
    """(C,) how much a class's cells weigh: (n_max / n) ** class_power.

    Raises:
        ConfigError: they go by counts, and there are none.
    """
    if not settings.class_power:
        return torch.ones(classes)
    if settings.class_counts is None:
        raise ConfigError(
            "model.history.class_power: weighs classes by their training cells; give their number "
            "in model.history.class_counts, or set class_power to 0"
        )
    counts = torch.tensor(settings.class_counts).clamp(min=1)  # one without cells weighs nothing
    return (counts.max() / counts) ** settings.class_power


def class_nearness(hierarchy: HierarchySettings | None, classes: Sequence[str]) -> Tensor:
    """(C, C) the factor between different classes of a group, 1 elsewhere."""
    nearness = torch.ones(len(classes), len(classes))
    if hierarchy is not None:
        for group in hierarchy.groups:
            rows = torch.tensor([classes.index(name) for name in group])
            nearness[rows[:, None], rows] = hierarchy.factor
    return nearness.fill_diagonal_(1.0)


def _memory(settings: HistorySettings, classes: int) -> ClassMemory:
    sizes = ring_sizes(settings.class_counts, classes, settings.shortest, settings.longest)
    return ClassMemory(
        sizes,
        settings.embedding,
        settings.confidence,
        settings.top_share,
        settings.most_remembered,
    )

"""Unlabelled crops: two views of one place, the same ones every time."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data.annotations import read_coco
from data.crops.augment import AugmentSettings
from data.crops.dataset import CropDataset
from data.crops.sampling import CropSettings
from data.crops.unlabelled import (
    Unlabelled,
    UnlabelledDataset,
    WithUnlabelled,
    check_strong,
)
from data.fields.images import FieldImages

PLAIN = AugmentSettings(flips=False, stain=0, brightness=0, contrast=0, blur=0, jpeg=0, noise=0)
STRONG = AugmentSettings(flips=False, stain=0.5, noise=1.0)
CROPS = CropSettings(size=64)


def bare(coco):
    """The fields, of which nobody says what is on them."""
    fields = read_coco(*coco)
    none = {"boxes": np.zeros((0, 4), np.float32), "nuclei": np.zeros((0, 2), np.float32)}
    none |= {"labels": np.zeros(0, np.int64), "crowd": np.zeros(0, np.bool_)}
    return replace(fields, fields=tuple(replace(field, **none) for field in fields.fields))


def unlabelled(coco, strong=STRONG, **options):
    fields = bare(coco)
    arguments = {"mpp": 0.5, "length": 12, "seed": 0} | options
    return UnlabelledDataset(
        fields, FieldImages(fields.fields), crops=CROPS, strong=strong, **arguments
    )


def test_both_views_show_the_same_places(coco):
    for pixels, target in unlabelled(coco, PLAIN):
        assert torch.equal(pixels, target["weak"])
        assert len(target["boxes"]) == len(target["labels"]) == 0
    dark, changed = 0, 0
    for pixels, target in unlabelled(
        coco, AugmentSettings(flips=False, stain=0.2, noise=0, blur=0)
    ):
        changed += not torch.equal(pixels, target["weak"])
        squares = [view.mean(dim=0) < 0.55 for view in (pixels, target["weak"])]
        assert (squares[0] != squares[1]).float().mean() < 0.02  # their borders, after JPEG
        dark += int(squares[1].sum())
    assert dark > 0
    assert changed > 6


def test_a_window_comes_turned_and_flipped_in_every_way(coco):
    one = unlabelled(coco, PLAIN, length=60)
    one._windows = SimpleNamespace(draw=lambda rng: (0, (0.0, 10.0, 128.0, 138.0)))
    [shown, *_] = (target["weak"] for _, target in one)
    ways = [torch.rot90(turned, k, (1, 2)) for turned in (shown, shown.flip(2)) for k in range(4)]
    found = {target["weak"].numpy().tobytes() for _, target in one}
    assert found == {way.numpy().tobytes() for way in ways}
    assert len(found) == 8


def test_a_crop_is_a_function_of_seed_epoch_and_index(coco):
    first, again, other = unlabelled(coco), unlabelled(coco), unlabelled(coco, epoch=1)
    for index in (3, 0, 11):
        (a, of_a), (b, of_b), (c, _) = first[index], again[index], other[index]
        assert torch.equal(a, b)
        assert torch.equal(of_a["weak"], of_b["weak"])
        assert not torch.equal(a, c)
    with pytest.raises(IndexError):
        first[12]


def test_annotated_crops_stay_what_they_are_without_the_others(coco):
    fields = read_coco(*coco)
    images = FieldImages(fields.fields)

    def annotated():
        return CropDataset(fields, images, 0.5, CROPS, AugmentSettings(), 4, seed=0)

    both = WithUnlabelled(annotated(), unlabelled(coco, first=2))
    mixed = [both[index] for index in (0, Unlabelled(0), 1, Unlabelled(5))]
    alone = annotated()
    for (pixels, target), index in ((mixed[0], 0), (mixed[2], 1)):
        assert torch.equal(pixels, alone[index][0])
        assert "weak" not in target
    own = unlabelled(coco, first=2)
    for (pixels, target), index in ((mixed[1], 0), (mixed[3], 5)):
        assert torch.equal(pixels, own[index][0])
        assert int(target["field"]) in (2, 3)
    assert len(both) == 16


def test_what_cannot_be_read_is_told_beside_the_annotated_fields(coco):
    path = coco[1] / "2.png"
    path.write_bytes(path.read_bytes()[:60])
    told = [target.get("unreadable") for _, target in unlabelled(coco, first=7)]
    assert {int(one) for one in told if one is not None} == {8}  # the second of them, after seven


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flips": True}, r"D4 moves pixels.*flips: false"),
        ({"steps": [{"name": "Affine", "scale": 0.9}]}, r"Affine moves pixels"),
        ({"templates": {}}, r"templates is for annotated crops, data\.augment"),
        ({"fourier": {"images": "x"}}, r"fourier is for annotated crops"),
    ],
)
def test_a_strong_view_that_moves_pixels_is_refused(changes, message):
    check_strong(STRONG)
    check_strong(AugmentSettings(steps=({"name": "GaussianBlur", "p": 0.5},)))
    with pytest.raises(ValueError, match=message):
        check_strong(AugmentSettings.model_validate(STRONG.model_dump() | changes))

"""Crops and whole fields: the right pixels, the right boxes, the same ones every time."""

import numpy as np
import pytest
import torch

from configs import ConfigError
from data.annotations import read_coco
from data.crops.augment import AugmentSettings, StainJitter
from data.crops.dataset import (
    CropDataset,
    WholeFieldDataset,
    hide,
    visible,
)
from data.crops.sampling import CropSettings
from data.fields.images import FieldImages

PLAIN = AugmentSettings(flips=False, stain=0, brightness=0, contrast=0, blur=0, jpeg=0, noise=0)


def crops(coco, settings=None, augment=PLAIN, **options):
    fields = read_coco(*coco)
    settings = settings or CropSettings(size=64)
    arguments = {"mpp": 0.5, "length": 40, "seed": 0} | options
    return CropDataset(
        fields, FieldImages(fields.fields), crops=settings, augment=augment, **arguments
    )


def whole(coco):
    fields = read_coco(*coco)
    return WholeFieldDataset(fields, FieldImages(fields.fields), mpp=0.5)


@pytest.mark.parametrize("augment", [PLAIN, AugmentSettings(stain=0, brightness=0, contrast=0)])
def test_boxes_lie_on_their_cells_whatever_the_crop(coco, augment):
    """Cells are dark squares: inside a box it is dark, and nothing dark lies outside of one."""
    for image, target in crops(coco, augment=augment):
        dark = image.mean(dim=0) < 0.6
        inside = torch.zeros_like(dark)
        for x0, y0, x1, y1 in target["boxes"].round().int().tolist():
            assert dark[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3].float().mean() > 0.9
            inside[max(y0 - 2, 0) : y1 + 2, max(x0 - 2, 0) : x1 + 2] = True
        rest = (dark & ~inside).sum()
        assert rest < 0.4 * 20 * 20 * 3  # no more than cells of which too little is visible


def test_an_item_depends_on_seed_epoch_and_index_only(coco):
    first, again = crops(coco, augment=AugmentSettings()), crops(coco, augment=AugmentSettings())
    again[3]  # what was drawn before must not matter
    torch.testing.assert_close(first[7], again[7])
    other_epoch = crops(coco, augment=AugmentSettings(), epoch=1)
    assert not torch.equal(first[7][0], other_epoch[7][0])


def test_a_second_view_differs_by_its_stain_alone(coco):
    """Of flips, brightness, blur, compression and noise both have the same; boxes lie on both."""
    every = {"flips": True, "brightness": 0.3, "contrast": 0.3, "blur": 0.5, "jpeg": 0.0}
    plain = crops(coco, augment=AugmentSettings(**every, stain=0.3), length=12)
    viewed = crops(coco, augment=AugmentSettings(**every, stain=0.3), length=12, views=True)
    same = crops(coco, augment=AugmentSettings(**every, stain=0), length=12, views=True)
    equal = 0
    for (image, target), (first, seen), (_, unstained) in zip(plain, viewed, same, strict=True):
        assert torch.equal(image, first)  # what was drawn without a second view stays
        assert torch.equal(target["boxes"], seen["boxes"])
        assert torch.equal(unstained["view"], _)
        equal += torch.equal(first, seen["view"])
        dark, other = (one.mean(0) < 0.5 * one.mean(0).max() for one in (first, seen["view"]))
        assert (dark ^ other).float().mean() < 0.02
    assert equal <= 4  # some crops keep their stain in both views
    assert torch.equal(viewed[5][1]["view"], viewed[5][1]["view"])


def test_crops_around_cells_show_the_rare_class_more_often(coco):
    everywhere = CropSettings(size=32, around_cells=1, class_power=1, scale=1)
    drawn = crops(coco, everywhere, length=300)
    counts = torch.stack([torch.bincount(t["labels"], minlength=2) for _, t in drawn]).sum(0)
    assert 0.35 < counts[0] / counts.sum() < 0.65  # 1 : 2 in the fields


def test_drawn_crops_need_their_classes(coco):
    with pytest.raises(ConfigError, match=r"crops.drawn: .* ASC-US, LSIL, ASC-H, SCC"):
        crops(coco, CropSettings(size=64, drawn=0.5))


def test_drawn_crops_bring_their_own_cells(coco):
    classes = ["NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC"]
    fields = read_coco(*coco, classes=classes)
    settings = CropSettings(size=256, drawn=1)
    images = FieldImages(fields.fields)
    dataset = CropDataset(fields, images, 0.5, settings, PLAIN, 8, 0)
    labels = torch.cat([target["labels"] for _, target in dataset])
    assert len(labels.unique()) > 2


def test_whole_fields_are_scaled_with_their_boxes(coco):
    image, target = whole(coco)[0]
    assert image.shape == (3, 75, 100)
    torch.testing.assert_close(target["boxes"][0], torch.tensor([5.0, 10.0, 25.0, 30.0]))
    assert image[:, 12:28, 7:23].mean() == pytest.approx(80 / 255, abs=0.01)


def test_a_field_without_mpp_is_refused(coco):
    coco[0].write_text(coco[0].read_text().replace('"mpp": 0.25', '"mpp": null'))
    with pytest.raises(ConfigError, match="nobody gives the mpp of this image"):
        whole(coco)


def test_an_unreadable_image_is_named(coco):
    (coco[1] / "1.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"1.png: cannot be read as an image"):
        whole(coco)[0]


def test_cells_that_hardly_show_are_left_out():
    boxes = np.array([[0, 0, 10, 10], [-6, 0, 4, 10], [-7, 0, 3, 10], [50, 50, 60, 60]])
    assert visible(boxes, 32).tolist() == [True, True, False, False]


def test_stain_jitter_changes_the_dye_but_not_the_glass():
    image = np.full((8, 8, 3), 255, np.uint8)
    image[4:] = [120, 60, 160]
    jitter = StainJitter(0.3, p=1.0)
    changed = jitter(image=image)["image"]
    assert (changed[:4] >= 254).all()
    assert not np.array_equal(changed[4:], image[4:])


def test_no_crop_shows_what_is_to_be_ignored(coco):
    content = coco[0].read_text()
    coco[0].write_text(content.replace('"category_id": 2', '"category_id": 2, "iscrowd": 1'))
    dark = [(image.mean(0) < 0.6).sum() for image, _ in crops(coco, length=60)]
    cells = [len(target["boxes"]) for _, target in crops(coco, length=60)]
    assert max(cells) == 1  # of three: the others are crowds
    for pixels, count in zip(dark, cells, strict=True):
        assert pixels <= 27 * 27 if count else pixels < 0.4 * 27 * 27


def test_ignored_areas_are_painted_but_for_cells_that_reach_into_them():
    image = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    ignored, cells = np.array([[-5, -5, 20.2, 10]]), np.array([[15.5, 5, 25, 12.0]])
    painted = hide(image, ignored, cells)
    expected = np.zeros((30, 40), bool)
    expected[:10, :21] = True
    expected[5:12, 15:25] = False
    changed = (painted != image).any(2)
    assert not changed[~expected].any()
    assert (painted[expected] == np.median(image, (0, 1)).astype(np.uint8)).all()
    assert hide(image, ignored[:0], cells) is image

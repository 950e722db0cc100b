"""Recipes stay what they are: the shipped one draws the crops that it always drew."""

import hashlib

import pytest

from configs import load_yaml
from data.annotations import read_coco
from data.crops.augment import AugmentSettings
from data.crops.dataset import CropDataset
from data.crops.sampling import CropSettings
from scripts.slides import images_of

pytestmark = pytest.mark.slow

WINDOWS = "3a0743a3c550d089"


def test_the_shipped_recipe_draws_the_windows_that_it_always_drew(shared):
    """Positions, boxes and labels; pixels may differ with the version of a library."""
    recipe = load_yaml("train/cric")
    folder = shared / "cric"
    fields = read_coco(folder / "train.json", folder / "train", recipe["model"]["classes"])
    data = recipe["data"]
    plain = AugmentSettings(stain=0, brightness=0, contrast=0, blur=0, jpeg=0, noise=0)
    crops = CropDataset(
        fields, images_of(fields), data["mpp"], CropSettings(**data["crops"]), plain, 50, seed=0
    )
    digest = hashlib.sha256()
    for index in range(50):
        _, target = crops[index]
        digest.update(target["boxes"].numpy().round(1).astype("<f4").tobytes())
        digest.update(target["labels"].numpy().tobytes())
    assert digest.hexdigest()[:16] == WINDOWS

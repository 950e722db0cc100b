"""Recipes stay what they are, and fit the sets that they are for."""

import csv
import hashlib

import numpy as np
import pytest
from annotationfiles import cric_image, write_json
from PIL import Image

from configs import load_config, load_yaml
from data.annotations import read_coco
from data.crops.augment import AugmentSettings
from data.crops.dataset import CropDataset
from data.crops.sampling import CropSettings
from data.fields.splits import PUBLISHED, take_part
from scripts.slides import images_of, read_annotated
from scripts.training.run import read_fields
from scripts.training.settings import TrainSettings

WINDOWS = "3a0743a3c550d089"


@pytest.fixture(scope="module")
def all_of_cric(tmp_path_factory):
    """400 drawn images under the names of CRIC's, each with a mark; the folder of CRIC/."""
    folder = tmp_path_factory.mktemp("cric")
    rows = list(csv.DictReader((PUBLISHED / "cric-400.csv").open()))
    (folder / "CRIC" / "images").mkdir(parents=True)
    for number, row in enumerate(rows):
        pixels = np.full((51, 69, 3), 200, np.uint8)
        pixels[0, : 1 + number // 50] = number % 50  # no two are the same
        Image.fromarray(pixels).save(folder / "CRIC" / "images" / row["image"])
    cells = [("HSIL", 688, 510)]
    content = [cric_image(row["image"], cells) for row in rows]
    write_json(folder / "CRIC" / "classifications.json", content)
    return folder


def test_who_has_all_of_cric_trains_validates_and_tests_by_its_split(all_of_cric, monkeypatch):
    monkeypatch.chdir(all_of_cric)
    settings = load_config("train/cric-full", TrainSettings)
    train, val = read_fields(settings)
    assert (len(train.fields), len(val.fields)) == (253, 48)
    assert train.class_counts() == [0, 0, 0, 0, 253, 0]
    # A mark stands for 20.5 µm; the drawn images are a twentieth as large as the published ones.
    box = train.fields[0].boxes[0]
    np.testing.assert_allclose((box[2:] + box[:2]) / 2, (34.5, 25.5), atol=0.01)
    np.testing.assert_allclose(box[2:] - box[:2], 20.5 / 0.228 / 20, rtol=0.01)
    source = settings.data.train[0]
    everything = read_annotated(source.annotations, source.images, settings.model.classes)
    assert len(take_part(everything, source.split, "test").fields) == 99
    assert not [doubt for doubt in (*train.doubts, *val.doubts) if "split" in doubt.code]


@pytest.mark.slow
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

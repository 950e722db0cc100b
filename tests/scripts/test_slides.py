"""Slides are trained on and judged directly, whatever format their annotations have."""

import json
import shutil

import numpy as np
import pytest
import torch
from annotationfiles import CELLS, HEIGHT, MPP, WIDTH, WRITERS
from blobs import BlobDetector, blob_slide
from planefiles import write_planes
from rich.console import Console
from slidefiles import break_tiles, write_pyramid, write_scn

from configs import ConfigError, validate
from data.annotations import AnnotationSettings
from data.crops.augment import AugmentSettings
from data.crops.dataset import CropDataset
from data.crops.sampling import CropSettings
from data.fields.images import FieldImages, ImageError
from data.fields.regions import cut_fields
from models import load_detector
from pipeline.network.detector import RuntimeSettings, TileDetector
from pipeline.reports.writers import write_reports
from pipeline.screen import screen_slide
from pipeline.settings import ScreenSettings
from scripts.evaluate import measure
from scripts.slides import images_of, open_field, read_annotated
from scripts.training.run import run_training
from scripts.training.settings import TrainSettings

CLASSES = ("NILM", "HSIL")
PLAIN = AugmentSettings(flips=False, stain=0, brightness=0, contrast=0, blur=0, jpeg=0, noise=0)
TABLE = AnnotationSettings(classes={"ASC-US – fraglich": "HSIL"})


@pytest.fixture
def slide(tmp_path):
    """A pyramid at 0.25 µm/px with a dark square on each cell, in a folder of its own."""
    pixels = np.full((HEIGHT, WIDTH, 3), 235, np.uint8)
    for _, left, top, right, bottom in CELLS:
        pixels[top:bottom, left:right] = 70
    (tmp_path / "Schnitte").mkdir()
    return write_pyramid(tmp_path / "Schnitte" / "a b.tif", pixels, mpp=MPP, compression="zlib")


def annotate(slide, format, folder):
    folder.mkdir()
    return WRITERS[format](folder, slide.name)


def test_three_formats_are_one_training_set(slide, tmp_path):
    samples = []
    for format in ("coco", "geojson", "asap"):
        place = annotate(slide, format, tmp_path / format)
        fields = read_annotated(place, slide.parent, CLASSES, TABLE)
        crops = CropDataset(
            fields, images_of(fields), 0.5, CropSettings(size=96), AugmentSettings(), 6, seed=1
        )
        samples.append([crops[i] for i in range(6)])
        (field,) = fields.fields
        assert field.mpp == pytest.approx(MPP)
    torch.testing.assert_close(samples[1], samples[0], rtol=0, atol=0)
    torch.testing.assert_close(samples[2], samples[0], rtol=0, atol=0)
    assert sum(len(target["labels"]) for _, target in samples[0]) > 0


@pytest.mark.slow
def test_a_detector_learns_from_one_slide_and_is_judged_on_another(values, slide, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(slide, other / "c.tif")
    with (other / "c.tif").open("ab") as file:
        file.write(b"another slide")
    source = {"classes": TABLE.classes, "images": str(slide.parent)}
    data = values["data"] | {
        "train": source | {"annotations": str(annotate(slide, "asap", tmp_path / "xml"))},
        "val": source | {"annotations": str(WRITERS["coco"](other, "c.tif")), "images": str(other)},
    }
    settings = validate(values | {"data": data}, TrainSettings, "test")
    (tmp_path / "run").mkdir()
    card = run_training(settings, tmp_path / "run", None, Console(quiet=True))
    assert card.widest_cell == pytest.approx(25.0, abs=0.1)  # 100 px
    assert sum(card.training["cells"].values()) == len(CELLS)

    detector = load_detector(tmp_path / "run" / "model")
    fields = read_annotated(other / "instances.json", other, CLASSES, TABLE)
    parts = cut_fields(fields, 0.5, largest=300)
    assert len(parts.fields) > 4
    metrics = measure(TileDetector(detector, RuntimeSettings(device="cpu"), 0.01), parts)
    assert metrics["pooled"]["any"]["cells"] == len(CELLS)


def crops_of(fields, images, count=12, **settings):
    wanted = CropSettings(size=96, **settings)
    crops = CropDataset(fields, images, 0.5, wanted, AugmentSettings(), count, seed=1)
    return [crops[i] for i in range(count)]


def test_formats_that_keep_cells_by_class_give_the_same_crops(slide, tmp_path):
    """ImageScope has a layer a class: cells come in another order, but for those of one layer."""
    classes = (*CLASSES, "ASC-US – fraglich")
    found = []
    for format in ("coco", "imagescope"):
        place = annotate(slide, format, tmp_path / format)
        fields = read_annotated(place, slide.parent, classes)
        found.append(crops_of(fields, images_of(fields)))
    for (first, truth), (other, same) in zip(*found, strict=True):
        assert torch.equal(first, other)
        assert sorted(truth["boxes"].tolist()) == sorted(same["boxes"].tolist())


def test_crops_are_the_same_with_a_cache_and_without(slide, tmp_path):
    place = annotate(slide, "coco", tmp_path / "labels")
    fields = read_annotated(place, slide.parent, CLASSES, TABLE)
    expected = crops_of(fields, images_of(fields))
    for _ in range(2):
        kept = crops_of(fields, images_of(fields, tmp_path / "cache"))
        torch.testing.assert_close(kept, expected, rtol=0, atol=0)
    assert list((tmp_path / "cache").rglob("*.npy"))


def test_a_cache_that_cannot_be_written_is_told_at_once(slide, tmp_path):
    place = annotate(slide, "coco", tmp_path / "labels")
    fields = read_annotated(place, slide.parent, CLASSES, TABLE)
    with pytest.raises(ConfigError, match=r"data.cache .*a b.tif: can't be written to"):
        images_of(fields, slide)


def test_one_broken_tile_spoils_the_crops_that_show_it_and_no_others(slide, tmp_path):
    place = annotate(slide, "coco", tmp_path / "labels")
    fields = read_annotated(place, slide.parent, CLASSES, TABLE)
    for level in range(3):
        break_tiles(slide, [0], level)
    told = [
        "unreadable" in target
        for _, target in crops_of(fields, images_of(fields), 40, around_cells=0.0)
    ]
    assert sum(told) < 20  # all of them where the survey gives up


def test_what_was_drawn_in_qupath_lies_on_the_cells_of_a_slide_with_bounds(tmp_path):
    pixels = np.full((HEIGHT, WIDTH, 3), 235, np.uint8)
    for _, left, top, right, bottom in CELLS:
        pixels[top:bottom, left:right] = 70
    slide = write_scn(tmp_path / "a.scn", pixels, (512, 384), (2048, 1536))
    place = WRITERS["geojson"](tmp_path / "x", slide.name)
    fields = read_annotated(place, tmp_path, CLASSES, TABLE)
    (field,) = fields.fields
    expected = [[x0 + 512, y0 + 384, x1 + 512, y1 + 384] for _, x0, y0, x1, y1 in CELLS]
    assert field.boxes.tolist() == expected
    assert [doubt.code for doubt in fields.doubts] == ["frame-qupath"]
    images = images_of(fields)
    for left, top, right, bottom in field.boxes.tolist():
        inner = (left + 8, top + 8, right - 8, bottom - 8)
        assert images.crop(0, (16, 16), inner).mean() == pytest.approx(70, abs=6)


def test_boxes_in_the_wrong_frame_are_told_as_they_lie_on_glass(tmp_path):
    pixels = np.full((HEIGHT, WIDTH, 3), 235, np.uint8)
    for _, left, top, right, bottom in CELLS:
        pixels[top:bottom, left:right] = 70
    slide = write_scn(tmp_path / "a.scn", pixels, (110, 10), (2048, 1536))
    place = WRITERS["geojson"](tmp_path / "x", slide.name)
    settings = TABLE.model_copy(update={"frame": "slide"})
    told = [doubt.code for doubt in read_annotated(place, tmp_path, CLASSES, settings).doubts]
    assert "boxes-on-glass" in told


def test_a_slide_that_cannot_be_read_is_named(slide, tmp_path):
    place = annotate(slide, "coco", tmp_path / "labels")
    fields = read_annotated(place, slide.parent, CLASSES, TABLE)
    broken = break_tiles(slide, range(100))
    with pytest.raises(ImageError, match=r"a b\.tif") as refusal:
        images_of(fields).crop(0, (200, 200), (0, 0, 200, 200))
    assert refusal.value.path == broken


@pytest.mark.parametrize("older", [False, True])
def test_what_a_screening_found_on_a_slide_scanned_in_part_is_read_back(tmp_path, older):
    """cells.geojson lies in QuPath's frame, older ones in the whole slide's; cells.csv in that."""
    image = blob_slide((1024, 768), [(100, 200), (700, 500)], [1, 0])
    path = write_scn(tmp_path / "part.scn", image, (512, 384), (4096, 3072))
    settings = ScreenSettings.model_validate({"foreground": {"enabled": False}})
    report = screen_slide(path, BlobDetector(), settings)
    folder = tmp_path / "out" / "part.scn"
    folder.mkdir(parents=True)
    write_reports(report, folder)
    cells = report.cells.boxes
    if older:
        geojson = json.loads((folder / "cells.geojson").read_text(encoding="utf-8"))
        del geojson["frame"]
        for feature in geojson["features"]:
            ring = np.add(feature["geometry"]["coordinates"], (512, 384))
            feature["geometry"]["coordinates"] = ring.tolist()
        (folder / "cells.geojson").write_text(json.dumps(geojson), encoding="utf-8")
    for name in ("cells.geojson", "cells.csv"):
        (field,) = read_annotated(folder / name, path, CLASSES).fields
        found = field.boxes[np.lexsort(field.boxes.T)]
        np.testing.assert_allclose(found, cells[np.lexsort(cells.T)], atol=0.02)


class TestFocalPlanes:
    """Crops of slides with several planes, the sharpest of which is the third."""

    def fields(self, tmp_path, count=5):
        images = [np.full((400, 500, 3), 100 + 20 * n, np.uint8) for n in range(count)]
        images[2][np.arange(400) % 16 < 8] = 90  # the only one with anything to see
        write_planes(tmp_path / "a.ome.tif", images, mpp=0.5)
        cells = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [200, 150, 40, 40]}]
        truth = {
            "images": [{"id": 1, "file_name": "a.ome.tif", "width": 500, "height": 400}],
            "categories": [{"id": 1, "name": "HSIL"}],
            "annotations": cells,
        }
        (tmp_path / "truth.json").write_text(json.dumps(truth))
        return read_annotated(tmp_path / "truth.json", tmp_path, None)

    @pytest.mark.parametrize(
        ("away", "shade"), [(0, 140), (-1, 120), (2, 180), (-2, 100), (7, 180), (-9, 100)]
    )
    def test_are_counted_from_the_sharpest_to_the_last(self, tmp_path, away, shade):
        images = images_of(self.fields(tmp_path))
        crop = images.crop(0, (64, 64), (100.0, 100.0, 164.0, 164.0), away)
        assert crop[22].tolist() == [[shade] * 3] * 64

    @pytest.mark.parametrize("planes", [0, 2])
    def test_are_drawn_evenly(self, tmp_path, planes):
        drawn = []

        class Images(FieldImages):
            def crop(self, index, size, box, away=0):
                drawn.append(away)
                return np.zeros((*size, 3), np.uint8)

        fields = self.fields(tmp_path)
        settings = CropSettings(size=64, planes=planes)
        data = CropDataset(fields, Images(fields.fields, open_field), 0.5, settings, PLAIN, 100, 3)
        for index in range(100):
            data[index]
        counts = {away: drawn.count(away) for away in set(drawn)}
        assert set(counts) == set(range(-planes, planes + 1))
        assert min(counts.values()) >= 10

"""Real fields on a slide: their pixels and their cells land in the same place."""

import json
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from configs import ConfigError
from data.annotations import read_coco
from data.resample import resample
from data.synth import Layout, NamedSource, lay_out, read_fields, write_slide, write_truth
from data.synth.region import Region

MPP = 0.25
SIZES = [(160, 120), (160, 120), (200, 90), (160, 120), (120, 120)]


def paint_field(index: int) -> np.ndarray:
    """A smooth field, darker and of another hue than its neighbours."""
    width, height = SIZES[index]
    y, x = np.mgrid[:height, :width]
    planes = [60 + 20 * index + x / 4, 200 - 30 * index + y / 8, 120 + 40 * np.sin((x + y) / 30)]
    return np.stack(planes, 2).clip(0, 255).astype(np.uint8)


@pytest.fixture
def annotated(tmp_path) -> Path:
    """A COCO file beside the fields' images, with one nucleus near each corner."""
    images, annotations = [], []
    for index, (width, height) in enumerate(SIZES):
        name = f"field {index}.png"
        Image.fromarray(paint_field(index)).save(tmp_path / name)
        images.append(
            {"id": 50 + index, "file_name": name, "width": width, "height": height, "mpp": MPP}
        )
        for x, y in ((10.0, 12.0), (width - 20.0, height - 30.0)):
            left, top = max(x - 41.0, 0.0), max(y - 41.0, 0.0)
            right, bottom = min(x + 41.0, width), min(y + 41.0, height)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 50 + index,
                    "category_id": 3 + index % 2,
                    "bbox": [left, top, right - left, bottom - top],
                    "nucleus": [x, y],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 3, "name": "NILM"}, {"id": 4, "name": "HSIL"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = tmp_path / "fields.json"
    path.write_text(json.dumps(content))
    return path


def edit(path: Path, change) -> Path:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_each_field_is_there_once_with_its_own_pixels(annotated):
    _, fields = read_fields(annotated, annotated.parent)
    mosaic = lay_out(fields, None, 0, Layout())
    assert sorted(one.image.name for one in mosaic.fields) == [f"field {i}.png" for i in range(5)]
    whole = mosaic.draw(Region(0, 0, *mosaic.size))
    covered = np.zeros(whole.shape[:2], int)
    for one, place in zip(mosaic.fields, mosaic.places, strict=True):
        rows, columns = slice(place.y, place.bottom), slice(place.x, place.right)
        expected = paint_field(int(one.image.stem[-1]))
        np.testing.assert_array_equal(whole[rows, columns], expected)
        covered[rows, columns] += 1
    assert covered.max() == 1  # none overlap, all lie on the slide
    assert covered.sum() == sum(width * height for width, height in SIZES)


def test_the_glass_has_the_colour_of_the_fields_background(annotated):
    _, fields = read_fields(annotated, annotated.parent)
    mosaic = lay_out(fields, None, 0, Layout())
    whole = mosaic.draw(Region(0, 0, *mosaic.size)).astype(float)
    glass = np.ones(whole.shape[:2], bool)
    for place in mosaic.places:
        glass[place.y : place.bottom, place.x : place.right] = False
    assert glass.any()
    bright = [np.percentile(paint_field(i).reshape(-1, 3), 90, axis=0) for i in range(5)]
    assert whole[glass].mean(0) == pytest.approx(np.median(bright, axis=0), abs=8)
    assert whole[glass].std(0).max() < 6


def test_a_region_is_that_part_of_the_whole(annotated):
    _, fields = read_fields(annotated, annotated.parent)
    mosaic = lay_out(fields, None, 3, Layout(columns=2))
    whole = mosaic.draw(Region(0, 0, *mosaic.size))
    for x, y, width, height in ((0, 0, 50, 70), (130, 100, 300, 333), (301, 7, 1, 200)):
        part = mosaic.draw(Region(x, y, width, height))
        np.testing.assert_array_equal(part, whole[y : y + height, x : x + width])


def test_cells_move_with_their_field(annotated):
    _, fields = read_fields(annotated, annotated.parent)
    mosaic = lay_out(fields, None, 1, Layout())
    boxes, nuclei, labels = mosaic.truth(Region(0, 0, *mosaic.size))
    assert len(nuclei) == 2 * len(SIZES)
    for one, place in zip(mosaic.fields, mosaic.places, strict=True):
        mine = (nuclei >= (place.x, place.y)).all(1) & (nuclei < (place.right, place.bottom)).all(1)
        np.testing.assert_allclose(nuclei[mine] - (place.x, place.y), one.nuclei)
        np.testing.assert_allclose(boxes[mine] - (place.x, place.y) * 2, one.boxes, atol=1e-4)
        assert set(labels[mine]) == {int(one.image.stem[-1]) % 2}


def test_truth_in_parts_is_the_truth(annotated):
    _, fields = read_fields(annotated, annotated.parent)
    mosaic = lay_out(fields, None, 1, Layout())
    whole = mosaic.truth(Region(0, 0, *mosaic.size))[1]
    parts = [
        mosaic.truth(Region(0, y, mosaic.size[0], 40))[1] for y in range(0, mosaic.size[1], 40)
    ]
    assert sorted(map(tuple, np.concatenate(parts))) == sorted(map(tuple, whole))


def test_another_mpp_resamples_fields_and_cells(annotated):
    _, fields = read_fields(annotated, annotated.parent)
    mosaic = lay_out(fields, 2 * MPP, 0, Layout())
    _, nuclei, _ = mosaic.truth(Region(0, 0, *mosaic.size))
    for one, place in zip(mosaic.fields, mosaic.places, strict=True):
        assert (place.width, place.height) == (one.size[0] // 2, one.size[1] // 2)
        expected = resample(paint_field(int(one.image.stem[-1])), (place.width, place.height))
        np.testing.assert_array_equal(mosaic.draw(place), expected)
        inside = (nuclei >= (place.x, place.y)).all(1) & (nuclei < (place.right, place.bottom)).all(
            1
        )
        np.testing.assert_allclose((nuclei[inside] - (place.x, place.y)) * 2, one.nuclei)


def test_fields_repeat_to_fill_a_size(annotated):
    _, fields = read_fields(annotated, annotated.parent)
    mosaic = lay_out(fields, None, 0, Layout(size=(3000, 2000), fill=True))
    assert mosaic.size == (3000, 2000)
    names = [one.image.name for one in mosaic.fields]
    counts = [names.count(f"field {i}.png") for i in range(5)]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= 1  # dealt out evenly
    assert len(names) == (3000 // 440) * (2000 // 360)  # largest field and gap of 240 px


def test_columns_shape_the_grid(annotated):
    _, fields = read_fields(annotated, annotated.parent)
    one_row = lay_out(fields, None, 0, Layout(columns=5)).size
    one_column = lay_out(fields, None, 0, Layout(columns=1)).size
    assert one_row == (5 * one_column[0], one_column[1] / 5)


def test_what_is_written_is_what_openslide_and_coco_read(annotated, tmp_path):
    classes, fields = read_fields(annotated, annotated.parent)
    slide = NamedSource("a mosaic.tif", lay_out(fields, None, 0, Layout()))
    told = []
    path = write_slide(tmp_path, slide, classes, told.append)
    assert sum(told) == np.prod(slide.source.size)
    with openslide.OpenSlide(path) as opened:
        assert opened.dimensions == slide.source.size
        assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(MPP)
        for one, place in zip(slide.source.fields, slide.source.places, strict=True):
            read = opened.read_region((place.x, place.y), 0, (place.width, place.height))
            inner = np.asarray(read.convert("RGB"))[8:-8, 8:-8]  # JPEG mixes hues at the border
            expected = paint_field(int(one.image.stem[-1]))[8:-8, 8:-8]
            assert np.abs(inner.astype(int) - expected).mean() < 3
    found = read_coco(tmp_path / "a mosaic.truth.json", tmp_path)
    _, _, labels = slide.source.truth(Region(0, 0, *slide.source.size))
    assert found.classes == ("NILM", "HSIL")
    assert found.fields[0].mpp == MPP
    assert sorted(found.fields[0].labels) == sorted(labels)


def test_truth_of_all_slides_tells_them_apart(annotated, tmp_path):
    classes, fields = read_fields(annotated, annotated.parent)
    slides = [NamedSource(f"{i}.tif", lay_out(fields[i::2], None, i, Layout())) for i in range(2)]
    path = tmp_path / "truth.json"
    assert write_truth(path, slides, classes) == 2 * len(SIZES)
    content = json.loads(path.read_text())
    assert [image["file_name"] for image in content["images"]] == ["0.tif", "1.tif"]
    ids = [annotation["id"] for annotation in content["annotations"]]
    assert len(set(ids)) == len(ids) == 2 * len(SIZES)
    assert [a["image_id"] for a in content["annotations"]] == [1] * 6 + [2] * 4
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        assert x <= annotation["nucleus"][0] <= x + width
        assert y <= annotation["nucleus"][1] <= y + height


def test_a_missing_nucleus_is_the_middle_of_its_box(annotated):
    edit(annotated, lambda content: content["annotations"][1].pop("nucleus"))
    _, fields = read_fields(annotated, annotated.parent)
    box = fields[0].boxes[1]
    np.testing.assert_allclose(fields[0].nuclei[1], (box[:2] + box[2:]) / 2)


def test_a_crowd_is_no_cell(annotated):
    edit(annotated, lambda content: content["annotations"][0].update(iscrowd=1))
    _, fields = read_fields(annotated, annotated.parent)
    assert len(fields[0].nuclei) == len(fields[0].boxes) == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda content: content["images"][2].pop("mpp"), "no mpp"),
        (lambda content: content["images"][0].update(width=161), "161x120"),
        (lambda content: content["annotations"][3].update(nucleus=[1.0]), "nucleus"),
        (lambda content: content["images"][1].update(file_name="lost.png"), "lost.png"),
    ],
)
def test_broken_annotations_are_told(annotated, change, complaint):
    edit(annotated, change)
    with pytest.raises(ConfigError, match=complaint):
        lay_out(read_fields(annotated, annotated.parent)[1], None, 0, Layout())


def test_an_unreadable_image_is_told(annotated):
    (annotated.parent / "field 0.png").write_bytes(b"not an image")
    with pytest.raises(ConfigError, match=r"field 0\.png: cannot be read"):
        lay_out(read_fields(annotated, annotated.parent)[1], None, 0, Layout())


def test_a_size_too_small_names_one_that_would_do(annotated):
    _, fields = read_fields(annotated, annotated.parent)
    with pytest.raises(ConfigError, match=r"do not fit; (\d+)x(\d+) would do") as told:
        lay_out(fields, None, 0, Layout(size=(500, 500)))
    size = tuple(int(n) for n in str(told.value).split("; ")[1].split(" ")[0].split("x"))
    assert len(lay_out(fields, None, 0, Layout(size=size)).places) == len(fields)


def test_real_fields_keep_all_their_cells(shared):
    folder = shared / "cric"
    classes, fields = read_fields(folder / "val.json", folder / "val")
    mosaic = lay_out(fields, None, 0, Layout())
    assert classes == ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
    assert len(mosaic.truth(Region(0, 0, *mosaic.size))[1]) == sum(len(f.labels) for f in fields)
    one, place = mosaic.fields[0], mosaic.places[0]
    with Image.open(one.image) as image:
        np.testing.assert_array_equal(mosaic.draw(place), np.asarray(image.convert("RGB")))

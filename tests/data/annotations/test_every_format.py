"""What holds for every format: the cells that were written come back, and faults are told."""

import json
import re

import numpy as np
import pytest
from annotationfiles import CELLS, HEIGHT, MPP, NDPI, WIDTH, WRITERS, write_blank, write_text
from PIL import Image

from configs import ConfigError
from data.annotations import FORMATS, AnnotationSettings, ImageInfo, read_fields
from data.annotations.coco import to_coco
from data.annotations.images import ImageFolder

NAME = "Präparat 7 (α).png"
CLASSES = ("NILM", "ASC-US – fraglich", "HSIL")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "Bilder und Schnitte" / "A 1"
    folder.mkdir(parents=True)
    write_blank(folder / NAME)
    return folder.parent


def info_of(path):
    """As a scanner by Hamamatsu would have it; other formats don't look at the properties."""
    with Image.open(path) as image:
        return ImageInfo(*image.size, MPP, NDPI)


def read(place, images, **settings):
    return read_fields(place, [images], CLASSES, AnnotationSettings(**settings), info_of)


def cells_of(field):
    names = [CLASSES[label] for label in field.labels]
    return sorted((n, *b) for n, b in zip(names, field.boxes.round(2).tolist(), strict=True))


def expected():
    return sorted((name, *map(float, box)) for name, *box in CELLS)


@pytest.fixture(params=WRITERS)
def format(request):
    return request.param


@pytest.fixture
def labels(tmp_path):
    folder = tmp_path / "les étiquettes"
    folder.mkdir()
    return folder


def test_what_was_written_is_read(format, labels, images):
    found = read(WRITERS[format](labels, NAME), images)
    (field,) = found.fields
    assert found.classes == CLASSES
    assert cells_of(field) == expected()
    assert (field.image, field.width, field.height) == (images / "A 1" / NAME, WIDTH, HEIGHT)
    assert field.mpp == MPP
    assert not field.crowd.any()
    assert field.boxes.dtype == np.float32
    np.testing.assert_allclose(field.nuclei, (field.boxes[:, :2] + field.boxes[:, 2:]) / 2)
    assert found.notes == (f"read 1 file as {format.removesuffix('.gz')}",)


def test_file_folder_and_glob_are_the_same(format, labels, images):
    path = WRITERS[format](labels, NAME)
    write_text(labels / "notes" / "read me.txt", "Annotated by two of us.")
    named = format.removesuffix(".gz")
    for place in (path, labels, labels.parent / "les*" / path.name, labels.parent / "*tiquettes"):
        for chosen in ("auto", named):
            field = read(place, images, format=chosen).fields[0]
            assert cells_of(field) == expected(), (place, chosen)


def test_coco_made_of_it_is_read_as_the_same(format, labels, images, tmp_path):
    first = read(WRITERS[format](labels, NAME), images)
    content = to_coco(first, ImageFolder([images]).name_of)
    assert content["images"][0]["file_name"] == f"A 1/{NAME}"
    path = write_text(tmp_path / "out.json", json.dumps(content))
    again = read(path, images)
    assert again.classes == first.classes
    for one, other in zip(first.fields, again.fields, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.006)
        assert one.labels.tolist() == other.labels.tolist()
        assert (one.mpp, one.image) == (other.mpp, other.image)


@pytest.mark.parametrize("format", sorted(set(WRITERS) - {"csv", "yolo"}), indirect=True)
def test_a_truncated_file_is_told(format, labels, images):
    path = WRITERS[format](labels, NAME)
    data = path.read_bytes()
    for share in (0.2, 0.5, 0.97):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ConfigError, match=re.escape(path.name)):
            read(path, images)


@pytest.mark.parametrize("name", ["csv", "yolo"])
def test_a_cut_row_is_told(name, labels, images):
    """Rows of text have no end that could be missing: only a row can be cut."""
    path = WRITERS[name](labels, NAME)
    cut = re.split(r"[ ;][^ ;]*$", path.read_text("utf-8").rstrip())[0]
    write_text(path, cut)
    with pytest.raises(ConfigError, match=path.name[:5]):
        read(path, images)


def test_another_format_is_told(format, labels, images):
    path = WRITERS[format](labels, NAME)
    for other in set(FORMATS) - {format.removesuffix(".gz")}:
        with pytest.raises(ConfigError, match=f"no annotations of the format {other}"):
            read(path, images, format=other)


def test_a_file_without_annotations_is_told(format, labels, images):
    path = WRITERS[format](labels, NAME, [])
    with pytest.raises(ConfigError, match="no annotations"):
        read(path, images)


def test_an_image_that_is_not_there_is_told(format, labels, images):
    path = WRITERS[format](labels, "elsewhere.png")
    with pytest.raises(ConfigError, match=r"elsewhere(\.png)?: no such file, though .* names it"):
        read(path, images)


def test_unknown_classes_are_all_listed(format, labels, images):
    path = WRITERS[format](labels, NAME)
    with pytest.raises(ConfigError) as told:
        read_fields(path, [images], ["NILM"], None, info_of)
    assert "ASC-US – fraglich (1), HSIL (2) are not among the classes NILM" in str(told.value)


def test_a_table_renames_ignores_and_drops(format, labels, images):
    path = WRITERS[format](labels, NAME)
    table = {"ASC-US – fraglich": "ignore", "HSIL": "high", "NILM": "drop"}
    settings = AnnotationSettings(classes=table)
    found = read_fields(path, [images], None, settings, info_of)
    (field,) = found.fields
    assert found.classes == ("high",)
    assert found.class_counts() == [2]
    assert field.boxes[field.crowd].round(3).tolist() == [[1100, 810, 1200, 900]]
    assert "left out 1 shapes whose class is mapped to drop" in found.notes

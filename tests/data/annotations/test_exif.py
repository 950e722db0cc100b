"""Photos that EXIF turns: annotations lie on what is shown, in the pixels that training reads."""

import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from configs import ConfigError
from data.annotations import AnnotationSettings, image_info, read_fields
from data.fields.images import FieldImages

WIDTH, HEIGHT = 300, 400
BOX = (200, 40, 240, 90)
SHOWN = np.full((HEIGHT, WIDTH, 3), 230, np.uint8)
SHOWN[40:90, 200:240] = (90, 40, 120)
BACK = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
"""The orientation that undoes each."""


@pytest.fixture(params=range(1, 9))
def photo(request, tmp_path):
    """A photo that is shown as `SHOWN`, stored in one of the eight ways."""
    orientation = request.param
    upright = Image.fromarray(SHOWN)
    upright.getexif()[0x0112] = BACK[orientation]
    stored = ImageOps.exif_transpose(upright)
    tags = Image.Exif()
    tags[0x0112] = orientation
    stored.save(tmp_path / "photo.jpg", quality=95, exif=tags)
    return tmp_path / "photo.jpg", orientation, stored.size


def yolo(photo, size):
    left, top, right, bottom = BOX
    numbers = (
        (left + right) / 2 / size[0],
        (top + bottom) / 2 / size[1],
        (right - left) / size[0],
        (bottom - top) / size[1],
    )
    (photo.parent / "classes.txt").write_text("HSIL\n")
    path = photo.with_suffix(".txt")
    path.write_text(f"0 {' '.join(map(str, numbers))}\n")
    return path


def table(photo, _):
    path = photo.with_name("boxes.csv")
    path.write_text(f"image,class,xmin,ymin,xmax,ymax\nphoto.jpg,HSIL,{','.join(map(str, BOX))}\n")
    return path


def labelme(photo, size):
    shape = {"label": "HSIL", "shape_type": "rectangle", "points": [BOX[:2], BOX[2:]]}
    content = {"version": "5", "imagePath": "photo.jpg", "imageData": None, "shapes": [shape]}
    path = photo.with_suffix(".json")
    path.write_text(json.dumps(content | {"imageWidth": size[0], "imageHeight": size[1]}))
    return path


@pytest.mark.parametrize("write", [yolo, table, labelme])
def test_boxes_lie_on_the_cell_that_is_shown(photo, write):
    path, orientation, _ = photo
    annotations = write(path, (WIDTH, HEIGHT))
    fields = read_fields(annotations, [path], None, AnnotationSettings(mpp=0.25))
    (field,) = fields.fields
    assert (field.width, field.height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(field.boxes, [BOX], atol=0.01)
    left, top, right, bottom = BOX
    cell = FieldImages(fields.fields).crop(0, (right - left, bottom - top), BOX)
    np.testing.assert_allclose(cell.mean((0, 1)), (90, 40, 120), atol=12)
    told = [doubt.code for doubt in fields.doubts]
    assert told == ([] if orientation == 1 else ["exif-turned"])


def test_the_size_of_the_stored_picture_is_refused_with_what_to_do(photo):
    path, orientation, stored = photo
    annotations = labelme(path, stored)
    if orientation < 5:  # both sizes are one
        assert len(read_fields(annotations, [path]).fields) == 1
        return
    with pytest.raises(ConfigError, match=r"photo\.jpg: .*400x300.*EXIF.*300x400.*\[exif-size\]"):
        read_fields(annotations, [path])


def test_another_size_is_still_told_as_such(photo):
    path, _, _ = photo
    with pytest.raises(ConfigError, match=r"is 300x400 px, but was annotated as 17x18"):
        read_fields(labelme(path, (17, 18)), [path])


def test_info_has_the_shown_size_and_the_stored_one(photo):
    path, orientation, stored = photo
    info = image_info(path)
    assert (info.width, info.height) == (WIDTH, HEIGHT)
    assert info.stored == (None if orientation == 1 else stored)


def test_many_photos_are_told_of_once(tmp_path):
    tags = Image.Exif()
    tags[0x0112] = 3
    rows = ["image,class,xmin,ymin,xmax,ymax"]
    for number in range(5):
        Image.fromarray(SHOWN).save(tmp_path / f"{number}.jpg", exif=tags)
        rows.append(f"{number}.jpg,HSIL,{','.join(map(str, BOX))}")
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    (doubt,) = read_fields(tmp_path / "boxes.csv", [tmp_path]).doubts
    assert doubt.code == "exif-turned"
    assert doubt.text.endswith("(5 files, such as 0.jpg)")


def test_a_small_tiff_has_its_stored_size(tmp_path):
    Image.fromarray(SHOWN).save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
    info = image_info(tmp_path / "a.tif")
    assert (info.width, info.height) == (WIDTH, HEIGHT)

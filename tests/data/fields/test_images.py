"""Pixels of fields: the same from an image and from a slide, in any process."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.fields import images as module
from data.fields.fieldset import Field
from data.fields.images import FieldImages, ImageError
from data.resample import resample

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
NONE = np.zeros((0, 4), np.float32)


def field(path, **changes):
    values = {"width": 80, "height": 60, "mpp": 0.25} | changes
    nobody = (NONE, NONE[:, :2], np.zeros(0, int), np.zeros(0, bool))
    boxes, nuclei, labels, crowd = nobody
    return Field(Path(path), boxes=boxes, nuclei=nuclei, labels=labels, crowd=crowd, **values)


class ArraySlide:
    opened = 0

    def __init__(self, _):
        ArraySlide.opened += 1
        self.closed = False

    def read(self, x, y, size, downsample, away=0):
        right, bottom = x + size[0] * downsample, y + size[1] * downsample
        return resample(PIXELS, size, (x, y, right, bottom))

    def overview(self, mpp):
        everywhere = np.ones(PIXELS.shape[:2], bool)
        everywhere[:, :20] = False
        return PIXELS, everywhere, 1.0

    def close(self):
        self.closed = True


@pytest.fixture
def image(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_part_of_an_image_lies_at_its_origin(image):
    part = field(image, width=40, height=30, origin=(20, 10))
    np.testing.assert_array_equal(FieldImages([part]).whole(0, (40, 30)), PIXELS[10:40, 20:60])


def test_a_slide_and_an_image_give_the_same_pixels(image):
    part = field(image, width=40, height=32, origin=(20, 10))
    box = (1.5, 2.5, 31.5, 22.5)
    by_image, by_slide = (FieldImages([part], opener) for opener in (module.no_slides, ArraySlide))
    assert [by_image.is_slide(0), by_slide.is_slide(0)] == [False, True]
    np.testing.assert_array_equal(by_image.crop(0, (15, 10), box), by_slide.crop(0, (15, 10), box))


def test_the_survey_of_a_part_of_a_slide_is_that_of_its_area():
    survey = FieldImages([field("a.svs", width=50, height=30, origin=(10, 5))], ArraySlide).survey(
        0
    )
    assert survey.darkness.shape == (30, 50)
    assert not survey.darkness[:, :10].any()
    assert (survey.darkness[:, 10:] > 0).all()


def test_a_survey_travels_to_other_processes_and_is_made_once(monkeypatch):
    images = FieldImages([field("a.svs")], ArraySlide)
    made = images.survey(0)
    monkeypatch.setattr(ArraySlide, "overview", None)
    np.testing.assert_array_equal(images.survey(0).darkness, made.darkness)
    copied = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(copied.survey(0).darkness, made.darkness)


def test_a_copy_opens_its_slides_anew():
    ArraySlide.opened = 0
    images = FieldImages([field("a.svs")], ArraySlide)
    images.whole(0, (8, 6))
    images.whole(0, (8, 6))
    pickle.loads(pickle.dumps(images)).whole(0, (8, 6))
    assert ArraySlide.opened == 2


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_process_opens_its_slides_anew():
    images = FieldImages([field("a.svs")], ArraySlide)
    images.whole(0, (8, 6))
    ArraySlide.opened = 0
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def read():
        images.whole(0, (8, 6))
        queue.put(ArraySlide.opened)

    process = context.Process(target=read)
    process.start()
    assert queue.get() == 1
    process.join()


def test_only_so_many_slides_stay_open(monkeypatch):
    monkeypatch.setattr(module, "MOST_SLIDES", 2)
    slides = {}
    images = FieldImages(
        [field(f"{i}.svs") for i in range(3)],
        lambda f: slides.setdefault(f.image.name, ArraySlide(f)),
    )
    for index in range(3):
        images.whole(index, (8, 6))
    assert [slides[f"{i}.svs"].closed for i in range(3)] == [True, False, False]


def test_decoded_images_stay_within_bounds(image, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 2 * PIXELS.nbytes)
    for name in "bc":
        Image.fromarray(PIXELS).save(tmp_path / f"{name}.png")
    images = FieldImages([field(tmp_path / f"{name}.png") for name in "abc"])
    for index in (0, 1, 2, 0):
        np.testing.assert_array_equal(images.whole(index, (80, 60)), PIXELS)
    assert [path.name for path in images._decoded] == ["c.png", "a.png"]


def test_what_cannot_be_read_is_named_in_any_process(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"a.png: cannot be read as an image") as refusal:
        FieldImages([field(tmp_path / "a.png")]).whole(0, (8, 6))
    travelled = pickle.loads(pickle.dumps(refusal.value))
    assert (str(travelled), travelled.path) == (str(refusal.value), tmp_path / "a.png")


class TestSquares:
    """Around a place, at any scale; see `FieldImages.square`."""

    def test_inside_it_is_what_a_crop_of_the_box_is(self, image):
        part = field(image, width=40, height=32, origin=(20, 10))
        images = FieldImages([part])
        square = images.square(0, 8, (18.5, 16.25), 16)
        np.testing.assert_array_equal(square, images.crop(0, (8, 8), (10.5, 8.25, 26.5, 24.25)))

    def test_a_part_shows_what_lies_around_it_in_the_image(self, image):
        part = field(image, width=20, height=20, origin=(20, 10))
        square = FieldImages([part]).square(0, 10, (0, 0), 10)
        np.testing.assert_array_equal(square, PIXELS[5:15, 15:25])

    def test_beyond_the_image_it_is_white(self, image):
        square = FieldImages([field(image)]).square(0, 10, (80, 60), 10)
        np.testing.assert_array_equal(square[:5, :5], PIXELS[55:, 75:])
        assert (square[5:] == 255).all()
        assert (square[:, 5:] == 255).all()
        assert (FieldImages([field(image)]).square(0, 4, (-50, -50), 8) == 255).all()

    def test_a_slide_is_read_at_the_same_place(self, image):
        part = field(image, width=40, height=32, origin=(20, 10))
        ours = FieldImages([part]).square(0, 6, (18.5, 16.25), 12)
        theirs = FieldImages([part], ArraySlide).square(0, 6, (18.5, 16.25), 12)
        np.testing.assert_array_equal(ours, theirs)

"""A file is opened as what its ending promises, or not at all."""

import sqlite3

import numpy as np
import pytest
import tifffile
from planefiles import write_planes
from slidefiles import halved, picture, write_aperio, write_flat, write_image, write_pyramid

from pipeline.errors import SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.containers import IMAGE_SUFFIXES, SLIDE_SUFFIXES
from pipeline.slides.slide import open_slide

IMAGE = picture(333, 217)
WHOLE = Rect(0, 0, 333, 217)
OTHER = picture(333, 217, seed=1)


def refusal(path, mpp=None):
    with pytest.raises(SlideError) as caught:
        open_slide(path, mpp)
    error = caught.value
    assert str(path) in error.text
    assert "\n" not in str(error)
    return error


@pytest.mark.parametrize("mpp", [None, 0.25])
class TestMirax:
    """Without its folder it is a small JPEG, which is no slide whatever its scale."""

    @pytest.fixture
    def path(self, tmp_path):
        return write_image(tmp_path / "a.jpg", IMAGE).rename(tmp_path / "alone.mrxs")

    def test_without_its_folder(self, path, mpp):
        error = refusal(path, mpp)
        assert error.code == "data-missing"
        assert "no folder 'alone'" in error.text
        assert "Slidedat.ini" in error.text

    def test_without_its_index(self, path, mpp):
        path.with_suffix("").mkdir()
        error = refusal(path, mpp)
        assert error.code == "data-missing"
        assert "'alone' has no Slidedat.ini" in error.text

    def test_with_an_index_that_is_none(self, path, mpp):
        path.with_suffix("").mkdir()
        (path.with_suffix("") / "Slidedat.ini").write_text("nothing")
        error = refusal(path, mpp)
        assert error.code == "vendor-refused"
        assert "Slidedat.ini" in error.text


@pytest.mark.parametrize("suffix", sorted(SLIDE_SUFFIXES - {".mrxs"}))
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_plain_image_is_no_slide_of_a_scanner(tmp_path, suffix, kind):
    path = write_image(tmp_path / f"a.{kind}", IMAGE).rename(tmp_path / f"b{suffix.upper()}")
    error = refusal(path, 0.25)
    assert error.code == "ending-contradicted"
    assert suffix.upper() in error.text
    assert f"plain image ({'JPEG' if kind == 'jpg' else kind.upper()})" in error.text


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
@pytest.mark.parametrize("write", [write_pyramid, write_aperio])
def test_slide_is_no_plain_image(tmp_path, suffix, write):
    error = refusal(write(tmp_path / f"a{suffix}", IMAGE), 0.25)
    assert error.code == "ending-contradicted"
    named = "Aperio" if write is write_aperio else "TIFF of no known vendor"
    assert named in error.text


TIFF_TOO = {".vsi", ".qptiff"}
"""Endings of extras whose files are TIFF of no vendor that OpenSlide knows."""


@pytest.mark.parametrize("suffix", sorted(SLIDE_SUFFIXES & TIFF_TOO))
def test_aperio_is_none_of_the_extras_tiff(tmp_path, suffix):
    error = refusal(write_aperio(tmp_path / f"a{suffix}", IMAGE), 0.25)
    assert error.code == "ending-contradicted"
    assert f"ending {suffix} promises an" in error.text


@pytest.mark.parametrize(
    "suffix", sorted(SLIDE_SUFFIXES - {".svs", ".mrxs", ".tif", ".tiff", ".btf", ".tf8", *TIFF_TOO})
)
@pytest.mark.parametrize("write", [write_pyramid, write_aperio])
def test_tiff_of_another_is_no_slide_of_this_vendor(tmp_path, suffix, write):
    error = refusal(write(tmp_path / f"a{suffix}", IMAGE), 0.25)
    assert error.code == "ending-contradicted"
    assert f"ending {suffix} promises a" in error.text


def test_aperio_without_its_tags_is_told(tmp_path):
    with open_slide(write_pyramid(tmp_path / "a.svs", IMAGE, compression="lzw")) as slide:
        assert [doubt.code for doubt in slide.doubts] == ["ending-differs"]
        assert "Aperio" in slide.doubts[0].text
        np.testing.assert_array_equal(slide.read_level(0, WHOLE), IMAGE)


def test_what_is_told_of_the_ending_holds_for_every_focal_plane(tmp_path):
    path = write_planes(tmp_path / "a.ome.tif", [IMAGE, IMAGE // 2], [0, 2])
    with open_slide(path.rename(tmp_path / "a.svs")) as slide:
        for plane in range(2):
            told = [doubt.code for doubt in slide.on_plane(plane).doubts]
            assert told.count("ending-differs") == 1


@pytest.mark.parametrize("suffix", ["", ".tif", ".tiff", ".svs", ".bak"])
def test_aperio_under_an_ending_that_promises_no_less(tmp_path, suffix):
    with open_slide(write_aperio(tmp_path / f"a{suffix}", IMAGE)) as slide:
        assert (slide.format, slide.doubts) == ("aperio", ())


def test_plain_image_of_another_kind_is_told(tmp_path):
    path = write_image(tmp_path / "a.png", IMAGE).rename(tmp_path / "a.jpg")
    with open_slide(path, 0.25) as slide:
        (doubt,) = slide.doubts
        assert doubt.code == "ending-differs"
        assert "JPEG" in doubt.text
        assert "PNG" in doubt.text
        np.testing.assert_array_equal(slide.read_level(0, WHOLE), IMAGE)


@pytest.mark.parametrize("name", ["a", "a.scan", ".hidden"])
def test_unknown_ending_promises_nothing(tmp_path, name):
    path = write_image(tmp_path / "a.png", IMAGE).rename(tmp_path / name)
    with open_slide(path, 0.25) as slide:
        assert (slide.format, slide.doubts) == ("png", ())


def test_previews_of_olympus_are_no_slide(tmp_path):
    error = refusal(write_pyramid(tmp_path / "a.vsi", IMAGE), 0.25)
    assert error.code == "data-missing"
    assert ".ets" in error.text


def test_text_without_its_images(tmp_path):
    path = tmp_path / "a.vmu"
    path.write_text("[Uncompressed Virtual Microscope Specimen]\nNoLayers=1\nImageFile=gone\n")
    error = refusal(path, 0.25)
    assert error.code == "vendor-refused"
    assert "with all its files" in error.text


def test_planes_that_dicom_claims_and_lacks_are_refused(tmp_path, shared):
    data = (shared / "slides/boxes_0.dcm").read_bytes()
    planes = b"\x48\x00\x03\x03UL\x04\x00"  # (0048,0303) Total Pixel Matrix Focal Planes
    assert data.count(planes) == 1
    at = data.index(planes) + len(planes)
    (tmp_path / "a.dcm").write_bytes(data[:at] + b"\x03\0\0\0" + data[at + 4 :])
    error = refusal(tmp_path / "a.dcm")
    assert error.code == "vendor-refused"
    assert "needs 3 frames, not 1" in error.text


def test_what_it_is_instead_is_named(tmp_path):
    with sqlite3.connect(tmp_path / "a.czi") as database:
        database.execute("create table t (x)")
    assert "SQLite" in refusal(tmp_path / "a.czi").text
    (tmp_path / "b.svs").write_bytes(b"PK\x03\x04" + bytes(500))
    assert "ZIP" in refusal(tmp_path / "b.svs").text
    (tmp_path / "c.dcm").write_bytes(bytes(128) + b"DICM" + bytes(200))
    assert "DICOM" in refusal(tmp_path / "c.dcm").text


def test_damaged_tiff_is_called_damaged(tmp_path):
    (tmp_path / "a.ndpi").write_bytes(b"II*\0" + b"\xff" * 400)
    assert "truncated or damaged TIFF" in refusal(tmp_path / "a.ndpi").text


class TestRefusedByTheVendor:
    """What OpenSlide recognises and refuses is not opened by another reader."""

    def test_aperio_whose_levels_are_out_of_order(self, tmp_path):
        path = tmp_path / "a.svs"
        with tifffile.TiffWriter(path) as writer:
            for image in (halved(IMAGE), IMAGE):
                writer.write(
                    image,
                    tile=(64, 64),
                    photometric="rgb",
                    compression="jpeg",
                    description="Aperio Image Library v12.0\n|AppMag = 40|MPP = 0.25",
                    metadata=None,
                )
        error = refusal(path)
        assert error.code == "vendor-refused"
        assert "can't be opened" in error.text

    @pytest.mark.parametrize("objective", [20, 5])
    def test_leica_of_two_objectives(self, tmp_path, objective):
        error = refusal(write_leica(tmp_path / "a.scn", objectives=(40, objective)))
        assert error.code == "vendor-refused"
        assert "dissimilar main images" in error.text


def test_areas_of_leica_are_told_with_their_places(tmp_path):
    with open_slide(write_leica(tmp_path / "a.scn", objectives=(40, 40))) as slide:
        (doubt,) = slide.doubts
        assert doubt.code == "areas-joined"
        facts = {fact.name: fact.value for fact in slide.facts}
        assert facts["area 1"] == "320 x 192 px at (64, 32)"
        assert facts["area 2"] == "320 x 192 px at (500, 32)"
        assert slide.bounds == Rect(64, 32, 756, 192)
        shown = slide.read_level(0, Rect(500, 32, 320, 192))
        assert np.abs(shown.astype(int) - OTHER[:192, :320]).mean() < 3


def test_one_area_of_leica_is_nothing_to_tell(tmp_path):
    with open_slide(write_leica(tmp_path / "a.scn", objectives=(40,))) as slide:
        assert slide.doubts == ()
        assert slide.bounds == Rect(64, 32, 320, 192)


def test_planes_of_leica_are_told(tmp_path):
    path = write_leica(tmp_path / "a.scn", objectives=(40,), planes=3)
    with open_slide(path) as slide:
        (doubt,) = slide.doubts
        assert doubt.code == "focal-planes"
        assert "3 focal planes; plane z = 0 is read" in doubt.text
        assert doubt.text.endswith("not looked at: plane z = 1, plane z = 2")
        shown = slide.read_level(0, Rect(64, 32, 320, 192))
        assert np.abs(shown.astype(int) - IMAGE[:192, :320]).mean() < 3


class TestColoursThatOnlyOpenSlideKnows:
    @pytest.fixture
    def keys(self):
        return {"photometric": "separated", "tile": (64, 64), "metadata": None}

    def test_of_the_one_image_in_a_file(self, tmp_path, keys):
        cmyk = np.dstack([IMAGE, np.zeros_like(IMAGE[..., 0])])
        with open_slide(write_flat(tmp_path / "a.tif", cmyk, **keys)) as slide:
            assert slide.size == Size(333, 217)
            np.testing.assert_array_equal(slide.read_level(0, WHOLE), 255 - IMAGE)

    def test_of_several_images_are_refused(self, tmp_path, keys):
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            for image in (OTHER, IMAGE):
                writer.write(np.dstack([image, np.zeros_like(image[..., 0])]), **keys)
        assert "colours" in refusal(tmp_path / "a.tif", 0.25).text


def write_leica(path, objectives, planes=1):
    """A Leica slide of 1024 x 512 px at 0.25 µm/px, with an area of 320 x 192 px an objective.

    Of several planes the first area has pages of their own, which show the other picture.
    """
    nm, images = 250, (IMAGE[:192, :320], OTHER[:192, :320])
    areas = "".join(
        _leica_image(
            number,
            (320 * nm, 192 * nm, (64 + 436 * number) * nm, 32 * nm),
            objective,
            (320, 192),
            planes,
        )
        for number, objective in enumerate(objectives)
    )
    macro = _leica_image(-1, (1024 * nm, 512 * nm, 0, 0), 0.6, (128, 64))
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" '
        f'uuid="urn:uuid:0"><collection name="c" uuid="urn:uuid:1" sizeX="{1024 * nm}" '
        f'sizeY="{512 * nm}">{macro}{areas}</collection></scn>'
    )
    keys = {"photometric": "rgb", "compression": "jpeg", "tile": (64, 64), "metadata": None}
    keys["compressionargs"] = {"level": 95}
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(np.full((64, 128, 3), 230, np.uint8), description=xml, **keys)
        others = [images[1]] * (planes - 1)
        for image in [*images[: len(objectives)], *others]:
            scale = {"resolution": (1e7 / nm, 1e7 / nm), "resolutionunit": "CENTIMETER"}
            writer.write(image, **keys, **scale)
    return path


def _leica_image(number, view, objective, size, planes=1):
    names = ("sizeX", "sizeY", "offsetX", "offsetY")
    stated = " ".join(f'{name}="{value}"' for name, value in zip(names, view, strict=True))
    width, height = size
    dimensions = "".join(
        f'<dimension sizeX="{width}" sizeY="{height}" r="0" z="{z}" ifd="{number + 1 + z}"/>'
        for z in range(planes)
    )
    return (
        f'<image name="i" uuid="urn:uuid:{number + 9}">'
        "<creationDate>2020-01-01T00:00:00Z</creationDate>"
        f'<device model="m" version="1"/><pixels sizeX="{width}" sizeY="{height}">'
        f"{dimensions}</pixels>"
        f'<view {stated} spacingZ="0"/><scanSettings><objectiveSettings>'
        f"<objective>{objective}</objective></objectiveSettings><illuminationSettings>"
        "<numericalAperture>0.4</numericalAperture>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings>"
        "</scanSettings></image>"
    )

"""Colour profiles: applied on request, by the equations; told in any case; never in silence."""

import threading

import numpy as np
import pytest
import tifffile
from dicomfiles import jpegs_2000, write_dicom
from PIL import Image, ImageFilter
from profiles import SRGB, WIDE, grey_profile, in_srgb, rgb_profile
from slidefiles import picture, resolution_tags, write_aperio, write_flat

from pipeline.errors import SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.profiled import Profile, ProfileError, by_profile
from pipeline.slides.readers.tiff import TiffReader
from pipeline.slides.slide import open_slide

IMAGE = picture(300, 200)
ALL = Rect(0, 0, 300, 200)
LEVELS = 2
"""Of 255, by which a table of 33 steps a side may differ from the equations."""


def write_svs(path, profile=None):
    return write_aperio(path, IMAGE, levels=2, compression="lzw", profile=profile)


def write_dcm(path, profile=None):
    frames = jpegs_2000(IMAGE, transform=True)
    return write_dicom(path, IMAGE, photometric="YBR_ICT", frames=frames, profile=profile)


def write_png(path, profile=None):
    Image.fromarray(IMAGE).save(path, icc_profile=profile)
    return path


def write_tiff(path, profile=None):
    return write_flat(path, IMAGE, **({"iccprofile": profile} if profile else {}))


WRITERS = {"png": write_png, "tif": write_tiff, "svs": write_svs, "dcm": write_dcm}

LOSSY = {"png": 0, "tif": 0, "svs": 0, "dcm": 12}
"""Of 255, by which what is stored differs from what was drawn."""


def gaussian(image):
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(3)))


def facts_of(slide):
    return [fact.value for fact in slide.facts if fact.name == "colour profile"]


def codes_of(slide):
    return [doubt.code for doubt in slide.doubts if doubt.code.startswith("icc")]


@pytest.mark.parametrize(("matrix", "gamma"), [(WIDE, 2.2), (WIDE[:, ::-1], 1.8), (SRGB, 1.0)])
def test_colours_are_those_of_the_equations(matrix, gamma):
    profile = Profile(rgb_profile(matrix, gamma))
    expected = in_srgb(IMAGE, matrix, gamma)
    assert np.abs(profile.apply(IMAGE) - expected).max() <= LEVELS
    assert np.abs(IMAGE - expected).mean() > 5  # it does change something


@pytest.mark.parametrize("kind", WRITERS)
def test_pixels_stay_as_stored_where_nobody_asks_which_is_told(tmp_path, kind):
    path = WRITERS[kind](tmp_path / f"a.{kind}", rgb_profile(name="Scanner 9"))
    with open_slide(path, 0.25) as slide:
        assert np.abs(slide.read_level(0, ALL) - IMAGE.astype(int)).max() <= LOSSY[kind]
        assert facts_of(slide) == ["Scanner 9, not applied (color.icc)"]
        assert not codes_of(slide)


@pytest.mark.parametrize("kind", WRITERS)
def test_an_embedded_profile_is_applied_on_request(tmp_path, kind):
    path = WRITERS[kind](tmp_path / f"a.{kind}", rgb_profile(name="Scanner 9"))
    with open_slide(path, 0.25) as slide:
        stored = slide.read_level(0, ALL)
    with open_slide(path, 0.25, icc=True) as slide:
        shown = slide.read_level(0, ALL)
        assert np.abs(shown - in_srgb(stored)).max() <= LEVELS
        assert facts_of(slide) == ["Scanner 9, applied (color.icc)"]
        part = slide.read_level(0, Rect(-50, 20, 100, 60))
        np.testing.assert_array_equal(part[:, 50:], shown[20:80, :50])
        assert (part[:, :50] == 255).all()  # beyond the slide is the background, unchanged


def test_every_level_has_it(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for level in range(3):
            options = {"iccprofile": rgb_profile()} if level == 0 else {}
            writer.write(
                IMAGE[:: 2**level, :: 2**level],
                photometric="rgb",
                tile=(64, 64),
                resolution=(40000, 40000),
                resolutionunit="CENTIMETER",
                subfiletype=int(level > 0),
                **options,
            )
    with open_slide(path, icc=True) as slide:
        assert len(slide.levels) == 3
        shown = slide.read_level(2, Rect(0, 0, 75, 50))
        assert np.abs(shown - in_srgb(IMAGE[::4, ::4])).max() <= LEVELS


def write_two_planes(path, profile):
    pages = IMAGE, gaussian(IMAGE)
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            keys = {"photometric": "rgb", "tile": (64, 64), "iccprofile": profile}
            writer.write(page, metadata=None, **keys, **resolution_tags(0.25))
    return pages


def test_every_focal_plane_has_it_and_says_so(tmp_path):
    path = tmp_path / "a.tif"
    pages = write_two_planes(path, rgb_profile())
    reader = by_profile(TiffReader(path))
    assert (reader.header.plane, len(reader.header.planes)) == (0, 2)
    other = reader.of_plane(1)
    assert other.header.facts == reader.header.facts
    assert "applied (color.icc)" in other.header.facts[-1].value
    assert other.header.plane == 1
    assert np.abs(other.read(0, ALL) - in_srgb(pages[1])).max() <= LEVELS


@pytest.mark.parametrize(
    ("profile", "icc", "facts", "codes"),
    [
        (rgb_profile(name="A"), False, ["A, not applied (color.icc)"], []),
        (b"no profile" * 20, False, ["one that can't be read, not applied (color.icc)"], []),
        (b"no profile" * 20, True, [], ["icc-unusable"]),
        (None, True, [], ["icc-missing"]),
    ],
    ids=["not-applied", "damaged", "unusable", "missing"],
)
def test_every_focal_plane_says_why_it_has_it_not(tmp_path, profile, icc, facts, codes):
    path = tmp_path / "a.tif"
    pages = write_two_planes(path, profile)
    with open_slide(path, icc=icc) as slide:
        for index, page in enumerate(pages):
            seen = slide.on_plane(index)
            assert (facts_of(seen), codes_of(seen)) == (facts, codes)
            np.testing.assert_array_equal(seen.read_level(0, ALL), page)


def test_a_cache_keeps_what_is_stored(tmp_path):
    path, cache = write_tiff(tmp_path / "a.tif", rgb_profile()), tmp_path / "c"
    for icc in (False, True, False):
        with open_slide(path, cache=cache, icc=icc) as slide:
            shown = slide.read_level(0, ALL)
        expected = in_srgb(IMAGE) if icc else IMAGE
        assert np.abs(shown - expected).max() <= LEVELS * icc


def test_a_slide_without_one_says_so_where_it_was_to_be_applied(tmp_path):
    with open_slide(write_tiff(tmp_path / "a.tif"), icc=True) as slide:
        np.testing.assert_array_equal(slide.read_level(0, ALL), IMAGE)
        assert codes_of(slide) == ["icc-missing"]
        assert not facts_of(slide)
    with open_slide(write_tiff(tmp_path / "a.tif")) as slide:
        assert not codes_of(slide)


DAMAGED = {
    "cut": rgb_profile()[:300],
    "noise": bytes(range(256)) * 3,
    "grey": grey_profile(),
    "of one byte": b"x",
    "without its matrix": rgb_profile().replace(b"rXYZ", b"xxxx"),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=list(DAMAGED))
def test_one_that_cannot_be_applied_is_told_and_left_out(tmp_path, data):
    path = write_tiff(tmp_path / "a.tif", data)
    with open_slide(path, icc=True) as slide:
        np.testing.assert_array_equal(slide.read_level(0, ALL), IMAGE)
        assert codes_of(slide) == ["icc-unusable"]
        assert not facts_of(slide)
    with pytest.raises(ProfileError):
        Profile(data)


def test_grey_is_named(tmp_path):
    with open_slide(write_tiff(tmp_path / "a.tif", grey_profile()), icc=True) as slide:
        (doubt,) = [doubt for doubt in slide.doubts if doubt.code == "icc-unusable"]
    assert "of GRAY, not of RGB" in doubt.text


def test_its_name_is_one_line_of_bounded_length():
    assert Profile(rgb_profile(name="a\nb\x1b[31m" + "c" * 500)).name == "a b [31m" + "c" * 52 + "…"


def test_threads_share_it():
    profile, expected = Profile(rgb_profile()), Profile(rgb_profile()).apply(IMAGE)
    wrong = []

    def work():
        for _ in range(20):
            if not np.array_equal(profile.apply(IMAGE), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_is_closed_stays_closed(tmp_path):
    slide = open_slide(write_tiff(tmp_path / "a.tif", rgb_profile()), icc=True)
    slide.close()
    with pytest.raises((SlideError, ValueError)):
        slide.read_level(0, ALL)


def test_regions_at_other_scales_are_resampled_of_applied_colours(tmp_path):
    flat = np.full_like(IMAGE, (120, 60, 200))
    path = write_flat(tmp_path / "a.tif", flat, iccprofile=rgb_profile())
    with open_slide(path, icc=True) as slide:
        shown = slide.read_region(10, 10, Size(50, 50), 2.5)
    assert np.abs(shown - in_srgb(flat[:1, :1])).max() <= LEVELS

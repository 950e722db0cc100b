"""DICOM whose header misstates its colours is shown in true ones, or refused."""

import sys
from subprocess import run

import imagecodecs
import numpy as np
import pytest
from dicomfiles import jpegs, jpegs_2000, without_markers, write_dicom
from pydicom.uid import generate_uid
from slidefiles import halved, picture

from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect
from pipeline.slides.readers import dicom
from pipeline.slides.readers.dicom import open_dicom
from pipeline.slides.readers.vendor import VendorReader
from pipeline.slides.slide import open_slide

IMAGE = picture(200, 150)
GLASS = np.where(IMAGE > 110, 240, IMAGE).astype(np.uint8)
WHOLE = Rect(0, 0, 200, 150)


def ycbcr(image):
    """JFIF's equations, written out."""
    red, green, blue = np.moveaxis(image.astype(float), 2, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = (blue - luma) * 0.5 / (1 - 0.114) + 128, (red - luma) * 0.5 / (1 - 0.299) + 128
    return np.rint(np.dstack([luma, *chroma])).clip(0, 255).astype(np.uint8)


def assert_true(reader, image=IMAGE):
    shown = reader.read(0, WHOLE)
    assert np.abs(shown - image.astype(int)).mean() < 3
    part = Rect(50, 60, 90, 80)
    np.testing.assert_array_equal(reader.read(0, part), shown[60:140, 50:140])


def codes(reader):
    return [doubt.code for doubt in reader.header.doubts]


@pytest.mark.parametrize(
    ("photometric", "space"), [("RGB", "ycbcr"), ("YBR_FULL_422", "rgb")], ids=["RGB", "YBR"]
)
@pytest.mark.parametrize("fragments", [1, 2])
def test_jpeg_is_believed_where_the_header_misstates_it(tmp_path, photometric, space, fragments):
    frames = jpegs(IMAGE, space)
    path = write_dicom(
        tmp_path / "a.dcm", IMAGE, photometric=photometric, frames=frames, fragments=fragments
    )
    if fragments == 1:
        wrong = VendorReader(path).read(0, WHOLE)
        assert np.abs(wrong - IMAGE.astype(int)).mean() > 20  # or there is nothing to mend
    reader = open_dicom(path)
    assert_true(reader)
    assert codes(reader) == ["colour-misstated"]
    reader.close()


def test_coarser_chroma_alone_shows_what_a_silent_jpeg_is(tmp_path):
    frames = [
        without_markers(imagecodecs.jpeg8_encode(imagecodecs.jpeg8_decode(one), subsampling="420"))
        for one in jpegs(IMAGE, "ycbcr")
    ]
    path = write_dicom(tmp_path / "a.dcm", IMAGE, photometric="RGB", frames=frames)
    reader = open_dicom(path)
    assert np.abs(reader.read(0, WHOLE) - IMAGE.astype(int)).mean() < 4
    assert codes(reader) == ["colour-misstated"]


@pytest.mark.parametrize(
    ("photometric", "frames"),
    [
        ("RGB", jpegs(IMAGE, "rgb")),
        ("RGB", [without_markers(one) for one in jpegs(IMAGE, "rgb")]),
        ("YBR_FULL_422", jpegs(IMAGE, "ycbcr")),
        ("YBR_FULL_422", [without_markers(one) for one in jpegs(IMAGE, "ycbcr")]),
        ("YBR_ICT", jpegs_2000(IMAGE, transform=True)),
        ("RGB", jpegs_2000(IMAGE, transform=True)),
        ("RGB", jpegs_2000(IMAGE, transform=False)),
    ],
)
def test_what_agrees_stays_with_openslide(tmp_path, photometric, frames):
    path = write_dicom(tmp_path / "a.dcm", IMAGE, photometric=photometric, frames=frames)
    reader = open_dicom(path)
    assert isinstance(reader, VendorReader)
    assert_true(reader)
    assert codes(reader) == []


@pytest.mark.parametrize("stored", [GLASS, ycbcr(GLASS)], ids=["RGB", "YCbCr"])
def test_glass_shows_what_jpeg_2000_without_its_transform_is(tmp_path, stored):
    frames = jpegs_2000(stored, transform=False)
    path = write_dicom(tmp_path / "a.dcm", GLASS, photometric="YBR_ICT", frames=frames)
    reader = open_dicom(path)
    assert_true(reader, GLASS)
    assert codes(reader) == ["colour-misstated"]


def test_jpeg_2000_without_glass_is_refused(tmp_path):
    frames = jpegs_2000(IMAGE, transform=False)
    path = write_dicom(tmp_path / "a.dcm", IMAGE, photometric="YBR_ICT", frames=frames)
    with pytest.raises(SlideError, match=r"a\.dcm: .*YBR_ICT.*export the slide anew") as refusal:
        open_slide(path)
    assert refusal.value.code == "colour-contradiction"


def test_frames_that_are_not_in_order_are_refused(tmp_path):
    path = write_dicom(
        tmp_path / "a.dcm",
        IMAGE,
        photometric="RGB",
        frames=jpegs(IMAGE, "ycbcr"),
        layout="TILED_SPARSE",
        placed=True,
    )
    with pytest.raises(SlideError, match="not one plane of tiles in order") as refusal:
        open_dicom(path)
    assert refusal.value.code == "colour-contradiction"


@pytest.mark.parametrize("layout", ["TILED_SPARSE", ""])
def test_frames_in_order_or_with_their_places_stay_with_openslide(tmp_path, layout):
    path = write_dicom(
        tmp_path / "a.dcm",
        IMAGE,
        photometric="RGB",
        frames=jpegs(IMAGE, "rgb"),
        layout=layout,
        placed=bool(layout),
    )
    assert_true(open_dicom(path))


def test_frames_without_places_of_which_openslide_dies_are_refused(tmp_path):
    series = generate_uid()
    sparse = write_dicom(
        tmp_path / "a.dcm",
        IMAGE,
        photometric="RGB",
        frames=jpegs(IMAGE, "rgb"),
        layout="TILED_SPARSE",
        series=series,
    )
    sound = write_dicom(
        tmp_path / "b.dcm", IMAGE, photometric="RGB", frames=jpegs(IMAGE, "rgb"), series=series
    )
    for path in (sparse, sound):
        with pytest.raises(SlideError, match=rf"{path.name}: a\.dcm does not say where its frames"):
            open_slide(path)


def test_only_the_levels_that_are_misstated_are_decoded_here(tmp_path):
    series, half = generate_uid(), halved(IMAGE)
    path = write_dicom(
        tmp_path / "a.dcm", IMAGE, photometric="RGB", frames=jpegs(IMAGE, "rgb"), series=series
    )
    write_dicom(
        tmp_path / "b.dcm", half, photometric="RGB", frames=jpegs(half, "ycbcr"), series=series
    )
    write_dicom(tmp_path / "c.dcm", half, photometric="RGB", frames=jpegs(half, "ycbcr"))
    (tmp_path / "d.dcm").write_bytes(b"no DICOM")
    reader = open_dicom(path)
    assert codes(reader) == ["colour-misstated"]
    assert_true(reader)
    np.testing.assert_array_equal(reader.read(0, WHOLE), VendorReader(path).read(0, WHOLE))
    shown = reader.read(1, Rect(0, 0, 100, 75))
    assert np.abs(shown - half.astype(int)).mean() < 3


def test_a_damaged_frame_spoils_its_own_region_only(tmp_path):
    frames = jpegs(IMAGE, "ycbcr")
    frames[5] = frames[5][:300] + b"\xff\xd9" + bytes(len(frames[5]) - 302)
    frames[6] = b"\xff\xd8" + bytes(len(frames[6]) - 2)
    path = write_dicom(tmp_path / "a.dcm", IMAGE, photometric="RGB", frames=frames)
    reader = open_dicom(path)
    assert np.abs(reader.read(0, Rect(0, 0, 200, 64)) - IMAGE[:64].astype(int)).mean() < 3
    with pytest.raises(ReadError, match=r"a\.dcm: frame 7"):
        reader.read(0, Rect(130, 70, 20, 20))


def test_frames_that_claim_to_be_huge_get_no_room(tmp_path):
    frames = jpegs_2000(ycbcr(GLASS), transform=False)
    sizes = frames[3].index(b"\xff\x4f\xff\x51") + 8
    frames[3] = frames[3][:sizes] + b"\0\1\0\0\0\1\0\0" + frames[3][sizes + 8 :]
    path = write_dicom(tmp_path / "a.dcm", GLASS, photometric="YBR_ICT", frames=frames)
    reader = open_dicom(path)
    with pytest.raises(ReadError, match=r"frame 4: it is of \(65536, 65536\) px"):
        reader.read(0, WHOLE)


@pytest.mark.parametrize("seed", range(6))
def test_damaged_headers_are_told_or_left_to_openslide(tmp_path, seed):
    path = write_dicom(tmp_path / "a.dcm", IMAGE, photometric="RGB", frames=jpegs(IMAGE, "ycbcr"))
    sound, draw = path.read_bytes(), np.random.default_rng(seed)
    for _ in range(15):
        data = bytearray(sound)
        for at in draw.integers(132, 1500, 5).tolist():
            data[at] = int(draw.integers(256))
        path.write_bytes(bytes(data))
        try:
            for instance in dicom._instances(path):
                level = dicom._corrected([instance])
                if level:
                    level.close()
        except SlideError:
            continue


def test_closed_reader_does_not_read(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", IMAGE, photometric="RGB", frames=jpegs(IMAGE, "ycbcr"))
    reader = open_dicom(path)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read(0, WHOLE)


def test_only_dicom_pays_for_pydicom(tmp_path):
    code = "import sys, pipeline.slides.slide; print('pydicom' in sys.modules)"
    told = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"

"""DICOM slides: codecs, colours and scale, and what is refused; see also test_dicom_series.py."""

import contextlib
import math
import struct
import sys
from subprocess import run

import imagecodecs
import numpy as np
import pytest
from dicomfiles import SOUND, TILE, encoded, jpegs, jpegs_2000, without_markers, write_dicom
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    generate_uid,
)
from slidefiles import MPP, cut, halved, picture

from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect
from pipeline.slides.readers.dicom import open_dicom
from pipeline.slides.readers.vendor import VendorReader
from pipeline.slides.slide import open_slide

IMAGE = picture(200, 150)
GLASS = np.where(IMAGE > 110, 240, IMAGE).astype(np.uint8)
WHOLE = Rect(0, 0, 200, 150)
RAW = {
    "photometric": "RGB",
    "frames": encoded(IMAGE, ExplicitVRLittleEndian),
    "syntax": ExplicitVRLittleEndian,
}


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


def opened(path, image=IMAGE, **given):
    return open_dicom(write_dicom(path, image, **RAW | given))


def subsampled(tile):
    """Two of luma, then one of each colour for both (PS3.3, C.7.6.3.1.2)."""
    pairs = tile.reshape(TILE, TILE // 2, 2, 3)
    colors = pairs[..., 1:].astype(int).sum(axis=2) // 2
    return np.concatenate([pairs[..., 0], colors.astype(np.uint8)], axis=2).tobytes()


@pytest.mark.parametrize("table", ["basic", "extended", ""])
@pytest.mark.parametrize("name", SOUND)
def test_what_loses_nothing_is_read_to_the_bit(tmp_path, name, table):
    syntax, photometric = SOUND[name]
    path = write_dicom(
        tmp_path / "a.dcm",
        IMAGE,
        photometric=photometric,
        frames=encoded(IMAGE, syntax),
        syntax=syntax,
        table=table,
    )
    reader = open_dicom(path)
    np.testing.assert_array_equal(reader.read(0, WHOLE), IMAGE)
    np.testing.assert_array_equal(reader.read(0, Rect(50, 60, 90, 80)), IMAGE[60:140, 50:140])
    assert codes(reader) == []
    assert reader.header.mpp == pytest.approx((MPP, MPP))
    assert reader.header.objective == 40
    reader.close()


@pytest.mark.parametrize(
    ("photometric", "planar", "encode"),
    [
        ("RGB", 1, lambda tile: np.moveaxis(tile, 2, 0).tobytes()),
        ("YBR_FULL", 0, lambda tile: ycbcr(tile).tobytes()),
        ("YBR_FULL_422", 0, lambda tile: subsampled(ycbcr(tile))),
    ],
    ids=["planes of colour", "YCbCr", "YCbCr of half as many colours"],
)
def test_uncompressed_colours_come_out_right(tmp_path, photometric, planar, encode):
    frames = [encode(tile) for tile in cut(IMAGE, TILE)]
    elements = {"PlanarConfiguration": planar}
    reader = opened(tmp_path / "a.dcm", photometric=photometric, frames=frames, elements=elements)
    off = np.abs(reader.read(0, WHOLE) - IMAGE.astype(int))
    assert off.mean() <= {"RGB": 0, "YBR_FULL": 1, "YBR_FULL_422": 3}[photometric]


def test_ycbcr_within_jpeg_ls_comes_out_right(tmp_path):
    frames = [bytes(imagecodecs.jpegls_encode(ycbcr(tile))) for tile in cut(IMAGE, TILE)]
    reader = opened(
        tmp_path / "a.dcm", photometric="YBR_FULL", frames=frames, syntax=JPEGLSLossless
    )
    assert np.abs(reader.read(0, WHOLE) - IMAGE.astype(int)).max() <= 2


def coarse_chroma(image):
    options = {"level": 90, "outcolorspace": "ycbcr", "subsampling": "420"}
    return [imagecodecs.jpeg8_encode(tile, **options) for tile in cut(image, TILE)]


@pytest.mark.parametrize(
    ("photometric", "frames"),
    [
        ("RGB", jpegs(IMAGE, "rgb")),
        ("RGB", [without_markers(one) for one in jpegs(IMAGE, "rgb")]),
        ("YBR_FULL_422", jpegs(IMAGE, "ycbcr")),
        ("YBR_FULL_422", coarse_chroma(IMAGE)),
        ("YBR_FULL_422", [without_markers(one) for one in jpegs(IMAGE, "ycbcr")]),
        ("YBR_ICT", jpegs_2000(IMAGE, transform=True)),
        ("RGB", jpegs_2000(IMAGE, transform=True)),
        ("RGB", jpegs_2000(IMAGE, transform=False)),
    ],
)
@pytest.mark.parametrize("layout", ["TILED_FULL", "TILED_SPARSE"])
def test_shows_what_openslide_shows(tmp_path, photometric, frames, layout):
    path = write_dicom(
        tmp_path / "a.dcm",
        IMAGE,
        photometric=photometric,
        frames=frames,
        layout=layout,
        placed=layout == "TILED_SPARSE",
    )
    reader, vendor = open_dicom(path), VendorReader(path)
    assert_true(reader)
    assert codes(reader) == []
    np.testing.assert_array_equal(reader.read(0, WHOLE), vendor.read(0, WHOLE))
    for name in ("format", "levels", "objective"):
        assert getattr(reader.header, name) == getattr(vendor.header, name)
    assert reader.header.mpp == pytest.approx(vendor.header.mpp)


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize(("photometric", "space"), [("RGB", "rgb"), ("YBR_FULL_422", "ycbcr")])
def test_jpeg_is_decoded_at_half_its_size(tmp_path, photometric, space, marked):
    frames = [one if marked else without_markers(one) for one in jpegs(IMAGE, space)]
    reader = open_dicom(
        write_dicom(tmp_path / "a.dcm", IMAGE, photometric=photometric, frames=frames)
    )
    assert reader.shrinks(0) == (2, 4)
    half = reader.read(0, Rect(0, 0, 100, 75), 2)
    assert np.abs(half - halved(IMAGE).astype(int)).mean() < 3


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
    frames = [without_markers(one) for one in coarse_chroma(IMAGE)]
    path = write_dicom(tmp_path / "a.dcm", IMAGE, photometric="RGB", frames=frames)
    reader = open_dicom(path)
    assert np.abs(reader.read(0, WHOLE) - IMAGE.astype(int)).mean() < 4
    assert codes(reader) == ["colour-misstated"]


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


def refused(tmp_path, words, code, **given):
    """Whether opening ends in one line that begins with the file and has the words."""
    path = write_dicom(tmp_path / "a.dcm", IMAGE, **RAW | given)
    with pytest.raises(SlideError) as refusal:
        open_slide(path)
    text = refusal.value.text
    assert text.startswith(f"{path}: ")
    assert words in text
    assert len(text.splitlines()) == 1
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}, "(MONOCHROME2)"),
        ({"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME1"}, "one channel"),
        ({"SamplesPerPixel": 1, "PhotometricInterpretation": "PALETTE COLOR"}, "of a palette"),
        ({"SamplesPerPixel": 4}, "4 samples"),
        ({"BitsAllocated": 16, "BitsStored": 12}, "12 bits in 16"),
        ({"PixelRepresentation": 1}, "8 signed bits"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_422"}, "YBR_PARTIAL_422"),
        ({"PhotometricInterpretation": "HSV"}, "HSV"),
        ({"PhotometricInterpretation": None}, "colours as nothing"),
    ],
)
def test_other_pixels_than_rgb_of_8_bits_are_refused(tmp_path, elements, words):
    refused(tmp_path, words, "channels", elements=elements)


@pytest.mark.parametrize(
    ("syntax", "words"),
    [
        (DeflatedExplicitVRLittleEndian, "deflated as a whole"),
        (ExplicitVRBigEndian, "big-endian"),
        ("1.2.840.10008.1.2.4.70", "JPEG Lossless"),
        ("1.2.3.4", "transfer syntax 1.2.3.4"),
    ],
)
def test_other_transfer_syntaxes_are_refused(tmp_path, syntax, words):
    path = write_dicom(tmp_path / "a.dcm", IMAGE, photometric="RGB", frames=jpegs(IMAGE, "rgb"))
    data = path.read_bytes()
    if syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        from pydicom import dcmread

        picture = dcmread(path)
        picture.decompress()
        picture.file_meta.TransferSyntaxUID = syntax
        big = syntax == ExplicitVRBigEndian
        picture._read_implicit, picture._read_little = False, not big
        picture.save_as(path, little_endian=not big, implicit_vr=False, enforce_file_format=True)
    else:
        old = JPEGBaseline8Bit.encode()
        path.write_bytes(data.replace(old, syntax.encode().ljust(len(old), b"\0"), 1))
    with pytest.raises(SlideError) as refusal:
        open_slide(path)
    assert words in refusal.value.text
    assert refusal.value.text.startswith(f"{path}: ")
    assert refusal.value.code == "vendor-refused"


def test_a_picture_that_is_no_slide_is_refused(tmp_path):
    refused(
        tmp_path,
        "is a DICOM file of CT Image Storage, modality CT, no whole slide image",
        "vendor-refused",
        elements={"SOPClassUID": CTImageStorage, "Modality": "CT"},
    )


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"Rows": 0}, "its Rows is 0"),
        ({"Columns": None}, "it has no Columns"),
        ({"Rows": 65535}, "frames of 64 x 65535 px"),
        ({"TotalPixelMatrixRows": 0}, "its TotalPixelMatrixRows is 0"),
        ({"TotalPixelMatrixColumns": None}, "no TotalPixelMatrixColumns"),
        ({"NumberOfFrames": 11}, "needs 12 frames, not 11"),
        ({"NumberOfFrames": 13}, "claims 13 frames, and holds fewer"),
        ({"NumberOfFrames": 2_000_000_000}, "claims 2000000000 frames"),
        ({"NumberOfOpticalPaths": 3}, "claims 3 optical paths and describes 1"),
        ({"TotalPixelMatrixColumns": 2**31}, "needs 100663296 frames"),
    ],
)
def test_headers_that_contradict_the_frames_are_refused(tmp_path, elements, words):
    refused(tmp_path, words, "vendor-refused", elements=elements)


@pytest.mark.parametrize("table", ["basic", "extended"])
@pytest.mark.parametrize(
    "change",
    [
        lambda starts: [*starts[:-1], 2**31],
        lambda starts: [0, 0, *starts[2:]],
        lambda starts: starts[::-1],
        lambda starts: [8, *starts[1:]],
    ],
)
def test_tables_of_frames_that_lead_astray_are_refused(tmp_path, table, change):
    kind = "<12Q" if table == "extended" else "<12I"
    frames = jpegs(IMAGE, "rgb")
    path = write_dicom(tmp_path / "a.dcm", IMAGE, photometric="RGB", frames=frames, table=table)
    starts = [0]
    for frame in frames[:-1]:
        starts.append(starts[-1] + 8 + len(frame) + len(frame) % 2)
    data, old = path.read_bytes(), struct.pack(kind, *starts)
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, struct.pack(kind, *change(starts))))
    with pytest.raises(SlideError, match=r"a\.dcm is damaged or truncated.*copy it again"):
        open_slide(path)


def test_a_table_that_leads_into_a_frame_spoils_that_frame_alone(tmp_path):
    frames = jpegs(IMAGE, "rgb")
    path = write_dicom(tmp_path / "a.dcm", IMAGE, photometric="RGB", frames=frames)
    third = sum(8 + len(frame) + len(frame) % 2 for frame in frames[:2])
    data = path.read_bytes()
    old = struct.pack("<I", third)
    path.write_bytes(data.replace(old, struct.pack("<I", third + 6), 1))
    reader = open_dicom(path)
    assert np.abs(reader.read(0, Rect(0, 0, 64, 64)) - IMAGE[:64, :64].astype(int)).mean() < 3
    with pytest.raises(ReadError, match="leads astray"):
        reader.read(0, Rect(130, 0, 20, 20))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95, 0.999])
@pytest.mark.parametrize("native", [True, False])
def test_files_that_are_cut_off_are_refused(tmp_path, share, native):
    given = RAW if native else {"photometric": "RGB", "frames": jpegs(IMAGE, "rgb")}
    path = write_dicom(tmp_path / "a.dcm", IMAGE, **given)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SlideError, match=r"a\.dcm.*(damaged|cut off|truncated).*copy it again"):
        open_slide(path)


def test_a_damaged_frame_spoils_its_own_region_only(tmp_path):
    frames = jpegs(IMAGE, "ycbcr")
    frames[6] = b"\xff\xd8" + bytes(len(frames[6]) - 2)
    path = write_dicom(tmp_path / "a.dcm", IMAGE, photometric="YBR_FULL_422", frames=frames)
    reader = open_dicom(path)
    assert np.abs(reader.read(0, Rect(0, 0, 200, 64)) - IMAGE[:64].astype(int)).mean() < 3
    with pytest.raises(ReadError, match=r"the frame at byte \d+ of a\.dcm"):
        reader.read(0, Rect(130, 70, 20, 20))


@pytest.mark.parametrize("name", ["RLE", "JPEG-LS", "JPEG 2000, lossless", "HTJ2K", "jpeg"])
def test_a_frame_that_breaks_off_is_told(tmp_path, name):
    syntax, photometric = SOUND.get(name, (JPEGBaseline8Bit, "RGB"))
    frames = jpegs(IMAGE, "rgb") if name == "jpeg" else encoded(IMAGE, syntax)
    frames[1] = frames[1][: len(frames[1]) // 2 // 2 * 2]
    reader = open_dicom(
        write_dicom(
            tmp_path / "a.dcm", IMAGE, photometric=photometric, frames=frames, syntax=syntax
        )
    )
    assert reader.read(0, Rect(0, 0, 64, 64)).std() > 0
    with pytest.raises(ReadError, match=r"the frame at byte \d+ of a\.dcm"):
        reader.read(0, Rect(70, 0, 20, 20))


def test_damage_within_htj2k_that_its_codec_sees_is_told(tmp_path):
    """OpenJPEG sees half of it; OpenJPH's errors never come through imagecodecs."""
    syntax, photometric = SOUND["HTJ2K"]
    told = 0
    for at in range(20, 80, 6):
        frames = encoded(IMAGE, syntax)
        data = frames[1]
        middle = len(data) * at // 100
        frames[1] = data[:middle] + bytes([0xAB] * 16) + data[middle + 16 :]
        path = write_dicom(
            tmp_path / "a.dcm", IMAGE, photometric=photometric, frames=frames, syntax=syntax
        )
        with contextlib.suppress(ReadError):
            open_dicom(path).read(0, Rect(70, 0, 20, 20))
            continue
        told += 1
    assert told >= 2


def test_frames_that_claim_to_be_huge_get_no_room(tmp_path):
    frames = encoded(IMAGE, JPEG2000Lossless)
    sizes = frames[3].index(b"\xff\x4f\xff\x51") + 8
    frames[3] = frames[3][:sizes] + b"\0\1\0\0\0\1\0\0" + frames[3][sizes + 8 :]
    path = write_dicom(
        tmp_path / "a.dcm", IMAGE, photometric="RGB", frames=frames, syntax=JPEG2000Lossless
    )
    with pytest.raises(ReadError, match=r"it is of \(65536, 65536\) px"):
        open_dicom(path).read(0, WHOLE)


@pytest.mark.parametrize(
    ("mpp", "stated"),
    [
        ((0.2, 0.3), (0.2, 0.3)),
        (None, None),
        ((1e6, 1e6), (1e6, 1e6)),
        ((0.0, 0.0), (0.0, 0.0)),
        ((math.nan, math.nan), (math.nan, math.nan)),
    ],
)
def test_the_scale_is_what_the_file_states(tmp_path, mpp, stated):
    reader = opened(tmp_path / "a.dcm", mpp=mpp)
    found = reader.header.mpp
    assert found == (stated and pytest.approx(stated, nan_ok=True))


@pytest.mark.parametrize(
    ("mpp", "words", "code"),
    [
        ((0.2, 0.3), "not square (0.2 by 0.3 µm)", "mpp-oblong"),
        (None, "carries no µm per pixel", "mpp-missing"),
        ((1e6, 1e6), "absurd 1e+06 µm per pixel", "mpp-missing"),
        ((0.0, 0.0), "absurd 0 µm per pixel", "mpp-missing"),
        ((math.nan, math.nan), "absurd nan µm per pixel", "mpp-missing"),
    ],
)
def test_scales_that_measure_nothing_are_refused(tmp_path, mpp, words, code):
    path = write_dicom(tmp_path / "a.dcm", IMAGE, **RAW, mpp=mpp)
    with pytest.raises(SlideError) as refusal:
        open_slide(path)
    assert words in refusal.value.text
    assert refusal.value.code == code


@pytest.mark.parametrize("value", ["0.00025", ["0.00025"], ["a", "b"]])
def test_a_scale_that_is_no_pair_of_numbers_is_absurd(tmp_path, value):
    measures, shared = Dataset(), Dataset()
    measures.add_new("PixelSpacing", "LO", value)
    shared.PixelMeasuresSequence = [measures]
    elements = {"SharedFunctionalGroupsSequence": [shared]}
    reader = opened(tmp_path / "a.dcm", elements=elements)
    assert all(math.isnan(side) for side in reader.header.mpp)


def test_an_extent_that_contradicts_the_scale_is_told(tmp_path):
    reader = opened(tmp_path / "a.dcm", elements={"ImagedVolumeWidth": 25.0})
    assert codes(reader) == ["extent-contradicted"]
    assert "25 x 0.0375 mm" in reader.header.doubts[0].text
    assert reader.header.mpp == pytest.approx((MPP, MPP))


@pytest.mark.parametrize("seed", range(6))
def test_damaged_headers_are_told(tmp_path, seed):
    path = write_dicom(
        tmp_path / "a.dcm",
        IMAGE,
        photometric="RGB",
        frames=jpegs(IMAGE, "ycbcr"),
        layout="TILED_SPARSE",
        placed=True,
    )
    sound, draw = path.read_bytes(), np.random.default_rng(seed)
    for _ in range(15):
        data = bytearray(sound)
        for at in draw.integers(132, 3500, 5).tolist():
            data[at] = int(draw.integers(256))
        path.write_bytes(bytes(data))
        with contextlib.suppress(SlideError):  # and nothing else is raised
            open_dicom(path).close()


def test_closed_reader_does_not_read(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", IMAGE, photometric="RGB", frames=jpegs(IMAGE, "rgb"))
    reader = open_dicom(path)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read(0, WHOLE)


def test_only_dicom_pays_for_pydicom(tmp_path):
    code = "import sys, pipeline.slides.slide; print('pydicom' in sys.modules)"
    told = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


def test_a_name_of_one_series_in_another_files_pixels_is_no_member(tmp_path):
    series = generate_uid()
    path = write_dicom(tmp_path / "a.dcm", IMAGE, **RAW, series=series)
    elements = {"ContainerIdentifier": f"of {series}"}
    write_dicom(tmp_path / "b.dcm", halved(IMAGE), **RAW | {
        "frames": encoded(halved(IMAGE), ExplicitVRLittleEndian), "elements": elements
    })  # fmt: skip
    assert len(open_dicom(path).header.levels) == 1

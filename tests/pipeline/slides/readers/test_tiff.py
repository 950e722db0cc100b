"""TIFF of every layout shows the picture that was written."""

import concurrent.futures
import time
import tracemalloc

import numpy as np
import pytest
import tifffile
from slidefiles import (
    MPP,
    break_tiles,
    cut,
    encode_tile,
    halved,
    picture,
    spoil_tile,
    write_flat,
    write_pyramid,
    write_sub_ifds,
)

from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.base import UnsupportedError
from pipeline.slides.readers.segments import SegmentCache
from pipeline.slides.readers.tiff import TiffReader
from pipeline.slides.readers.tiff_file import find_truncation
from pipeline.slides.readers.vendor import VendorReader

IMAGE = picture(333, 217)
WHOLE = Rect(0, 0, 333, 217)
PART = Rect(61, 130, 70, 87)
GREY = np.repeat(IMAGE[..., :1], 3, axis=2)


def assert_shows(path, expected, tolerance=0):
    """The whole of level 0, and a part of it that crosses tiles, are as written."""
    reader = TiffReader(path)
    assert reader.header.levels[0].size == Size(333, 217)
    for region in (PART, WHOLE):
        shown = reader.read(0, region)
        wanted = expected[region.y : region.bottom, region.x : region.right]
        assert shown.dtype == np.uint8
        assert np.abs(shown.astype(int) - wanted).max() <= tolerance
    reader.close()


@pytest.mark.parametrize("layout", [{"tile": (64, 64)}, {"rows": 13}, {"rows": None}])
@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd", "jpeg2000", "webp", "png"])
def test_compressions(tmp_path, layout, compression):
    assert_shows(write_flat(tmp_path / "a.tif", IMAGE, compression=compression, **layout), IMAGE)


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("layout", [{"tile": (64, 64)}, {"rows": 13}])
@pytest.mark.parametrize(
    ("stored", "options", "expected"),
    [
        (IMAGE, {"predictor": True}, IMAGE),
        (IMAGE, {"bigtiff": True, "byteorder": ">"}, IMAGE),
        (IMAGE.astype(np.uint16) * 257, {"byteorder": ">"}, IMAGE),
        (IMAGE[..., 0], {}, GREY),
        (IMAGE[..., 0], {"photometric": "miniswhite"}, 255 - GREY),
        (np.moveaxis(IMAGE, 2, 0), {"planarconfig": "separate"}, IMAGE),
        (np.dstack([IMAGE, IMAGE[..., 0]]), {"extrasamples": ["unspecified"]}, IMAGE),
    ],
    ids=["predictor", "bigtiff", "16 bits", "grey", "white is 0", "planar", "extra sample"],
)
def test_layouts_of_samples(tmp_path, stored, options, expected, layout, compression):
    if compression is None and "predictor" in options:
        options = {}
    path = tmp_path / "a.tif"
    assert_shows(write_flat(path, stored, compression=compression, **layout, **options), expected)


@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha"])
def test_transparent_pixels_are_laid_on_white(tmp_path, kind):
    alpha = np.full(IMAGE.shape[:2], 255, np.uint8)
    alpha[:, :100], alpha[:, 100:200] = 0, 102
    opacity = alpha[..., None] / 255
    expected = np.rint(IMAGE * opacity + 255 * (1 - opacity))
    stored = np.rint(IMAGE * opacity) if kind == "assocalpha" else IMAGE
    rgba = np.dstack([stored.astype(np.uint8), alpha])
    path = write_flat(tmp_path / "a.tif", rgba, extrasamples=[kind], tile=(64, 64))
    assert_shows(path, expected, tolerance=1)


def test_jpeg_tiles_are_those_of_openslide(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, IMAGE, tile=(64, 64), photometric="rgb", compression="jpeg", subsampling=(2, 2)
    )
    np.testing.assert_array_equal(TiffReader(path).read(0, PART), VendorReader(path).read(0, PART))


def test_coarser_levels_of_odd_size_are_exact(tmp_path):
    path = write_pyramid(tmp_path / "a.tif", IMAGE, compression="lzw")
    reader = TiffReader(path)
    assert [level.downsample for level in reader.header.levels] == [1, 2, 4]
    for level in range(3):
        wanted = halved(IMAGE, level)
        shown = reader.read(level, Rect(5, 7, 60, 40))
        np.testing.assert_array_equal(shown, wanted[7:47, 5:65])


@pytest.mark.parametrize("ome", [False, True])
def test_levels_in_sub_ifds_are_found(tmp_path, ome):
    reader = TiffReader(write_sub_ifds(tmp_path / "a.tif", IMAGE, ome=ome))
    assert reader.header.format == ("ome-tiff" if ome else "tiff")
    assert reader.header.mpp == pytest.approx((MPP, MPP))
    sizes = [level.size for level in reader.header.levels]
    assert sizes == [Size(333, 217), Size(166, 108), Size(83, 54)]
    np.testing.assert_array_equal(reader.read(2, Rect(0, 0, 83, 54)), halved(IMAGE, 2))


def test_channels_in_pages_of_their_own(tmp_path):
    path = tmp_path / "a.ome.tif"
    planes = np.moveaxis(IMAGE, 2, 0)
    axes = {"axes": "CYX"}
    tifffile.imwrite(path, planes, photometric="minisblack", metadata=axes, tile=(64, 64))
    assert_shows(path, IMAGE)


def test_largest_image_is_the_slide(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture(80, 60, seed=1), photometric="rgb")
        writer.write(IMAGE, photometric="rgb", compression="lzw", tile=(64, 64))
    assert_shows(path, IMAGE)


@pytest.mark.parametrize("size", [(60, 60), (166, 60), (400, 261)])
def test_image_of_another_shape_is_no_level(tmp_path, size):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(IMAGE, photometric="rgb", subifds=1, tile=(64, 64))
        writer.write(picture(*size), photometric="rgb", subfiletype=1, tile=(64, 64))
    assert len(TiffReader(path).header.levels) == 1


def test_factors_between_levels_may_differ(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for times in (0, 1, 3, 5):
            small = halved(IMAGE, times)
            writer.write(small, photometric="rgb", subfiletype=int(times > 0), tile=(64, 64))
    assert [level.downsample for level in TiffReader(path).header.levels] == [1, 2, 8, 32]


@pytest.mark.parametrize(
    ("unit", "factor"), [("µm", 1), ("nm", 1e3), ("mm", 1e-3), ("cm", 1e-4), ("m", 1e-6)]
)
def test_units_of_ome(tmp_path, unit, factor):
    keys = {"axes": "YXS"}
    for axis in "XY":
        keys |= {f"PhysicalSize{axis}": MPP * factor, f"PhysicalSize{axis}Unit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", IMAGE, photometric="rgb", metadata=keys)
    assert TiffReader(tmp_path / "a.ome.tif").header.mpp == pytest.approx((MPP, MPP))


def test_ome_in_pixels_states_nothing(tmp_path):
    keys = {"axes": "YXS", "PhysicalSizeX": MPP, "PhysicalSizeXUnit": "pixel"}
    tifffile.imwrite(tmp_path / "a.ome.tif", IMAGE, photometric="rgb", metadata=keys)
    assert TiffReader(tmp_path / "a.ome.tif").header.mpp is None


def test_significant_bits_of_a_camera(tmp_path):
    path = tmp_path / "a.ome.tif"
    stored = np.rint(IMAGE[..., 0] * (4095 / 255)).astype(np.uint16)
    keys = {"axes": "YX", "SignificantBits": 12}
    tifffile.imwrite(path, stored, photometric="minisblack", metadata=keys, compression="lzw")
    assert_shows(path, GREY, tolerance=1)


OME = """<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="160"
SizeY="100" SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="1.5" PhysicalSizeY="1.5">
<Channel ID="Channel:0:0" SamplesPerPixel="3"/>{first}</Pixels></Image>
<Image ID="Image:1"><Pixels ID="Pixels:1" DimensionOrder="XYCZT" Type="uint8" SizeX="333"
SizeY="217" SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="0.25" PhysicalSizeY="0.25">
<Channel ID="Channel:1:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/></Pixels></Image>
</OME>"""


@pytest.mark.parametrize(
    ("first", "mpp"),
    [
        ('<TiffData IFD="0" PlaneCount="1"><UUID FileName="b.ome.tif">b</UUID></TiffData>', 0.25),
        ('<TiffData IFD="7" PlaneCount="1"/>', 0.25),
        ("<MetadataOnly/>", 0.25),
        ('<TiffData IFD="0" PlaneCount="1"/>', None),  # of another size: tifffile passes over it
    ],
    ids=["file missing", "directory missing", "no data", "can't be told"],
)
def test_images_of_ome_without_data_lend_nothing_to_those_that_have_some(tmp_path, first, mpp):
    path = tmp_path / "a.ome.tif"
    description = OME.format(first=first)
    tifffile.imwrite(path, IMAGE, photometric="rgb", description=description, metadata=None)
    reader = TiffReader(path)
    assert reader.header.levels[0].size == Size(333, 217)
    assert reader.header.mpp == (None if mpp is None else (mpp, mpp))


@pytest.mark.parametrize(("unit", "per"), [("INCH", 25400), ("CENTIMETER", 10000)])
def test_units_of_resolution(tmp_path, unit, per):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, resolution=(per / 0.25, per / 0.5), resolutionunit=unit)
    assert TiffReader(path).header.mpp == pytest.approx((0.25, 0.5))


@pytest.mark.parametrize("tags", [{"resolution": (4, 4), "resolutionunit": "NONE"}, {}])
def test_resolution_without_unit_states_nothing(tmp_path, tags):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, **tags)
    assert TiffReader(tmp_path / "a.tif").header.mpp is None


@pytest.mark.parametrize(
    ("stored", "options", "problem"),
    [
        (np.stack([IMAGE] * 4), {"photometric": "rgb"}, "stack"),
        (np.stack([IMAGE[..., 0]] * 4), {"photometric": "minisblack"}, "stack"),
        (IMAGE.astype(np.float32), {"photometric": "rgb"}, "float32"),
        (IMAGE.astype(np.uint32), {"photometric": "rgb"}, "uint32"),
    ],
)
def test_what_is_no_slide_is_refused(tmp_path, stored, options, problem):
    tifffile.imwrite(tmp_path / "a.tif", stored, **options)
    with pytest.raises(SlideError, match=problem):
        TiffReader(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("stored", "options"),
    [
        (np.dstack([GREY[..., :2]]), {"photometric": "minisblack", "planarconfig": "contig"}),
        (np.dstack([IMAGE, IMAGE, IMAGE[..., 0]]), {"photometric": "rgb"}),
        (np.dstack([IMAGE, IMAGE[..., :2]]), {"photometric": "rgb"}),
        (np.dstack([IMAGE, IMAGE[..., 0]]), {"photometric": "minisblack"}),
    ],
    ids=["2", "7", "5", "4 without colours"],
)
def test_channels_that_are_no_picture_are_refused(tmp_path, stored, options):
    options = {"planarconfig": "contig", "tile": (64, 64), **options}
    tifffile.imwrite(tmp_path / "a.tif", stored, **options)
    with pytest.raises(SlideError, match=r"a\.tif: holds \d channels.*export") as refusal:
        TiffReader(tmp_path / "a.tif")
    assert refusal.value.code == "channels"


def codes(path):
    return [doubt.code for doubt in TiffReader(path).header.doubts]


_GREY_ALPHA = {
    "photometric": "minisblack",
    "planarconfig": "contig",
    "extrasamples": ["unassalpha"],
}


@pytest.mark.parametrize(
    ("stored", "options", "expected"),
    [
        (IMAGE, {}, []),
        (IMAGE[..., 0], {}, ["grey"]),
        (np.dstack([IMAGE[..., :1], IMAGE[..., :1] | 255]), _GREY_ALPHA, ["grey"]),
        (np.dstack([IMAGE, IMAGE[..., 0]]), {"extrasamples": ["unassalpha"]}, []),
        (np.dstack([IMAGE, IMAGE[..., 0]]), {"extrasamples": ["unspecified"]}, ["extra-sample"]),
        (IMAGE, {"photometric": "minisblack", "planarconfig": "contig"}, ["channels-as-rgb"]),
        (IMAGE, {"extratags": [(274, 3, 1, 6, True)]}, ["orientation-unused"]),
        (IMAGE, {"extratags": [(274, 3, 1, 1, True)]}, []),
    ],
    ids=["rgb", "grey", "grey, alpha", "alpha", "extra", "channels", "turned", "upright"],
)
def test_what_is_odd_about_samples_is_told(tmp_path, stored, options, expected):
    path = write_flat(tmp_path / "a.tif", stored, **options)
    assert codes(path) == expected


def test_pages_of_channels_are_told(tmp_path):
    planes = np.moveaxis(IMAGE, 2, 0).copy()
    tifffile.imwrite(tmp_path / "a.ome.tif", planes, metadata={"axes": "CYX"})
    assert_shows(tmp_path / "a.ome.tif", IMAGE)
    assert codes(tmp_path / "a.ome.tif") == ["channels-as-rgb"]


PALETTE = np.random.default_rng(1).integers(0, 65536, (3, 256), dtype=np.uint16)


@pytest.mark.parametrize("small", [False, True], ids=["16 bits", "8 bits"])
@pytest.mark.parametrize("layout", [{"tile": (64, 64), "compression": "deflate"}, {"rows": 13}])
def test_palettes(tmp_path, small, layout):
    colors = PALETTE // 257 if small else PALETTE
    path = tmp_path / "a.tif"
    write_flat(path, IMAGE[..., 0], photometric="palette", colormap=colors, **layout)
    expected = np.rint(colors / (1 if small else 257)).T.astype(int)
    assert_shows(path, expected[IMAGE[..., 0]])


def test_what_was_never_scanned_is_the_lightest_of_a_palette(tmp_path):
    colors = PALETTE.copy()
    colors[:, 77] = 65535
    tiles = [IMAGE[:64, :64, 0].copy(), None]
    tifffile.imwrite(
        tmp_path / "a.tif",
        (None if tile is None else tile for tile in tiles),
        shape=(64, 128),
        dtype=np.uint8,
        tile=(64, 64),
        photometric="palette",
        colormap=colors,
        compression="deflate",
    )
    shown = TiffReader(tmp_path / "a.tif").read(0, Rect(0, 0, 128, 64))
    assert (shown[:, 64:] == 255).all()


GLASS = np.where(IMAGE > 110, 240, IMAGE).astype(np.uint8)


def deep(bits):
    return np.rint(GLASS / 255 * ((1 << bits) - 1)).astype(np.uint16)


@pytest.mark.parametrize("layout", [{"tile": (64, 64), "compression": "deflate"}, {"rows": 13}])
@pytest.mark.parametrize("kind", ["rgb", "grey", "planes", "white is 0"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_depth_of_a_camera_by_what_the_pixels_show(tmp_path, bits, kind, layout):
    stored, expected, options = deep(bits), GLASS, {}
    if kind in ("grey", "white is 0"):
        stored, expected = stored[..., 0], np.repeat(GLASS[..., :1], 3, axis=2)
    if kind == "planes":
        stored, options = np.moveaxis(stored, 2, 0).copy(), {"planarconfig": "separate"}
    if kind == "white is 0":
        stored, options = (1 << bits) - 1 - stored, {"photometric": "miniswhite"}
    path = write_flat(tmp_path / "a.tif", stored, **layout, **options)
    assert_shows(path, expected)
    header = TiffReader(path).header
    (fact,) = header.facts
    assert (fact.name, fact.value, fact.source) == ("bit depth", f"{bits} of 16", "data")
    assert "bit-depth" in codes(path)


@pytest.mark.parametrize("opaque", [4095, 65535])
def test_opacity_has_a_depth_of_its_own(tmp_path, opaque):
    alpha = np.full(IMAGE.shape[:2], opaque, np.uint16)
    alpha[:, :100] = round(opaque * 0.4)
    stored = np.dstack([deep(12), alpha])
    path = write_flat(tmp_path / "a.tif", stored, extrasamples=["unassalpha"], tile=(64, 64))
    share = alpha[..., None] / opaque
    assert_shows(path, np.rint(GLASS * share + 255 * (1 - share)), tolerance=1)


def test_jpeg_of_12_bits_is_not_judged_by_who_reads_8(tmp_path):
    path = tmp_path / "a.tif"
    coded = {"bitspersample": 12, "outcolorspace": "RGB", "level": 100}
    write_flat(path, deep(12), tile=(64, 64), compression="jpeg", compressionargs=coded)
    assert_shows(path, GLASS, tolerance=2)
    assert TiffReader(path).header.facts[0].value == "12"


def test_a_tag_of_the_largest_value_says_the_depth(tmp_path):
    path = tmp_path / "a.tif"
    write_flat(path, deep(12) // 4, extratags=[(281, 3, 3, (4095, 4095, 4095), True)])
    (fact,) = TiffReader(path).header.facts
    assert (fact.value, fact.source) == ("12 of 16", "file")
    shown = TiffReader(path).read(0, WHOLE)
    assert np.abs(shown * 4.0 - GLASS).max() <= 4  # dark as it is, not stretched
    assert codes(path) == ["depth-unclear"]


def test_depth_that_ome_misstates_is_contradicted_by_the_pixels(tmp_path):
    path = tmp_path / "a.ome.tif"
    stated = {"axes": "YXS", "SignificantBits": 10}
    tifffile.imwrite(path, deep(12), photometric="rgb", metadata=stated)
    assert_shows(path, GLASS)
    assert codes(path) == ["bit-depth"]


def test_darkish_16_bits_stay_what_they_are_and_are_told(tmp_path):
    path = write_flat(tmp_path / "a.tif", GLASS.astype(np.uint16) * 100)
    assert_shows(path, np.rint(GLASS * (100 / 257)))
    assert codes(path) == ["depth-unclear"]


def test_a_pyramid_has_one_depth_and_tiles_never_scanned_do_not_count(tmp_path):
    path, image = tmp_path / "a.tif", deep(12)
    tiles = [image[:64, :64].copy(), None, image[64:128, 64:128].copy()]
    with tifffile.TiffWriter(path) as writer:
        for level, count in ((0, 3), (1, 2)):
            writer.write(
                iter(tiles[:count]),
                shape=(64, 64 * count, 3),
                dtype=np.uint16,
                tile=(64, 64),
                photometric="rgb",
                compression="deflate",
                subfiletype=level,
            )
    reader = TiffReader(path)
    assert reader.header.facts[0].value == "12 of 16"
    np.testing.assert_array_equal(reader.read(0, Rect(0, 0, 64, 64)), GLASS[:64, :64])
    assert (reader.read(0, Rect(64, 0, 64, 64)) == 255).all()


def test_a_broken_tile_does_not_hide_the_depth(tmp_path):
    path = write_flat(tmp_path / "a.tif", deep(12), tile=(64, 64), compression="deflate")
    break_tiles(path, [3])
    reader = TiffReader(path)
    assert reader.header.facts[0].value == "12 of 16"
    np.testing.assert_array_equal(reader.read(0, Rect(0, 0, 64, 64)), GLASS[:64, :64])


def test_colours_that_another_reader_may_know(tmp_path):
    cmyk = np.dstack([IMAGE, IMAGE[..., 0]])
    tifffile.imwrite(tmp_path / "a.tif", cmyk, photometric="separated", tile=(64, 64))
    with pytest.raises(UnsupportedError, match="colours"):
        TiffReader(tmp_path / "a.tif")


def test_one_compressed_piece_too_large_for_memory_is_refused(tmp_path, monkeypatch):
    path = write_flat(tmp_path / "a.tif", IMAGE, compression="lzw")
    monkeypatch.setattr("pipeline.slides.readers.tiff.LARGEST_SEGMENT", IMAGE.nbytes - 1)
    with pytest.raises(SlideError, match="tiled TIFF"):
        TiffReader(path)


def test_tile_that_was_never_scanned_is_white(tmp_path):
    path = tmp_path / "a.tif"
    tiles = [np.full((64, 64, 3), 9, np.uint8), None, None, np.full((64, 64, 3), 9, np.uint8)]
    keys = {"shape": (128, 128, 3), "dtype": np.uint8, "tile": (64, 64), "photometric": "rgb"}
    tifffile.imwrite(path, iter(tiles), compression="lzw", **keys)
    reader = TiffReader(path)
    shown = reader.read(0, Rect(32, 0, 64, 64))
    assert (shown[:, :32] == 9).all()
    assert (shown[:, 32:] == 255).all()
    (doubt,) = reader.header.doubts
    assert doubt.code == "tiles-missing"
    assert doubt.text.startswith("2 of 4 of the finest level are not stored")


def write_sparse(path, image, empty, tiles=(64, 64, 64), compression="adobe_deflate"):
    """A pyramid that lacks tiles, by the level."""
    options = {"subsampling": "420"} if compression == "jpeg" else {}
    space = "ycbcr" if compression == "jpeg" else "rgb"
    with tifffile.TiffWriter(path) as writer:
        for level, tile in enumerate(tiles):
            shown = halved(image, level)
            parts = (
                b""
                if number in empty.get(level, ())
                else encode_tile(part, compression, space, options)
                for number, part in enumerate(cut(shown, tile))
            )
            keys = {"shape": shown.shape, "dtype": np.uint8, "tile": (tile, tile)}
            keys |= {"photometric": space, "compression": compression, "metadata": None}
            writer.write(parts, subfiletype=1 if level else 0, **keys)
    return path


@pytest.mark.parametrize(
    ("empty", "tiles", "kept"),
    [
        ({}, (64, 64, 64), [1024, 512, 256]),
        ({0: (0, 1, 16, 17), 1: (0,)}, (64, 64, 64), [1024, 512, 256]),  # never scanned
        ({0: (3,)}, (64, 64, 64), [1024, 512, 256]),
        ({2: (5,)}, (64, 64, 64), [1024, 512]),
        ({0: (0, 1, 16), 1: (0,)}, (64, 64, 64), [1024, 256]),
        ({1: (9,)}, (256, 32, 64), [1024, 256]),  # under no middle of a tile of the finest
    ],
    ids=["whole", "sparse", "finest alone", "coarsest", "middle", "larger tiles"],
)
def test_a_level_that_lacks_tiles_of_the_finest_is_left_out_and_told(tmp_path, empty, tiles, kept):
    reader = TiffReader(write_sparse(tmp_path / "a.tif", picture(1024, 1024), empty, tiles))
    assert [level.size.width for level in reader.header.levels] == kept
    told = [doubt for doubt in reader.header.doubts if doubt.code == "level-left-out"]
    assert len(told) == 3 - len(kept) == len(reader.header.doubts)
    if told:
        gone = next(side for side in (512, 256) if side not in kept)
        assert f"its image of {gone} x {gone} px is left out" in told[0].text


@pytest.mark.parametrize("compression", ["adobe_deflate", "jpeg"])
def test_a_tile_that_a_coarser_level_shows_is_unread_where_it_is_not_stored(tmp_path, compression):
    image, lost = picture(512, 512), (0, 9, 18)
    path = tmp_path / "a.tif"
    reader = TiffReader(write_sparse(path, image, {0: lost}, compression=compression))
    for index in lost:
        row, column = divmod(index, 8)
        for shrink in (1, *reader.shrinks(0)):
            side = 64 // shrink
            with pytest.raises(
                ReadError, match=r"is not stored, while the image of 256 x 256 px shows something"
            ):
                reader.read(0, Rect(column * side + 1, row * side + 1, 1, 1), shrink)
    shown = reader.read(0, Rect(64, 0, 448, 64))
    assert np.abs(shown.astype(int) - image[:64, 64:]).mean() < 3
    assert not reader.header.doubts
    (fact,) = reader.header.facts
    assert (fact.name, fact.source) == ("tiles not stored", "file")
    assert fact.value.startswith("3 of 64 of the finest level")


@pytest.mark.parametrize("compression", ["adobe_deflate", "jpeg"])
@pytest.mark.parametrize("fill", [255, 0, 236])
def test_a_tile_that_no_coarser_level_shows_was_never_scanned(tmp_path, fill, compression):
    image, never = picture(512, 512).copy(), (0, 9, 27, 63)
    for index in never:
        row, column = divmod(index, 8)
        image[64 * row : 64 * row + 64, 64 * column : 64 * column + 64] = fill
    reader = TiffReader(
        write_sparse(tmp_path / "a.tif", image, {0: never}, compression=compression)
    )
    for index in never:
        row, column = divmod(index, 8)
        assert (reader.read(0, Rect(column * 64, row * 64, 64, 64)) == 255).all()


def test_whether_a_tile_was_lost_is_told_by_the_next_level_that_has_it(tmp_path):
    image = picture(512, 512)
    lacking = {0: (0, 1, 8, 9), 1: (0,)}  # all that the tile of level 1 shows
    reader = TiffReader(write_sparse(tmp_path / "a.tif", image, lacking))
    assert len(reader.header.levels) == 3
    for level in (0, 1):
        with pytest.raises(ReadError, match="while the image of 128 x 128 px shows something"):
            reader.read(level, Rect(20, 20, 9, 9))


def test_a_coarser_level_is_not_asked_where_all_tiles_are_stored(tmp_path, monkeypatch):
    reader = TiffReader(write_sparse(tmp_path / "a.tif", picture(512, 512), {}))
    assert not reader.header.facts
    coarse = reader._image._levels[1]
    monkeypatch.setattr(coarse, "read", lambda *_: pytest.fail("a coarser level is read"))
    reader.read(0, Rect(0, 0, 512, 512))


@pytest.mark.parametrize("pages", [False, True], ids=["planes", "pages"])
def test_a_tile_that_lacks_a_channel_is_unread(tmp_path, pages):
    color = (150, 90, 140)
    parts = (
        None if (channel, index) == (1, 3) else np.full((64, 64), color[channel], np.uint8)
        for channel in range(3)
        for index in range(4)
    )
    keys = {"shape": (3, 128, 128), "dtype": np.uint8, "tile": (64, 64), "compression": "lzw"}
    path = tmp_path / ("a.ome.tif" if pages else "a.tif")
    if pages:
        keys |= {"photometric": "minisblack", "metadata": {"axes": "CYX"}}
    else:
        keys |= {"photometric": "rgb", "planarconfig": "separate", "metadata": None}
    tifffile.imwrite(path, parts, **keys)
    reader = TiffReader(path)
    assert (reader.read(0, Rect(0, 0, 128, 64)) == color).all()
    with pytest.raises(ReadError, match="the tile at 64, 64 lacks some of its channels"):
        reader.read(0, Rect(63, 63, 2, 2))


@pytest.mark.parametrize("compression", ["jpeg", "deflate", "zstd", "jpeg2000"])
def test_broken_tile_spoils_its_own_region_only(tmp_path, compression):
    path = write_pyramid(tmp_path / "a.tif", IMAGE, levels=1, compression=compression)
    before = TiffReader(path).read(0, Rect(64, 0, 269, 217))
    reader = TiffReader(break_tiles(path, [0]))
    with pytest.raises(ReadError, match=r"a\.tif: level 0: "):
        reader.read(0, Rect(60, 60, 10, 10))
    np.testing.assert_array_equal(reader.read(0, Rect(64, 0, 269, 217)), before)


def test_damage_is_found_where_openslide_does_not_read(tmp_path):
    path, image = tmp_path / "a.tif", picture(512, 256)
    keys = {"photometric": "rgb", "tile": (64, 64), "compression": "jpeg"}
    keys["compressionargs"] = {"level": 95, "outcolorspace": "RGB"}
    with tifffile.TiffWriter(path) as writer:
        writer.write(image, subifds=1, **keys)
        writer.write(halved(image), subfiletype=1, **keys)
    with tifffile.TiffFile(path) as file:
        page = file.series[0].levels[1].pages[0].aspage()
    fullest = int(np.argmax(page.databytecounts))  # by which a tile is tried at smaller sizes
    row, column = divmod(7 - fullest, 4)
    spoil_tile(path, page, 7 - fullest)
    reader = TiffReader(path)
    assert reader.shrinks(1) == (2, 4)
    for shrink in (1, 2, 4):
        side = 64 // shrink
        with pytest.raises(ReadError, match=r"a\.tif: level 1: the tile at byte \d+ is damaged"):
            reader.read(1, Rect(column * side, row * side, side, side), shrink)
    assert reader.read(1, Rect(column * 64, (1 - row) * 64, 64, 64)).std() > 10


@pytest.mark.parametrize("compression", ["lzw", None])
def test_threads_share_a_reader(tmp_path, monkeypatch, compression):
    monkeypatch.setattr("pipeline.slides.readers.tiff.SHARED", SegmentCache(0))
    whole = picture(300, 200)
    reader = TiffReader(write_flat(tmp_path / "a.tif", whole, compression=compression, rows=50))
    seek = tifffile.FileHandle.seek

    def seek_and_dawdle(handle, *place):
        position = seek(handle, *place)
        time.sleep(0.001)
        return position

    def reads_well(region):
        wanted = whole[region.y : region.bottom, region.x : region.right]
        return np.array_equal(reader.read(0, region), wanted)

    monkeypatch.setattr(tifffile.FileHandle, "seek", seek_and_dawdle)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(reads_well, [Rect(x, x, 97, 83) for x in range(100)]))


def test_memory_depends_on_the_region_not_on_the_file(tmp_path):
    side = 2048
    tiles = (np.full((256, 256, 3), number, np.uint8) for number in range(64))
    keys = {"shape": (side, side, 3), "dtype": np.uint8, "tile": (256, 256)}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, tiles, photometric="rgb", compression="deflate", **keys)
    reader = TiffReader(path)
    tracemalloc.start()
    shown = reader.read(0, Rect(1000, 1000, 100, 100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shown[0, 0, 0] == 3 * 8 + 3
    assert peak < 2 * 2**20  # the level is 12 MiB


@pytest.mark.parametrize("junk", [b"", b"\0" * 400, b"\xff" * 400, bytes(range(256)) * 2])
def test_junk_behind_the_magic_is_a_slide_error(tmp_path, junk):
    (tmp_path / "a.tif").write_bytes(b"II*\0" + junk)
    with pytest.raises(SlideError, match=r"a\.tif: truncated or damaged"):
        TiffReader(tmp_path / "a.tif")


def test_closed_reader_does_not_read(tmp_path):
    reader = TiffReader(write_flat(tmp_path / "a.tif", IMAGE, compression="lzw"))
    reader.close()
    with pytest.raises(ReadError):
        reader.read(0, PART)


def test_tifffile_keeps_quiet(tmp_path, caplog):
    path = write_pyramid(tmp_path / "a.tif", IMAGE)
    path.write_bytes(path.read_bytes()[:-100])
    find_truncation(path)
    TiffReader(path)
    assert not caplog.records

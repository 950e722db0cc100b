"""DICOM slides of several files, layouts of frames, focal planes and paths of light."""

import struct

import numpy as np
import pytest
from dicomfiles import TILE, encoded, write_dicom, write_level, write_parts
from dicomseries import LABEL
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from slidefiles import MPP, halved, picture

from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect
from pipeline.slides.readers.dicom import open_dicom
from pipeline.slides.readers.dicom_header import read_head, read_instance
from pipeline.slides.readers.dicom_places import find_places
from pipeline.slides.slide import open_slide

IMAGE = picture(200, 150)
HALF = halved(IMAGE)
WHOLE = Rect(0, 0, 200, 150)
FRAMES = encoded(IMAGE, ExplicitVRLittleEndian)
GRID = [(x, y) for y in range(0, 150, TILE) for x in range(0, 200, TILE)]
SPARSE = {"layout": "TILED_SPARSE"}


def codes(reader):
    return [doubt.code for doubt in reader.header.doubts]


def sizes(reader):
    return [(level.size.width, level.size.height) for level in reader.header.levels]


def shown(reader, level=0):
    size = reader.header.levels[level].size
    return reader.read(level, Rect(0, 0, size.width, size.height))


def refusal(path):
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    assert caught.value.text.startswith(f"{path}: ")
    assert len(caught.value.text.splitlines()) == 1
    return caught.value


def write_series(folder, series, **others):
    """Two levels and a label."""
    elements = {"ImageType": list(LABEL)}
    return [
        write_level(folder / "b.dcm", IMAGE, series, **others),
        write_level(folder / "a.dcm", HALF, series, 2 * MPP, **others),
        write_level(folder / "c.dcm", picture(70, 60), series, elements=elements),
    ]


def test_any_file_opens_the_series(tmp_path):
    paths = write_series(tmp_path, generate_uid())
    (tmp_path / "d.dcm").write_bytes(b"no DICOM")
    for path in paths:
        reader = open_dicom(path)
        assert sizes(reader) == [(200, 150), (100, 75)]
        np.testing.assert_array_equal(shown(reader), IMAGE)
        np.testing.assert_array_equal(shown(reader, 1), HALF)
        assert codes(reader) == []
        reader.close()


def test_a_series_is_found_however_far_behind_its_files_name_it(tmp_path):
    series = generate_uid()
    paths = write_series(tmp_path, series)
    for path in paths:
        header = dcmread(path)
        header.private_block(0x0009, "ACME", create=True).add_new(1, "OB", bytes(70_000))
        header.save_as(path)
        assert path.read_bytes().index(series.encode()) > 2**16
    for path in paths:
        reader = open_dicom(path)
        assert sizes(reader) == [(200, 150), (100, 75)]
        np.testing.assert_array_equal(shown(reader), IMAGE)
        reader.close()


def test_two_series_in_one_folder_are_two_slides(tmp_path):
    series, other = generate_uid(), generate_uid()
    path = write_series(tmp_path, series)[0]
    write_level(tmp_path / "x.dcm", halved(HALF), other, 4 * MPP)
    assert sizes(open_dicom(path)) == [(200, 150), (100, 75)]
    assert sizes(open_dicom(tmp_path / "x.dcm")) == [(50, 37)]


def test_a_copy_of_a_file_is_nothing_new(tmp_path):
    path = write_series(tmp_path, generate_uid())[0]
    (tmp_path / "e.dcm").write_bytes(path.read_bytes())
    reader = open_dicom(path)
    assert sizes(reader) == [(200, 150), (100, 75)]
    assert codes(reader) == []


@pytest.mark.parametrize("other", ["level", "part", "longer"])
def test_different_files_of_one_instance_are_refused(tmp_path, other):
    series, same = generate_uid(), {"SOPInstanceUID": generate_uid()}
    if other == "part":
        write_parts(tmp_path, IMAGE, series, [7, 5], elements=same)
    else:
        write_level(tmp_path / "part1.dcm", IMAGE, series, elements=same)
        image = HALF if other == "level" else IMAGE
        path = write_level(tmp_path / "part2.dcm", image, series, elements=same)
        path.write_bytes(path.read_bytes() + b"\0" * 2)
    for name in ("part1.dcm", "part2.dcm"):
        error = refusal(tmp_path / name)
        assert error.code == "series-mixed"
        assert "part1.dcm" in error.text
        assert "part2.dcm" in error.text


def test_labels_alone_are_no_slide(tmp_path):
    _, _, label = write_series(tmp_path, generate_uid())
    (tmp_path / "a.dcm").unlink()
    (tmp_path / "b.dcm").unlink()
    error = refusal(label)
    assert "no level of a slide (VOLUME), but LABEL only" in error.text
    assert error.code == "data-missing"


def specimen(name):
    one = Dataset()
    one.SpecimenUID = name
    return [one]


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"FrameOfReferenceUID": "1.2.3"}, "2 frames of reference"),
        ({"SpecimenDescriptionSequence": specimen("1.2.3")}, "2 specimens"),
        ({"ContainerIdentifier": "other glass"}, "2 specimens"),
        ({"PyramidUID": "1.2.3"}, "2 pyramids"),
    ],
)
def test_a_series_of_two_slides_is_refused(tmp_path, elements, words):
    series = generate_uid()
    given = {"SpecimenDescriptionSequence": specimen("1.1"), "PyramidUID": "1.1"}
    given["ContainerIdentifier"] = "glass"
    path = write_level(tmp_path / "a.dcm", IMAGE, series, elements=given)
    write_level(tmp_path / "b.dcm", HALF, series, 2 * MPP, elements=given | elements)
    error = refusal(path)
    assert words in error.text
    assert error.code == "series-mixed"


def test_two_finest_levels_are_refused(tmp_path):
    series = generate_uid()
    path = write_level(tmp_path / "a.dcm", IMAGE, series)
    write_level(tmp_path / "b.dcm", IMAGE[::-1], series)
    error = refusal(path)
    assert "2 images of 200 x 150 px (a.dcm, b.dcm)" in error.text
    assert error.code == "series-mixed"


def origin(x, y):
    place = Dataset()
    place.XOffsetInSlideCoordinateSystem, place.YOffsetInSlideCoordinateSystem = x, y
    return {"TotalPixelMatrixOriginSequence": [place]}


@pytest.mark.parametrize(
    ("image", "mpp", "elements", "why"),
    [
        (HALF[:60], 2 * MPP, {}, "another shape"),
        (HALF, 4 * MPP, {}, "2 times smaller, but says 4 times"),
        (HALF, 2 * MPP, origin(10, 20.01), "10 µm beside the finest level"),
        (HALF, 2 * MPP, {"NumberOfFrames": 1}, "needs 4 frames, not 1"),
        (HALF, 2 * MPP, {"SamplesPerPixel": 1}, "one channel"),
        (HALF, 2 * MPP, {"TotalPixelMatrixFocalPlanes": 2, "NumberOfFrames": 4}, "needs 8 frames"),
    ],
)
def test_a_coarser_level_that_does_not_fit_is_left_out_and_told(
    tmp_path, image, mpp, elements, why
):
    series = generate_uid()
    path = write_level(tmp_path / "a.dcm", IMAGE, series, elements=origin(10, 20))
    write_level(tmp_path / "b.dcm", image, series, mpp, elements=elements)
    reader = open_dicom(path)
    assert sizes(reader) == [(200, 150)]
    (doubt,) = reader.header.doubts
    assert doubt.code == "level-left-out"
    assert f"100 x {len(image)} px is left out" in doubt.text
    assert why in doubt.text


def test_a_coarser_level_of_rounded_size_fits(tmp_path):
    series, image = generate_uid(), picture(201, 151)
    path = write_level(tmp_path / "a.dcm", image, series)
    write_level(tmp_path / "b.dcm", halved(image), series, 2 * MPP, elements=origin(0, 0))
    reader = open_dicom(path)
    assert sizes(reader) == [(201, 151), (100, 75)]
    assert codes(reader) == []
    assert reader.header.levels[1].downsample == 2


def test_a_finest_level_that_was_made_of_a_finer_one_is_told(tmp_path):
    elements = {"ImageType": ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]}
    path = write_level(tmp_path / "a.dcm", HALF, generate_uid(), 2 * MPP, elements=elements)
    reader = open_dicom(path)
    assert codes(reader) == ["level-missing"]
    assert "100 x 75 px" in reader.header.doubts[0].text


def test_a_damaged_header_beside_it_is_refused_as_it_may_be_the_finest(tmp_path):
    series = generate_uid()
    path = write_level(tmp_path / "a.dcm", HALF, series, 2 * MPP)
    write_level(tmp_path / "b.dcm", IMAGE, series, elements={"Columns": 0})
    assert "b.dcm of its series: is damaged: its Columns is 0" in refusal(path).text


@pytest.mark.parametrize("layout", ["TILED_FULL", "TILED_SPARSE"])
def test_parts_of_a_level_are_one_picture(tmp_path, layout):
    series = generate_uid()
    places = GRID if layout == "TILED_SPARSE" else None
    paths = write_parts(tmp_path, IMAGE, series, (5, 4, 3), layout=layout, places=places)
    write_level(tmp_path / "small.dcm", HALF, series, 2 * MPP)
    for path in paths:
        reader = open_dicom(path)
        np.testing.assert_array_equal(shown(reader), IMAGE)
        assert sizes(reader) == [(200, 150), (100, 75)]
        assert codes(reader) == []


@pytest.mark.parametrize("missing", [1, 2, 3])
@pytest.mark.parametrize("total", [True, False])
def test_a_missing_part_of_the_finest_level_is_refused(tmp_path, missing, total):
    elements = {} if total else {"InConcatenationTotalNumber": None}
    paths = write_parts(tmp_path, IMAGE, generate_uid(), (5, 4, 3), elements=elements)
    paths[missing - 1].unlink()
    error = refusal(paths[missing % 3])
    frames = {1: "1 to 5", 2: "6 to 9", 3: "10 to 12"}[missing]
    assert error.code == "data-missing"
    assert (f"part {missing} of 3" if total else f"frames {frames}") in error.text
    assert "200 x 150 px" in error.text


def test_a_missing_part_of_a_coarser_level_is_told(tmp_path):
    series = generate_uid()
    path = write_level(tmp_path / "a.dcm", IMAGE, series)
    write_parts(tmp_path, HALF, series, (1, 3), mpp=2 * MPP)[1].unlink()
    reader = open_dicom(path)
    assert codes(reader) == ["level-left-out"]
    assert "lacks part 2 of 2" in reader.header.doubts[0].text


def test_parts_that_differ_are_refused(tmp_path):
    paths = write_parts(tmp_path, IMAGE, generate_uid(), (5, 7))
    data = paths[1].read_bytes()
    paths[1].write_bytes(data.replace(b"RGB ", b"HSV "))
    assert "the parts of its image" in refusal(paths[0]).text


def test_frames_lie_where_they_say(tmp_path):
    order = np.random.default_rng(0).permutation(len(GRID)).tolist()
    path = write_level(
        tmp_path / "a.dcm",
        IMAGE,
        generate_uid(),
        frames=[FRAMES[index] for index in order],
        places=[GRID[index] for index in order],
        **SPARSE,
    )
    np.testing.assert_array_equal(shown(open_dicom(path)), IMAGE)


@pytest.mark.parametrize("placed", [True, False])
def test_where_no_layout_is_stated_places_count_or_else_the_order(tmp_path, placed):
    order = np.random.default_rng(0).permutation(len(GRID)).tolist() if placed else range(12)
    path = write_level(
        tmp_path / "a.dcm",
        IMAGE,
        generate_uid(),
        frames=[FRAMES[index] for index in order],
        places=[GRID[index] for index in order] if placed else None,
        layout="",
    )
    np.testing.assert_array_equal(shown(open_dicom(path)), IMAGE)


def test_tiles_without_a_frame_are_glass_and_told(tmp_path):
    series = generate_uid()
    kept = [0, 1, 2, 3, 4, 6, 7, 8]
    path = write_level(
        tmp_path / "a.dcm",
        IMAGE,
        series,
        frames=[FRAMES[index] for index in kept],
        places=[GRID[index] for index in kept],
        **SPARSE,
    )
    expected = IMAGE.copy()
    expected[64:128, 64:128] = 255
    expected[128:, 64:] = 255
    reader = open_dicom(path)
    np.testing.assert_array_equal(shown(reader), expected)
    (doubt,) = reader.header.doubts
    assert doubt.code == "frames-absent"
    assert "4 of the 12 tiles" in doubt.text
    assert "which says that they were not scanned; shown as glass" in doubt.text


@pytest.mark.parametrize("total", [True, False])
def test_a_frame_that_a_coarser_level_shows_was_lost(tmp_path, total):
    series = generate_uid()
    elements = {} if total else {"InConcatenationTotalNumber": None}
    places, frames = GRID[:9], (5, 4)
    if not total:  # whose third file is missing
        places, frames = GRID, (5, 4, 3)
    paths = write_parts(tmp_path, IMAGE, series, frames, places=places, elements=elements, **SPARSE)
    if not total:
        paths[2].unlink()
    write_level(tmp_path / "small.dcm", HALF, series, 2 * MPP)
    reader = open_dicom(paths[0])
    with pytest.raises(ReadError, match="the tile at 64, 128 of its level of 200 x 150 px is not"):
        reader.read(0, Rect(60, 120, 10, 10))
    np.testing.assert_array_equal(reader.read(0, Rect(0, 0, 200, 128)), IMAGE[:128])
    (doubt,) = reader.header.doubts
    assert doubt.code == "frames-absent"
    assert doubt.text.startswith("3 of the 12 tiles")
    assert ("or a file is missing; shown as glass where no coarser" in doubt.text) == (not total)


def test_a_coarser_level_that_lacks_tiles_of_the_finest_is_left_out(tmp_path):
    series = generate_uid()
    path = write_level(tmp_path / "a.dcm", IMAGE, series)
    frames = encoded(HALF, ExplicitVRLittleEndian)[:3]
    places = [(0, 0), (64, 0), (0, 64)]
    write_level(tmp_path / "b.dcm", HALF, series, 2 * MPP, frames=frames, places=places, **SPARSE)
    reader = open_dicom(path)
    assert sizes(reader) == [(200, 150)]
    assert "it lacks tiles that the finest level has" in reader.header.doubts[0].text


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ([(0, 0), (64, 0)], "does not say where its frames lie"),
        ([*GRID[:11], (10, 0)], "lie beside the grid"),
        ([*GRID[:11], (256, 0)], "lie outside of its level"),
        ([*GRID[:11], (-64, 0)], "outside of its level"),
        ([*GRID[:11], GRID[0]], "up to 2 frames at one place"),
        (None, "does not say where its frames lie"),
    ],
)
def test_places_that_are_none_are_refused(tmp_path, places, words):
    path = write_level(tmp_path / "a.dcm", IMAGE, generate_uid(), places=places, **SPARSE)
    assert words in refusal(path).text


def test_implicit_headers_say_places_too(tmp_path):
    path = write_dicom(
        tmp_path / "a.dcm",
        IMAGE,
        photometric="RGB",
        frames=FRAMES[::-1],
        syntax=ImplicitVRLittleEndian,
        places=GRID[::-1],
        **SPARSE,
    )
    np.testing.assert_array_equal(shown(open_dicom(path)), IMAGE)


def test_sequences_of_no_stated_length_say_places_too(tmp_path):
    from pydicom import dcmread

    path = write_level(tmp_path / "a.dcm", IMAGE, generate_uid(), places=GRID, **SPARSE)
    slide = dcmread(path)
    slide["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
    for item in slide.PerFrameFunctionalGroupsSequence:
        item.is_undefined_length_sequence_item = True
        item["PlanePositionSlideSequence"].is_undefined_length = True
    slide.save_as(path)
    assert path.read_bytes().count(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)) >= 13
    np.testing.assert_array_equal(shown(open_dicom(path)), IMAGE)


def test_scales_that_each_frame_says_are_read(tmp_path):
    measures, shared = [], Dataset()
    for value in ([0.0003, 0.00025], [0.0003, 0.00025], [0.0003, 0.0005]):
        one, group, place = Dataset(), Dataset(), Dataset()
        one.PixelSpacing = value
        place.ColumnPositionInTotalImagePixelMatrix = 1 + TILE * len(measures)
        place.RowPositionInTotalImagePixelMatrix = 1
        group.PixelMeasuresSequence, group.PlanePositionSlideSequence = [one], [place]
        measures.append(group)
    row = IMAGE[:64, :192]
    for count, denied in ((2, ""), (3, "differs from frame to frame")):
        image = row[:, : 64 * count]
        elements = {
            "SharedFunctionalGroupsSequence": [shared],
            "PerFrameFunctionalGroupsSequence": measures[:count],
        }
        path = write_level(
            tmp_path / f"{count}.dcm",
            image,
            generate_uid(),
            frames=encoded(image, ExplicitVRLittleEndian),
            elements=elements,
            **SPARSE,
        )
        header = open_dicom(path).header
        assert header.mpp == pytest.approx((0.25, 0.3))
        assert header.mpp_denied == denied


def blurred(image, times):
    for _ in range(times):
        image = (image.astype(int) + np.roll(image, 3, axis=1) + np.roll(image, 3, axis=0)) // 3
    return image.astype(np.uint8)


PLANES = [blurred(IMAGE, 3), IMAGE, blurred(IMAGE, 2)]
IN_PLANES = [frame for plane in PLANES for frame in encoded(plane, ExplicitVRLittleEndian)]
DEPTHS = [-2.0, 0.5, 3.0]


def spaced(mm):
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing, measures.SpacingBetweenSlices = [MPP / 1000] * 2, mm
    shared.PixelMeasuresSequence = [measures]
    return [shared]


def planes_in_order(folder):
    elements = {
        "TotalPixelMatrixFocalPlanes": 3,
        "SharedFunctionalGroupsSequence": spaced(0.0025),
    }
    write_level(folder / "a.dcm", IMAGE, "1.2.3", frames=IN_PLANES, elements=elements)
    return [0.0, 2.5, 5.0]


def planes_with_places(folder):
    places = [(*place, z) for z in DEPTHS for place in GRID]
    write_level(folder / "a.dcm", IMAGE, "1.2.3", frames=IN_PLANES, places=places, **SPARSE)
    return DEPTHS


def planes_in_files(folder):
    for index, (plane, depth) in enumerate(zip(PLANES, DEPTHS, strict=True)):
        place = Dataset()
        place.ZOffsetInSlideCoordinateSystem = depth
        shared = spaced(0)
        shared[0].PlanePositionSlideSequence = [place]
        frames = encoded(plane, ExplicitVRLittleEndian)
        elements = {"SharedFunctionalGroupsSequence": shared}
        name = "cab"[index]
        write_level(folder / f"{name}.dcm", IMAGE, "1.2.3", frames=frames, elements=elements)
    return DEPTHS


def planes_that_follow_the_glass(folder):
    """Each place has its own depths, so that their order alone tells planes apart."""
    places = [(*place, z + index / 10) for z in DEPTHS for index, place in enumerate(GRID)]
    write_level(folder / "a.dcm", IMAGE, "1.2.3", frames=IN_PLANES, places=places, **SPARSE)
    return [None] * 3


@pytest.mark.parametrize(
    "write",
    [planes_in_order, planes_with_places, planes_in_files, planes_that_follow_the_glass],
)
def test_each_focal_plane_can_be_read(tmp_path, write):
    depths = write(tmp_path)
    reader = open_dicom(tmp_path / "a.dcm")
    header = reader.header
    assert [plane.z_um for plane in header.planes] == pytest.approx(depths)
    assert header.plane == 1
    assert codes(reader) == ["focal-planes"]
    np.testing.assert_array_equal(shown(reader), IMAGE)
    for index, plane in enumerate(PLANES):
        np.testing.assert_array_equal(shown(reader.of_plane(index)), plane)
    reader.close()


def test_depths_that_follow_the_glass_are_one_plane(tmp_path):
    places = [(*place, index / 10) for index, place in enumerate(GRID)]
    path = write_level(tmp_path / "a.dcm", IMAGE, generate_uid(), places=places, **SPARSE)
    reader = open_dicom(path)
    assert reader.header.planes == ()
    np.testing.assert_array_equal(shown(reader), IMAGE)


def test_where_a_plane_has_no_frame_the_nearest_shows(tmp_path):
    places = [(*place, z) for z in DEPTHS for place in GRID]
    kept = [index for index in range(36) if index not in (12 + 5, 24 + 5)]
    path = write_level(
        tmp_path / "a.dcm",
        IMAGE,
        generate_uid(),
        frames=[IN_PLANES[index] for index in kept],
        places=[places[index] for index in kept],
        **SPARSE,
    )
    reader = open_dicom(path)
    expected = IMAGE.copy()
    expected[64:128, 64:128] = PLANES[0][64:128, 64:128]
    np.testing.assert_array_equal(shown(reader), expected)
    assert sorted(codes(reader)) == ["focal-planes", "frames-absent"]
    told = next(doubt.text for doubt in reader.header.doubts if doubt.code == "frames-absent")
    assert told.startswith("1 of the 12 tiles")


def test_planes_that_can_not_be_told_apart_are_refused(tmp_path):
    places = [(*place, 0.0) for _ in DEPTHS for place in GRID]
    path = write_level(
        tmp_path / "a.dcm", IMAGE, generate_uid(), frames=IN_PLANES, places=places, **SPARSE
    )
    error = refusal(path)
    assert error.code == "planes-unreadable"


def lights(*illuminations):
    found = []
    for index, code in enumerate(illuminations):
        light, lit = Dataset(), Dataset()
        light.OpticalPathIdentifier = f"path {index}"
        lit.CodeValue = code
        light.IlluminationTypeCodeSequence = [lit]
        found.append(light)
    return {"OpticalPathSequence": found, "NumberOfOpticalPaths": len(found)}


BRIGHT, FLUORESCENT = "111744", "111743"


def test_of_several_paths_of_light_brightfield_is_read_and_told(tmp_path):
    dark = encoded(255 - IMAGE, ExplicitVRLittleEndian)
    path = write_level(
        tmp_path / "a.dcm",
        IMAGE,
        generate_uid(),
        frames=dark + FRAMES,
        elements=lights(FLUORESCENT, BRIGHT),
    )
    reader = open_dicom(path)
    np.testing.assert_array_equal(shown(reader), IMAGE)
    (fact,) = reader.header.facts
    assert fact.name == "optical path"
    assert fact.value == "path 1, one of 2: the brightfield one"


def test_a_file_of_another_light_is_left_out(tmp_path):
    series = generate_uid()
    path = write_level(tmp_path / "a.dcm", IMAGE, series, elements=lights(BRIGHT))
    write_level(tmp_path / "b.dcm", 255 - IMAGE, series, elements=lights(FLUORESCENT))
    reader = open_dicom(path)
    np.testing.assert_array_equal(shown(reader), IMAGE)
    assert codes(reader) == ["level-left-out"]
    assert "epifluorescence" in reader.header.doubts[0].text


@pytest.mark.parametrize(
    ("illuminations", "words"),
    [
        ([FLUORESCENT], "lit by epifluorescence"),
        (["111747"], "lit by phase contrast"),
        ([BRIGHT, BRIGHT], "2 optical paths of which each may be brightfield (path 0, path 1)"),
    ],
)
def test_light_in_which_no_stain_shows_is_refused(tmp_path, illuminations, words):
    frames = FRAMES * len(illuminations)
    path = write_level(
        tmp_path / "a.dcm", IMAGE, generate_uid(), frames=frames, elements=lights(*illuminations)
    )
    error = refusal(path)
    assert words in error.text
    assert error.code == "channels"


@pytest.mark.slow  # loads all codes of the standard
def test_codes_of_illumination_are_the_standards():
    from pydicom.sr.codedict import codes as standard

    from pipeline.slides.readers.dicom_series import _NOT_BRIGHTFIELD

    dcm = standard.DCM
    assert dcm.BrightfieldIllumination.value == BRIGHT
    for name, value in {
        "ReflectionIllumination": "reflection",
        "EpifluorescenceIllumination": "epifluorescence",
        "DarkfieldIllumination": "darkfield",
        "ObliqueIllumination": "oblique",
        "PhaseContrastIllumination": "phase contrast",
        "DifferentialInterferenceContrast": "differential interference contrast",
    }.items():
        assert _NOT_BRIGHTFIELD[getattr(dcm, name).value] == value


def test_its_colour_profile_is_found(tmp_path):
    path = write_dicom(
        tmp_path / "a.dcm",
        IMAGE,
        photometric="RGB",
        frames=FRAMES,
        syntax=ExplicitVRLittleEndian,
        profile=b"profile!",
    )
    assert open_dicom(path).profile() == b"profile!"
    bare = write_level(tmp_path / "b.dcm", IMAGE, generate_uid())
    assert open_dicom(bare).profile() is None


def test_places_of_many_frames_are_those_that_were_written(tmp_path):
    count = 500
    path = write_level(
        tmp_path / "a.dcm",
        np.zeros((TILE, TILE * 2, 3), np.uint8),
        generate_uid(),
        frames=[b""],
        places=[(64 * (index % 2), 0, index / 8) for index in range(count)],
        elements={"NumberOfFrames": count},
        **SPARSE,
    )
    places = find_places(read_instance(read_head(path)))
    assert places.x.tolist() == [0, 64] * (count // 2)
    np.testing.assert_array_equal(places.z, np.arange(count) / 8)

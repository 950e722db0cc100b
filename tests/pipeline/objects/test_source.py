"""The image that objects are about: its own identity, a derived one, or a refusal."""

import numpy as np
import pydicom
import pytest
from dicomseries import write_image
from pydicom.dataset import Dataset

from pipeline.errors import SlideError
from pipeline.geometry import Size
from pipeline.objects.dicom import image_of
from pipeline.objects.source import derive_source, is_dicom, read_source

SERIES = "1.2.3.77"
SIZE = Size(128, 64)
PIXELS = np.zeros((64, 128, 3), np.uint8)


@pytest.fixture
def series(tmp_path):
    """Three levels, a label of the size of level 0, and files of others; the base is b.dcm."""
    for name, pixels in (("a.dcm", PIXELS[::2, ::2]), ("b.dcm", PIXELS), ("c", PIXELS[::4, ::4])):
        write_image(tmp_path / name, pixels.copy(), 0.25, SERIES)
    label = ("ORIGINAL", "PRIMARY", "LABEL", "NONE")
    write_image(tmp_path / "label.dcm", PIXELS, 0.25, SERIES, kind=label)
    write_image(tmp_path / "other.dcm", PIXELS, 0.25, "1.2.3.78")
    (tmp_path / "broken.dcm").write_bytes((tmp_path / "b.dcm").read_bytes()[:300])
    (tmp_path / "notes.txt").write_text("1.2.3.77")
    return tmp_path


def change(path, **values):
    dataset = pydicom.dcmread(path)
    for name, value in values.items():
        if value is None:
            delattr(dataset, name)
        else:
            with pydicom.config.disable_value_validation():
                setattr(dataset, name, value)
    dataset.save_as(path)


@pytest.mark.parametrize("first", ["a.dcm", "b.dcm", "c"])
def test_the_image_is_that_of_level_0(series, first):
    image = image_of(read_source(series / first, SIZE))
    base = pydicom.dcmread(series / "b.dcm", stop_before_pixels=True)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        assert image[name].value == base[name].value
    assert (image.PatientName, image.PatientID) == ("Doe^Jane", "4711")
    assert (image.StudyID, image.AccessionNumber, image.PatientSex) == ("", "", "")


def test_level_0_is_found_however_far_behind_it_names_its_series(series):
    header = pydicom.dcmread(series / "b.dcm")
    header.private_block(0x0009, "ACME", create=True).add_new(1, "OB", bytes(70_000))
    header.save_as(series / "b.dcm")
    image = image_of(read_source(series / "a.dcm", SIZE))
    assert image.SOPInstanceUID == header.SOPInstanceUID


def test_nothing_else_of_a_person_is_read(series):
    change(
        series / "b.dcm",
        PatientAddress="Mill Lane 1",
        OtherPatientNames="Roe^Jane",
        OperatorsName="Poe^E",
        PatientComments="pregnant",
    )
    image = image_of(read_source(series / "b.dcm", SIZE))
    text = str(image)
    assert "Doe" in text
    for name in ("Mill", "Roe", "Poe", "pregnant"):
        assert name not in text


def test_names_of_any_character_set_come_through(series):
    change(series / "b.dcm", SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Zoë")
    assert image_of(read_source(series / "b.dcm", SIZE)).PatientName == "Müller^Zoë"


def test_what_is_no_valid_value_stays_empty(series):
    change(
        series / "b.dcm", PatientBirthDate="1970", PatientSex="W", StudyTime="noon", StudyDate=""
    )
    image = image_of(read_source(series / "b.dcm", SIZE))
    assert [image.PatientBirthDate, image.PatientSex, image.StudyTime, image.StudyDate] == [""] * 4


def test_the_specimen_comes_along_where_it_is_whole(series):
    specimen, nameless = Dataset(), Dataset()
    specimen.SpecimenIdentifier, specimen.SpecimenUID = "S-1", "1.2.3.9"
    specimen.SpecimenShortDescription = "Jane's"
    nameless.SpecimenIdentifier = "S-2"
    change(
        series / "b.dcm",
        ContainerIdentifier="glass 7",
        SpecimenDescriptionSequence=[specimen, nameless],
    )
    image = image_of(read_source(series / "b.dcm", SIZE))
    (found,) = image.SpecimenDescriptionSequence
    assert (image.ContainerIdentifier, found.SpecimenUID) == ("glass 7", "1.2.3.9")
    assert "SpecimenShortDescription" not in found


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"StudyInstanceUID": None}, "StudyInstanceUID in its header: is missing"),
        ({"FrameOfReferenceUID": ""}, "FrameOfReferenceUID in its header: is missing"),
        ({"StudyInstanceUID": "1.2.x"}, "StudyInstanceUID in its header: '1.2.x' is no UID"),
        ({"StudyInstanceUID": "1." * 40 + "1"}, "is no UID"),
        ({"TotalPixelMatrixColumns": 127}, "none of its series of 128 x 64 px"),
    ],
)
def test_what_objects_need_is_asked_for_by_name(series, changes, told):
    change(series / "b.dcm", **changes)
    with pytest.raises(SlideError, match="leave --dicom") as refusal:
        read_source(series / "b.dcm", SIZE)
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_two_images_of_level_0_are_refused_and_parts_of_one_are_not(series):
    (series / "twin.dcm").write_bytes((series / "b.dcm").read_bytes())
    change(series / "twin.dcm", SOPInstanceUID="1.2.3.5")
    with pytest.raises(SlideError, match="2 images of its series"):
        read_source(series / "b.dcm", SIZE)
    whole = {"SOPInstanceUIDOfConcatenationSource": "1.2.3.4"}
    change(series / "b.dcm", InConcatenationNumber=2, **whole)
    change(series / "twin.dcm", InConcatenationNumber=1, **whole)
    assert image_of(read_source(series / "b.dcm", SIZE)).SOPInstanceUID == "1.2.3.5"


@pytest.mark.parametrize("content", [b"", b"\0" * 128 + b"DICM" + b"\xff" * 50])
def test_what_can_not_be_read_is_told(tmp_path, content):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(SlideError):
        read_source(path, SIZE)
    assert is_dicom(path) == bool(content)
    with pytest.raises(SlideError, match="can't be read"):
        read_source(tmp_path / "gone.dcm", SIZE)
    assert not is_dicom(tmp_path / "gone.dcm")


def test_a_derived_identity_follows_from_the_content_alone():
    one, again, other = (image_of(derive_source(c * 64, SIZE)) for c in "aab")
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
    uids = [one[name].value for name in names]
    assert uids == [again[name].value for name in names]
    assert not set(uids) & {other[name].value for name in names}
    assert len(set(uids)) == 4
    assert one.StudyInstanceUID == "2.25.158230857396263883550340411958161804551"
    assert all(uid.is_valid for uid in uids)
    assert (one.PatientName, one.PatientID) == ("", "")

"""The identity of the image that DICOM objects are about: a slide's own, or a derived one.

A DICOM slide's objects go into its study, so that an archive puts them beside it: study, patient,
specimen and the instance of its finest level are taken from its header; of all else that names a
person nothing is read. What of these is no valid value stays empty where the standard allows it.

Of any other slide the UIDs are derived from its content: name-based UUIDs (version 5, RFC 4122) of
the SHA-256 of its files, as UIDs below 2.25 (PS3.5, B.2). The same content has the same identity
everywhere; patient and study data are empty.
"""

from __future__ import annotations

import re
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import SlideError
from pipeline.geometry import Size
from pipeline.slides.readers.base import DICOM_MARK_END, reason, says_dicom, show
from pipeline.slides.readers.dicom_header import WHOLE_SLIDE, names_series

Header = Mapping[str, Any]
"""A part of a DICOM header, in the JSON model of PS3.18, annex F."""

_UIDS = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SOPClassUID",
    "FrameOfReferenceUID",
)
_PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
_REQUIRED_EMPTY = frozenset(_PATIENT + _STUDY) - {"IssuerOfPatientID"}
_CONTAINER = "ContainerIdentifier"
_SPECIMENS = "SpecimenDescriptionSequence"
_OF_SPECIMEN = ("SpecimenIdentifier", "SpecimenUID")
_SIZES = ("TotalPixelMatrixColumns", "TotalPixelMatrixRows")
_WHOLE = "SOPInstanceUIDOfConcatenationSource"
_TAGS = (
    *_UIDS,
    *_PATIENT,
    *_STUDY,
    _CONTAINER,
    _SPECIMENS,
    *_SIZES,
    _WHOLE,
    "InConcatenationNumber",
    "ImageType",
    "SpecificCharacterSet",
)
_BEHIND = 0x0048FFFF
"""The last tag that is wanted, with those of its group: what follows can be as large as pixels."""

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_LONGEST_UID = 64

_NAMESPACE = uuid.UUID("b7f0c1c4-97a5-5a53-8f4e-7f9d5b5f0c19")
"""Of derived identities; never to be changed, so that a slide keeps its own."""


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM; False where it can't be read."""
    try:
        with path.open("rb") as file:
            return says_dicom(file.read(DICOM_MARK_END))
    except OSError:
        return False


def derived_uid(*names: str) -> str:
    """A UID that follows from names, the same each time."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(10).join(names)).int}"


def derive_source(sha256: str, size: Size) -> Header:
    """The identity of a slide that has none of its own.

    Args:
        sha256: of its content.
        size: of its level 0, in pixels.
    """
    from pydicom import Dataset

    image = Dataset()
    image.SOPClassUID = WHOLE_SLIDE
    for name in _UIDS:
        if name != "SOPClassUID":
            setattr(image, name, derived_uid(name, sha256))
    for name in sorted(_REQUIRED_EMPTY):
        setattr(image, name, "")
    return _as_header(image, size)


def read_source(path: Path, size: Size) -> Header:
    """The identity of a DICOM slide, from the header of the file that holds its level 0.

    Args:
        path: any file of the slide.
        size: of its level 0, in pixels.

    Raises:
        SlideError: no file of its series, or several, hold level 0; or the header lacks a UID that
            objects need.
    """
    try:
        first = _read(path)
        series = str(first.get("SeriesInstanceUID") or "")
        found = [(path, first), *_beside(path, series)]
    except OSError as error:
        raise SlideError(f"{show(path)}: can't be read: {error.strerror or error}") from error
    except Exception as error:  # pydicom promises no type
        raise _unreadable(path, error) from error
    file, image = _base(path, found, size)
    try:
        return _as_header(_trimmed(file, image), size)
    except SlideError:
        raise
    except Exception as error:  # likewise
        raise _unreadable(file, error) from error


def _unreadable(path: Path, error: Exception) -> SlideError:
    return SlideError(f"{show(path)}: its DICOM header can't be read: {reason(error)}")


def _as_header(image: Any, size: Size) -> Header:
    image.Modality = "SM"
    image.TotalPixelMatrixColumns, image.TotalPixelMatrixRows = size.width, size.height
    header: Header = image.to_json_dict()
    return header


def _read(path: Path) -> Any:
    """The part of a header in front of what is large, decoded to text.

    Raises:
        Exception: of any type; it is no DICOM.
    """
    from pydicom.datadict import tag_for_keyword
    from pydicom.filereader import read_partial

    tags = [tag for name in _TAGS if (tag := tag_for_keyword(name)) is not None]

    def stop(tag: int, *_: object) -> bool:
        return tag > _BEHIND

    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = read_partial(file, stop, specific_tags=tags)
        header.decode()
        return header


def _beside(path: Path, series: str) -> list[tuple[Path, Any]]:
    """Other files of a series, which lie in the same folder."""
    found = []
    for other in sorted(set(path.parent.iterdir()) - {path}) if series else ():
        try:
            if names_series(other, series):
                header = _read(other)
                if str(header.get("SeriesInstanceUID") or "") == series:
                    found.append((other, header))
        except Exception:  # a damaged neighbour is no file of this slide; pydicom promises no type
            continue
    return found


def _base(path: Path, found: list[tuple[Path, Any]], size: Size) -> tuple[Path, Any]:
    """The file that holds level 0; of one that is cut into several the first.

    Raises:
        SlideError: it can't be told which that is.
    """
    alike = [
        (file, header)
        for file, header in found
        if str(header.get("SOPClassUID") or "") == WHOLE_SLIDE
        and "VOLUME" in (header.get("ImageType") or ["VOLUME"])
        and tuple(header.get(name) for name in _SIZES) == (size.width, size.height)
    ]
    wholes = {str(header.get(_WHOLE) or file) for file, header in alike}
    if len(wholes) != 1:
        many = "none" if not alike else f"{len(wholes)} images"
        raise SlideError(
            f"{show(path)}: {many} of its series of {size.width} x {size.height} px: it can't be "
            "told which one the cells lie on; no DICOM objects are made: leave --dicom"
        )
    return min(alike, key=lambda one: int(one[1].get("InConcatenationNumber") or 0))


def _trimmed(path: Path, header: Any) -> Any:
    """Only what objects need.

    Raises:
        SlideError: a UID is missing or none.
    """
    from pydicom import Dataset

    image = Dataset()
    for name in _UIDS:
        value = str(header.get(name) or "")
        if not _is_uid(value):
            what = f"{value!r} is no UID" if value else "is missing"
            raise SlideError(
                f"{show(path)}: {name} in its header: {what}; DICOM objects need it: mend the "
                "header, or leave --dicom"
            )
        setattr(image, name, value)
    for name in (*_PATIENT, *_STUDY):
        value = _valid(name, header.get(name))
        if value or name in _REQUIRED_EMPTY:
            setattr(image, name, value)
    _copy_specimen(header, image)
    return image


def _copy_specimen(header: Any, image: Any) -> None:
    """Which glass and which specimen it is, where the header says both as it should."""
    from pydicom import Dataset

    container = str(header.get(_CONTAINER) or "")
    items = []
    for specimen in header.get(_SPECIMENS) or ():
        item = Dataset()
        for name in _OF_SPECIMEN:
            setattr(item, name, str(specimen.get(name) or ""))
        if item.SpecimenIdentifier and _is_uid(item.SpecimenUID):
            item.IssuerOfTheSpecimenIdentifierSequence = []
            item.SpecimenPreparationSequence = []
            items.append(item)
    if container and items:
        image.ContainerIdentifier = container
        image.IssuerOfTheContainerIdentifierSequence = []
        image.ContainerTypeCodeSequence = []
        image.SpecimenDescriptionSequence = items


def _is_uid(value: str) -> bool:
    return bool(_UID.fullmatch(value)) and len(value) <= _LONGEST_UID


_VALID = {
    "PatientBirthDate": re.compile(r"[0-9]{8}"),
    "StudyDate": re.compile(r"[0-9]{8}"),
    "StudyTime": re.compile(r"[0-9]{2}([0-9]{2}([0-9]{2}(\.[0-9]{1,6})?)?)?"),
    "PatientSex": re.compile(r"[MFO]"),
    "StudyID": re.compile(r"[^\\\x00-\x1f]{0,16}"),
    "AccessionNumber": re.compile(r"[^\\\x00-\x1f]{0,16}"),
}
_ANY = re.compile(r"[^\\\x00-\x1f]{0,64}")


def _valid(name: str, value: object) -> str:
    """A value as text; empty where it is none of its type."""
    text = str(value or "").strip()
    pattern = _VALID.get(name)
    if name in ("PatientName", "ReferringPhysicianName"):
        return text if "\\" not in text and len(text) <= 3 * 64 + 2 else ""
    return text if (pattern or _ANY).fullmatch(text) else ""

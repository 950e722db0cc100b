"""One file of a DICOM slide: what its header says, as far as pixels and their places need it.

pydicom reads the header. What is said of each frame may be a hundred thousand small items, of which
pydicom makes objects for a minute: `dicom_places` walks through them.
"""

from __future__ import annotations

import logging
import math
import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.errors import SlideError
from pipeline.geometry import Size
from pipeline.slides.readers.base import says_dicom, show

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # what is wrong is told here

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class of whole slide images, the only one that is read."""

FULL, SPARSE = "TILED_FULL", "TILED_SPARSE"
"""Layouts of frames: all tiles in order, or each with its place."""

VOLUME = "VOLUME"
"""What an image of a slide's pyramid is called, as labels and overviews are not."""

_TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PyramidUID",
    "ContainerIdentifier",
    "SpecimenDescriptionSequence",
    "ImageType",
    "ConcatenationUID",
    "InConcatenationNumber",
    "InConcatenationTotalNumber",
    "ConcatenationFrameOffsetNumber",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixFocalPlanes",
    "TotalPixelMatrixOriginSequence",
    "ImagedVolumeWidth",
    "ImagedVolumeHeight",
    "NumberOfOpticalPaths",
    "OpticalPathSequence",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PlanarConfiguration",
    "PhotometricInterpretation",
    "DimensionOrganizationType",
    "SharedFunctionalGroupsSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
_START = 2**16
"""Bytes within which nearly every file names its series; what is private may push it behind."""

SOP_CLASS, _SERIES_UID = 0x00080016, 0x0020000E
_MEDIA_SOP_CLASS = 0x00020002

_LONG = frozenset({b"OB", b"OW"})
_UNDEFINED = 0xFFFFFFFF

LONGEST_TILE = 16384
"""Sides of a frame above which a header is taken for damaged, in px."""

MOST_FRAMES = 50_000_000
"""A count of frames as large is nonsense."""

_COPY = "copy it again"


@dataclass(frozen=True)
class LightPath:
    """One way of light through the slide.

    Attributes:
        identifier: as frames name it.
        illumination: code of how it is lit; empty where nothing is said.
        objective: magnification; None where nothing is said.
        profile: ICC profile of its pixels; None for none.
    """

    identifier: str
    illumination: str
    objective: float | None
    profile: bytes | None


@dataclass(frozen=True)
class Part:
    """What says that a file is a part of one image that was cut up.

    Attributes:
        uid: of the whole.
        number: from 1; 0 where nothing is said.
        total: how many there are; 0 where nothing is said.
        offset: frames of the whole before this part's.
    """

    uid: str
    number: int
    total: int
    offset: int


@dataclass(frozen=True)
class Pixels:
    """Where the pixels of a file lie.

    Attributes:
        start: offset of the first byte behind the element's head.
        length: bytes; None where frames are encapsulated, each in items.
        offsets: of the extended offset table, from the first item behind the basic one; empty where
            there is none.
        lengths: likewise.
    """

    start: int
    length: int | None
    offsets: bytes = b""
    lengths: bytes = b""


@dataclass(frozen=True)
class Instance:
    """One file of a DICOM slide.

    Attributes:
        path: the file.
        uid: SOPInstanceUID.
        resampled: whether it says that it was made of a finer one.
        size: of the whole level.
        tile: of a frame.
        syntax: UID of the transfer syntax.
        photometric: how the header says that colours are stored.
        samples: a pixel.
        bits: a sample, allocated and stored.
        signed: whether samples have a sign.
        planar: whether each colour is stored apart.
        frames: how many this file has.
        layout: of the frames; `FULL` or `SPARSE`, as a rule, empty where nothing is said.
        planes: focal planes.
        light: paths of light.
        spacing: µm per pixel in x and y as stated, sane or not; None where nothing is stated.
        step: µm between focal planes; None where nothing is said.
        depth: µm of the first plane; None where nothing is said.
        origin: mm of the level's corner on the glass; None where nothing is said.
        extent: mm that the level is wide and high; None where nothing is said.
        frame_of_reference: UID of its coordinates.
        pyramid: UID of its pyramid; empty for none.
        specimens: what is on the glass, and the glass.
        part: of a level that was cut up; None for a whole one.
        pixels: where they lie.
    """

    path: Path
    uid: str
    resampled: bool
    size: Size
    tile: Size
    syntax: str
    photometric: str
    samples: int
    bits: tuple[int, int]
    signed: bool
    planar: bool
    frames: int
    layout: str
    planes: int
    light: tuple[LightPath, ...]
    spacing: tuple[float, float] | None
    step: float | None
    depth: float | None
    origin: tuple[float, float] | None
    extent: tuple[float, float] | None
    frame_of_reference: str
    pyramid: str
    specimens: frozenset[str]
    part: Part | None
    pixels: Pixels

    @property
    def grid(self) -> tuple[int, int]:
        """Columns and rows of tiles."""
        across, down = self.size.width, self.size.height
        return -(-across // self.tile.width), -(-down // self.tile.height)


def names_series(path: Path, series: str) -> bool:
    """Whether a file may belong to a series, told with as little reading as can be.

    Raises:
        OSError: it can't be read.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(_START)
        if not says_dicom(start):
            return False
        if series.encode() in start:
            return True
        file.seek(0)
        try:
            return read_series(file)[1] == series.strip(" \0")
        except Exception:  # pydicom promises no type; what nobody can read names nothing
            return False


def read_series(file: BinaryIO) -> tuple[str, str]:
    """SOP class and SeriesInstanceUID of a DICOM file, read no further; empty where not told.

    Raises:
        Exception: of any type; it is no DICOM, or damaged.
    """
    found = read_until(file, [SOP_CLASS, _SERIES_UID], lambda tag, *_: tag > _SERIES_UID)
    sop_class = found.get(SOP_CLASS) or found.file_meta.get(_MEDIA_SOP_CLASS)
    return _text(sop_class), _text(found.get(_SERIES_UID))


def read_until(file: BinaryIO, tags: Sequence[int], stop: Callable[..., bool]) -> Any:
    """Some elements of a DICOM file.

    Args:
        file: at its beginning.
        tags: of those elements.
        stop: whether to read no further, by the tag that comes next.

    Raises:
        Exception: of any type; it is no DICOM, or damaged.
    """
    from pydicom.filereader import read_partial  # takes a while to load: for DICOM only
    from pydicom.tag import Tag

    with warnings.catch_warnings(action="ignore"):  # of values that break the standard
        return read_partial(file, stop_when=stop, specific_tags=[Tag(tag) for tag in tags])


def _text(element: Any) -> str:
    value = getattr(element, "value", None)
    return str(value).strip(" \0") if value else ""


@dataclass(frozen=True)
class Head:
    """A file's header as pydicom has it.

    Attributes:
        path: the file.
        header: of it.
        at: where the element of its pixels begins.
        sop_class: UID of what it is.
        series: SeriesInstanceUID.
        kind: "VOLUME" for a level of the pyramid; others are labels, overviews, thumbnails.
    """

    path: Path
    header: Any
    at: int
    sop_class: str
    series: str
    kind: str

    @property
    def is_slide(self) -> bool:
        """Whether it is a whole slide image."""
        return self.sop_class == WHOLE_SLIDE


def read_head(path: Path) -> Head:
    """Reads a file's header.

    Raises:
        SlideError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            header, at = _read(file, _TAGS)
        image_type = [str(word).upper() for word in _several(header.get("ImageType"))]
        sop_class = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
        return Head(
            path,
            header,
            at,
            str(sop_class or ""),
            str(header.get("SeriesInstanceUID") or ""),
            image_type[2] if len(image_type) > 2 else VOLUME,
        )
    except OSError as error:
        raise SlideError(f"{show(path)}: can't be read: {error.strerror or error}") from error
    except Exception as error:  # pydicom promises no type
        raise _damaged(path) from error


def read_instance(head: Head) -> Instance:
    """What a header says of a level.

    Raises:
        SlideError: it is no whole slide image, or its header is damaged or contradicts itself.
    """
    path = head.path
    try:
        if not head.is_slide:
            raise _not_a_slide(head)
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            return _instance(file, head)  # parts of it are parsed as they are asked for
    except SlideError as error:
        code = error.code or "vendor-refused"
        raise SlideError(f"{show(path)}: {error.text}", code) from error
    except OSError as error:
        raise SlideError(f"{show(path)}: can't be read: {error.strerror or error}") from error
    except Exception as error:  # pydicom promises no type
        raise _damaged(path) from error


def _damaged(path: Path) -> SlideError:
    text = f"{show(path)}: can't be opened: its DICOM header is damaged or cut off; {_COPY}"
    return SlideError(text, "vendor-refused")


def _read(file: BinaryIO, tags: Sequence[str]) -> tuple[Any, int]:
    """What tags say in a file, and where its pixels begin.

    Raises:
        Exception: of any type; it is no DICOM, or damaged.
    """
    from pydicom import config, dcmread  # takes a third of a second

    config.settings.reading_validation_mode = config.IGNORE  # its warnings would reach the terminal
    with warnings.catch_warnings(action="ignore"):
        header = dcmread(file, stop_before_pixels=True, specific_tags=list(tags))
    return header, file.tell()


def _instance(file: BinaryIO, head: Head) -> Instance:
    header = head.header
    syntax = str(header.file_meta.TransferSyntaxUID)
    _check_syntax(syntax)
    shared = _first(header.get("SharedFunctionalGroupsSequence"))
    measures = _first(shared and shared.get("PixelMeasuresSequence"))
    place = _first(shared and shared.get("PlanePositionSlideSequence"))
    origin = _first(header.get("TotalPixelMatrixOriginSequence"))
    step = _number(measures and measures.get("SpacingBetweenSlices"))
    size = Size(_count(header, "TotalPixelMatrixColumns"), _count(header, "TotalPixelMatrixRows"))
    tile = Size(_count(header, "Columns"), _count(header, "Rows"))
    if max(tile.width, tile.height) > LONGEST_TILE:
        raise SlideError(f"has frames of {tile.width} x {tile.height} px: damaged; {_COPY}")
    frames = _count(header, "NumberOfFrames", 1)
    if frames > MOST_FRAMES:
        raise SlideError(f"claims {frames} frames: damaged; {_COPY}")
    return Instance(
        path=head.path,
        uid=str(header.get("SOPInstanceUID") or ""),
        resampled="RESAMPLED" in map(str, _several(header.get("ImageType"))[3:]),
        size=size,
        tile=tile,
        syntax=syntax,
        photometric=str(header.get("PhotometricInterpretation") or ""),
        samples=_whole(header, "SamplesPerPixel", 1),
        bits=(_whole(header, "BitsAllocated", 0), _whole(header, "BitsStored", 0)),
        signed=_whole(header, "PixelRepresentation", 0) != 0,
        planar=_whole(header, "PlanarConfiguration", 0) == 1,
        frames=frames,
        layout=str(header.get("DimensionOrganizationType") or ""),
        planes=_count(header, "TotalPixelMatrixFocalPlanes", 1),
        light=_light(header),
        spacing=_spacing(measures),
        step=None if step is None else step * 1000,
        depth=_number((place or origin or {}).get("ZOffsetInSlideCoordinateSystem")),
        origin=_pair(
            origin and origin.get("XOffsetInSlideCoordinateSystem"),
            origin and origin.get("YOffsetInSlideCoordinateSystem"),
        ),
        extent=_pair(header.get("ImagedVolumeWidth"), header.get("ImagedVolumeHeight")),
        frame_of_reference=str(header.get("FrameOfReferenceUID") or ""),
        pyramid=str(header.get("PyramidUID") or ""),
        specimens=_specimens(header),
        part=_part(header),
        pixels=_pixels(file, header, head.at, syntax),
    )


def _not_a_slide(head: Head) -> SlideError:
    from pydicom.uid import UID

    name = UID(head.sop_class).name if head.sop_class else "nothing that is named"
    modality = str(head.header.get("Modality") or "")
    what = f"{name}, modality {modality}" if modality else name
    return SlideError(
        f"is a DICOM file of {show(what)}, no whole slide image; only slides are screened",
        "vendor-refused",
    )


def _check_syntax(syntax: str) -> None:
    """Refuses what is stored so that the place of nothing in the file can be told.

    Raises:
        SlideError: it is.
    """
    names = {
        "1.2.840.10008.1.2.1.99": "deflated as a whole",
        "1.2.840.10008.1.2.2": "big-endian",
    }
    if syntax in names:
        raise SlideError(
            f"is DICOM {names[syntax]} (transfer syntax {syntax}), which is not read; export it "
            "as JPEG or uncompressed, little-endian",
            "vendor-refused",
        )


def _pixels(file: BinaryIO, header: Any, at: int, syntax: str) -> Pixels:
    """Where the pixels lie, of a file read up to their element.

    Raises:
        SlideError: there are none.
    """
    file.seek(at)
    head = file.read(12)
    explicit = syntax != "1.2.840.10008.1.2"
    if len(head) < 12 or head[:4] != b"\xe0\x7f\x10\x00":
        raise SlideError(f"is damaged or truncated: it has no pixels; {_COPY}")
    if explicit and head[4:6] in _LONG:
        start, (length,) = at + 12, struct.unpack("<I", head[8:12])
    else:
        start, (length,) = at + 8, struct.unpack("<I", head[4:8])
    if length != _UNDEFINED:
        return Pixels(start, length)
    table = header.get("ExtendedOffsetTable") or b""
    lengths = header.get("ExtendedOffsetTableLengths") or b""
    return Pixels(start, None, bytes(table), bytes(lengths))


def _light(header: Any) -> tuple[LightPath, ...]:
    found = []
    for item in header.get("OpticalPathSequence") or ():
        code = _first(item.get("IlluminationTypeCodeSequence"))
        profile = item.get("ICCProfile")
        found.append(
            LightPath(
                identifier=str(item.get("OpticalPathIdentifier") or ""),
                illumination=str((code or {}).get("CodeValue") or ""),
                objective=_number(item.get("ObjectiveLensPower")),
                profile=bytes(profile) if profile else None,
            )
        )
    told = _whole(header, "NumberOfOpticalPaths", len(found) or 1)
    if found and told != len(found):
        raise SlideError(f"claims {told} optical paths and describes {len(found)}; {_COPY}")
    if not found and told > 1:
        raise SlideError(f"claims {told} optical paths and describes none; {_COPY}")
    return tuple(found) or (LightPath("", "", None, None),)


def _specimens(header: Any) -> frozenset[str]:
    """The glass, and what lies on it, as far as it is named."""
    names = [f"container {header.get('ContainerIdentifier') or ''}"]
    for item in header.get("SpecimenDescriptionSequence") or ():
        names.append(f"specimen {item.get('SpecimenUID') or item.get('SpecimenIdentifier') or ''}")
    return frozenset(name for name in names if name.partition(" ")[2].strip())


def _part(header: Any) -> Part | None:
    uid = str(header.get("ConcatenationUID") or "")
    if not uid:
        return None
    return Part(
        uid,
        _whole(header, "InConcatenationNumber", 0),
        _whole(header, "InConcatenationTotalNumber", 0),
        _whole(header, "ConcatenationFrameOffsetNumber", 0),
    )


def _spacing(measures: Any) -> tuple[float, float] | None:
    """µm per pixel in x and y; rows come first in DICOM. What is no number is nan."""
    stated = measures.get("PixelSpacing") if measures else None
    if stated is None or stated == "":
        return None
    numbers = [_number(value) for value in _several(stated)]
    if len(numbers) != 2:
        return math.nan, math.nan
    down, across = (math.nan if number is None else number * 1000 for number in numbers)
    return across, down


def _several(value: Any) -> list[Any]:
    """The values of an element that may have several, and has one or none."""
    if value in (None, ""):
        return []
    return [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)


def _first(sequence: Any) -> Any:
    return sequence[0] if sequence else None


def _pair(first: Any, second: Any) -> tuple[float, float] | None:
    x, y = _number(first), _number(second)
    return None if x is None or y is None else (x, y)


def _number(value: Any) -> float | None:
    try:
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None


def _whole(header: Any, name: str, default: int) -> int:
    value = header.get(name)
    try:
        return default if value in (None, "") else int(value)
    except (TypeError, ValueError) as error:
        raise SlideError(f"its {name} is no number; {_COPY}") from error


def _count(header: Any, name: str, default: int | None = None) -> int:
    """A number from 1 on.

    Raises:
        SlideError: it is missing, or smaller.
    """
    if header.get(name) in (None, "") and default is None:
        raise SlideError(f"is damaged: it has no {name}; {_COPY}")
    value = _whole(header, name, default or 0)
    if value < 1:
        raise SlideError(f"is damaged: its {name} is {value}; {_COPY}")
    return value

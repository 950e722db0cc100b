"""Which reader opens a file: what its ending promises has to be what it holds.

An ending of a scanner's format promises that vendor's slide, .tif and its like a TIFF of anybody,
an ending of a plain image a plain image. A file whose content contradicts its ending is refused,
whatever could be made of it: a MIRAX slide without its data folder is a small JPEG. Files without
an ending, or with one that promises nothing, are what their content is.

Two differences are only told, as no pixel depends on them: a plain image of another kind, and a
TIFF that ends in .svs without Aperio's tags, whose pages are a plain TIFF's. Pages of the other
vendors' TIFF mean something else without their tags: planes, areas, tiles that overlap.

What a vendor's reader recognises and refuses stays refused: another reader might show one of its
areas, or a preview.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from configs import Doubt
from data.pixels.plain import is_picture
from pipeline.errors import SlideError
from pipeline.slides.offers import endings_offered, offers_of, open_offered, tell_offers
from pipeline.slides.readers.base import Reader, UnsupportedError, says_dicom, show
from pipeline.slides.readers.dicom import open_dicom
from pipeline.slides.readers.direct import open_vendor
from pipeline.slides.readers.image import ImageReader
from pipeline.slides.readers.key_files import check_keys
from pipeline.slides.readers.ngff import open_ngff
from pipeline.slides.readers.ngff_metadata import is_picture_folder
from pipeline.slides.readers.tiff import TiffReader, open_plain
from pipeline.slides.readers.tiff_file import MAGIC, find_truncation
from pipeline.slides.readers.vendor import GENERIC, VendorReader, detect_vendor
from pipeline.slides.readers.vendor_planes import open_best_plane
from pipeline.slides.readers.zarr_files import FOLDER_ENDING, ZIP_ENDING
from pipeline.slides.unread import unread_ending


class Promise(NamedTuple):
    """What an ending says that a file is.

    Attributes:
        name: for people.
        vendors: as OpenSlide names them.
        is_tiff: whether it is a TIFF; None where it may be.
    """

    name: str
    vendors: frozenset[str]
    is_tiff: bool | None


def _promise(name: str, vendor: str, is_tiff: bool | None) -> Promise:
    return Promise(name, frozenset({vendor}), is_tiff)


_VENDORS: Mapping[str, Promise] = {
    ".svs": _promise("an Aperio slide", "aperio", True),
    ".svslide": _promise("a Sakura slide", "sakura", False),
    ".ndpi": _promise("a Hamamatsu NDPI slide", "hamamatsu", True),
    ".mrxs": _promise("a MIRAX slide", "mirax", False),
    ".scn": _promise("a Leica slide", "leica", True),
    ".bif": _promise("a Ventana slide", "ventana", True),
    ".vms": _promise("a Hamamatsu VMS slide", "hamamatsu", False),
    ".vmu": _promise("a Hamamatsu VMU slide", "hamamatsu", False),
    ".czi": _promise("a Zeiss slide", "zeiss", False),
    ".dcm": _promise("a DICOM slide", "dicom", None),
    ZIP_ENDING: _promise("an OME-Zarr in a ZIP", "ngff", False),
}

_BY_EXTRAS: Mapping[str, Promise] = {
    ".kfb": _promise("a KFBIO slide", "kfbio", False),
    ".tmap": _promise("a UNIC slide", "unic", False),
    ".isyntax": _promise("a Philips iSyntax slide", "philips", False),
    ".i2syntax": _promise("a Philips iSyntax slide", "philips", False),
    ".vsi": _promise("an Olympus slide", "olympus", True),
    ".qptiff": _promise("an Akoya QPTIFF", "akoya", True),
}
"""What the extras' endings promise; their vendors are none that OpenSlide names."""

_PLAIN_ENOUGH = frozenset({".svs"})
"""Endings of vendors' TIFF that are read as any TIFF where they have lost the vendor's tags."""

_TIFF = frozenset({".tif", ".tiff", ".btf", ".tf8"})

_IMAGES: Mapping[str, str] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".bmp": "bmp",
}
"""Endings of plain images, and the formats that they stand for."""

_OURS = frozenset(_VENDORS) | _TIFF | frozenset(_IMAGES)

_OTHERS = endings_offered() - _OURS
"""Endings that readers of other packages open; what we read ourselves stays ours."""

SLIDE_SUFFIXES = frozenset(_VENDORS) | _TIFF | _OTHERS
"""Suffixes, in lower case, of files that may be slides and carry their scale."""

FOLDER_SUFFIXES = frozenset({FOLDER_ENDING})
"""Suffixes, in lower case, of folders that are slides."""

IMAGE_SUFFIXES = frozenset(_IMAGES)
"""Suffixes, in lower case, of plain images, which are slides where ``--mpp`` is given."""

_HEADS: Mapping[str, str] = {
    ".vsi": "an Olympus slide, of which this file holds previews only; the pixels lie in .ets "
    "files in its data folder; pip install 'cytolibra[fastslide]', or export it as a TIFF",
}
"""Endings of files that could be read, but are not the slide."""

_ZIP = b"PK\x03\x04"

_SIGNS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"SQLite format 3\0", "a SQLite database"),
    (0, b"ZISRAWFILE", "a Zeiss CZI file"),
    (0, _ZIP, "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"%PDF", "a PDF"),
    (0, b"GIF8", "a GIF image"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\x89HDF", "an HDF5 file"),
    (128, b"DICM", "a DICOM file"),
)
"""Where what bytes of a file stand, and what it is; for messages only."""


class Content(NamedTuple):
    """What a file holds.

    Attributes:
        vendor: as OpenSlide names it; None for a file that it doesn't know.
        is_tiff: whether it is a TIFF.
        is_image: whether it is a plain image.
        name: for people; empty where nobody knows.
    """

    vendor: str | None
    is_tiff: bool
    is_image: bool
    name: str


def open_container(path: Path) -> Reader:
    """Opens a file by the reader of what it holds, if that is what its ending promises.

    A folder is a slide if it is an OME-Zarr, however it is called.

    Raises:
        SlideError: it is missing, damaged, of no known kind, not what its ending promises, or its
            reader refuses it; one line that begins with the file.
    """
    if path.is_dir() and _is_slide(path):
        return open_ngff(path)
    head = _head(path)
    suffix = path.suffix.lower()
    if suffix in _OTHERS:
        _check_extra(path, head, suffix)
        return open_offered(path)
    if suffix in _HEADS:
        raise SlideError(f"{show(path)}: is {_HEADS[suffix]}", "data-missing")
    if suffix == ZIP_ENDING and head.startswith(_ZIP):
        return open_ngff(path)
    is_tiff = head[:4] in MAGIC
    truncation = find_truncation(path) if is_tiff else None
    if truncation:
        raise SlideError(f"{show(path)}: truncated: {truncation}; copy it again")
    content = _content(path, head, is_tiff)
    if not _keeps(suffix, content):
        _refuse(path, content)
    if content.vendor and content.vendor != GENERIC:
        return _open_of_vendor(path, content)
    if content.is_tiff:
        reader = open_plain(path)
        return _told(reader, suffix, content) if suffix in _PLAIN_ENOUGH else reader
    if content.is_image:
        image = ImageReader(path)
        differs = _IMAGES.get(suffix, image.header.format) != image.header.format
        return _told(image, suffix, content) if differs else image
    raise _unknown(path, content)


def tell_plugins() -> str:
    """What other packages offer to read, for people, on one line."""
    return tell_offers(_OURS)


def name_packages(path: Path) -> str:
    """The packages that offer to read a file, with their versions; empty where we read it."""
    suffix = path.suffix.lower()
    return ", ".join(map(str, offers_of(suffix))) if suffix in _OTHERS else ""


def _check_extra(path: Path, head: bytes, suffix: str) -> None:
    """Refuses a file that is of a kind that we know under the ending of another one.

    Raises:
        SlideError: it is.
    """
    promise = _BY_EXTRAS.get(suffix)
    if promise is None:  # of another package, which may read whatever it likes
        return
    content = _content(path, head, head[:4] in MAGIC)
    other = content.vendor not in (None, GENERIC) or content.is_image
    if other or (content.is_tiff and not promise.is_tiff):
        _refuse(path, content)


def _is_slide(folder: Path) -> bool:
    """Whether a folder is one that a reader opens, or is called so."""
    try:
        return folder.suffix.lower() in FOLDER_SUFFIXES or is_picture_folder(folder)
    except OSError as error:
        raise SlideError(f"{show(folder)}: can't be read: {error.strerror}") from error


def _head(path: Path) -> bytes:
    """The first bytes of a file."""
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except FileNotFoundError:
        raise SlideError(f"{show(path)}: no such file") from None
    except OSError as error:
        problem = "is a folder" if path.is_dir() else f"can't be read: {error.strerror}"
        raise SlideError(f"{show(path)}: {problem}") from error
    if not head:
        raise SlideError(f"{show(path)}: is empty")
    return head


def _content(path: Path, head: bytes, is_tiff: bool) -> Content:
    vendor = None if says_dicom(head) else detect_vendor(path)
    if says_dicom(head) and not is_tiff:
        return Content("dicom", False, False, f"{_named('dicom', False)} (dicom)")
    if vendor and vendor != GENERIC:
        return Content(vendor, is_tiff, False, f"{_named(vendor, is_tiff)} ({vendor})")
    if is_tiff:
        return Content(vendor, True, False, "a TIFF of no known vendor")
    if is_picture(path):
        return Content(None, False, True, f"a plain image ({_format(head)})")
    signs = (name for at, sign, name in _SIGNS if head[at : at + len(sign)] == sign)
    return Content(None, False, False, next(signs, ""))


def _named(vendor: str, is_tiff: bool) -> str:
    names = (
        promise.name
        for promise in _VENDORS.values()
        if vendor in promise.vendors and promise.is_tiff in (is_tiff, None)
    )
    return next(names, "a vendor's slide")


def _format(head: bytes) -> str:
    """The name of a plain image's format; ``head`` is one's first bytes."""
    if head.startswith(b"\xff\xd8"):
        return "JPEG"
    if head.startswith(b"BM"):
        return "BMP"
    return "WEBP" if head.startswith(b"RIFF") else "PNG"


def _keeps(suffix: str, content: Content) -> bool:
    """Whether a file's content is what its ending promises; an unknown ending promises nothing."""
    if suffix in _TIFF:
        return content.is_tiff
    if suffix in _IMAGES:
        return content.is_image
    promise = _VENDORS.get(suffix)
    if promise is None:
        return True
    if suffix in _PLAIN_ENOUGH and content.is_tiff and content.vendor in (None, GENERIC):
        return True
    of_kind = promise.is_tiff is None or promise.is_tiff == content.is_tiff
    return content.vendor in promise.vendors and of_kind


def _refuse(path: Path, content: Content) -> None:
    """Says why a file is not what its ending promises.

    Raises:
        SlideError: always.
    """
    suffix = path.suffix.lower()
    _check_companions(path, suffix)
    if not content.name:
        raise _unknown(path, content)
    if content.is_tiff and content.vendor is None:
        TiffReader(path).close()  # says what is wrong with a damaged one
    raise SlideError(
        f"{show(path)}: its ending {path.suffix} promises {_promised(suffix)}, but its content is "
        f"{content.name}; copy the slide again, or rename the file if it is what its content says",
        "ending-contradicted",
    )


def _check_companions(path: Path, suffix: str) -> None:
    """Looks for the folder that holds a MIRAX slide's pixels.

    Raises:
        SlideError: it is missing, or has no index.
    """
    if suffix != ".mrxs":
        return
    folder = path.with_suffix("")
    copy_it = f"copy the folder '{show(Path(folder.name))}' with its Slidedat.ini beside this file"
    if not folder.is_dir():
        problem = f"the slide's data is missing: there is no folder '{show(Path(folder.name))}'"
    elif not (folder / "Slidedat.ini").is_file():
        problem = f"the slide's data is missing: '{show(Path(folder.name))}' has no Slidedat.ini"
    else:
        return
    raise SlideError(f"{show(path)}: {problem}; {copy_it}", "data-missing")


def _unknown(path: Path, content: Content) -> SlideError:
    if kind := unread_ending(path):
        return SlideError(str(kind), "kind-not-read")
    called = f" ({content.name})" if content.name else ""
    copy_it = "; copy it again, with all its files" if path.suffix.lower() in _VENDORS else ""
    return SlideError(
        f"{show(path)}: not a slide or image of a format that is known{called}{copy_it}"
    )


def _open_of_vendor(path: Path, content: Content) -> Reader:
    """A vendor's slide; what OpenSlide refuses stays refused, with its reason.

    Raises:
        SlideError: it does.
    """
    try:
        if content.vendor == "dicom":
            return open_dicom(path)
        if not content.is_tiff:
            check_keys(path, content.vendor or "")
            return VendorReader(path)
        return open_best_plane(path, content.vendor or "") or open_vendor(path)
    except UnsupportedError as refusal:
        todo = "copy it again, with all its files, or export it as a pyramidal TIFF"
        raise SlideError(f"{refusal.text}; {todo}", "vendor-refused") from refusal


def _promised(suffix: str) -> str:
    """What an ending promises, for people."""
    if suffix in _TIFF:
        return "a TIFF"
    if suffix in _IMAGES:
        return f"a plain image ({_IMAGES[suffix].upper()})"
    return (_VENDORS.get(suffix) or _BY_EXTRAS[suffix]).name


def _told(reader: Reader, suffix: str, content: Content) -> Reader:
    """The reader, whose header says that it is not quite what the ending promises."""
    doubt = Doubt(
        code="ending-differs",
        text=f"the file's ending {suffix} promises {_promised(suffix)}, but its content is "
        f"{content.name}, and read as such",
    )
    reader.header = replace(reader.header, doubts=(*reader.header.doubts, doubt))
    return reader

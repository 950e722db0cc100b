"""Files that look like slides and are of kinds that are not read: by their ending or their content.

None of them may be passed over in silence: a folder with a scanner's own format in it would look as
if all of it had been screened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from configs.doubts import listed
from pipeline.slides.readers.base import DICOM_MARK_END, says_dicom, show
from pipeline.slides.readers.tiff_file import MAGIC
from pipeline.slides.scanners import extra_of

_EXPORT = "export it from the scanner's software as SVS, DICOM or pyramidal TIFF"

NO_PICTURE = ("Zarr without a picture", "convert it by bioformats2raw to OME-Zarr")
"""Kind and remedy of a Zarr that is none of NGFF."""

_KINDS = {
    ".kfb": ("KFBIO", _EXPORT),
    ".kfbf": ("KFBIO, fluorescence", _EXPORT),
    ".sdpc": ("SQRAY", _EXPORT),
    ".sdpl": ("SQRAY", _EXPORT),
    ".tmap": ("UNIC", _EXPORT),
    ".mds": ("Motic", _EXPORT),
    ".mdsx": ("Motic", _EXPORT),
    ".isyntax": ("Philips iSyntax", "export it from Philips IMS as TIFF"),
    ".i2syntax": ("Philips iSyntax", "export it from Philips IMS as TIFF"),
    ".vsi": ("Olympus/Evident VSI", "convert it by Bio-Formats' bfconvert to OME-TIFF"),
    ".ets": ("Olympus/Evident VSI, a part", "convert its .vsi by bfconvert to OME-TIFF"),
    ".lif": ("Leica LIF", "convert it by Bio-Formats' bfconvert to OME-TIFF"),
    ".nd2": ("Nikon ND2", "convert it by Bio-Formats' bfconvert to OME-TIFF"),
    ".oir": ("Olympus OIR", "convert it by Bio-Formats' bfconvert to OME-TIFF"),
    ".zvi": ("Zeiss ZVI", "convert it by Bio-Formats' bfconvert to OME-TIFF"),
    ".lsm": ("Zeiss LSM", "convert it by Bio-Formats' bfconvert to OME-TIFF"),
    ".jp2": ("JPEG 2000", "convert it to pyramidal TIFF"),
    ".j2k": ("JPEG 2000", "convert it to pyramidal TIFF"),
    ".jpx": ("JPEG 2000", "convert it to pyramidal TIFF"),
    ".afi": ("Aperio fluorescence", "this is for stained slides under transmitted light"),
    ".qptiff": ("PerkinElmer QPTIFF", "convert it by Bio-Formats' bfconvert to OME-TIFF"),
    ".scnx": ("Leica", _EXPORT),
    ".zarr": NO_PICTURE,
    ".dicomdir": ("DICOM directory", "name the folder of its DICOM files"),
}
"""Endings of formats of microscopes' makers, the format's name, and what would make it readable."""

_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar", ".tar", ".tgz")
_UNFINISHED = (".crdownload", ".part", ".partial", ".download", ".filepart", ".tmp", ".opdownload")


@dataclass(frozen=True)
class NotRead:
    """A file that looks like a slide and isn't read.

    Attributes:
        path: the file, or the folder of a format that is one.
        kind: what it seems to be.
        remedy: what would make it readable.
        url: of a file in a store; empty for one that lies here.
    """

    path: Path
    kind: str
    remedy: str
    url: str = ""

    @property
    def where(self) -> str:
        """Its URL or its path."""
        return self.url or str(self.path)

    def __str__(self) -> str:
        return f"{show(self.where)}: not read: {self.kind}; {self.remedy}"


def unread_ending(path: Path) -> NotRead | None:
    """What a file or folder is by its ending, where that is of a format that isn't read."""
    ending = path.suffix.lower()
    if ending not in _KINDS:
        return None
    kind, remedy = _KINDS[ending]
    extra = extra_of(ending)
    if extra:
        remedy = f"pip install 'cytolibra[{extra}]', or {remedy}"
    return NotRead(path, kind, remedy)


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def recognise(
    path: Path, suffixes: frozenset[str], opener: Callable[[Path], BinaryIO] = _open
) -> NotRead | None:
    """What a file is whose ending is none of those read; None where it doesn't look like a slide.

    Args:
        path: the file.
        suffixes: endings of what is read, in lower case.
        opener: opens it.
    """
    if by_ending := unread_ending(path):
        return by_ending
    endings = [suffix.lower() for suffix in path.suffixes]
    last = endings[-1] if endings else ""
    known = suffixes | set(_KINDS)
    if last in _PACKED + _UNFINISHED and any(inner in known for inner in endings[:-1]):
        if last in _PACKED:
            return NotRead(path, f"a slide packed as {last}", "unpack it")
        return NotRead(path, "a slide whose copying did not end", "copy it again")
    return _by_content(path, last, opener)


def _by_content(path: Path, ending: str, opener: Callable[[Path], BinaryIO]) -> NotRead | None:
    try:
        with opener(path) as file:
            start = file.read(DICOM_MARK_END)
    except OSError:
        return None  # not to be read by us, whatever it is
    called = f"with the ending {ending}" if ending else "without an ending"
    if says_dicom(start):
        # Those of whole slide images are read whatever they are called.
        kind = f"DICOM {called}, which holds no whole slide image"
        return NotRead(path, kind, "copy it again if it should, or move it away")
    if start[:4] in MAGIC:
        return NotRead(path, f"TIFF {called}", "give it the ending .tif if it is a slide")
    return None


def tell(files: Sequence[NotRead], most: int = 5) -> str:
    """One sentence that counts files and names the first of each kind."""
    by_kind: dict[tuple[str, str], list[str]] = {}
    for file in files:
        by_kind.setdefault((file.kind, file.remedy), []).append(file.where)
    kinds = []
    for (kind, remedy), places in by_kind.items():
        names = listed([show(place) for place in places], most)
        kinds.append(f"{names} ({kind}; {remedy})")
    count = len(files)
    what = (
        "1 file looks like a slide and is"
        if count == 1
        else f"{count} files look like slides and are"
    )
    return f"{what} not read: {'; '.join(kinds)}"

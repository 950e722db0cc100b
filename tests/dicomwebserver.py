"""An archive on this machine that speaks as much of DICOMweb as slides are fetched by."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom import Dataset, dcmread
from remoteservers import FaultyServer, _Handler, serving

_MARK = b"a mark between parts"
_LISTED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "LossyImageCompressionRatio",
)


class Archive(FaultyServer):
    """Keeps DICOM files of a folder.

    Attributes:
        files: path and header, by SOPInstanceUID.
        password: what Authorization must say; empty for anything.
        page: how many instances it lists at once, whatever it is asked for.
        parts: whether a file comes as the part of an answer in several.
        gone: SOPInstanceUIDs that it lists and hasn't.
        unlisted: SOPInstanceUIDs that it has and doesn't list.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(_Answers)
        found = [(path, dcmread(path, stop_before_pixels=True)) for path in folder.rglob("*.dcm")]
        self.files = {str(header.SOPInstanceUID): (path, header) for path, header in found}
        self.password = ""
        self.page = 1000
        self.parts = True
        self.gone: set[str] = set()
        self.unlisted: set[str] = set()

    def url_of(self, study: str, series: str = "") -> str:
        """What a study or series is asked for by."""
        below = f"/series/{series}" if series else ""
        return f"dicomweb+{self.url}/dicom-web/studies/{study}{below}"


class _Answers(_Handler):
    server: Archive

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        if self.server.password and self.headers.get("Authorization") != self.server.password:
            return 401, {"Content-Length": "0"}, b""
        split = urlsplit(self.path)
        parts = split.path.split("/")[2:]
        asked = dict(zip(parts[::2], [*parts[1::2], ""], strict=False))
        found = [
            header
            for _, header in self.server.files.values()
            if header.StudyInstanceUID == asked["studies"]
            and asked.get("series") in ("", None, header.SeriesInstanceUID)
        ]
        if asked.get("instances"):
            return self._file(asked["instances"])
        query = parse_qs(split.query)
        listed = self._instances(found) if "instances" in asked else self._series(found, query)
        at, most = int(query["offset"][0]), min(int(query["limit"][0]), self.server.page)
        page = listed[at : at + most]
        if not page:
            return 204, {"Content-Length": "0"}, b""
        data = json.dumps(page).encode()
        kind = {"Content-Type": "application/dicom+json", "Content-Length": str(len(data))}
        return 200, kind, data

    def _series(self, found: list[Any], query: dict[str, list[str]]) -> list[dict[str, Any]]:
        listed = []
        for uid in sorted({str(header.SeriesInstanceUID) for header in found}):
            if query.get("SeriesInstanceUID", [uid]) != [uid]:
                continue
            of_it = [header for header in found if header.SeriesInstanceUID == uid]
            told = Dataset()
            told.SeriesInstanceUID, told.Modality = uid, of_it[0].Modality
            told.NumberOfSeriesRelatedInstances = len(of_it)
            listed.append(told.to_json_dict())
        return listed

    def _instances(self, found: list[Any]) -> list[dict[str, Any]]:
        listed = []
        for header in found:
            if header.SOPInstanceUID not in self.server.unlisted:
                told = Dataset()
                for name in _LISTED:
                    if name in header:
                        setattr(told, name, header[name].value)
                listed.append(told.to_json_dict())
        return listed

    def _file(self, uid: str) -> tuple[int, dict[str, str], bytes]:
        if uid in self.server.gone or uid not in self.server.files:
            return 404, {"Content-Length": "0"}, b""
        data = self.server.files[uid][0].read_bytes()
        kind = "application/dicom"
        if self.server.parts:
            head = b"--%b\r\nContent-Type: application/dicom\r\n\r\n" % _MARK
            data = head + data + b"\r\n--%b--\r\n" % _MARK
            kind = f'multipart/related; type="application/dicom"; boundary="{_MARK.decode()}"'
        return 200, {"Content-Type": kind, "Content-Length": str(len(data))}, data


@contextmanager
def archive(folder: Path) -> Iterator[Archive]:
    """An archive of the files below a folder, while it lasts."""
    server = Archive(folder)
    with serving(server):
        yield server  # type: ignore[misc]

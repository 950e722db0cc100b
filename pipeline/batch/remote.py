"""A slide that is fetched: the files that it is made of, where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.cloud.store import RemoteFile, Store


@dataclass
class RemoteSlide:
    """Where a slide is fetched from.

    Attributes:
        shown: the URL of its main file, without secrets.
        store: what it is asked of; None where it isn't to be had.
        files: its main file, and the others that hold parts of it; none where it isn't to be had.
        sha256: of the content of all files, as `fingerprint.hash_content` has it; empty until it
            has been fetched.
        is_dicom: whether its main file says that it is DICOM.
    """

    shown: str
    store: Store | None = None
    files: Sequence[RemoteFile] = ()
    sha256: str = ""
    is_dicom: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files; the most that they may have where it isn't `is_exact`."""
        return sum(file.size for file in self.files)

    @property
    def is_exact(self) -> bool:
        """Whether the store says how large each file is."""
        return all(file.exact for file in self.files)

    @property
    def places(self) -> list[str]:
        """What tells its files from others, the main one first; never to be shown."""
        return [f"{file.shown} {file.address}" for file in self.files] or [self.shown]

    @property
    def is_versioned(self) -> bool:
        """Whether the store tells a version of each file from others."""
        return all(file.version for file in self.files)

"""Slides that fail a check and are opened all the same: they may end the process that reads them.

What our own code reads, and what a check of ours refuses, is in no doubt; nor is what a reader of
another package has in a process of its own. A TIFF whose directories we can't follow is: where
OpenSlide takes it for a vendor's, its C code follows them.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.slides.readers.tiff_file import MAGIC, find_disorder


def why_in_doubt(path: Path) -> str:
    """What of a slide fails a check, though it may be opened; empty for nothing.

    A file that can't be read is in no doubt: who opens it says what is wrong.
    """
    try:
        with path.open("rb") as file:
            is_tiff = file.read(4) in MAGIC
        return (find_disorder(path) or "") if is_tiff else ""
    except OSError:
        return ""

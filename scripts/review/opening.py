"""The reviews of a folder of reports, opened for reading or for tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from configs import ConfigError

if TYPE_CHECKING:
    from pipeline.review.store import ReviewStore


def open_reviews(folder: Path, *, read_only: bool = True) -> ReviewStore:
    """The reviews that were made of a folder.

    Raises:
        ConfigError: there is no such folder, or nothing was reviewed in it.
        StoreError: the file of reviews can't be opened.
    """
    from pipeline.review.store import FILE, ReviewStore, StoreError

    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder")
    try:
        return ReviewStore.open(folder, create=False, read_only=read_only)
    except StoreError as error:
        if error.code != "missing":
            raise
        raise ConfigError(
            f"{folder}: nothing was reviewed here, as there is no {FILE}; cytolibra view opens a "
            "folder of reports for review"
        ) from None

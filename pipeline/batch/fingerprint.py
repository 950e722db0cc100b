"""What a result was made of: the slide's content, the settings and the model.

A result is used again only where all of it is the same. Where only thresholds and the like differ,
what was found is, and a new report is made of it. It lies beside the report as
``fingerprint.json``, so that it survives whatever ends a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue, ValidationError

from configs import StrictModel
from pipeline.batch.discovery import SlideJob
from pipeline.batch.remote import RemoteSlide
from pipeline.reports.detections import Finder
from pipeline.reports.report import ModelFacts, encodable, on_disk
from pipeline.reports.writers import to_json, write_whole
from pipeline.settings import MADE
from pipeline.slides.containers import name_packages
from pipeline.slides.readers.zarr_files import files_of, folder_state

FINGERPRINT = "fingerprint.json"

_WITHOUT_EFFECT = ("device", "batch_size", "threads", "readers", "compile")
"""Settings of the runtime that say where and how fast it runs, not what it finds."""


class FileStamp(StrictModel):
    """What the file system or a store says of one file of a slide.

    Attributes:
        name: relative to the slide.
        size: bytes.
        mtime_ns: when it was changed; 0 for a file that is fetched.
        version: of a file that is fetched: its ETag, or what else tells its content from another.
            Of a slide that is a folder, of which size and time are those of all files together:
            SHA-256 of their names and sizes.
    """

    name: str
    size: int
    mtime_ns: int
    version: str = ""


class Fingerprint(StrictModel):
    """What a result was made of.

    Attributes:
        recipe: hash of the settings and the model; see `hash_recipe`.
        found: hash of those that shape what is found; see `hash_found`. Empty in older results.
        files: every file of the slide.
        sha256: hash of the content of all files, in order.
        mpp: µm per level-0 pixel that a table gave for this slide.
        reader: packages that offer to read its ending, with their versions; empty for our own.
        place: where the slide lay, in full; empty in older results.
    """

    recipe: str
    found: str = ""
    files: tuple[FileStamp, ...]
    sha256: str
    mpp: float | None = None
    reader: str = ""
    place: str = ""

    def companions(self, path: Path) -> tuple[Path, ...]:
        """The slide's other files, beside its main one at a path."""
        return tuple(path.parent / on_disk(file.name, path.parent) for file in self.files[1:])


def hash_recipe(settings: Mapping[str, JsonValue], model: ModelFacts) -> str:
    """SHA-256 of all that shapes a result besides the slide.

    The model's name does not, nor does where and how fast the network runs: shards on different
    machines, and a run that goes on with other hardware, share their results.
    """
    facts = model.model_dump(mode="json", exclude={"name"})
    return _hash({"settings": _with_effect(settings), "model": facts})


def hash_found(settings: Mapping[str, JsonValue], model: ModelFacts) -> str:
    """SHA-256 of all that shapes what is found on a slide, before any threshold."""
    shaping = {name: value for name, value in settings.items() if name not in MADE}
    finder = Finder.of(model).model_dump(mode="json")
    return _hash({"settings": _with_effect(shaping), "finder": finder})


def _with_effect(settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    settings = dict(settings)
    runtime = settings.get("runtime")
    if isinstance(runtime, dict):
        settings["runtime"] = {k: v for k, v in runtime.items() if k not in _WITHOUT_EFFECT}
    if settings.get("planes") == "one":  # as it was before there was a choice
        del settings["planes"]
    return settings


def _hash(recipe: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def stamp_files(job: SlideJob) -> tuple[FileStamp, ...]:
    """Sizes and times of all files of a slide.

    Raises:
        OSError: one of them is gone or may not be looked at.
    """
    if remote := job.remote:  # as it was listed: whatever is fetched must be that
        paths = [file.path for file in remote.files]
        return tuple(
            FileStamp(
                name=encodable(os.path.relpath(path, paths[0].parent)),
                size=file.size,
                mtime_ns=0,
                version=file.version,
            )
            for path, file in zip(paths, remote.files, strict=True)
        )
    return tuple(_stamp(path, job.path.parent) for path in job.files)


def hash_content(job: SlideJob) -> str:
    """SHA-256 of the content of all files of a slide.

    Raises:
        OSError: one of them can't be read.
    """
    if job.remote:
        if not job.remote.sha256:
            raise FileNotFoundError(f"{job.where}: has not been fetched")
        return job.remote.sha256
    digest = hashlib.sha256()
    for path in job.files:
        for part in files_of(path) if path.is_dir() else [path]:
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def save_fingerprint(fingerprint: Fingerprint, folder: Path) -> None:
    """Writes the fingerprint of the result in ``folder``."""
    write_whole(folder / FINGERPRINT, to_json(fingerprint.model_dump(mode="json")))


def is_of_slide(job: SlideJob, folder: Path, known: Fingerprint) -> bool:
    """Whether the result in ``folder``, of that fingerprint, is of this very slide.

    What a table says of its scale counts, too, and the version of a package that reads it. Where
    size and time of every file are as they were, so is the content; where only a time differs, as
    after copying, the content is read and compared. A slide that would have to be fetched is known
    by what its store tells, its ETag and the like; where that tells nothing it is another one. Of a
    slide that is gone only another content, as far as it was known, speaks against it.
    """
    if known.mpp != job.mpp:
        return False
    if job.gone:
        return job.sha256 in ("", known.sha256)
    return known.reader == name_packages(job.path) and has_same_files(job, folder, known)


def has_same_files(job: SlideJob, folder: Path, known: Fingerprint) -> bool:
    """Whether a slide, which is there, holds what it held when the result in ``folder`` was made.

    See `is_of_slide`, which asks by whom it is read, and at which scale, as well.
    """
    if job.remote:
        return job.remote.is_versioned and stamp_files(job) == known.files
    try:
        files = stamp_files(job)
        if files == known.files:
            return True
        if _without_times(files) != _without_times(known.files):
            return False
        if hash_content(job) != known.sha256:
            return False
    except OSError:
        return False
    with contextlib.suppress(OSError):  # only the next look would be faster
        save_fingerprint(known.model_copy(update={"files": files}), folder)
    return True


def place_of(job: SlideJob) -> str:
    """Where a slide lies, in full: its URL, or its path from the root."""
    return encodable(job.where if job.remote else job.path.absolute())


def is_other_slide(job: SlideJob, known: Fingerprint) -> bool:
    """Whether a result is that of another slide of the same name.

    One that lay elsewhere and had other content is. One whose content alone changed was scanned or
    copied anew, and one that lies elsewhere alone was moved; of older results nobody can tell.
    """
    if not known.place or known.place == place_of(job):
        return False
    try:
        files = stamp_files(job)
        if _without_times(files) != _without_times(known.files):
            return True
        return not job.remote and files != known.files and hash_content(job) != known.sha256
    except OSError:
        return False


def slide_of(where: str, name: str, known: Fingerprint | None) -> SlideJob:
    """The slide of a result, with the files that it had when it was screened.

    One that was fetched is not fetched again: it counts as gone, and stays known by its URL, which
    a path would not keep.

    Args:
        where: path or URL, as a report or a record has it.
        name: of the result.
        known: what the result was made of; None where that is not known.
    """
    remote = RemoteSlide(where) if "://" in where else None
    path = Path(where if remote else on_disk(where))
    others = known.companions(path) if known else ()
    gone = remote is not None or not all(os.path.lexists(one) for one in (path, *others))
    job = SlideJob(path, name, others, gone=gone, remote=remote)
    return replace(job, mpp=known.mpp, sha256=known.sha256) if known else job


def are_of_two_slides(one: Fingerprint, other: Fingerprint) -> bool:
    """`is_other_slide` of two results, wherever their slides are now."""
    places = one.place, other.place
    return all(places) and one.place != other.place and one.sha256 != other.sha256


def load_fingerprint(folder: Path) -> Fingerprint | None:
    """What the result in ``folder`` was made of; None where that is not known."""
    try:
        return _parse((folder / FINGERPRINT).read_bytes())
    except OSError:
        return None


def _parse(content: bytes) -> Fingerprint | None:
    try:
        return Fingerprint.model_validate_json(content)
    except ValidationError:
        return None


def _stamp(path: Path, folder: Path) -> FileStamp:
    status = path.stat()
    name = encodable(path.name if path.parent == folder else path.relative_to(folder))
    if stat.S_ISDIR(status.st_mode):
        state = folder_state(path)
        return FileStamp(name=name, size=state.size, mtime_ns=state.mtime_ns, version=state.names)
    return FileStamp(name=name, size=status.st_size, mtime_ns=status.st_mtime_ns)


def _without_times(files: Sequence[FileStamp]) -> list[tuple[str, int, str]]:
    return [(file.name, file.size, file.version) for file in files]

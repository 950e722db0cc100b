"""Finding slides: which files are slides, which belong together, and what their results are called.

A slide at ``FOLDER/a/b.svs`` under an argument FOLDER is called ``a/b.svs``, a slide that is an
argument itself by its own name; its results go into a folder of that name below ``--out``. A slide
in DICOM of several files is called by its series; see `pipeline.batch.series`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs import ConfigError, Doubt
from pipeline.batch.series import DicomFiles, Series, is_dicom, sort_dicom
from pipeline.slides.mpp_table import MppTable
from pipeline.slides.readers.base import show
from pipeline.slides.slide import IMAGE_SUFFIXES, SLIDE_SUFFIXES
from pipeline.slides.unread import NotRead, recognise, tell, unread_ending


@dataclass(frozen=True)
class SlideJob:
    """A slide to be screened.

    Attributes:
        path: its main file, the one to be opened.
        name: its results' folder below the output folder, with forward slashes.
        companions: other files that hold parts of it.
        problem: why it can't be screened, where that is known already.
        mpp: µm per level-0 pixel that a table gives for this slide.
        gone: whether its files are no longer there, of a slide that was screened before.
    """

    path: Path
    name: str
    companions: tuple[Path, ...] = ()
    problem: str | None = None
    mpp: float | None = None
    gone: bool = False


@dataclass(frozen=True)
class Discovery:
    """What was found.

    Attributes:
        jobs: slides, sorted by name; each file belongs to one of them at most.
        images_left_out: plain images in folders that were left out, as they carry no mpp.
        not_read: what looks like a slide and is of a kind that isn't read.
        doubts: what was left out, and what of the table means no slide.
    """

    jobs: tuple[SlideJob, ...]
    images_left_out: int
    not_read: tuple[NotRead, ...] = ()
    doubts: tuple[Doubt, ...] = ()


def discover(
    arguments: Sequence[Path], out: Path, *, with_images: bool, table: MppTable | None = None
) -> Discovery:
    """Finds the slides in files and folders; folders are searched recursively.

    Hidden files and folders are left out, as is ``out``; links are followed, but nothing is taken
    twice. A file that is named itself is taken whatever it is.

    Args:
        arguments: files and folders.
        out: where results go.
        with_images: whether plain images in folders are slides too.
        table: gives slides their scale; the plain images that it names are slides too.

    Raises:
        ConfigError: an argument is missing, no slide was found, the results of two slides would be
            in each other's way, or a row of the table may mean several slides.
    """
    for argument in arguments:
        if not (os.path.isfile(argument) or os.path.isdir(argument)):
            exists = os.path.exists(argument)
            problem = "is no file or folder" if exists else "no such file or folder"
            raise ConfigError(f"{show(argument)}: {problem}")
        if os.path.realpath(argument) == os.path.realpath(out):
            raise ConfigError(f"--out {show(out)}: is among the slides; name another folder")
    search = _Search(out, with_images, table)
    found = [job for argument in arguments for job in search.search(argument)]
    jobs = sorted(_once_each(found), key=lambda job: job.name)
    if not jobs:
        raise ConfigError(_nothing_found(arguments, search))
    _refuse_collisions(jobs, out)
    if table:
        jobs = [replace(job, mpp=table.find(job.path)) for job in jobs]
    doubts = (*_doubts_of_files(search), *_doubts_of_table(jobs, table))
    return Discovery(tuple(jobs), search.images_left_out, tuple(search.not_read), doubts)


class _Search:
    """A walk through folders that enters each of them once, however it is linked."""

    def __init__(self, out: Path, with_images: bool, table: MppTable | None) -> None:
        self._entered = {os.path.realpath(out)}
        self._suffixes = SLIDE_SUFFIXES | IMAGE_SUFFIXES if with_images else SLIDE_SUFFIXES
        self._table = table
        self._dicom: dict[Path, DicomFiles] = {}
        self.images_left_out = 0
        self.not_read: list[NotRead] = []

    def search(self, argument: Path) -> Iterator[SlideJob]:
        if os.path.isfile(argument):
            return iter([self._named(argument)])
        return self._search_folder(argument, argument)

    def _named(self, path: Path) -> SlideJob:
        """The slide of a file that is an argument."""
        series = self._dicom_beside(path).series.get(path) if is_dicom(path) else None
        if series:
            return _job_of(series, series.name)
        return SlideJob(path, path.name, _companions(path))

    def _dicom_beside(self, path: Path) -> DicomFiles:
        """The DICOM files of a file's folder, looked at once however many of them are named."""
        folder = path.parent
        if folder not in self._dicom:
            try:
                files, _ = _list(folder)
            except OSError:
                files = [path]
            self._dicom[folder] = sort_dicom(files)
        return self._dicom[folder]

    def _search_folder(self, folder: Path, root: Path) -> Iterator[SlideJob]:
        if _is_seen(os.path.realpath(folder), self._entered):
            return
        try:
            files, folders = _list(folder)
        except OSError as error:
            problem = f"{show(folder)}: the folder can't be read: {error.strerror}"
            if folder == root:
                raise ConfigError(problem) from error
            yield SlideJob(folder, _name(folder, root), problem=problem)
            return
        yield from self._slides(files, root)
        for inner in folders:
            if not_read := unread_ending(inner):
                self.not_read.append(not_read)
                continue
            yield from self._search_folder(inner, root)

    def _slides(self, files: Sequence[Path], root: Path) -> Iterator[SlideJob]:
        parts = {part for path in files for part in _parts(path)}
        dicom = sort_dicom(path for path in files if _may_be_dicom(path))
        for path in files:
            if path in parts or path in dicom.indices:
                continue
            if series := dicom.series.get(path):
                if path == series.files[0]:
                    yield _job_of(series, _name(path.with_name(series.name), root))
            elif _suffix(path) in self._suffixes or self._is_named_image(path):
                yield SlideJob(path, _name(path, root), _companions(path))
            elif _suffix(path) in IMAGE_SUFFIXES:
                self.images_left_out += 1
            elif not_read := recognise(path, SLIDE_SUFFIXES):
                self.not_read.append(not_read)

    def _is_named_image(self, path: Path) -> bool:
        """Whether a plain image is a slide because the table gives its scale."""
        known = self._table and _suffix(path) in IMAGE_SUFFIXES
        return bool(known and self._table and self._table.find(path) is not None)


def _companions(path: Path) -> tuple[Path, ...]:
    """The other files that hold parts of a slide."""
    if _suffix(path) == ".mrxs":
        return tuple(sorted(p for p in path.with_suffix("").rglob("*") if p.is_file()))
    return _parts(path)


def _may_be_dicom(path: Path) -> bool:
    """Whether a file's ending leaves it open that it is DICOM, so that it is worth a look."""
    return _suffix(path) not in (SLIDE_SUFFIXES | IMAGE_SUFFIXES) - {".dcm"}


def _job_of(series: Series, name: str) -> SlideJob:
    first, *others = series.files
    problem = None
    if damaged := series.damaged:
        problem = f"{show(damaged)}: broken off; without it the slide lacks a part: copy it again"
    return SlideJob(first, name, tuple(others), problem)


def _list(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files and folders that are not hidden, links last, without the data folders of slides.

    A link to nothing counts as a file, so that it is reported; pipes and the like are left out,
    as they would be waited for.
    """
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    paths = [Path(e.path) for e in sorted(visible, key=lambda e: (e.is_symlink(), e.name))]
    files = [p for p in paths if os.path.isfile(p) or not os.path.exists(p)]
    folders = [p for p in paths if os.path.isdir(p)]
    mrxs = {path.stem for path in files if _suffix(path) == ".mrxs"}
    vsi = {f"_{path.stem}_" for path in files if _suffix(path) == ".vsi"}
    return files, [p for p in folders if p.name not in mrxs | vsi]


def _once_each(jobs: Iterable[SlideJob]) -> Iterator[SlideJob]:
    """The jobs without those whose file is, or belongs to, an earlier job's."""
    taken: set[str] = set()
    for job in jobs:
        if not _is_seen(os.path.realpath(job.path), taken):
            taken.update(os.path.realpath(companion) for companion in job.companions)
            yield job


def _is_seen(value: str, seen: set[str]) -> bool:
    """Whether the value was met before; from now on it was."""
    known = value in seen
    seen.add(value)
    return known


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _parts(path: Path) -> tuple[Path, ...]:
    """The files beside a VMS or VMU file that it names: images, and a map."""
    if _suffix(path) not in (".vms", ".vmu"):
        return ()
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    values = {line.partition("=")[2].strip() for line in lines}
    beside = [path.with_name(value) for value in values if value and Path(value).name == value]
    return tuple(sorted(part for part in beside if part.is_file() and part != path))


def _doubts_of_files(search: _Search) -> Iterator[Doubt]:
    """What lies among the slides and was left out."""
    if search.images_left_out:
        count = search.images_left_out
        what = "1 plain image is" if count == 1 else f"{count} plain images are"
        text = f"{what} left out; with --mpp, or named in --mpp-table, they are slides"
        yield Doubt(code="images-left-out", text=text)
    if search.not_read:
        yield Doubt(code="files-not-read", text=tell(search.not_read))


def _doubts_of_table(jobs: Sequence[SlideJob], table: MppTable | None) -> Iterator[Doubt]:
    """Rows of a table of scales that mean none of the slides."""
    rest = table.check(job.path for job in jobs) if table else []
    if rest and table:
        shown = ", ".join(rest[:5]) + (", …" if len(rest) > 5 else "")
        count = f"{len(rest)} of {len(table.rows)} rows"
        text = f"{show(table.path)}: {count} name none of the slides: {shown}"
        yield Doubt(code="mpp-table-unused", text=text)


def _nothing_found(arguments: Sequence[Path], search: _Search) -> str:
    places = ", ".join(show(argument) for argument in arguments)
    if search.not_read:
        return f"{places}: there is no slide that is read; {tell(search.not_read)}"
    if search.images_left_out:
        return f"{places}: no slide, but {search.images_left_out} plain images; these need --mpp"
    return f"{places}: no slide found; slides end in {', '.join(sorted(SLIDE_SUFFIXES))}"


def _refuse_collisions(jobs: Sequence[SlideJob], out: Path) -> None:
    """Refuses two slides with one name, and a slide whose results lie among another's."""
    by_name: dict[str, SlideJob] = {}
    for job in jobs:
        parents = [parent.as_posix() for parent in Path(job.name).parents]
        other = next((by_name[name] for name in (job.name, *parents) if name in by_name), None)
        if other:
            raise ConfigError(
                f"{show(other.path)} and {show(job.path)} would both be written to "
                f"{show(out / other.name)}; screen them one after the other with different --out, "
                "or together by naming the folder above both"
            )
        by_name[job.name] = job

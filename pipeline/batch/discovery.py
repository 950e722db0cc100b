"""Finding slides: which files are slides, which belong together, and what their results are called.

A slide at ``FOLDER/a/b.svs`` under an argument FOLDER is called ``a/b.svs``, a slide that is an
argument itself by its own name; its results go into a folder of that name below ``--out``. A slide
in DICOM of several files is called by its series; see `pipeline.batch.series`. A folder that is an
OME-Zarr is a slide, and not entered. The same holds for slides that are named by URL, alone or by
the folder above them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs import ConfigError, Doubt
from pipeline.batch.listing import Listing
from pipeline.batch.remote import RemoteSlide
from pipeline.batch.series import BROKEN_OFF, DicomFiles, Series, is_dicom
from pipeline.batch.trees import Disk, Tree
from pipeline.cloud.store import Stores
from pipeline.cloud.urls import Url, is_collapsed
from pipeline.slides.mpp_table import MppTable
from pipeline.slides.readers.base import show
from pipeline.slides.readers.companions import companions, data_folder, named_parts
from pipeline.slides.readers.ngff_metadata import is_picture_folder
from pipeline.slides.readers.zarr_files import METADATA
from pipeline.slides.slide import FOLDER_SUFFIXES, IMAGE_SUFFIXES, SLIDE_SUFFIXES
from pipeline.slides.unread import NO_PICTURE, NotRead, recognise, tell, unread_ending

_IN_STORE = ("OME-Zarr in a store", "fetch the folder first, or pack it as one .ozx file")
"""Kind and remedy of a Zarr whose chunks would be fetched one by one."""

_IN_PARTS = (".mrxs", ".vms", ".vmu", ".vsi")
"""Endings of slides that name or need other files."""


@dataclass(frozen=True, slots=True)
class SlideJob:
    """A slide to be screened.

    Attributes:
        path: its main file, the one to be opened, or the folder that it is; of a slide that is
            fetched, where it will be.
        name: its results' folder below the output folder, with forward slashes.
        companions: other files that hold parts of it.
        problem: why it can't be screened, where that is known already.
        mpp: µm per level-0 pixel that a table gives for this slide.
        gone: whether its files are no longer there, of a slide that was screened before.
        remote: where it is fetched from; None for one that lies here.
        sha256: of the content that all its files had when it was screened; empty where that isn't
            known.
    """

    path: Path
    name: str
    companions: tuple[Path, ...] = ()
    problem: str | None = None
    mpp: float | None = None
    gone: bool = False
    remote: RemoteSlide | None = None
    sha256: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """All of its files."""
        return (self.path, *self.companions)

    @property
    def where(self) -> str:
        """What it is known by: its URL, without secrets, or its path."""
        return self.remote.shown if self.remote else str(self.path)


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
    arguments: Sequence[Path | Url],
    out: Path,
    *,
    with_images: bool,
    table: MppTable | None = None,
    stores: Stores | None = None,
    scratch: Path | None = None,
) -> Discovery:
    """Finds the slides in files and folders; folders are searched recursively.

    Hidden files and folders are left out, as is ``out``; links are followed, but nothing is taken
    twice. A file that is named itself is taken whatever it is.

    Args:
        arguments: files and folders.
        out: where results go.
        with_images: whether plain images in folders are slides too.
        table: gives slides their scale; the plain images that it names are slides too.
        stores: what URLs among the arguments are asked of.
        scratch: the folder to which slides will be fetched, each into one of its own in it.

    Raises:
        ConfigError: an argument is missing, no slide was found, the results of two slides would be
            in each other's way, or a row of the table may mean several slides.
    """
    search = _Search(out, with_images, table)
    for argument in arguments:
        if isinstance(argument, Path):
            _check_argument(argument, out)
    found = [job for argument in arguments for job in search.search(argument, stores)]
    jobs = sorted(_once_each(found), key=lambda job: job.name)
    if not jobs:
        raise ConfigError(_nothing_found(arguments, search))
    _refuse_collisions(jobs, out)
    if table:
        jobs = [replace(job, mpp=table.find(job.path)) for job in jobs]
    doubts = (
        *_doubts_of_files(search),
        *_doubts_of_versions(jobs),
        *_doubts_of_table(jobs, table),
    )
    if scratch:
        jobs = [_put(job, scratch / f"{number}") for number, job in enumerate(jobs, 1)]
    return Discovery(tuple(jobs), search.images_left_out, tuple(search.not_read), doubts)


def _check_argument(argument: Path, out: Path) -> None:
    """Refuses what is neither file nor folder, and the output folder."""
    if not (os.path.isfile(argument) or os.path.isdir(argument)):
        exists = os.path.exists(argument)
        problem = "is no file or folder" if exists else "no such file or folder"
        if not exists and is_collapsed(argument):
            problem = "URLs are read by cytolibra screen alone; fetch it first"
        raise ConfigError(f"{show(argument)}: {problem}")
    if os.path.realpath(argument) == os.path.realpath(out):
        raise ConfigError(f"--out {show(out)}: is among the slides; name another folder")


def _alone(job: SlideJob) -> str | None:
    """Why a file that is fetched without others is no slide, if it isn't."""
    if _suffix(job.path) not in _IN_PARTS:
        return None
    return (
        f"{show(job.path)}: a {_suffix(job.path)} slide has more files, which a web server doesn't "
        "list; put them into an object store, or fetch them first"
    )


def _put(job: SlideJob, folder: Path) -> SlideJob:
    """Says where a slide that is fetched will lie: below a folder, as where it comes from."""
    if job.remote is None or not job.remote.files:
        return job
    main, *others = (folder.joinpath(*file.path.parts[1:]) for file in job.remote.files)
    return replace(job, path=main, companions=tuple(others))


def _archived(url: Url, stores: Stores) -> Iterator[SlideJob]:
    """The slides of an archive, each called by its series."""
    from pipeline.batch.archive import find_archived

    store = stores.of(url)
    for series in find_archived(url, stores):
        root = store.path_of(series.url)
        main, *others = (file.path for file in series.files) if series.files else (root,)
        problem = f"{series.url}: {series.problem}" if series.problem else None
        remote = RemoteSlide(series.url.shown, store, series.files, is_dicom=True)
        yield SlideJob(main, f"series-{series.uid}", tuple(others), problem, remote=remote)


class _Search:
    """A walk through folders that enters each of them once, however it is linked."""

    def __init__(self, out: Path, with_images: bool, table: MppTable | None) -> None:
        self._out = out
        self._entered = {os.path.realpath(out)}
        self._suffixes = SLIDE_SUFFIXES | IMAGE_SUFFIXES if with_images else SLIDE_SUFFIXES
        self._table = table
        self._tree: Tree = Disk()
        self._dicom: dict[Path, DicomFiles] = {}
        self.images_left_out = 0
        self.not_read: list[NotRead] = []
        self.odd: list[str] = []

    def search(self, argument: Path | Url, stores: Stores | None) -> Iterator[SlideJob]:
        if isinstance(argument, Url):
            assert stores is not None, argument
            yield from self._search_store(argument, stores)
            return
        self._tree = Disk()
        if os.path.isfile(argument):
            yield self._named(argument)
        elif self._is_zarr(argument):
            yield self._folder_job(argument, argument.absolute().name)
        else:
            yield from self._search_folder(argument, argument)

    def _search_store(self, url: Url, stores: Stores) -> Iterator[SlideJob]:
        if url.is_dicomweb:
            yield from _archived(url, stores)
            return
        root = stores.of(url).path_of(url)
        if _suffix(root) in FOLDER_SUFFIXES:
            raise ConfigError(f"{url}: {_IN_STORE[0]}, which is not read there; {_IN_STORE[1]}")
        try:
            self._tree = listing = Listing(url, stores)
        except ConfigError as error:
            if not url.is_web:
                raise
            # Each of these stands for itself: those that are there are screened.
            remote = RemoteSlide(url.shown)
            yield SlideJob(root, root.name, problem=str(error), remote=remote)
            return
        self.odd += listing.odd
        known = len(self.not_read)
        found = [self._named(root)] if listing.is_file else list(self._search_folder(root, root))
        for index, file in enumerate(self.not_read[known:], known):
            self.not_read[index] = replace(file, url=listing.shown(file.path))
        for job in found:
            files = tuple(map(listing.file, job.files))
            problem = _alone(job) if url.is_web else job.problem
            dicom = is_dicom(job.path, listing.open)
            remote = RemoteSlide(files[0].shown, stores.of(url), files, is_dicom=dicom)
            yield replace(job, problem=problem, remote=remote)

    def _named(self, path: Path) -> SlideJob:
        """The slide of a file that is an argument."""
        seen = is_dicom(path, self._tree.open)
        series = self._dicom_beside(path).series.get(path) if seen else None
        if series:
            return self._job_of(series, series.name)
        return SlideJob(path, path.name, companions(path, self._tree))

    def _dicom_beside(self, path: Path) -> DicomFiles:
        """The DICOM files of a file's folder, looked at once however many of them are named."""
        folder = path.parent
        if folder not in self._dicom:
            try:
                files, _ = self._list(folder)
            except OSError:
                files = [path]
            self._dicom[folder] = self._tree.sort_dicom(files)
        return self._dicom[folder]

    def _search_folder(self, folder: Path, root: Path) -> Iterator[SlideJob]:
        if _is_seen(self._tree.place(folder), self._entered):
            return
        try:
            files, folders = self._list(folder)
        except OSError as error:
            problem = f"{show(folder)}: the folder can't be read: {error.strerror}"
            if folder == root:
                raise ConfigError(problem) from error
            yield SlideJob(folder, _name(folder, root), problem=problem)
            return
        yield from self._slides(files, root)
        for inner in folders:
            if self._is_zarr(inner):
                if isinstance(self._tree, Disk) and self._is_picture(inner):
                    if not _is_seen(self._tree.place(inner), self._entered):
                        yield self._folder_job(inner, _name(inner, root))
                else:
                    told = NO_PICTURE if isinstance(self._tree, Disk) else _IN_STORE
                    self.not_read.append(NotRead(inner, *told))
                continue
            if not_read := unread_ending(inner):
                self.not_read.append(not_read)
                continue
            yield from self._search_folder(inner, root)

    def _is_zarr(self, folder: Path) -> bool:
        """Whether a folder is a Zarr, whose chunks may be a million files: it is not entered."""
        return any(self._tree.exists(folder / name) for name in METADATA)

    def _folder_job(self, folder: Path, name: str) -> SlideJob:
        """The slide that a folder is.

        Raises:
            ConfigError: results would be written into it.
        """
        if Path(os.path.realpath(self._out)).is_relative_to(os.path.realpath(folder)):
            problem = f"lies within the slide {show(folder)}; name another folder"
            raise ConfigError(f"--out {show(self._out)}: {problem}")
        return SlideJob(folder, name)

    def _is_picture(self, folder: Path) -> bool:
        try:
            return is_picture_folder(folder)
        except OSError:  # opening it says what is wrong
            return True

    def _slides(self, files: Sequence[Path], root: Path) -> Iterator[SlideJob]:
        parts = {part for path in files for part in named_parts(path, self._tree)}
        dicom = self._tree.sort_dicom(path for path in files if _may_be_dicom(path))
        for path in files:
            if path in parts or path in dicom.indices:
                continue
            if series := dicom.series.get(path):
                if path == series.files[0]:
                    yield self._job_of(series, _name(path.with_name(series.name), root))
            elif _suffix(path) in self._suffixes or self._is_named_image(path):
                yield SlideJob(path, _name(path, root), companions(path, self._tree))
            elif _suffix(path) in IMAGE_SUFFIXES:
                self.images_left_out += 1
            elif not_read := recognise(path, SLIDE_SUFFIXES, self._tree.open):
                self.not_read.append(not_read)

    def _is_named_image(self, path: Path) -> bool:
        """Whether a plain image is a slide because the table gives its scale."""
        known = self._table and _suffix(path) in IMAGE_SUFFIXES
        return bool(known and self._table and self._table.find(path) is not None)

    def _job_of(self, series: Series, name: str) -> SlideJob:
        first, *others = series.files
        problem = None
        if damaged := self._tree.damaged(series):
            problem = f"{show(damaged)}: {BROKEN_OFF}"
        return SlideJob(first, name, tuple(others), problem)

    def _list(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Files and folders that are not hidden, without the data folders of slides."""
        files, folders = self._tree.entries(folder)
        data = {data_folder(path) for path in files}
        return files, [p for p in folders if p not in data]


def _may_be_dicom(path: Path) -> bool:
    """Whether a file's ending leaves it open that it is DICOM, so that it is worth a look."""
    return _suffix(path) not in (SLIDE_SUFFIXES | IMAGE_SUFFIXES) - {".dcm"}


def _once_each(jobs: Iterable[SlideJob]) -> Iterator[SlideJob]:
    """The jobs without those whose file is, or belongs to, an earlier job's."""
    taken: set[str] = set()
    folders: dict[str, str] = {}
    for job in jobs:
        here = (_real_path(path, folders) for path in job.files)
        first, *others = job.remote.places if job.remote else here
        if not _is_seen(first, taken):
            taken.update(others)
            yield job


def _real_path(path: Path, folders: dict[str, str]) -> str:
    """As `os.path.realpath`, which looks at each folder above each file anew.

    Args:
        path: of a file.
        folders: what is known of folders; more is added.
    """
    folder, name = os.path.split(path)
    if os.path.islink(path):
        return os.path.realpath(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)


def _is_seen(value: str, seen: set[str]) -> bool:
    """Whether the value was met before; from now on it was."""
    known = value in seen
    seen.add(value)
    return known


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _doubts_of_files(search: _Search) -> Iterator[Doubt]:
    """What lies among the slides and was left out."""
    if search.images_left_out:
        count = search.images_left_out
        what = "1 plain image is" if count == 1 else f"{count} plain images are"
        text = f"{what} left out; with --mpp, or named in --mpp-table, they are slides"
        yield Doubt(code="images-left-out", text=text)
    if search.odd:
        what = f"{len(search.odd)} file(s)"
        text = (
            f"{what} left out whose names no folder can hold, with an empty part, . or ..: "
            f"{show(search.odd[0])}; copy them to other names"
        )
        yield Doubt(code="names-left-out", text=text)
    if search.not_read:
        yield Doubt(code="files-not-read", text=tell(search.not_read))


def _doubts_of_versions(jobs: Sequence[SlideJob]) -> Iterator[Doubt]:
    """Slides of which it can't be known later whether they are still the same."""
    odd = [job for job in jobs if job.remote and not job.remote.is_versioned]
    if odd:
        text = (
            f"{len(odd)} slide(s) of servers that tell neither an ETag nor when a file was changed "
            f"will be screened again each time: {show(odd[0].where)}"
        )
        yield Doubt(code="remote-unversioned", text=text)


def _doubts_of_table(jobs: Sequence[SlideJob], table: MppTable | None) -> Iterator[Doubt]:
    """Rows of a table of scales that mean none of the slides."""
    rest = table.check(job.path for job in jobs) if table else []
    if rest and table:
        shown = ", ".join(rest[:5]) + (", …" if len(rest) > 5 else "")
        count = f"{len(rest)} of {len(table.rows)} rows"
        text = f"{show(table.path)}: {count} name none of the slides: {shown}"
        yield Doubt(code="mpp-table-unused", text=text)


def _nothing_found(arguments: Sequence[Path | Url], search: _Search) -> str:
    places = ", ".join(show(str(argument)) for argument in arguments)
    if search.not_read:
        return f"{places}: there is no slide that is read; {tell(search.not_read)}"
    if search.images_left_out:
        return f"{places}: no slide, but {search.images_left_out} plain images; these need --mpp"
    return f"{places}: no slide found; slides end in {', '.join(sorted(SLIDE_SUFFIXES))}"


def _with_parents(name: str) -> Iterator[str]:
    """A name with slashes, and those of the folders above it."""
    while name:
        yield name
        name = name.rpartition("/")[0]


def _refuse_collisions(jobs: Sequence[SlideJob], out: Path) -> None:
    """Refuses two slides with one name, and a slide whose results lie among another's."""
    by_name: dict[str, SlideJob] = {}
    for job in jobs:
        other = next((by_name[name] for name in _with_parents(job.name) if name in by_name), None)
        if other:
            raise ConfigError(
                f"{show(other.where)} and {show(job.where)} would both be written to "
                f"{show(out / other.name)}; screen them one after the other with different --out, "
                "or together by naming the folder above both"
            )
        by_name[job.name] = job

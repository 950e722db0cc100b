"""One run at a time in a folder, or one of each shard: who comes second is told who is at work.

A run holds a lock of the operating system, which lets go of it when the process ends, however it
ends. Beside the lock lies a word about who holds it: one that a killed run left behind stands for
nothing. Both are hidden, and gone when a run has ended by itself.

Several processes may be at work as one run where their words say that they do the same thing: see
`Terms`, and `pipeline.batch.claims`, by which they share the slides. Each holds a lock of its own.
"""

from __future__ import annotations

import errno
import os
import platform
import shlex
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import Timeout
from pydantic import Field, JsonValue, ValidationError

from configs import ConfigError, Doubt, StrictModel
from configs.doubts import with_code
from pipeline.batch.output import is_running
from pipeline.batch.run_record import Shard, record_name
from pipeline.locks import file_lock
from pipeline.reports.report import encodable
from pipeline.reports.writers import HOST, MACHINE, to_json, write_whole
from pipeline.slides.readers.base import show

_SUFFIX = ".lock"
_GATE = ".gate.lock"
_HOLDER = ".holder.json"

_UNSUPPORTED = {
    getattr(errno, name)
    for name in ("ENOSYS", "ENOLCK", "EOPNOTSUPP", "ENOTSUP", "EINVAL")
    if hasattr(errno, name)
}
"""What a file system answers that has no locks, such as NFS without its lock daemon."""

_GATE_S = 30.0
"""Seconds to wait for the gate, through which runs pass one by one, each in milliseconds."""

_MOST_SHOWN = 200
"""Characters of another run's command that are shown."""


BY_SHARDS = (
    "wait until it has ended, name another --out, start the very same command to share its slides, "
    "or give each run its part by --shard i/n, all with the same n"
)
"""What to do where a screen meets another."""


class InUseError(ConfigError):
    """Another run is at work in the folder."""


class Terms(StrictModel):
    """What processes must agree in to be one run.

    Attributes:
        recipe: settings and model; see `pipeline.batch.fingerprint.hash_recipe`.
        slides: hash of the slides' names.
        options: what else shapes what becomes of a slide or of the summary.
    """

    recipe: str
    slides: str
    options: dict[str, JsonValue] = Field(default_factory=dict)

    def differ(self, other: Terms) -> str:
        """What others have agreed in and we not, in words; empty where all is alike."""
        if self.recipe != other.recipe:
            return (
                "other settings or another model, or is the same command on a machine that chose "
                "another precision (add --precision)"
            )
        if self.slides != other.slides:
            return "other slides"
        names = sorted(
            name
            for name in self.options.keys() | other.options.keys()
            if self.options.get(name) != other.options.get(name)
        )
        return f"other options ({', '.join(names)})" if names else ""


class Holder(StrictModel):
    """Who is at work in a folder.

    Attributes:
        host: the machine.
        pid: the process.
        since: when it began, in UTC.
        command: what was called.
        machine: the machine and its world of processes, as only they have them; empty where it
            isn't known.
        terms: in what others have to agree to join it; None where nobody may.
    """

    host: str
    pid: int
    since: str
    command: tuple[str, ...]
    machine: str = ""
    terms: Terms | None = None

    @staticmethod
    def this(command: Sequence[str], terms: Terms | None = None) -> Holder:
        """This process, from now on."""
        return Holder(
            host=platform.node(),
            pid=os.getpid(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            command=tuple(encodable(word) for word in command),
            machine=MACHINE,
            terms=terms,
        )

    @property
    def is_gone(self) -> bool:
        """Whether its process is known to have ended: one of this machine, and not found there."""
        return self.machine == MACHINE and not is_running(self.pid)

    def __str__(self) -> str:
        command = shlex.join(self.command)
        if len(command) > _MOST_SHOWN:
            command = f"{command[:_MOST_SHOWN]}…"
        text = f"process {self.pid} on {self.host}, since {self.since}: {command}"
        return "".join(c if c.isprintable() else "?" for c in text)  # it comes from a file


@contextmanager
def hold(
    folder: Path,
    shard: Shard | None = None,
    command: Sequence[str] = (),
    todo: str = BY_SHARDS,
    *,
    terms: Terms | None = None,
) -> Iterator[tuple[Doubt, ...]]:
    """Keeps other runs out of a folder; shards of one count may be in it together, each once.

    Args:
        folder: exists, and can be written.
        shard: the part that is worked on; None for all.
        command: the command line, for who comes second.
        todo: what that one is told to do.
        terms: others that agree in them may be in it, too; None for nobody. Only of all slides, not
            of a shard.

    Yields:
        What a person should know: that the file system has no locks, where it has none.

    Raises:
        InUseError: another run is at work there.
        ConfigError: the lock can't be made.
    """
    doubts: tuple[Doubt, ...] = ()
    with ExitStack() as held:
        try:
            _take(folder, shard, Holder.this(command, terms), held)
        except Timeout as busy:
            holder = read_holder(Path(busy.lock_file).with_suffix(_HOLDER))
            raise refusal(folder, holder, terms, todo) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                problem = f"--out {show(folder)}: can't be locked: {error.strerror}"
                raise ConfigError(problem) from error
            doubts = (_no_lock(folder, terms is not None),)
        yield doubts
    if terms is not None and not doubts:
        _sweep(folder)


def _take(folder: Path, shard: Shard | None, holder: Holder, held: ExitStack) -> None:
    """Takes the lock and says who holds it; through the gate, so that of two runs one gets it."""
    with _locked(folder / _GATE, _GATE_S):
        own = folder / f".{record_name(shard, _SUFFIX)}"
        for rival in _rivals(folder, shard):
            try:
                with _locked(rival):  # left behind
                    rival.with_suffix(_HOLDER).unlink(missing_ok=True)
            except Timeout:
                if not _is_fellow(rival, holder.terms):
                    raise
                if rival == own:
                    own = folder / f".run.{process_name()}{_SUFFIX}"
        held.enter_context(_locked(own))
        held.enter_context(_word(own.with_suffix(_HOLDER), holder))


@contextmanager
def one_by_one(folder: Path) -> Iterator[None]:
    """Has processes do in turn what is done here; all at once where there are no locks."""
    with ExitStack() as held:
        with suppress(Timeout, OSError):
            held.enter_context(_locked(folder / _GATE, _GATE_S))
        yield


def _sweep(folder: Path) -> None:
    """Removes what killed processes of this run have left: nobody may start another one soon."""
    with suppress(Timeout, OSError), _locked(folder / _GATE):
        for rival in _rivals(folder, None):
            with suppress(Timeout, OSError), _locked(rival):
                rival.with_suffix(_HOLDER).unlink(missing_ok=True)


def _is_fellow(rival: Path, terms: Terms | None) -> bool:
    word = read_holder(rival.with_suffix(_HOLDER)) if terms else None
    return word is not None and word.terms == terms


def process_name() -> str:
    """A name for files of one process's own, on folders that machines share."""
    return f"{HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _rivals(folder: Path, shard: Shard | None) -> list[Path]:
    """The locks, held or left behind, of runs that would work on the same slides."""
    beside = f".run.shard-*-of-{shard.count}{_SUFFIX}" if shard else None
    found = sorted(folder.glob(f".run*{_SUFFIX}"))
    return [path for path in found if not (beside and path.match(beside))]


@contextmanager
def _locked(path: Path, seconds: float = 0) -> Iterator[None]:
    """Holds the lock of one file, which is gone afterwards.

    Raises:
        Timeout: somebody else holds it.
        OSError: it can't be made.
    """
    lock = file_lock(path)
    while True:
        try:
            lock.acquire(timeout=seconds)
            break
        except Timeout:
            if path.exists():  # else its holder has ended just now
                raise
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                path.unlink(missing_ok=True)
            raise
    try:
        yield
    finally:
        # While it is held: who waits for this file sees that it is gone, and makes another. An
        # open file can't be removed on Windows, where the lock's release does it.
        with suppress(OSError):
            path.unlink()
        lock.release()


@contextmanager
def _word(path: Path, holder: Holder) -> Iterator[None]:
    """Says who is at work for as long as it lasts; a full disk doesn't matter."""
    with suppress(OSError):
        write_whole(path, to_json(holder.model_dump(mode="json")))
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def read_holders(folder: Path, shard: Shard | None) -> list[Holder]:
    """Who says to be at work in a folder, the first to come first.

    A killed run's word stays, and stands for nothing.
    """
    if shard:
        paths = [folder / f".{record_name(shard, _HOLDER)}"]
    else:
        found = folder.glob(f".run*{_HOLDER}")
        paths = [path for path in found if not path.name.startswith(".run.shard-")]
    words = [word for path in paths if (word := read_holder(path))]
    return sorted(words, key=lambda holder: (holder.since, holder.host, holder.pid))


def read_holder(path: Path) -> Holder | None:
    """Who a file says to be at work; None where it says nothing sensible, or is gone."""
    try:
        return Holder.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def refusal(folder: Path, holder: Holder | None, terms: Terms | None, todo: str) -> InUseError:
    """What is told to a run that may not be in a folder together with another one.

    Args:
        folder: the folder.
        holder: who is at work there; None where it doesn't say.
        terms: those of who is refused; None where nobody could join it.
        todo: what to do.
    """
    why = ""
    if holder and holder.terms and terms:
        why = f"; it has {holder.terms.differ(terms)}, so that this one can't join it"
    said = holder or "it does not say who"
    problem = f"--out {show(folder)}: another run is at work there ({said}){why}; {todo}"
    return InUseError(with_code(problem, "out-in-use"))


def _no_lock(folder: Path, shared: bool) -> Doubt:
    return Doubt(
        code="no-lock",
        text=f"{show(folder)}: this file system has no locks: another run that starts there now "
        f"would not be noticed{', unless it screens all slides, too' if shared else ''}",
    )

"""Who screens which slide where several processes are one run, on a file system that they share.

There is no server, and no lock is needed. A process that wants a slide makes a file of the slide's
name and the number 0 in the hidden folder ``.claims`` below the output folder. The file system lets
one process make it, and refuses the others: that is the whole agreement. Who makes the file of the
next number takes a slide over, and there, too, only one can. Nothing is renamed, and nothing is
removed while anybody is at work, so what a machine remembers of the folder may be old: who goes by
it is refused.

A slide may be taken over where its process has given it back, has left, or is dead: see
`pipeline.batch.presence`. What became of a slide stands in its claim, which stays until the last
process has left: nobody does a slide twice, failed ones included, whatever he remembers. (While a
process has no company, claims of complete slides go at once: who joins later finds the results, and
looks for one once more when it has claimed.)

A process that was suspended, or cut off from the share, may find that others took over meanwhile. A
claim that has lived through a pause counts only if its process can make the next number, too: see
`Board.is_mine`. What is lost is dropped. (Results are whole, and the same whoever makes them: one
that is suspended in the very moment of moving its result in does no harm either.)
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from configs import ConfigError
from pipeline.batch.lock import BY_SHARDS, Holder, one_by_one, refusal
from pipeline.batch.presence import FOLDER, Pace, Presence, elapsed, is_token
from pipeline.batch.run_record import SlideRecord
from pipeline.batch.shared_files import create
from pipeline.reports.report import encodable
from pipeline.reports.writers import partial_name
from pipeline.slides.readers.base import show

State = Literal["in work", "done", "free"]

_STOP = "stop"
_UNKNOWN_S = 2.0
"""Seconds in which a process that has just come says who it is."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standing:
    """How it stands with a slide.

    Attributes:
        state: "free" is what may be claimed or taken over.
        number: of the last claim; -1 where there is none.
        holder: who has it, or had it, as far as it is known.
        record: what became of a slide that is done.
    """

    state: State
    number: int = -1
    holder: Holder | None = None
    record: SlideRecord | None = None


@dataclass
class _Claim:
    """A claim of this process: the number of its file, and since when it is known to be ours."""

    number: int
    since: float


class Claims(Protocol):
    """What a batch asks of who shares the slides with it; names are those of slides.

    Attributes:
        first: whether nobody else was at work when it came.
    """

    first: bool

    @property
    def accompanied(self) -> bool:
        """Whether anybody else was ever at work with it."""

    def notice(self) -> None:
        """Looks whether anybody has come, sooner than that is looked at by itself."""

    def claim(self, name: str) -> bool:
        """Makes a slide ours that nobody has claimed; whether it is.

        Raises:
            InUseError: this process was taken for dead, and others are at work on other terms.
            OSError: it can't be written.
        """

    def take_over(self, name: str, standing: Standing) -> bool:
        """Makes a slide ours that is free; False where somebody was quicker. As `claim`."""

    def is_mine(self, name: str) -> bool:
        """Whether a slide is still ours; to be asked before its result is published.

        Raises:
            InUseError, OSError: as for `claim`.
        """

    def end(self, name: str, record: SlideRecord) -> None:
        """Says what became of a slide of ours; nobody claims it any more."""

    def release(self, name: str) -> None:
        """Lets others have a slide of ours."""

    def look(self, name: str) -> Standing:
        """How it stands with a slide."""

    def fellows(self) -> list[Holder | None]:
        """Others who seem to live; None for one that doesn't say who it is."""

    def stop_all(self) -> None:
        """Has all who are at work end before their next slide."""

    @property
    def stopped(self) -> bool:
        """Whether somebody has said so."""

    def leave(self) -> bool:
        """Gives back what it has; whether nobody else is left."""

    def clear(self) -> None:
        """Removes all claims: for the last who leaves."""


class Board:
    """Claims as files in one output folder.

    Args:
        out: the output folder.
        holder: this process.
        pace: how often it shows that it lives, and when others count as dead.
        anew: results that are there count for nothing: claims alone tell what this run has done.
    """

    def __init__(
        self, out: Path, holder: Holder, pace: Pace | None = None, *, anew: bool = False
    ) -> None:
        self.first = True
        self._anew = anew
        self._out, self._folder, self._holder = out, out / FOLDER, holder
        self._presence = Presence(out, holder, pace or Pace())
        self._mine: dict[str, _Claim] = {}

    @property
    def accompanied(self) -> bool:
        """See `Claims`."""
        return self._presence.accompanied

    def notice(self) -> None:
        """See `Claims`."""
        with suppress(OSError):
            self._presence.others()

    def enter(self) -> None:
        """Joins those who are at work. What a run left of which nobody lives is removed.

        Raises:
            InUseError: others are at work on other terms.
            OSError: the folder can't be written.
        """
        with one_by_one(self._out):
            if self._is_left():
                self._remove()
            self._join()
            self.first = not self._presence.living()

    def leave(self) -> bool:
        """See `Claims`. To leave twice does no harm."""
        for name in list(self._mine):
            self.release(name)
        self._presence.leave()
        return not self._presence.living()

    def clear(self) -> None:
        """See `Claims`. Who has joined in this moment keeps them."""
        with one_by_one(self._out):
            if not self._presence.living():
                self._remove()

    def _is_left(self) -> bool:
        """Whether there is anything that a run has left of which nobody lives."""
        try:
            found = len(os.listdir(self._folder))
        except FileNotFoundError:
            return False
        return bool(found > 1 or self._presence.others()) and not self._presence.living()

    def _remove(self) -> None:
        """Moves all claims away at once: there are none without processes."""
        gone = self._out / partial_name()
        with suppress(OSError):
            os.replace(self._folder, gone)
        shutil.rmtree(gone, ignore_errors=True)

    def fellows(self) -> list[Holder | None]:
        """See `Claims`."""
        return [self._presence.holder_of(token) for token in self._presence.living()]

    def claim(self, name: str) -> bool:
        """See `Claims`."""
        return self._make(name, 0)

    def take_over(self, name: str, standing: Standing) -> bool:
        """See `Claims`."""
        return self._make(name, standing.number + 1)

    def is_mine(self, name: str) -> bool:
        """See `Claims`. Where this process has never paused, nobody can have taken over."""
        claim = self._mine.get(name)
        paused = claim is not None and self._presence.has_paused(claim.since)
        if self._presence.gone:
            self._join_again()
            return False
        if claim is None or not paused:
            return claim is not None
        del self._mine[name]
        return self._make(name, claim.number + 1)

    def end(self, name: str, record: SlideRecord) -> None:
        """See `Claims`."""
        claim = self._mine.get(name)
        if record.status == "complete" and claim and self._may_forget(claim):
            del self._mine[name]
            with suppress(OSError):
                self._path(name, 0).unlink()
            return
        self._tell(name, {"done": record.as_json()})

    def release(self, name: str) -> None:
        """See `Claims`."""
        self._tell(name, {"free": True})

    def look(self, name: str) -> Standing:
        """See `Claims`."""
        number, content = -1, b""
        while True:
            try:
                content = self._path(name, number + 1).read_bytes()
            except FileNotFoundError:
                break
            except OSError:  # it is there, and says nothing
                content = b""
            number += 1
        if number < 0:
            return Standing("free")
        token, told = _read(content)
        holder = self._presence.holder_of(token) if token else None
        if isinstance(told, SlideRecord):
            return Standing("done", number, holder, told)
        path = self._path(name, number)
        dead = self._presence.is_dead(token) if token else self._presence.is_stale(path)
        return Standing("free" if dead or told == "free" else "in work", number, holder)

    def stop_all(self) -> None:
        """See `Claims`."""
        with suppress(OSError):
            create(self._folder / _STOP, "")

    @property
    def stopped(self) -> bool:
        """See `Claims`."""
        return (self._folder / _STOP).exists()

    def _join(self) -> None:
        self._presence.enter()
        for token in self._presence.living():
            holder = self._introduced(token)
            if holder is None or holder.terms != self._holder.terms:
                self._presence.leave()
                raise refusal(self._out, holder, self._holder.terms, BY_SHARDS)

    def _introduced(self, token: str) -> Holder | None:
        """Who a process is that may have come in this moment."""
        until = elapsed() + _UNKNOWN_S
        while (holder := self._presence.holder_of(token)) is None and elapsed() < until:
            time.sleep(0.05)
        return holder

    def _join_again(self) -> None:
        """Joins after somebody took this process for dead, and removed all claims.

        What it had is lost: others may have done it meanwhile, and left.
        """
        _log.warning("the claims in %s were removed meanwhile: joining again", self._folder)
        self._mine = {}
        self._join()

    def _make(self, name: str, number: int) -> bool:
        if self._presence.gone:
            self._join_again()
            number = 0
        word = {"by": self._presence.token, "name": encodable(name)}
        since = elapsed()
        try:
            create(self._path(name, number), json.dumps(word) + "\n")
        except FileExistsError:
            return False
        except FileNotFoundError:  # all claims were removed in this moment
            self._join_again()
            return self._make(name, 0)
        self._mine[name] = _Claim(number, since)
        return True

    def _may_forget(self, claim: _Claim) -> bool:
        """Whether nobody else has seen a claim, so that its result alone will tell of it."""
        alone = not self._anew and not self._presence.accompanied
        return alone and claim.number == 0 and not self._presence.has_paused(claim.since)

    def _tell(self, name: str, news: Mapping[str, Any]) -> None:
        claim = self._mine.pop(name, None)
        if claim is None or self._presence.gone:
            return
        try:
            with self._path(name, claim.number).open("r+b") as file:
                file.seek(0, os.SEEK_END)
                file.write(json.dumps(news).encode() + b"\n")
        except OSError as error:
            _log.warning("what became of a claim can't be written: %s", error)

    def _path(self, name: str, number: int) -> Path:
        """The file of a claim, of a name that any file system takes."""
        key = hashlib.sha256(encodable(name).encode()).hexdigest()[:32]
        return self._folder / f"{key}.{number}"


class Alone:
    """A run that shares its slides with nobody: all are its own, and no file is made."""

    first = True
    accompanied = False
    stopped = False

    def notice(self) -> None:
        """See `Claims`."""

    def claim(self, name: str) -> bool:
        """See `Claims`."""
        return True

    def take_over(self, name: str, standing: Standing) -> bool:
        """See `Claims`."""
        return True

    def is_mine(self, name: str) -> bool:
        """See `Claims`."""
        return True

    def end(self, name: str, record: SlideRecord) -> None:
        """See `Claims`."""

    def release(self, name: str) -> None:
        """See `Claims`."""

    def look(self, name: str) -> Standing:
        """See `Claims`."""
        return Standing("free")

    def fellows(self) -> list[Holder | None]:
        """See `Claims`."""
        return []

    def stop_all(self) -> None:
        """See `Claims`."""

    def leave(self) -> bool:
        """See `Claims`."""
        return True

    def clear(self) -> None:
        """See `Claims`."""


@contextmanager
def at_work(
    out: Path, holder: Holder, pace: Pace | None = None, *, anew: bool = False
) -> Iterator[Claims]:
    """This process among those who share the slides; alone where its terms say that nobody joins.

    See `Board` for the arguments.

    Raises:
        InUseError: others are at work on other terms.
        ConfigError: the folder can't be written.
    """
    if holder.terms is None:
        yield Alone()
        return
    board = Board(out, holder, pace, anew=anew)
    try:
        board.enter()
    except OSError as error:
        problem = f"--out {show(out)}: claims can't be written: {error.strerror}"
        raise ConfigError(problem) from error
    try:
        yield board
    finally:
        board.leave()


def _read(content: bytes) -> tuple[str | None, SlideRecord | Literal["free"] | None]:
    """Which process made a claim, and what it says of the slide; what makes no sense says nothing.

    A claim may be read while it is written: only whole lines count.
    """
    token: str | None = None
    told: SlideRecord | Literal["free"] | None = None
    for line in content.split(b"\n")[:-1]:
        try:
            entry = json.loads(line)
            if isinstance(by := entry.get("by"), str):
                token = by if is_token(by) else None  # it names a file
            elif "done" in entry:
                told = SlideRecord.parse(entry["done"])
            elif "free" in entry:
                told = "free"
        except (ValueError, AttributeError, RecursionError):
            continue
    return token, told

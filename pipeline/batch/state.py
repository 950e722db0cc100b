"""How a batch stands, by its files alone: while it runs, anywhere, and after it has ended.

What counts is what the last run was asked: records of shards with other settings or another model
are left out, and told. A slide that a run has begun and not ended is running where its process
lives; where that is gone, it was cut short. Of a process that may share its slides one can tell by
what it shows (`pipeline.batch.presence`): one that has left, or has been silent for long, is gone,
whoever has its number now. Of other processes of this machine their number tells, but for what was
begun before the machine was started anew. Of shards on other machines nobody can say from here:
their slides count as running, since when they do is told, and a person has to judge.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from configs import ConfigError
from pipeline.batch.journal import Sign, Told, journals, read_journal
from pipeline.batch.known import KnownResults
from pipeline.batch.lock import Holder, read_holders
from pipeline.batch.output import has_result, is_running
from pipeline.batch.presence import Seen, seen_at_work
from pipeline.batch.run_record import (
    RunRecord,
    Shard,
    SlideRecord,
    age_of,
    find_records,
    latest_slides,
    record_name,
    tell_missing_parts,
    times_of,
)
from pipeline.reports.report import on_disk
from pipeline.reports.summary import SummaryRow
from pipeline.reports.worklist import Reason, order_slides
from pipeline.reports.writers import HOST, MACHINE, is_earlier_start
from pipeline.slides.readers.base import show

_LOOKS = 5
"""Times that files are read again which changed meanwhile; then they are taken as they are."""


@dataclass(frozen=True)
class Running:
    """A slide that is being screened.

    Attributes:
        slide: its name.
        sign: by whom, and since when; None where its journal is of an older version, or gone.
    """

    slide: str
    sign: Sign | None


@dataclass(frozen=True)
class RunState:
    """How one run stands: the last one of all slides, or of a shard.

    Attributes:
        record: with the latest of each slide.
        running: what it has begun and not ended, where its process may live.
        cut_short: slides that it had begun when its process ended.
        done_before: slides that it has not reached, and of which a result of its settings and model
            lies there. Most of them need only a look.
        outdated: slides that it has not reached, and of which a result of others lies there.
        rate: slides an hour that it has screened, or tried to; None before the first has ended.
        left_s: seconds until it ends at that rate; None where that can't be said, or it has ended.
        holders: who says to be at work on it, where the process may live; the first to come first.
    """

    record: RunRecord
    running: tuple[Running, ...]
    cut_short: tuple[str, ...]
    done_before: tuple[str, ...]
    outdated: tuple[str, ...]
    rate: float | None
    left_s: float | None
    holders: tuple[Holder, ...]

    @property
    def alive(self) -> bool:
        """Whether it goes on, as far as can be told."""
        return self.record.status == "running" and bool(self.running or self.holders)

    @property
    def name(self) -> str:
        """Name of its record's file."""
        return record_name(self.record.shard, ".json")


@dataclass(frozen=True)
class Failure:
    """Why slides failed.

    Attributes:
        reason: what they have in common.
        slides: their names.
    """

    reason: Reason
    slides: tuple[str, ...]


@dataclass(frozen=True)
class BatchState:
    """How a batch stands.

    Attributes:
        runs: by shard, the last ones of the same settings and model.
        slides: the latest of each slide, by name.
        doubts: what could not be read, or doesn't count.
    """

    runs: tuple[RunState, ...]
    slides: Mapping[str, SlideRecord]
    doubts: tuple[str, ...]

    @property
    def running(self) -> list[Running]:
        """What is being screened."""
        return [one for run in self.runs for one in run.running]

    @property
    def done(self) -> list[str]:
        """Names of complete slides."""
        return [name for name, slide in self.slides.items() if slide.status == "complete"]

    @property
    def failed(self) -> list[str]:
        """Names of failed slides, but for those that are being tried again."""
        running = {one.slide for one in self.running}
        return [n for n, slide in self.slides.items() if slide.has_failed and n not in running]

    @cached_property
    def failures(self) -> tuple[Failure, ...]:
        """Why slides failed, as the work list tells it; the most common first."""
        return tuple(_failures({name: self.slides[name] for name in self.failed}))

    @property
    def rate(self) -> float | None:
        """Slides an hour: of all runs that go on, else of those that have ended."""
        runs = [run for run in self.runs if run.alive] or self.runs
        rates = [run.rate for run in runs if run.rate is not None]
        return sum(rates) if rates else None

    @property
    def left_s(self) -> float | None:
        """Seconds until the last run that goes on ends; None where that can't be said."""
        left = [run.left_s for run in self.runs if run.alive]
        return None if not left or None in left else max(one for one in left if one is not None)


def read_state(
    out: Path, now: datetime | None = None, known: KnownResults | None = None
) -> BatchState:
    """How the batch in an output folder stands.

    Args:
        out: the folder; nothing is written there.
        now: for tests; None for this moment.
        known: what is known of the results there, for who looks again and again; None to read it.

    Raises:
        ConfigError: there is no batch, or its record is damaged or of a newer version.
    """
    if not out.is_dir():
        raise ConfigError(f"{show(out)}: no such folder of reports")
    records, tolds, doubts = _read_unchanged(out)
    if not records and not tolds:
        raise ConfigError(f"{show(out)}: no batch of cytolibra screen (no run.json)")
    seen = tuple(seen_at_work(out))
    doubts += [_tell_silent(one) for one in seen if one.stale]
    latest = max((*records, *(t.record for t in tolds)), key=lambda record: record.started)
    known = known or KnownResults(out)
    runs, others = [], 0
    for record, signs in _by_run(records, tolds):
        if record.recipe == latest.recipe:
            runs.append(_state_of(record, signs, out, seen, known, now or datetime.now(UTC)))
        else:
            others += 1
    if others:
        doubts.append(
            f"{others} record(s) of runs with other settings or another model count no more"
        )
    if missing := tell_missing_parts([run.record for run in runs]):
        doubts.append(missing)
    slides = latest_slides(run.record for run in runs)
    return BatchState(tuple(runs), slides, tuple(doubts))


def _read_unchanged(out: Path) -> tuple[list[RunRecord], list[Told], list[str]]:
    """Records and journals of one moment: a run writes the one and removes the other."""
    for look in range(_LOOKS):
        seen = _stamps(out)
        doubts: list[str] = []
        try:
            records = [_read_record(path) for path in find_records(out)]
            tolds = list(_read_journals(out, doubts))
        except FileNotFoundError:  # ended just now
            continue
        if _stamps(out) == seen or look == _LOOKS - 1:
            return records, tolds, doubts
    raise ConfigError(f"{show(out)}: its records change too fast to be read; try again")


def _stamps(out: Path) -> list[tuple[Path, int]]:
    """What tells that a run was written whole meanwhile; lines that journals gain do no harm."""
    return [*times_of(find_records(out)), *((path, 0) for path in journals(out))]


def _read_record(path: Path) -> RunRecord:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"{show(path)}: can't be read: {error.strerror}") from error
    try:
        return RunRecord.model_validate_json(content)
    except ValidationError as error:
        raise ConfigError(f"{show(path)}: {_what_is_wrong(content)}") from error


def _read_journals(out: Path, doubts: list[str]) -> Iterator[Told]:
    for path in journals(out):
        try:
            told = read_journal(path)
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            if isinstance(error, OSError):
                doubts.append(f"{show(path)}: can't be read: {error.strerror}")
                continue
            head = path.read_bytes().partition(b"\n")[0]
            if _version(head) not in (None, _KNOWN):
                raise ConfigError(f"{show(path)}: {_what_is_wrong(head)}") from error
            doubts.append(f"{show(path)}: a journal without a head: left out")
            continue
        if told.lost:
            doubts.append(f"{show(path)}: {told.lost} line(s) cut off or damaged: left out")
        yield told


_KNOWN = RunRecord.model_fields["schema_version"].default


def _version(content: bytes) -> str | None:
    try:
        stated = json.loads(content)
    except (ValueError, RecursionError):
        return None
    version = stated.get("schema_version") if isinstance(stated, dict) else None
    return version if isinstance(version, str) else None


def _what_is_wrong(content: bytes) -> str:
    version = _version(content)
    if version not in (None, _KNOWN):
        return (
            f"is of version {show(Path(version))}, and this one knows {_KNOWN}; use what wrote it"
        )
    return (
        "is damaged; the same cytolibra screen command makes it anew, and keeps all results that "
        "are there"
    )


def _by_run(
    records: Sequence[RunRecord], tolds: Sequence[Told]
) -> Iterator[tuple[RunRecord, Mapping[str, Sign]]]:
    """The last run of each shard, with what journals add to its record."""
    heads: dict[tuple[int, int], RunRecord] = {}
    for record in (*records, *(told.record for told in tolds)):
        key = _key(record.shard)
        if key not in heads or _follows(record, heads[key]):
            heads[key] = record
    for key, head in heads.items():
        slides, signs = dict(head.slides), dict[str, Sign]()
        for told in (t for t in tolds if _key(t.record.shard) == key):
            for name, slide in told.record.slides.items():
                # What was noted in the journal came after what the record says, if not older.
                if name not in slides or age_of(slide) >= age_of(slides[name]):
                    slides[name] = slide
                    if name in told.signs:
                        signs[name] = told.signs[name]
        yield head.model_copy(update={"slides": slides}), signs


def _follows(record: RunRecord, known: RunRecord) -> bool:
    """Whether a record is of a later run, not of a process that has joined the known one."""
    joined = record.recipe == known.recipe and record.status == known.status == "running"
    return record.started > known.started and not joined


def _key(shard: Shard | None) -> tuple[int, int]:
    return (shard.index, shard.count) if shard else (0, 0)


def _tell_silent(one: Seen) -> str:
    holder = one.holder
    return (
        f"process {holder.pid} on {show(Path(holder.host))} has ended without a word, or been "
        f"silent for {one.silent_s:.0f} s: it counts as dead, and others of its run, or the same "
        "command, take over what it had in work"
    )


def _state_of(
    record: RunRecord,
    signs: Mapping[str, Sign],
    out: Path,
    seen: Sequence[Seen],
    known: KnownResults,
    now: datetime,
) -> RunState:
    seen = () if record.shard else seen
    begun = [name for name, slide in record.slides.items() if slide.status == "running"]
    dead = [name for name in begun if record.status != "running" or _is_dead(signs.get(name), seen)]
    running = tuple(Running(name, signs.get(name)) for name in begun if name not in set(dead))
    waiting = [name for name, slide in record.slides.items() if slide.status == "pending"]
    before, outdated = _done_before(record, waiting, out, known)
    holders = _live_holders(out, record, seen)
    going_on = record.status == "running" and bool(running or holders)
    rate = _rate(record, now if going_on else None)
    left = len(waiting) - len(before) + len(running)
    return RunState(
        record=record,
        running=running,
        cut_short=tuple(dead),
        done_before=before,
        outdated=outdated,
        rate=rate,
        left_s=3600 * left / rate if going_on and rate else None,
        holders=holders,
    )


def _done_before(
    record: RunRecord, waiting: Sequence[str], out: Path, known: KnownResults
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Slides with a result of a run's own recipe, and those with another; none of --overwrite."""
    before, outdated = list[str](), list[str]()
    for name in () if "--overwrite" in record.command else waiting:
        folder = on_disk(name, out)
        if has_result(out / folder):
            alike = known.recipe(folder) == record.recipe
            (before if alike else outdated).append(name)
    return tuple(before), tuple(outdated)


def _live_holders(out: Path, record: RunRecord, seen: Sequence[Seen]) -> tuple[Holder, ...]:
    if record.status != "running":
        return ()
    if seen:
        live = [one.holder for one in seen if not one.stale]
        return tuple(sorted(live, key=lambda holder: (holder.since, holder.host, holder.pid)))
    here = platform.node()
    said = read_holders(out, record.shard)
    return tuple(o for o in said if not _has_ended(o.pid, o.machine, here=o.host == here))


def _is_dead(sign: Sign | None, seen: Sequence[Seen]) -> bool:
    """Whether a process is known to be gone.

    What it shows of itself comes first: its number may be another process's by now, as that of a
    container's first one always is.
    """
    if sign is None:
        return False
    if shown := [one for one in seen if _is_of(one.holder, sign)]:
        return all(one.stale for one in shown)
    if sign.host == HOST:
        return _has_ended(sign.pid, sign.machine, here=True)
    return bool(seen)


def _is_of(holder: Holder, sign: Sign) -> bool:
    if sign.machine:
        return (holder.machine, holder.pid) == (sign.machine, sign.pid)
    return holder.pid == sign.pid and holder.machine.startswith(f"{sign.host}.")


def _has_ended(pid: int, machine: str, *, here: bool) -> bool:
    """Whether a process has ended, as far as its number tells.

    Args:
        pid: its number.
        machine: on which it has it; empty where an older version wrote that.
        here: whether that machine has this one's name.
    """
    if machine not in ("", MACHINE):
        return is_earlier_start(machine)
    return here and not is_running(pid)


def _rate(record: RunRecord, now: datetime | None) -> float | None:
    """Slides an hour, of those that were screened in this run.

    Args:
        record: of the run.
        now: where it goes on; else it is the last slide's end that counts.
    """
    ended = [
        slide.ended
        for slide in record.slides.values()
        if slide.ended and slide.ended >= record.started and not slide.reused
    ]
    if not ended:
        return None
    try:
        until = now or datetime.fromisoformat(max(ended))
        seconds = (until - datetime.fromisoformat(record.started)).total_seconds()
    except (ValueError, TypeError):  # no times, or some without a zone
        return None
    return 3600 * len(ended) / seconds if seconds > 0 else None


def _failures(failed: Mapping[str, SlideRecord]) -> Iterator[Failure]:
    """Failures by reason, as the work list tells them."""
    worklist = order_slides(
        [
            SummaryRow(name, slide.path, "failed", error=slide.error or "")
            for name, slide in failed.items()
        ]
    )
    for reason in worklist.reasons:
        names = (place.row.slide for place in worklist.places if reason.key in place.reasons)
        yield Failure(reason, tuple(names))

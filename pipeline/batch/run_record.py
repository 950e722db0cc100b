"""``run.json``: what a run was asked, and how it went with each slide.

It is written whole now and then, and at the end; what happens in between stands in the journal
(`pipeline.batch.journal`), so that attempts are counted even where a run is killed. Each shard has
a record of its own (``run.shard-2-of-5.json``): shards that run at the same time never write the
same file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from configs import ConfigError, Doubt, StrictModel
from configs.doubts import listed, split_code
from pipeline.batch.journal import journals, load_journal
from pipeline.reports.report import ModelFacts, encodable
from pipeline.reports.writers import make_whole

SCHEMA = Path(__file__).parent / "schema" / "run.schema.json"
"""The published JSON Schema of ``run.json``; made by ``make docs``."""


class Shard(StrictModel):
    """One of several parts of a batch, counted from 1.

    A slide's name alone says which part it falls to: whatever else comes or goes between the
    starts of two parts, no slide is of both, or of none.
    """

    index: int
    count: int

    def takes(self, name: str) -> bool:
        """Whether the slide of this name is of this part."""
        digest = hashlib.sha256(encodable(name).encode("utf-8")).digest()
        return int.from_bytes(digest[:8]) % self.count == self.index - 1

    @staticmethod
    def parse(text: str) -> Shard:
        """Reads ``i/n``.

        Raises:
            ConfigError: it is not two whole numbers with 1 <= i <= n.
        """
        index, _, count = text.partition("/")
        if index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count):
            return Shard(index=int(index), count=int(count))
        raise ConfigError(f"--shard {text}: expected i/n with i from 1 to n, such as 2/5")


# No model, though checked as one: a hundred thousand of them would take four times the memory.
@checked_dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class SlideRecord:
    """How it went with one slide.

    Attributes:
        path: where the slide lies.
        status: "running" stays only where a run was killed.
        attempts: how often its screening was begun, in earlier runs too.
        reused: whether a result that was there already was taken.
        rescored: whether its report was made of what an earlier run had found.
        seconds: how long the last attempt took.
        error: why it failed; of one that is to be tried again, why it did before.
        warnings: codes of what is to be told of it.
        ended: when, in UTC.
    """

    path: str
    status: Literal["pending", "running", "complete", "failed"] = "pending"
    attempts: int = 0
    reused: bool = False
    rescored: bool = False
    seconds: float | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()
    ended: str | None = None

    @property
    def has_failed(self) -> bool:
        """Whether it failed when it was last tried to the end, though it may be tried again."""
        return self.status == "failed" or (self.status != "complete" and self.error is not None)

    @property
    def finds_another(self) -> bool:
        """Whether it failed as the report in its place is another slide's, which stays."""
        return split_code(self.error or "")[1] == "other-slide"

    def changed(self, **changes: Any) -> SlideRecord:
        """The same with other values."""
        return replace(self, **changes)

    def as_json(self) -> dict[str, JsonValue]:
        """Its values, as JSON has them."""
        values: dict[str, JsonValue] = asdict(self)
        return values | {"warnings": list(self.warnings)}

    @staticmethod
    def parse(value: object) -> SlideRecord:
        """Takes what `as_json` has given.

        Raises:
            ValueError: it is none.
        """
        return _SLIDE.validate_json(json.dumps(value))


_SLIDE = TypeAdapter(SlideRecord)


class RunRecord(StrictModel):
    """What a run was asked, what it is done with, and how it goes with each slide.

    A run that is "complete" came to its end, though slides may have failed; one that "stopped"
    gave up early.

    Attributes:
        given: the settings as they were given, which cytolibra rescore goes by.
        model_given: name or path of the model, likewise; None in older records.
        warnings: what is to be told of the batch as a whole.
        not_read: by path, what looks like a slide and isn't read: its kind, and what to do.
    """

    schema_version: Literal["1.0"] = "1.0"
    status: Literal["running", "complete", "stopped", "interrupted"] = "running"
    command: tuple[str, ...]
    shard: Shard | None
    started: str
    ended: str | None = None
    software: dict[str, str]
    model: ModelFacts
    settings: dict[str, JsonValue]
    recipe: str
    given: dict[str, JsonValue] = Field(default_factory=dict)
    model_given: str | None = None
    warnings: tuple[Doubt, ...] = ()
    not_read: dict[str, str] = Field(default_factory=dict)
    slides: dict[str, SlideRecord]

    @property
    def rescores(self) -> bool:
        """Whether it is one of ``cytolibra rescore``, which screens nothing."""
        return self.command[1:2] == ("rescore",)


_RECORD = TypeAdapter(RunRecord)


def record_name(shard: Shard | None, suffix: str) -> str:
    """Name of the record (".json") or the log (".log") of a run."""
    return f"run.shard-{shard.index}-of-{shard.count}{suffix}" if shard else f"run{suffix}"


def save_record(record: RunRecord, out: Path) -> None:
    """Writes the record of a run.

    Raises:
        OSError: it can't be written.
    """
    # By pydantic, of 100,000 slides ten times as fast as by json; as bytes, not several copies.
    content = _RECORD.dump_json(record, indent=2)

    def write(partial: Path) -> None:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.write(b"\n")

    make_whole(out / record_name(record.shard, ".json"), write)


def load_record(path: Path) -> RunRecord | None:
    """The record in a file; None where there is none, or none that can be read."""
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def load_records(out: Path) -> list[RunRecord]:
    """The records of all runs and shards in an output folder; unreadable ones are left out.

    A journal counts as a record of the slides that it names.
    """
    told = [*map(load_record, find_records(out)), *map(load_journal, journals(out))]
    return [record for record in told if record]


def schema_text() -> str:
    """The JSON Schema of ``run.json``, as the text of the published file."""
    schema = RunRecord.model_json_schema(mode="serialization")
    stated = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
    return json.dumps(stated, indent=2, ensure_ascii=False) + "\n"


_NAMED = 5
"""Parts that are named where several are missing."""

_RECORDS = ("run.json", "run.shard-*.json")


def find_records(out: Path) -> list[Path]:
    """The files of the records of all runs and shards."""
    return sorted(path for pattern in _RECORDS for path in out.glob(pattern))


def is_record(name: str) -> bool:
    """Whether a file of that name is the record of a run, or of a shard."""
    return any(fnmatchcase(name, pattern) for pattern in _RECORDS)


def times_of(paths: Iterable[Path]) -> list[tuple[Path, int]]:
    """When files were written last; those that have just gone are left out."""
    found = []
    for path in paths:
        with suppress(FileNotFoundError):
            found.append((path, path.stat().st_mtime_ns))
    return found


def latest_slides(records: Iterable[RunRecord]) -> dict[str, SlideRecord]:
    """For each slide the record that tells the most attempts, the latest of these."""
    latest: dict[str, SlideRecord] = {}
    for record in records:
        for name, slide in record.slides.items():
            known = latest.get(name)
            if known is None or age_of(slide) > age_of(known):
                latest[name] = slide
    return latest


def of_last_run(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records by the settings and model of the run that began last, of all its shards."""
    last = max(records, key=lambda record: record.started, default=None)
    return [record for record in records if last and record.recipe == last.recipe]


def tell_missing_parts(records: Sequence[RunRecord]) -> str | None:
    """That parts of a batch have left no record, so that nobody counts their slides; else None.

    Args:
        records: of runs by the same settings and model. By which number the batch was parted the
            latest of them says; one of all slides, or of all parts of another number, is enough.
    """
    parts: dict[int, set[int]] = {}
    for record in sorted(records, key=lambda one: one.started):
        if record.shard is None:
            return None
        parts[record.shard.count] = parts.pop(record.shard.count, set()) | {record.shard.index}
    if not parts or any(len(there) == count for count, there in parts.items()):
        return None
    count, there = parts.popitem()
    missing = [str(index) for index in range(1, count + 1) if index not in there]
    named = listed(missing, _NAMED)
    return f"part(s) {named} of {count} have left no record: their slides are not counted"


def age_of(slide: SlideRecord) -> tuple[int, str]:
    """Of two records of one slide the one with the greater came later."""
    return slide.attempts, slide.ended or ""


def now() -> str:
    """This moment as records have it: in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8", newline="\n")

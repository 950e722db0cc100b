"""``cytolibra merge``: the cells of all slides of a batch in one file, for analysis."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs import ConfigError, Doubt
from configs.doubts import listed
from scripts.telling import warn

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.batch.last_run import LastRun, Verdict
    from pipeline.batch.places import Places
    from pipeline.reports.report import SlideReport


_NAMED = 3
"""Slides that are named where several are told of."""


class Target(StrEnum):
    """Formats that are written."""

    parquet = "parquet"
    duckdb = "duckdb"
    coco = "coco"
    spatialdata = "spatialdata"


@dataclass(frozen=True)
class Part:
    """One slide of a batch; its cells stay on the disk until they are written.

    Attributes:
        name: of its results, below the batch's folder.
        folder: of its results.
        recipe: hash of the settings and the model; empty where nobody knows it.
    """

    name: str
    folder: Path
    recipe: str


def merge(
    reports: Annotated[
        Path,
        typer.Argument(metavar="REPORTS", help="Folder that screen wrote.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The file to write; for spatialdata a folder, X.zarr."),
    ],
    to: Annotated[
        Target,
        typer.Option(
            help="Parquet and COCO need the extra parquet, the others extras of their own names."
        ),
    ] = Target.parquet,
    mixed: Annotated[
        bool,
        typer.Option(
            "--mixed", help="Merge slides of different settings, too; the column recipe parts them."
        ),
    ] = False,
) -> None:
    """Writes the cells of all slides of a batch as Parquet, DuckDB, COCO or SpatialData.

    They are written slide by slide; memory does not grow with the number of slides.

    Columns are those of cells.csv behind slide, the name of its results, and recipe, which is the
    same for slides of the same settings and model. Slides of different settings, or of others than
    the last run's, are refused without --mixed, those of different models or classes always: their
    scores don't compare. Slides that failed when last screened are left out, and so are those that
    have changed since and that the last run has not come to.

    Exit codes: 0 written, 2 the call is wrong or a report is damaged, 130 interrupted.

    Research use only. Not a medical device; not for diagnosis. Findings require review by a
    qualified cytologist.
    """
    from pipeline.batch.last_run import LastRun
    from pipeline.batch.places import find_places
    from pipeline.reports.arrow_cells import import_extra
    from pipeline.reports.writers import make_whole

    import_extra("pyarrow", "parquet", "merge")
    if to is Target.duckdb:
        import_extra("duckdb", "duckdb", "--to duckdb")
    if to is Target.spatialdata:
        import_extra("zarr", "spatialdata", "--to spatialdata")
    places = find_places(reports)
    runs = [LastRun.of(run) for run in places.runs]
    parts = _still_standing(find_parts(places), runs, mixed)
    facts = _common(parts, mixed)
    _check_place(out, to)
    counts = Counter[str]()
    write = {
        Target.parquet: write_parquet,
        Target.duckdb: write_duckdb,
        Target.coco: write_coco,
        Target.spatialdata: write_spatialdata,
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        make_whole(out, lambda partial: write[to](parts, facts, partial, counts))
    except OSError as error:
        raise ConfigError(f"--out {out}: can't be written: {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        raise ConfigError(f"--out {out}: its name is no text; name another file") from error
    warn([*map(str, places.doubts), *_missing(parts, runs)])
    typer.echo(f"{out}: {sum(counts.values())} cells of {len(parts)} slides")


def find_parts(places: Places) -> list[Part]:
    """The results that lie in a folder, by name."""
    from pipeline.batch.fingerprint import load_fingerprint
    from pipeline.reports.report import encodable

    parts = []
    for folder in places.results:
        known = load_fingerprint(folder)
        recipe = known.recipe[:12] if known else ""
        parts.append(Part(encodable(places.name_of(folder)), folder, recipe))
    return sorted(parts, key=lambda part: part.name)


def read_report(part: Part) -> SlideReport:
    """The report of a slide.

    Raises:
        ConfigError: it can't be read, or is of a version that isn't known.
    """
    from pipeline.reports.report import read_report as read

    return read(part.folder / "report.json")


def _common(parts: Sequence[Part], mixed: bool) -> dict[str, Any]:
    """What holds for all slides, with the classes, and whether any was looked at again.

    Raises:
        ConfigError: they are of different models, or of different settings that nobody asked for.
    """
    from pipeline.reports.arrow_cells import facts_of_all

    first, facts, graded, planes = parts[0], dict[str, Any](), False, False
    for part in parts:
        report = read_report(part)
        graded = graded or report.second_look is not None
        planes = planes or report.planes is not None
        own = {"classes": report.model.classes, **facts_of_all(report)}
        if not facts:
            facts = own
        differing = [key for key in ("classes", "weights") if own[key] != facts[key]]
        if differing:
            raise ConfigError(
                f"{first.folder} and {part.folder} are of models with different {differing[0]}, "
                "whose scores don't compare; merge them apart"
            )
    recipes = Counter(part.recipe for part in parts)
    if len(recipes) > 1 and not mixed:
        (_, most), *_ = recipes.most_common(1)
        other = next(p for p in parts if p.recipe != recipes.most_common(1)[0][0])
        raise ConfigError(
            f"{len(parts) - most} of {len(parts)} slides are of other settings than the rest, "
            f"{other.folder} first; cytolibra rescore --dry-run tells which, and makes them alike; "
            "or merge them with --mixed"
        )
    columns = {"graded": graded, "planes": planes}
    return {**facts, "schema_version": "1.0", **columns, "recipes": len(recipes)}


_OF_COLUMNS = ("classes", "graded", "planes")
"""Facts that say which columns there are."""


def schema_of(facts: dict[str, Any]) -> pa.Schema:
    """The columns of all slides."""
    import pyarrow as pa

    from pipeline.reports.arrow_cells import cell_schema

    cells = cell_schema(facts["classes"], facts["graded"], facts["planes"])
    own = [pa.field(name, pa.string(), nullable=False) for name in ("slide", "recipe")]
    told = {key: value for key, value in facts.items() if key not in _OF_COLUMNS}
    text = json.dumps(told, ensure_ascii=False)
    return pa.schema([*own, *cells], metadata={"cytolibra": text})


def batches_of(
    parts: Sequence[Part], schema: pa.Schema, counts: Counter[str]
) -> Iterator[pa.RecordBatch]:
    """All cells, some thousands at a time; counts those of each slide.

    Raises:
        ConfigError: a slide's files are damaged.
    """
    import pyarrow as pa

    from pipeline.reports.arrow_cells import read_batches

    for part in parts:
        for batch in read_batches(part.folder / "cells.csv", read_report(part)):
            counts[part.name] += len(batch)
            known = dict(zip(batch.schema.names, batch.columns, strict=True))
            known["slide"] = pa.repeat(part.name, len(batch))
            known["recipe"] = pa.repeat(part.recipe, len(batch))
            columns = [
                known[field.name] if field.name in known else pa.nulls(len(batch), field.type)
                for field in schema
            ]
            yield pa.record_batch(columns, schema=schema)


def write_parquet(
    parts: Sequence[Part], facts: dict[str, Any], path: Path, counts: Counter[str]
) -> None:
    """One Parquet file, its row groups in the order of the slides."""
    from pyarrow import parquet

    schema = schema_of(facts)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _gathered(batches_of(parts, schema, counts)):
            writer.write_table(batch)


def write_duckdb(
    parts: Sequence[Part], facts: dict[str, Any], path: Path, counts: Counter[str]
) -> None:
    """A database with the tables cells and slides, and units as comments of columns."""
    import duckdb
    import pyarrow as pa

    schema = schema_of(facts)
    cells = pa.RecordBatchReader.from_batches(schema, batches_of(parts, schema, counts))
    failure: list[Exception] = []
    with duckdb.connect(str(path)) as base:
        base.register("incoming", _keeping(cells, failure))
        try:
            base.execute("CREATE TABLE cells AS SELECT * FROM incoming")
        except duckdb.Error as error:
            raise (failure[0] if failure else ConfigError(f"duckdb: {error}")) from error
        base.unregister("incoming")
        slides = pa.Table.from_pylist([_row(part) for part in parts], _slide_schema())
        base.register("incoming", slides)
        base.execute("CREATE TABLE slides AS SELECT * FROM incoming")
        for field in schema:
            if field.metadata:
                unit = field.metadata[b"unit"].decode()
                base.execute(f"COMMENT ON COLUMN cells.{_quoted(field.name)} IS '{unit}'")
        told = schema.metadata[b"cytolibra"].decode().replace("'", "''")
        base.execute(f"COMMENT ON TABLE cells IS '{told}'")


def write_coco(
    parts: Sequence[Part], facts: dict[str, Any], path: Path, counts: Counter[str]
) -> None:
    """COCO: slides as images, cells as annotations with their score; a line each."""
    schema = schema_of(facts)
    categories = {one.name: number for number, one in enumerate(facts["classes"], start=1)}
    numbers = {part.name: number for number, part in enumerate(parts, start=1)}
    with path.open("w", encoding="utf-8", newline="") as stream:
        told = json.loads(schema.metadata[b"cytolibra"])
        stream.write(f'{{"info": {_json({"description": "cells that a detector found", **told})},')
        named = [{"id": number, "name": name} for name, number in categories.items()]
        stream.write(f'\n"categories": {_json(named)},\n"images": [')
        _write_rows(stream.write, (_image(part, numbers[part.name]) for part in parts))
        stream.write('\n],\n"annotations": [')
        rows = (row for batch in batches_of(parts, schema, counts) for row in batch.to_pylist())
        cells = (
            _annotation(row, number, numbers, categories) for number, row in enumerate(rows, 1)
        )
        _write_rows(stream.write, cells)
        stream.write("\n]}\n")


def write_spatialdata(
    parts: Sequence[Part], facts: dict[str, Any], path: Path, counts: Counter[str]
) -> None:
    """A SpatialData store; see `pipeline.reports.spatial_cells`."""
    from pipeline.reports.spatial_cells import SpatialSlide, region_names, write_store

    schema = schema_of(facts)
    slides = {}
    for part, region in zip(parts, region_names([part.name for part in parts]), strict=True):
        row = _row(part)
        row["warnings"] = " ".join(row["warnings"])
        slides[part.name] = SpatialSlide(part.name, region, row["mpp"], row["cells"], row)
    batches = (
        (slides[part.name], batch)
        for part in parts
        for batch in batches_of([part], schema, counts)
        if len(batch)
    )
    told = json.loads(schema.metadata[b"cytolibra"])
    write_store(path, list(slides.values()), batches, schema, facts["classes"], told)


def _check_place(out: Path, to: Target) -> None:
    """Refuses to write where something else is.

    Raises:
        ConfigError: there is.
    """
    if to is Target.spatialdata and out.exists():
        raise ConfigError(f"--out {out}: is there already; name a new folder, or remove it first")
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder; name a file in it")


def _gathered(batches: Iterator[pa.RecordBatch], least: int = 1 << 17) -> Iterator[pa.Table]:
    """Batches of many small slides as tables of a size that Parquet is good at."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= least:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _keeping(reader: pa.RecordBatchReader, failure: list[Exception]) -> pa.RecordBatchReader:
    """The same batches; keeps an error on their way, since DuckDB tells only that there is one."""
    import pyarrow as pa

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except Exception as error:
            failure.append(error)
            raise

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


def _slide_schema() -> pa.Schema:
    import pyarrow as pa

    words, numbers = ("slide", "recipe", "path"), ("mpp", "screened_mm2", "unread_mm2")
    counts = ("width", "height", "cells", "abnormal_cells")
    return pa.schema(
        [
            *(pa.field(name, pa.string()) for name in words),
            *(pa.field(name, pa.float64()) for name in numbers),
            *(pa.field(name, pa.int64()) for name in counts),
            pa.field("warnings", pa.list_(pa.string())),
        ]
    )


def _row(part: Part) -> dict[str, Any]:
    """A slide's row in a database."""
    report = read_report(part)
    return {
        "slide": part.name,
        "recipe": part.recipe,
        "path": report.slide.path,
        "width": report.slide.width,
        "height": report.slide.height,
        "mpp": report.slide.mpp,
        "screened_mm2": report.area.screened_mm2,
        "unread_mm2": report.area.unread_mm2,
        "cells": sum(report.counts.values()),
        "abnormal_cells": report.abnormal_cells,
        "warnings": [doubt.code for doubt in report.warnings],
    }


def _image(part: Part, number: int) -> dict[str, Any]:
    slide = read_report(part).slide
    size = {"width": slide.width, "height": slide.height}
    return {"id": number, "file_name": part.name, **size, "mpp": slide.mpp}


def _annotation(
    row: dict[str, Any], number: int, images: dict[str, int], categories: dict[str, int]
) -> dict[str, Any]:
    width, height = (round(row[f"{axis}_max"] - row[f"{axis}_min"], 2) for axis in "xy")
    return {
        "id": number,
        "image_id": images[row["slide"]],
        "category_id": categories[row["class"]],
        "bbox": [row["x_min"], row["y_min"], width, height],
        "area": round(width * height, 2),
        "iscrowd": 0,
        "score": round(row["score"], 4),
    }


def _write_rows(write: Callable[[str], object], rows: Iterator[dict[str, Any]]) -> None:
    for index, row in enumerate(rows):
        write(",\n" if index else "\n")
        write(_json(row))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _still_standing(parts: Sequence[Part], runs: Sequence[LastRun], mixed: bool) -> list[Part]:
    """Without those that failed or changed since: their reports are of files as they were before.

    Raises:
        ConfigError: nothing is left; or some are of other settings than the last run, and nobody
            asked for that.
    """
    from pipeline.batch.last_run import verdict_of

    found: dict[Verdict, list[Part]] = {}
    for part in parts:
        found.setdefault(verdict_of(part.folder, runs), []).append(part)
    failed, changed, old = (found.get(kind, []) for kind in _AGAINST)
    gone = {part.name for part in (*failed, *changed)}
    left = [part for part in parts if part.name not in gone]
    if not left:
        raise ConfigError(
            "all slides that have reports here failed when they were last screened, or have "
            "changed since; screen them again"
        )
    if old and not mixed:
        run = next(run for run in runs if run.verdict(old[0].folder) == "outdated")
        raise ConfigError(_refuse_old(old, len(parts), run))
    if failed:
        text = (
            f"{len(failed)} slides have a report of before, and failed when they were last "
            f"screened: {_named(failed)}; they are left out"
        )
        warn([text])
    if changed:
        text = (
            f"{len(changed)} slides have changed since their report was made, and the last run has "
            f"no other of them: {_named(changed)}; they are left out"
        )
        warn([text])
    if old:
        text = f"{len(old)} slides have reports of other settings than the last run: {_named(old)}"
        warn([Doubt(code="mixed-settings", text=text)])
    return left


_AGAINST: tuple[Verdict, ...] = ("failed", "changed", "outdated")


def _refuse_old(old: Sequence[Part], slides: int, run: LastRun) -> str:
    """That reports are of other settings than the last run, and what to do."""
    if run.rescores:
        which = "a cytolibra rescore that made none of them"
        remedy = "rescore them by those of before, given anew, or screen them by the new ones"
    else:
        which, remedy = "which has not come to them", "run its command again, to its end"
    return (
        f"{len(old)} of {slides} slides have reports of other settings than the last run, {which}: "
        f"{old[0].folder} first; {remedy}; or merge them with --mixed"
    )


def _named(parts: Sequence[Part]) -> str:
    return listed([part.name for part in parts], _NAMED)


def _missing(parts: Sequence[Part], runs: Sequence[LastRun]) -> Iterator[str]:
    """What the records of the batch name and is not in the file."""
    from pipeline.reports.report import encodable

    there = {Path(encodable(part.folder)) for part in parts}
    without = (Path(encodable(run.folder)) / name for run in runs for name in run.incomplete)
    if count := sum(place not in there for place in without):
        yield f"{count} slides of the batch are not complete; what they have not is not here"
    if others := frozenset[str]().union(*(run.not_read for run in runs)):
        yield f"{len(others)} files that look like slides were not read, and are not here"
    for run in runs:
        if run.parts:
            yield f"{run.folder}: {run.parts}"

"""What the program reads, of each kind one small example, and how the program reads it."""

from __future__ import annotations

import gzip
import importlib.util
import random
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from hostilefiles import SLIDES, make
from mutants import mutate, mutate_json, mutate_text, mutate_zip
from mutatedtalk import (
    change_answers,
    change_known,
    make_answers,
    make_claim,
    make_presence,
    read_answers,
    read_claims,
)
from scannerfiles import write_vsi
from slidefiles import picture

from configs import CytoLibraError

Mutator = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        make: writes the example into an empty folder; the file that is changed.
        read: reads it as the program does; what draws says which way where there are several.
        mutators: ways to change it.
        named: whether each refusal names the file.
        weight: how many files beside those of other kinds; less where one takes long.
        odd: whether some ways refuse the example as it is: two slides are few.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path, random.Random], None]
    mutators: Sequence[Mutator] = (mutate,)
    named: bool = True
    weight: float = 1
    odd: bool = False


SMALL, OVERVIEW = 3000, 32.0
"""Pixels of a slide that is read whole, and how many times smaller another is looked at."""


def _read_slide(path: Path, draw: random.Random) -> None:
    from pipeline.slides.slide import open_slide

    with open_slide(path, 0.25) as slide:
        longest = max(slide.size.width, slide.size.height)
        slide.overview(1 if longest < SMALL else OVERVIEW)


def _slide(name: str) -> Kind:
    return Kind(lambda folder: make(name, folder), _read_slide)


def _part_of_mirax(part: str, mutators: Sequence[Mutator]) -> Kind:
    """A file in the folder of a MIRAX slide, read by way of the slide."""
    return Kind(
        lambda folder: make("mirax", folder).with_suffix("") / part,
        lambda path, draw: _read_slide(path.parent.with_suffix(".mrxs"), draw),
        mutators,
        named=False,
    )


def _vsi() -> dict[str, Kind]:
    """The files of a VSI slide, where the package that reads them is here.

    Few: each slide has a process of its own.
    """
    if importlib.util.find_spec("fastslide") is None:
        return {}

    def kind(part: str) -> Kind:
        def make_one(folder: Path) -> Path:
            write_vsi(folder / "a.vsi", picture(256, 192))
            (path,) = folder.glob(part)
            return path

        def read(path: Path, draw: random.Random) -> None:
            (slide,) = (folder for folder in path.parents if (folder / "a.vsi").is_file())
            _read_slide(slide / "a.vsi", draw)

        return Kind(make_one, read, named=False, weight=0.1)

    return {"vsi": kind("a.vsi"), "ets": kind("_a_/stack*/frame_t.ets")}


def _zarr(part: str, mutators: Sequence[Mutator]) -> Kind:
    """A file of an OME-Zarr, whose chunks lie in shards."""

    def make_one(folder: Path) -> Path:
        from zarrfiles import write_ngff

        more = {"shards": (1, 3, 1, 64, 64)}
        path = write_ngff(folder / "a.zarr", picture(90, 70), version="0.5", chunk=32, more=more)
        return path / part

    def read(path: Path, draw: random.Random) -> None:
        _read_slide(next(folder for folder in path.parents if folder.suffix == ".zarr"), draw)

    return Kind(make_one, read, mutators, named=False, weight=0.5)


def _make_sidecar(folder: Path) -> Path:
    from models.card import DEFAULT_MODEL, SIDECAR, find_model

    return Path(shutil.copy(find_model(DEFAULT_MODEL) / SIDECAR, folder))


def _read_sidecar(path: Path, draw: random.Random) -> None:
    from models.card import read_card

    read_card(path.parent)


def _make_kept(folder: Path) -> Path:
    from keptcases import make_kept

    from pipeline.reports.detections import FILE, save_kept

    save_kept(make_kept(), folder)
    return folder / FILE


def _read_kept(path: Path, draw: random.Random) -> None:
    from pipeline.reports.detections import load_kept

    load_kept(path.parent)


# Annotations


def _annotations(base: str, mutators: Sequence[Mutator]) -> Kind:
    def make_one(folder: Path) -> Path:
        from annotationfiles import WRITERS
        from hostilefiles import NAME

        return WRITERS[base](folder, NAME)

    return Kind(make_one, _read_annotations, (mutate, *mutators))


def _read_annotations(path: Path, draw: random.Random) -> None:
    from annotationfiles import HEIGHT, MPP, NDPI, WIDTH
    from hostilefiles import NAME

    from data.annotations import ImageInfo, read_fields

    image = path.parent / NAME  # found, never opened
    image.touch()
    read_fields(path, [path.parent], info_of=lambda _: ImageInfo(WIDTH, HEIGHT, MPP, NDPI))


def _within_gzip(data: bytes, draw: random.Random) -> bytes:
    changed = draw.choice([mutate_json, mutate_text])(gzip.decompress(data), draw)
    return gzip.compress(changed, 1)


# Settings


def _make_settings(folder: Path) -> Path:
    path = folder / "settings.yaml"
    path.write_text(
        "extends: screen/default\ntiler: {size: 512, overlap: 128}\nthreshold: 0.4\n"
        "triage:\n  rule: null\nreports: &r {csv: excel}\nkept:\n  floor: 0.05\n",
        encoding="utf-8",
    )
    return path


def _read_settings(path: Path, draw: random.Random) -> None:
    from configs.loading import load_config
    from pipeline.settings import ScreenSettings

    load_config(path, ScreenSettings)


def _make_scales(folder: Path) -> Path:
    path = folder / "mpp.csv"
    path.write_text('slide,mpp\na/b.svs,0.25\n"c ""d"".tif",0.5\ne.svs,0.221\n')
    return path


def _read_scales(path: Path, draw: random.Random) -> None:
    from pipeline.slides.mpp_table import load_mpp_table

    load_mpp_table(path).check([path.parent / "a" / "b.svs"])


# Results of a batch, and what reads them


class FailedError(Exception):
    """A command ended otherwise than it may."""


class SomeFailedError(CytoLibraError):
    """A command has ended, and told that some of it failed.

    Attributes:
        output: all that it printed.
    """

    def __init__(self, output: str) -> None:
        super().__init__("some failed")
        self.output = output


def call(command: str, *words: object) -> str:
    """Calls a subcommand in this process, as the command line does.

    Returns:
        What it printed.

    Raises:
        SomeFailedError: a part of its work failed; with what it printed.
        CytoLibraError: it was refused; the line that it printed.
        FailedError: it has printed no such line, or a traceback.
    """
    from typer.testing import CliRunner

    from scripts.cli import build_app

    result = CliRunner().invoke(build_app(command), [command, *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    if "Traceback" in result.output:
        raise FailedError(result.output[-1500:])
    if result.exit_code not in (0, 1, 2):
        raise FailedError(f"{command}: exit code {result.exit_code}: {result.output[-500:]}")
    last = (result.stderr.splitlines() or [""])[-1]
    if result.exit_code and last.startswith("error: "):
        raise CytoLibraError(last.removeprefix("error: "))
    if result.exit_code == 2:
        raise FailedError(f"{command}: {result.stderr!r}")
    if result.exit_code:
        raise SomeFailedError(result.output)
    return result.output


SCREEN = ("--model", "cric-fcos-light", "--set", "tiler.size=512", "--set", "scale.check=false")
READER = "Ann"


def make_batch(folder: Path) -> Path:
    """Screens two slides, of which one is cut off, and reads the first as a reviewer would.

    Returns:
        The folder of reports; slides lie beside it.
    """
    from slidefiles import truncate, write_pyramid

    from data.synth import draw_field

    slides, out = folder / "slides", folder / "out"
    slides.mkdir()
    for name in ("a.tif", "b.tif"):
        pixels = draw_field(7, (700, 600), 0.25)[0]
        write_pyramid(slides / name, pixels, levels=1, mpp=0.25)
    truncate(slides / "b.tif")
    words = ("screen", slides, "--out", out, *SCREEN)
    with suppress(CytoLibraError), patch("sys.argv", ["cytolibra", *map(str, words)]):
        call(*words)
    _leave_journal(out)
    _review(out)
    (folder / "labels.csv").write_text("slide,label\na.tif,HSIL\n")
    return out


def _leave_journal(out: Path) -> None:
    """What a run leaves behind that was killed while it screened."""
    from pipeline.batch.journal import Journal
    from pipeline.batch.run_record import RunRecord

    record = RunRecord.model_validate_json((out / "run.json").read_text())
    slides = record.slides
    now = {"a.tif": {"status": "running"}, "b.tif": {"attempts": 2}}
    changed = {name: slides[name].changed(**values) for name, values in now.items()}
    record = record.model_copy(update={"slides": changed})
    journal = Journal(out, "run")
    for name in ("a.tif", "b.tif"):
        journal.add(record, name)


def _review(out: Path) -> None:
    """Some decisions of one reader, signed."""
    from pipeline.review.catalogue import Catalogue
    from pipeline.review.store import ReviewStore, parse_change

    with Catalogue(out) as catalogue, ReviewStore.open(out) as store:
        (result,) = catalogue
        who, table = store.reader(READER), catalogue.cells(result)
        changes: list[dict[str, object]] = []
        for row, verdict in zip(
            range(len(table.cells)), ["agree", "reject", "unsure"], strict=False
        ):
            cells = table.cells
            said = {
                "label": table.classes[cells.labels[row]].name,
                "score": float(cells.scores[row]),
                "box": cells.boxes[row].tolist(),
            }
            changes.append(
                {"kind": "cell", "key": table.key(row), "verdict": verdict, "said": said}
            )
        changes.append({"kind": "slide", "category": "HSIL", "adequacy": "satisfactory"})
        changes.append({"kind": "sign", "signed": True})
        for number, change in enumerate(changes):
            version = store.reading(result.key, who).version
            whole = change | {"id": f"{number:032x}", "version": version}
            store.apply(result.key, who, parse_change(whole))


def _view(out: Path, draw: random.Random) -> None:
    """Opens a folder as the reading room does, and asks for what its page asks for."""
    from viewbrowsers import HOST, TOKEN, Browser

    from pipeline.review.catalogue import Catalogue
    from pipeline.review.server.room import Room
    from pipeline.review.server.sessions import Sessions
    from pipeline.review.store import ReviewStore

    with Catalogue(out) as catalogue, ReviewStore.open(out) as store:
        hosts = frozenset({HOST})
        room = Room(catalogue=catalogue, store=store, sessions=Sessions(TOKEN), hosts=hosts)
        try:
            browser = Browser(room)
            browser.sign_in(READER)
            slides = browser.get("/api/slides")
            assert slides.status_code == 200, slides.text
            for slide in slides.json()["slides"]:
                for part in ("", "/cells", "/readings", "/tiles.dzi"):
                    answer = browser.get(f"/api/slides/{slide['id']}{part}")
                    assert answer.status_code < 500 or answer.json()["detail"], answer.text
        finally:
            room.desk.close()


def _command(*words: str) -> Callable[[Path, random.Random], object]:
    """Calls a command; OUT stands for the folder of reports, HERE for that around it."""

    def run(out: Path, draw: random.Random) -> str:
        places = {"OUT": str(out), "HERE": str(out.parent)}
        return call(
            *(re.sub("OUT|HERE", lambda found: places[found.group()], word) for word in words)
        )

    return run


def _read_labels(out: Path, draw: random.Random) -> None:
    from scripts.evaluation.slide_level import read_labelled

    read_labelled(out, out.parent / "labels.csv", None)


WAYS: dict[str, Callable[[Path, random.Random], object]] = {
    "status": _command("status", "OUT", "--json"),
    "told": _command("status", "OUT"),
    "summary": _command("status", "OUT", "--summary"),
    "retry": _command("retry", "OUT"),
    "screen": _command("screen", "HERE/slides", "--out", "OUT", *SCREEN),
    "rescore": _command("rescore", "OUT", "--out", "HERE/again", "--threshold", "0.4"),
    "in place": _command("rescore", "OUT", "--threshold", "0.45"),
    "parquet": _command("merge", "OUT", "--out", "HERE/m.parquet"),
    "coco": _command("merge", "OUT", "--out", "HERE/m.json", "--to", "coco"),
    "normal": _command("calibrate", "OUT", "--negatives", "--out", "HERE/n.json"),
    "judged": _command(
        *("evaluate", "--screened", "OUT", "--labels", "HERE/labels.csv", "--out", "HERE/e")
    ),
    "labelled": _read_labels,
    "export": _command("reviews", "export", "OUT", "--to", "coco", "--out", "HERE/x.json"),
    "qupath": _command("reviews", "export", "OUT", "--to", "qupath", "--out", "HERE/q"),
    "labels": _command("reviews", "export", "OUT", "--to", "labels.csv", "--out", "HERE/x.csv"),
    "agreement": _command("reviews", "agreement", "OUT"),
    "select": _command("reviews", "select", "OUT", "--fields", "2"),
    "view": _view,
}
"""By name: what reads a folder of reports."""

RARELY = {"retry": 0.1, "screen": 0.1}
"""Those that load a model, which takes half a second: how often beside the others."""


FILES = {
    "report": "out/a.tif/report.json",
    "cells": "out/a.tif/cells.csv",
    "fingerprint": "out/a.tif/fingerprint.json",
    "detections": "out/a.tif/detections.npz",
    "run": "out/run.json",
    "journal": "out/.journal/*.jsonl",
    "results": "out/.results.jsonl",
    "reviews": "out/reviews.sqlite",
    "labels": "labels.csv",
}
"""By kind: where it lies in the folder that `make_batch` fills."""


def _of_batch(
    name: str, mutators: Sequence[Mutator], ways: Sequence[str], named: bool = False
) -> Kind:
    """A file in a folder of reports, read by one of some ways each time."""

    def make_one(folder: Path) -> Path:
        make_batch(folder)
        (path,) = folder.glob(FILES[name])
        return path

    def read(path: Path, draw: random.Random) -> None:
        way = draw.choices(ways, [RARELY.get(name, 1) for name in ways])[0]
        place = next(folder for folder in path.parents if (folder / "out").is_dir())
        WAYS[way](place / "out", draw)

    return Kind(make_one, read, mutators, named, 0.5, odd=True)


_EVERY_REPORT = (
    *("screen", "rescore", "in place", "parquet", "coco", "normal", "judged", "export", "qupath"),
    *("select", "view"),
)
_RECORDS = ("status", "told", "retry", "screen", "rescore", "parquet", "normal", "view")
_JSON = (mutate_json, mutate_json, mutate_text, mutate)


def _change_database(data: bytes, draw: random.Random) -> bytes:
    """One field or row of a database is another; sound for SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.sqlite"
        path.write_bytes(data)
        with closing(sqlite3.connect(path)) as base:
            base.execute("PRAGMA journal_mode=DELETE")
            base.execute("PRAGMA foreign_keys=OFF")
            base.execute("PRAGMA ignore_check_constraints=ON")
            tables = [row[0] for row in base.execute(_TABLES)]
            filled = [t for t in tables if base.execute(f"SELECT 1 FROM {t} LIMIT 1").fetchone()]
            table = draw.choice(filled)
            columns = [row[1] for row in base.execute(f"PRAGMA table_info({table})")]
            column = draw.choice(columns)
            (old,) = draw.choice(base.execute(f"SELECT {column} FROM {table}").fetchall())
            new: object = draw.choice([*_FIELDS, b"\xff\xfe"])
            if isinstance(old, str) and old[:1] in "{[" and draw.random() < 0.7:
                new = mutate_json(old.encode(), draw).decode()
            with suppress(sqlite3.Error):  # a rule of the table forbids it
                if draw.random() < 0.85:
                    base.execute(f"UPDATE {table} SET {column} = ? WHERE {column} IS ?", (new, old))
                elif draw.random() < 0.5:
                    base.execute(f"DELETE FROM {table} WHERE {column} IS ?", (old,))
                else:
                    base.execute(draw.choice([f"DROP TABLE {table}", "PRAGMA user_version = 99"]))
            base.commit()
        return path.read_bytes()


_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
_FIELDS = [None, 0, -1, 2**62, 1e308, "", "x" * 5000, "é\0", "../x", "[", "{}", "null", "<script>"]


KINDS: dict[str, Kind] = {
    **{name: _slide(name) for name in SLIDES},
    "mirax keys": _part_of_mirax("Slidedat.ini", (mutate_text, mutate)),
    "mirax index": _part_of_mirax("Index.dat", (mutate,)),
    **_vsi(),
    "ngff": _zarr("zarr.json", _JSON),
    "zarr": _zarr("0/zarr.json", _JSON),
    "shard": _zarr("0/c/0/0/0/0/0", (mutate,)),
    "answers": Kind(make_answers, read_answers, (change_answers, mutate), odd=True),
    "claim": Kind(make_claim, read_claims, (mutate_json, mutate_text, mutate), named=False),
    "presence": Kind(make_presence, read_claims, _JSON, named=False),
    "sidecar": Kind(_make_sidecar, _read_sidecar, (mutate, mutate_json, mutate_text)),
    "kept": Kind(_make_kept, _read_kept, (mutate, mutate_zip)),
    **{
        name: _annotations(name, (mutate_text, mutate_json))
        for name in ("coco", "geojson", "labelme", "via")
    },
    **{
        name: _annotations(name, (mutate_text,))
        for name in ("asap", "imagescope", "ndpa", "cvat", "voc", "csv", "yolo")
    },
    "geojson.gz": _annotations("geojson.gz", (_within_gzip,)),
    "settings": Kind(_make_settings, _read_settings, (mutate, mutate_text), named=False),
    "scales": Kind(_make_scales, _read_scales, (mutate, mutate_text)),
    "report": _of_batch("report", _JSON, _EVERY_REPORT),
    "cells": _of_batch("cells", (mutate_text, mutate), _EVERY_REPORT),
    "fingerprint": _of_batch("fingerprint", _JSON, _EVERY_REPORT),
    "detections": _of_batch("detections", (mutate_zip,), ("rescore", "in place", "screen")),
    "run": _of_batch("run", _JSON, _RECORDS),
    "journal": _of_batch("journal", _JSON, _RECORDS),
    "results": _of_batch(
        "results", (change_known, change_known, mutate), ("summary", "screen", "rescore")
    ),
    "labels": _of_batch("labels", (mutate_text, mutate), ("labelled",), named=True),
    "reviews": _of_batch(
        "reviews",
        (_change_database, _change_database, mutate),
        ("export", "qupath", "labels", "agreement", "select", "view"),
    ),
}
"""By name."""

"""What is fuzzed: functions of bytes that may refuse them in one line, and nothing else."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import yaml
from fakes import MODEL, make_cells, make_report
from hostilefiles import SLIDES, change, make
from mutants import mutate, mutate_json, mutate_text, mutate_zip
from mutated import KINDS, Mutator
from mutatedtalk import change_answers, change_known

from configs import CytoLibraError

CASES = Path(__file__).parent.parent / "cases"


@dataclass(frozen=True)
class Target:
    """One parser, or a few of one format.

    Attributes:
        base: a kind of `mutated.KINDS` whose example and cases are the corpus; or a file's name.
        read: reads a file; may raise `CytoLibraError`.
        mutator: knows the format's form.
    """

    base: str
    read: Callable[[Path], object]
    mutator: Mutator


def seeds(target: Target) -> Iterator[bytes]:
    """The example of a target, every case that was made of it, and what its mutator makes."""
    with tempfile.TemporaryDirectory() as place:
        whole = make_example(target.base, Path(place)).read_bytes()
    yield whole
    for recipe in sorted(CASES.glob("*/case.yaml")):
        case = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        fills = any("fill" in one for one in case["changes"])  # gigabytes of nothing
        if case["base"] == target.base and not fills:
            with tempfile.TemporaryDirectory() as place:
                example = make_example(target.base, Path(place))
                yield change(example, case["changes"]).read_bytes()
    draw = random.Random(18)
    for _ in range(30):
        yield target.mutator(whole, draw)


def make_example(base: str, folder: Path) -> Path:
    """Writes the example of a base: a kind, slides, a journal, or what is known of results."""
    own = {"journal": _make_journal, "known": _make_known}
    if base in own:
        return own[base](folder)
    return make(base, folder) if base in SLIDES else KINDS[base].make(folder)


def refuses(read: Callable[[Path], object], path: Path) -> bool:
    """Whether reading a file ends in a refusal, which has to be one line.

    Raises:
        Exception: it ends in anything else.
    """
    told = ""
    try:
        read(path)
    except CytoLibraError as error:
        told = str(error)
    assert told.isprintable(), repr(told)
    return bool(told)


def _make_journal(folder: Path) -> Path:
    from pipeline.batch.journal import Journal, journals
    from pipeline.batch.run_record import RunRecord, SlideRecord

    slides = {
        "a.svs": SlideRecord(path="a.svs", status="complete", attempts=1),
        "b/c.svs": SlideRecord(path="b/c.svs", status="failed", attempts=2, error="torn"),
    }
    record = RunRecord(
        command=("cytolibra", "screen", "slides"),
        shard=None,
        started="2026-11-27T09:00:00+00:00",
        software={"cytolibra": "0"},
        model=MODEL,
        settings={"tiler": {"size": 512}},
        recipe="r",
        slides=slides,
    )
    journal = Journal(folder, "run")
    for name in slides:
        journal.add(record, name)
    (path,) = journals(folder)
    return path


def _read_journal(path: Path) -> None:
    from pipeline.batch.journal import load_journal

    load_journal(path)


def _make_known(folder: Path) -> Path:
    from pipeline.batch import known
    from pipeline.reports.slide_summary import SlideSummary

    summary = SlideSummary.of(make_report(Path("a.svs"), make_cells(20, 1)))
    made = known._Made("r", "openslide", summary.common)
    one = known._Result("1.2.3.4.5.6", made, 0.25, "a.svs:1:2", summary)
    path = folder / known.FILE
    known._write(path, {"a.svs": one, "b/c.svs": one._replace(mpp=None)})
    return path


def _read_known(path: Path) -> None:
    """Every line, as if its checksum were right: a hash keeps out what is to be tried."""
    from pipeline.batch import known

    with patch.object(known, "_unsealed", lambda line: line[known._SEAL + 1 : -1]):
        for name, one in known._read(path, {}):
            assert isinstance(name, str)
            assert len(one.summary.counts) == len(one.made.common.names)


def _read_jpeg(path: Path) -> None:
    from data.pixels.jpeg import jpeg_head
    from data.pixels.orientation import orientation_of
    from pipeline.slides.readers.dicom_codecs import codestream_size, transforms

    data = path.read_bytes()
    jpeg_head(data)
    transforms(data)
    codestream_size(data)
    assert orientation_of(data) in range(1, 9)


def _read_tiff(path: Path) -> None:
    from pipeline.slides.readers.tiff import open_plain
    from pipeline.slides.readers.tiff_file import find_truncation

    find_truncation(path)
    open_plain(path).close()


def _read_vendor_tiff(path: Path) -> None:
    from pipeline.slides.readers.vendor_planes import open_best_plane

    for vendor in ("hamamatsu", "aperio", "leica"):
        reader = open_best_plane(path, vendor)
        if reader:
            reader.close()


def _read_dicom(path: Path) -> None:
    from pipeline.batch.series import sort_dicom
    from pipeline.slides.readers.dicom import open_dicom

    sort_dicom([path])
    open_dicom(path).close()


def _by_kind(name: str) -> Callable[[Path], object]:
    return lambda path: KINDS[name].read(path, random.Random(0))


def _target(name: str, mutator: Mutator) -> Target:
    return Target(name, _by_kind(name), mutator)


TARGETS: dict[str, Target] = {
    "tiff": Target("flat", _read_tiff, mutate),
    "ome": Target("ome", _read_tiff, mutate_text),
    "vendor-tiff": Target("svs", _read_vendor_tiff, mutate),
    "jpeg": Target("jpeg", _read_jpeg, mutate),
    "dicom": Target("dicom", _read_dicom, mutate),
    "journal": Target("journal", _read_journal, mutate_json),
    **{name: _target(name, mutate_json) for name in ("coco", "geojson", "labelme", "via")},
    **{name: _target(name, mutate_text) for name in ("asap", "cvat", "imagescope", "ndpa", "voc")},
    **{name: _target(name, mutate_text) for name in ("csv", "yolo", "scales", "settings")},
    "sidecar": _target("sidecar", mutate_json),
    "results": Target("known", _read_known, change_known),
    "claim": _target("claim", mutate_json),
    "answers": _target("answers", change_answers),
    **{name: _target(name, mutate) for name in ("kfb", "tmap-06", "tmap-07")},
    "kept": _target("kept", mutate_zip),
}
"""By name."""

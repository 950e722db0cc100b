"""``python -m tests.fuzz NAME --seconds N``: feeds a parser with what libFuzzer comes up with.

Needs atheris, which is no dependency of the tests: it is built for Linux and few versions of
Python. Guided by coverage, it finds what seeded mutations (``tests/test_mutations.py``) don't.
What it finds is to be mended, and kept as a case in ``tests/cases``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import random
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent
OURS = ("configs", "data", "models", "pipeline")
_TIFF = (("pipeline.slides.readers.tiff", "pipeline.slides.readers.vendor_planes"), ("tifffile",))

READERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **dict.fromkeys(("tiff", "ome", "vendor-tiff"), _TIFF),
    "dicom": (("pipeline.slides.readers.dicom", "pipeline.batch.series"), ("pydicom",)),
    "jpeg": (
        ("data.pixels.jpeg", "data.pixels.orientation", "pipeline.slides.readers.dicom_codecs"),
        (),
    ),
    "journal": (("pipeline.batch.journal", "pipeline.batch.run_record"), ()),
    "scales": (("pipeline.slides.mpp_table",), ()),
    "settings": (("configs.layers", "configs.loading"), ("yaml",)),
    "sidecar": (("models.card",), ()),
    "results": (("pipeline.batch.known",), ()),
    "claim": (("pipeline.batch.claims", "pipeline.batch.presence"), ()),
    "answers": (("pipeline.slides.isolated", "pipeline.slides.checked"), ()),
    "kfb": (("pipeline.slides.readers.kfb",), ()),
    **dict.fromkeys(("tmap-06", "tmap-07"), (("pipeline.slides.readers.tmap",), ())),
    "kept": (("data.arrays", "pipeline.reports.detections"), ()),
}
"""By target: modules that read, and packages of others that are measured beside ours. The rest
reads annotations."""

SECONDS, MEGABYTES = 20, 4096
"""What no file may take."""

HELD = ".fuzz"
"""Below the repository, ignored by git: a corpus that grows, and what was found."""


def main() -> None:
    """Fuzzes one target, or reads files that were found once more."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", nargs="?", help="of the target; without it, all are listed")
    parser.add_argument("files", nargs="*", type=Path, help="read these instead of fuzzing")
    parser.add_argument("--seconds", type=int, default=60, help="how long; 60 by default")
    parser.add_argument("--folder", type=Path, default=REPO / HELD, help="of corpus and findings")
    options = parser.parse_args()
    for place in ("tests/pipeline", "tests"):
        sys.path.insert(0, str(REPO / place))
    atheris = None if options.files else _atheris()
    if atheris and options.name:
        _instrument(atheris, options.name)
    from tests.fuzz.targets import TARGETS

    if options.name not in TARGETS:
        print(*TARGETS, sep="\n")
        sys.exit(0 if options.name is None else f"no target is called {options.name}")
    if atheris:
        _fuzz(atheris, options.name, options.folder / options.name, options.seconds)
    for path in options.files:
        _look(options.name, path)


def _atheris():
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris (Linux, CPython 3.11 to 3.13)")
    return atheris


def _instrument(atheris, name: str) -> None:
    """Imports what a target reads by, measured: what was imported before can't be any more."""
    readers, others = READERS.get(name, (("data.annotations",), ()))
    with atheris.instrument_imports(include=[*OURS, *others]):
        for reader in readers:
            importlib.import_module(reader)


def _fuzz(atheris, name: str, folder: Path, seconds: int) -> None:
    from tests.fuzz.targets import TARGETS, refuses, seeds

    target = TARGETS[name]
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for data in seeds(target):
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    place = tempfile.TemporaryDirectory(prefix="fuzz")
    path = _file_of(target, Path(place.name))

    def look(data: bytes) -> None:
        path.write_bytes(data)
        refuses(target.read, path)

    def change(data: bytes, most: int, seed: int) -> bytes:
        draw = random.Random(seed)
        try:
            changed = target.mutator(data, draw) if draw.random() < 0.5 else data
        except Exception:  # no longer of the form that the mutator knows
            changed = data
        return changed[:most] if changed != data else atheris.Mutate(data, most)

    atheris.Setup(
        [
            *(sys.argv[0], str(corpus), f"-artifact_prefix={folder}/", "-print_final_stats=1"),
            *(f"-max_total_time={seconds}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}"),
        ],
        look,
        custom_mutator=change,
    )
    os.chdir(place.name)
    atheris.Fuzz()


def _file_of(target, folder: Path) -> Path:
    from tests.fuzz.targets import make_example

    return make_example(target.base, folder)


def _look(name: str, found: Path) -> None:
    from tests.fuzz.targets import TARGETS, refuses

    with tempfile.TemporaryDirectory() as place:
        path = _file_of(TARGETS[name], Path(place))
        path.write_bytes(found.read_bytes())
        print(f"{found}: {'refused' if refuses(TARGETS[name].read, path) else 'read'}")


if __name__ == "__main__":
    main()

"""``cytolibra doctor``: what this machine can run."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs import CytoLibraError
from scripts.checks import Check, check_model, check_out, check_scratch

if TYPE_CHECKING:
    from models.card import ModelCard

Fact = tuple[str, str]

_INSTRUCTIONS = (
    *("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "avx_vnni"),
    *("amx_int8", "amx_bf16", "neon", "sve", "i8mm", "bf16"),
)
SAFE_OPENSLIDE = (4, 0, 1)
"""The first version of the library without known holes."""

_CODECS = ("JPEG8", "JPEG2K", "JPEGXL", "LZW", "DEFLATE", "ZSTD", "WEBP")


def doctor(
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Try a folder for reports too: rights, locks."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out the self-test, which takes some seconds.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write all as JSON.")] = False,
) -> None:
    """Says what this machine can run; tries the shipped model, and a folder for reports.

    Ends with 1 where something is broken; each such line says what to do.
    """
    _check_here()
    sections: dict[str, Callable[[], Iterator[Fact]]] = {
        "software": _software,
        "readers": _readers,
        "processor": _processor,
        "devices": _devices,
        "free disk": _disks,
        "models": _models,
    }
    broken: list[Check] = []
    facts = {title: list(_sought(title, of, broken)) for title, of in sections.items()}
    tried = {"checks": [check_scratch(), *([] if quick else [check_model()]), *broken]}
    if out is not None:
        tried["reports' folder"] = list(check_out(out))
    sound = all(check.ok for checks in tried.values() for check in checks)
    if as_json:
        checks = {title: [{**asdict(c), "ok": c.ok} for c in of] for title, of in tried.items()}
        known = {title: dict(lines) for title, lines in facts.items()}
        typer.echo(json.dumps({"ok": sound, "facts": known, "checks": checks}, indent=2))
    else:
        _tell(facts | {title: [_line(c) for c in of] for title, of in tried.items()})
    if not sound:
        raise typer.Exit(1)


def _check_here() -> None:
    """Makes sure that there is a working folder: without one, loading torch ends the process."""
    try:
        os.getcwd()
    except OSError as error:
        raise CytoLibraError(
            f"the working folder can't be used ({error.strerror}): it was deleted or unmounted; "
            "change into another (cd) and call again"
        ) from error


def _sought(
    title: str, section: Callable[[], Iterator[Fact]], broken: list[Check]
) -> Iterator[Fact]:
    """The facts of a section, as far as they come: a driver may fail at any of them."""
    from pipeline.errors import kind_and_text

    try:
        yield from section()
    except Exception as error:
        broken.append(Check(title, kind_and_text(error), "mend or install anew what this is of"))


def _tell(sections: Mapping[str, Iterable[Fact]]) -> None:
    for title, facts in sections.items():
        typer.echo(title)
        for name, value in facts:
            typer.echo(f"  {name:<17} {value}")


def _line(check: Check) -> Fact:
    return check.name, check.found if check.ok else f"BROKEN: {check.found}; {check.mend}"


def _software() -> Iterator[Fact]:
    from pipeline.reports.report import software_versions

    yield "system", platform.platform()
    yield from software_versions().items()
    yield "bytecode", _bytecode()


def _bytecode() -> str:
    """Whether Python keeps what it compiles: pip compiles what it installs, uv does not."""
    import pydantic

    if Path(importlib.util.cache_from_source(pydantic.__file__)).is_file():
        return "kept"
    site = Path(pydantic.__file__).parents[1]
    reason = "PYTHONDONTWRITEBYTECODE is set" if sys.dont_write_bytecode else "nobody may write it"
    return (
        f"not kept, since {reason}: each start compiles all that it imports; "
        f"once, with the rights for it: python -m compileall -q {site}"
    )


def _readers() -> Iterator[Fact]:
    import imagecodecs
    import openslide

    from pipeline.slides.containers import tell_plugins
    from pipeline.slides.slide import FOLDER_SUFFIXES, IMAGE_SUFFIXES, SLIDE_SUFFIXES

    yield "openslide", _openslide(openslide.__library_version__)
    codecs = [name for name in _CODECS if getattr(imagecodecs, name).available]
    yield "decoders", ", ".join(codecs).lower()
    yield "slides", " ".join(sorted(SLIDE_SUFFIXES | FOLDER_SUFFIXES))
    yield "with --mpp", " ".join(sorted(IMAGE_SUFFIXES))
    yield "plug-ins", tell_plugins()


def _openslide(version: str) -> str:
    """The version that is loaded, and what to do where it is one that a file can attack."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if numbers >= SAFE_OPENSLIDE:
        return version
    safe = ".".join(map(str, SAFE_OPENSLIDE))
    return (
        f"{version}, older than {safe}: a crafted BIF file can write into its memory "
        f"(CVE-2026-48977); pip install 'openslide-bin>={safe}', or update the system's"
    )


def _processor() -> Iterator[Fact]:
    from pipeline.network.devices import cpu_instructions
    from pipeline.network.precision import NO_BF16, computes_bf16, computes_int8

    if importlib.util.find_spec("torch"):
        import torch

        found = torch.cpu.get_capabilities()
        threads = f"{torch.get_num_threads()} threads for torch"
    else:
        found = dict.fromkeys(cpu_instructions(), True) if sys.platform == "linux" else {}
        threads = "torch is not installed: there is no training, evaluating or exporting here"
    yield "name", str(found.get("cpu_name") or platform.processor() or platform.machine())
    yield "cores", f"{os.cpu_count()} of the machine, {threads}"
    yield "instructions", " ".join(name for name in _INSTRUCTIONS if found.get(name)) or "plain"
    yield "bf16", "computed" if computes_bf16() else f"refused: {NO_BF16}"
    yield "int8", "computed" if computes_int8() else "computed, more slowly: there is no VNNI"


def _devices() -> Iterator[Fact]:
    from configs import ConfigError
    from models.card import DEFAULT_MODEL, find_model, read_card
    from models.storage.graphs import load_openvino
    from pipeline.network.devices import count_gpus, find_device
    from pipeline.network.kept import cache_folder

    if gpus := count_gpus() if importlib.util.find_spec("torch") else 0:
        import torch

        for index in range(gpus):
            device = torch.cuda.get_device_properties(index)
            yield f"cuda:{index}", f"{device.name}, {device.total_memory / 2**30:.0f} GiB"
    chosen = find_device("auto")
    card = read_card(find_model(DEFAULT_MODEL))
    yield "auto", f"{chosen}, {_precision(card, chosen)} with {card.name}"
    try:
        load_openvino()
    except ConfigError as error:
        yield "openvino", f"{error}; torch runs the network on the CPU too, more slowly"
    else:
        yield (
            "openvino",
            f"runs the network on a CPU; cache: {cache_folder('openvino') or 'not writable'}",
        )


def _precision(card: ModelCard, device: str) -> str:
    """What "auto" comes to, and why."""
    from pipeline.network.fastest import SIDE, kept_seconds, known_fastest
    from pipeline.network.precision import candidates

    among = candidates(device, "openvino" if device == "cpu" else "torch", card)
    if len(among) == 1:
        return among[0]
    timed = ", ".join(f"{p} {1000 * s:.0f} ms" for p, s in kept_seconds(card).items())
    if fastest := known_fastest(card, among):
        return f"{fastest} ({f'{SIDE} px: {timed}' if timed else 'not timed: no cache'})"
    return f"the fastest of {', '.join(among)}, timed at the first screen,"


def _disks() -> Iterator[Fact]:
    for name, find in ("here", os.getcwd), ("temporary", tempfile.gettempdir):
        try:
            folder = find()
            yield name, f"{shutil.disk_usage(folder).free / 2**30:.1f} GiB ({folder})"
        except OSError as error:  # a mount that is gone, a disk that takes no file
            yield name, f"unknown: {error.strerror}"


def _models() -> Iterator[Fact]:
    from models import list_models

    cards = list_models()
    if not cards:
        yield "none", "is shipped with this installation"
    for card in cards:
        yield card.name, card.summary

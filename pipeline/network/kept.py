"""What was made or found out once on this machine, kept for the next start.

``CYTOLIBRA_CACHE`` names the folder; by default it lies in the user's own cache folder. All of it
can be thrown away at any time, and is made again then.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import uuid
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from models import ModelSource
from models.card import WEIGHTS, GraphFacts, ModelFileError, read_file
from models.storage.graphs import hash_graph, read_openvino, save_openvino

_SHA256 = "sha256"
"""Beside a network: the hash of its files."""


def cache_folder(kind: str) -> Path | None:
    """The folder of one kind of kept things; None where nothing can be kept."""
    try:
        folder = _user_cache() / kind
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # not writable, or a user without a home
        return None


def convert_once(model: ModelSource) -> Any:
    """The fp32 network of a model that carries none, as an ``openvino.Model``.

    Torch, which takes seconds to load, traces it the first time; then it is kept by the weights'
    hash. Of a detector that was made in memory nothing is kept.

    Raises:
        ExportError: OpenVINO is missing, or can't express one of the network's operations.
        ModelFileError: the weights are not what the sidecar says.
    """
    place = _place_of(model)
    if place and (kept := _read(place)):
        return kept
    from models.storage.export import to_openvino

    network = to_openvino(model.detector.cpu())
    if place:
        _keep(network, place)
        # As the next start will read it: OpenVINO knows a network that it compiled by its details.
        return _read(place) or network
    return network


def write_kept(place: Path, text: str) -> None:
    """Keeps a text in a file, whole or not at all; a full disk keeps nothing."""
    # Not by `tempfile`, whose files nobody else may read: the folder may be that of several people.
    unfinished = place.with_name(f"unfinished-{uuid.uuid4().hex}")
    with suppress(OSError):
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, place)
    with suppress(OSError):
        unfinished.unlink(missing_ok=True)


def _place_of(model: ModelSource) -> Path | None:
    """Where a model's network is kept; None where it can't be, or nobody knows its weights."""
    if model.folder is None:
        return None
    weights = hashlib.sha256(read_file(model.folder / WEIGHTS)).hexdigest()
    folder = cache_folder("graphs")
    if weights != model.card.sha256 or folder is None:  # loading them will say what is wrong
        return None
    digest = hashlib.sha256(weights.encode())
    digest.update(model.card.detector.model_dump_json().encode())
    for package in ("cytolibra", "openvino"):
        with suppress(metadata.PackageNotFoundError):
            digest.update(f"{package} {metadata.version(package)}".encode())
    return folder / digest.hexdigest()[:32]


def _read(place: Path) -> Any | None:
    """A network that was kept; one that was damaged since is thrown away."""
    if not place.is_dir():
        return None
    try:
        facts = GraphFacts(sha256=(place / _SHA256).read_text("ascii"))
        return read_openvino(place, "openvino", facts)
    except (OSError, ValueError, RuntimeError, ModelFileError):
        shutil.rmtree(place, ignore_errors=True)
        return None


def _keep(network: Any, place: Path) -> None:
    """Whole or not at all: another process may want it at the same time."""
    with (
        suppress(OSError, RuntimeError),  # a full disk: converted again at the next start
        tempfile.TemporaryDirectory(dir=place.parent, prefix="unfinished-") as folder,
    ):
        unfinished = Path(folder) / place.name
        unfinished.mkdir()
        save_openvino(network, unfinished, "openvino")
        (unfinished / _SHA256).write_text(hash_graph(unfinished, "openvino"), "ascii")
        os.replace(unfinished, place)


def _user_cache() -> Path:
    if named := os.environ.get("CYTOLIBRA_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        default = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        default = Path.home() / "Library" / "Caches"
    else:
        default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return default / "cytolibra"

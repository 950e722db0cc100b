"""Which precision is the fastest on this CPU: timed once, and kept.

Instructions alone don't tell: a CPU without any for int8 may still compute it half as fast again as
fp32. What is allowed to be chosen says `pipeline.network.precision.candidates`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from configs import StrictModel
from models.card import ModelCard
from pipeline.locks import file_lock
from pipeline.network.devices import cpu_instructions
from pipeline.network.kept import cache_folder, write_kept
from pipeline.network.precision import Precision

SIDE = 512
"""Pixels of the tile that is timed; how fast precisions are, in ratio, does not hang on it."""

ROUNDS = 4
"""Of one tile in each; the first does not count. In turns: what else the machine does hits all."""

MARGIN = 1.05
"""So many times as fast has a precision to be, to be taken before one that comes earlier."""

PATIENCE_S = 120.0
"""How long another process may take to time them."""

Run = Callable[[np.ndarray], object]
"""Takes (1, H, W, 3) uint8 pixels through a network."""


class Timed(StrictModel):
    """Seconds a tile by precision."""

    seconds: dict[Precision, float]


def find_fastest(
    card: ModelCard, among: Sequence[Precision], prepare: Callable[[Precision], Run]
) -> Precision:
    """The fastest of some precisions: by what is kept, else by a tile in each, which takes seconds.

    Where nothing can be kept, or locked, it is the first one, always: a choice that a busy moment
    could turn would have slides screened again.

    Args:
        card: of the model.
        among: what may be taken, in order of preference.
        prepare: makes a network ready.
    """
    if (known := known_fastest(card, among)) is not None:
        return known
    place = _place_of(card)
    if place is None:  # there was room a moment ago
        return among[0]
    # Several processes, perhaps several people's, start at once and must agree.
    lock = file_lock(place.with_suffix(".lock"))
    try:
        lock.acquire(timeout=PATIENCE_S)
    except (OSError, NotImplementedError):  # no locks there, or none for us; or nobody lets go
        return known_fastest(card, among) or among[0]
    try:
        timed = _read(place)
        if timed is None or not set(among) <= set(timed):
            timed = _time({precision: prepare(precision) for precision in among})
            write_kept(place, Timed(seconds=timed).model_dump_json())
    finally:
        lock.release()
    return choose(timed, among)


def known_fastest(card: ModelCard, among: Sequence[Precision]) -> Precision | None:
    """What `find_fastest` would say without timing anything; None where it would have to."""
    place = _place_of(card)
    if len(among) == 1 or place is None:
        return among[0]
    timed = _read(place)
    return choose(timed, among) if timed and set(among) <= set(timed) else None


def kept_seconds(card: ModelCard) -> Mapping[Precision, float]:
    """Seconds a tile of `SIDE` px by precision, as they were timed here; empty before."""
    place = _place_of(card)
    return (_read(place) if place else None) or {}


def choose(seconds: Mapping[Precision, float], among: Sequence[Precision]) -> Precision:
    """The first that none of the later ones beats by `MARGIN`."""
    chosen = among[0]
    for precision in among[1:]:
        if seconds[precision] * MARGIN < seconds[chosen]:
            chosen = precision
    return chosen


def _time(networks: Mapping[Precision, Run]) -> dict[Precision, float]:
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    best: dict[Precision, float] = dict.fromkeys(networks, np.inf)
    for turn in range(ROUNDS):
        for precision, run in networks.items():
            start = time.perf_counter()
            run(pixels)
            if turn:
                best[precision] = min(best[precision], time.perf_counter() - start)
    return {precision: round(seconds, 6) for precision, seconds in best.items()}


def _place_of(card: ModelCard) -> Path | None:
    """Where the timing of a model on this CPU is kept; another CPU has another place."""
    folder = cache_folder("fastest")
    if folder is None or not card.sha256:
        return None
    facts = [card.sha256, *(graph.sha256 for graph in card.graphs.values())]
    facts += [platform.machine(), *sorted(cpu_instructions())]
    facts += [os.environ.get("ONEDNN_MAX_CPU_ISA", "")]  # who sets it wants them heeded less
    with suppress(metadata.PackageNotFoundError):
        facts.append(metadata.version("openvino"))
    return folder / f"{hashlib.sha256(' '.join(facts).encode()).hexdigest()[:32]}.json"


def _read(place: Path) -> dict[Precision, float] | None:
    try:
        return Timed.model_validate_json(place.read_bytes()).seconds
    except (OSError, ValidationError):
        return None

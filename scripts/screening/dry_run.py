"""``cytolibra screen --dry-run``: what would be done, what is refused and why, and for how long."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from configs import CytoLibraError
from pipeline.cloud.scratch import show_size
from scripts.telling import warn

if TYPE_CHECKING:
    from pipeline.batch.discovery import Discovery, SlideJob
    from pipeline.batch.plan import BatchPlan
    from pipeline.network.detector import TileDetector
    from pipeline.settings import ScreenSettings
    from pipeline.tiles.planetiles import Job
    from scripts.screening.call import ScreenCall

ROUNDS = 2
"""Tiles of each lane of the network by which its speed is told, after one to warm up."""


@dataclass(frozen=True)
class Plan:
    """What would become of a slide.

    Attributes:
        name: of its results.
        verdict: what would be done.
        mm2: that would be screened.
        tiles: that would be read.
        readings: of tiles, each in a focal plane; as many where the slide has one.
        refused: whether it would fail.
        size: bytes that would be fetched.
    """

    name: str
    verdict: str
    mm2: float = 0.0
    tiles: int = 0
    readings: int = 0
    refused: bool = False
    size: int = 0


def look_ahead(call: ScreenCall) -> int:
    """Tells what a call would do, a line a slide; nothing is screened, no result written.

    Returns:
        The exit code: 1 where a slide would be refused, else 0.

    Raises:
        ConfigError: the call is wrong.
    """
    from models import ModelSource
    from pipeline.batch.fingerprint import hash_found
    from pipeline.batch.output import check_output
    from pipeline.batch.plan import BatchPlan
    from pipeline.batch.rescore import Rescorer
    from pipeline.cloud.store import Stores
    from pipeline.in_force import in_force
    from pipeline.network.detector import TileDetector
    from scripts.screening.call import discover_slides
    from scripts.screening.doubts import doubts_of_dicom

    settings = call.settings
    with Stores(settings.cloud) as stores:
        found = discover_slides(call, stores)
    check_output(call.out, found.jobs)
    source = ModelSource.find(call.model)
    detector = TileDetector(
        source, settings.runtime, settings.threshold, settings.second_look, settings.kept
    )
    force = in_force(settings, detector)
    warn([*found.doubts, *doubts_of_dicom(found.jobs, settings)])
    plan = BatchPlan(
        out=call.out,
        model=force.model,
        settings=force.settings,
        overwrite=call.overwrite,
        shard=call.shard,
        strict=settings.strict,
        rescorer=Rescorer(source.card, settings, hash_found(force.settings, force.model)),
    )
    return _tell(found, plan, detector, settings)


def _tell(
    found: Discovery, plan: BatchPlan, detector: TileDetector, settings: ScreenSettings
) -> int:
    """A line a slide, and the sum of them; the exit code."""
    from pipeline.batch.plan import take_shard

    jobs = take_shard(found.jobs, plan.shard)
    looked = [_look(job, plan, settings, detector) for job in jobs]
    for one in looked:
        times = one.readings // one.tiles if one.tiles else 1
        planes = f" in {times} focal planes each" if times > 1 else ""
        area = f"; {one.mm2:.1f} mm², {one.tiles} tiles{planes}" if one.tiles else ""
        typer.echo(f"{one.name}: {one.verdict}{area}")
    for file in found.not_read:
        typer.echo(str(file))
    due = [(job, one) for job, one in zip(jobs, looked, strict=True) if one.tiles]
    refused = sum(one.refused for one in looked)
    mm2, tiles = (sum(getattr(one, name) for _, one in due) for name in ("mm2", "readings"))
    fetched = [one for one in looked if one.size]
    idle = len(looked) - len(due) - len(fetched) - refused
    if fetched:
        size = sum(one.size for one in fetched)
        typer.echo(f"{len(fetched)} to fetch and screen ({show_size(size)}), not looked into")
    typer.echo(
        f"{len(due)} to screen ({mm2:.1f} mm²), {idle} with nothing to do, {refused} refused"
    )
    if due:
        seconds = time_tiles(due[0][0].path, detector, settings) * tiles
        model = f"{detector.card.name} on {detector.runtime.name}, {detector.runtime.precision}"
        typer.echo(
            f"some {_duration(seconds)}, as busy as this machine is now: {tiles} tiles at the pace "
            f"of a few of {due[0][1].name} ({model})"
        )
    return 1 if refused or (plan.strict and found.not_read) else 0


def _look(job: SlideJob, plan: BatchPlan, settings: ScreenSettings, detector: TileDetector) -> Plan:
    """Looks for a slide's result as a run does; where none will do, lays its tiles out."""
    from pipeline.batch.fingerprint import hash_recipe
    from pipeline.batch.plan import (
        current_result,
        why_not_rescored,
        why_of_another,
        why_refused,
    )

    recipe = hash_recipe(plan.settings, plan.model)
    if not plan.overwrite and current_result(job, plan, recipe):
        return Plan(job.name, "done before")
    known = plan.known.current(job, recipe)
    warnings = known.warnings if known else ()
    if problem := job.problem or why_refused(job, warnings, plan) or why_of_another(job, plan):
        return Plan(job.name, f"refused: {problem}", refused=True)
    if why_not_rescored(job, plan) is None:
        return Plan(job.name, "to be rescored of what was found before")
    if job.remote:
        most = "" if job.remote.is_exact else " at most"
        verdict = f"to fetch and screen: {show_size(job.remote.size)}{most} from {job.where}"
        return Plan(job.name, verdict, size=job.remote.size)
    try:
        return _lay_out(job, settings, detector)
    except CytoLibraError as error:
        return Plan(job.name, f"refused: {error}", refused=True)


def _lay_out(job: SlideJob, settings: ScreenSettings, detector: TileDetector) -> Plan:
    from pipeline.planning import core_area, plan_slide
    from pipeline.slides.slide import open_slide

    with open_slide(job.path, settings.mpp_of(job.path), icc=settings.color.icc) as slide:
        ahead = plan_slide(slide, detector, settings)
        tiles, doubts = ahead.tiles, ahead.doubts
        readings = len(ahead.jobs)
        mm2 = core_area(tiles) * (slide.mpp / 1000) ** 2
    verdict = "to screen" if len(tiles) else "nothing to screen: no cells are seen on the overview"
    told = "".join(f"; warning: {doubt}" for doubt in doubts)
    return Plan(job.name, verdict + told, mm2, len(tiles), readings)


def time_tiles(path: Path, detector: TileDetector, settings: ScreenSettings) -> float:
    """Seconds a tile, from reading to cells, of a few tiles from the middle of a slide's."""
    from pipeline.flow import work_ahead
    from pipeline.planning import plan_slide
    from pipeline.slides.slide import open_slide

    with open_slide(path, settings.mpp_of(path), icc=settings.color.icc) as slide:
        plan = plan_slide(slide, detector, settings)
        reader, jobs = plan.reader, plan.jobs

        def run(job: Job) -> int:
            return len(detector.detect([reader.read(job).pixels])[0])

        lanes = detector.lanes
        middle = len(jobs) // 2
        wanted = [jobs[(middle + k) % len(jobs)] for k in range(1 + ROUNDS * lanes)]
        run(wanted[0])
        started = time.perf_counter()
        with work_ahead(run, wanted[1:], threads=lanes, ahead=lanes) as found:
            count = sum(1 for _ in found)
        return (time.perf_counter() - started) / count


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

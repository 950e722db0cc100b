"""How the record of a run begins: with what records and journals tell of earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from configs.doubts import split_code
from pipeline.batch.discovery import SlideJob
from pipeline.batch.fingerprint import hash_recipe
from pipeline.batch.plan import BatchPlan, take_shard
from pipeline.batch.run_record import RunRecord, SlideRecord, latest_slides, load_records, now
from pipeline.errors import PROCESS_DIED
from pipeline.reports.report import encodable, software_versions


@dataclass(frozen=True)
class Opening:
    """How a run begins.

    Attributes:
        record: of it.
        suspects: slides that may end the process which screens them.
        before: slides of earlier runs that are none of this one, sorted.
    """

    record: RunRecord
    suspects: set[str]
    before: tuple[str, ...]


def open_run(jobs: Sequence[SlideJob], taken: Sequence[SlideJob], plan: BatchPlan) -> Opening:
    """What is known of a run's slides as it begins.

    Args:
        jobs: all slides, of all shards.
        taken: those that this run takes.
        plan: what it is to do.
    """
    record = RunRecord(
        command=tuple(plan.command),
        shard=plan.shard,
        started=plan.resumed or now(),
        software=software_versions(),
        model=plan.model,
        settings=dict(plan.settings),
        recipe=hash_recipe(plan.settings, plan.model),
        given=dict(plan.given[0]),
        model_given=plan.given[1],
        warnings=tuple(plan.doubts),
        not_read={encodable(f.where): f"{f.kind}; {f.remedy}" for f in plan.not_read},
        slides={},
    )
    records = load_records(plan.out)
    part = take_shard(jobs, plan.shard)
    record.slides.update(_fresh_records(part, taken, plan.resumed, record.recipe, records))
    return Opening(record, _suspects(records), slides_besides(jobs, plan, records))


def slides_besides(
    jobs: Sequence[SlideJob], plan: BatchPlan, records: Sequence[RunRecord]
) -> tuple[str, ...]:
    """Slides that records name, or of which results are known, and that are not among the jobs."""
    own = {job.name for job in jobs}
    named = latest_slides(records).keys() | map(encodable, plan.known.besides(own))
    return tuple(sorted(named - {encodable(name) for name in own}))


def _suspects(records: Sequence[RunRecord]) -> set[str]:
    """Slides that may end a process: one has died of them, or was killed as they were in work."""
    return {
        name
        for name, slide in latest_slides(records).items()
        if slide.status == "running" or split_code(slide.error or "")[1] == PROCESS_DIED
    }


def _fresh_records(
    jobs: Sequence[SlideJob],
    taken: Sequence[SlideJob],
    resumed: str | None,
    recipe: str,
    records: Sequence[RunRecord],
) -> dict[str, SlideRecord]:
    """A record for each slide that knows of the attempts of earlier runs.

    Of slides that are not taken, how it went by the same settings and model stays; and so it does
    of those that this run had done when its process died. Of those that are taken it stays why they
    failed, until they have been tried: a run that is cut short would lose that.
    """
    known, alike = latest_slides(records), latest_slides(r for r in records if r.recipe == recipe)
    due = {encodable(job.name) for job in taken}
    if resumed:
        due -= {name for name, slide in alike.items() if (slide.ended or "") >= resumed}
    fresh = {}
    for job in jobs:
        name = encodable(job.name)
        attempts = known[name].attempts if name in known else 0
        error = alike[name].error if name in alike else None
        fresh[name] = SlideRecord(path=encodable(job.where), attempts=attempts, error=error)
        if name not in due and name in alike and alike[name].status in ("complete", "failed"):
            fresh[name] = alike[name].changed(attempts=attempts)
    return fresh

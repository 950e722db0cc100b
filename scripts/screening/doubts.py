"""What a person should know of a call before it screens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from configs import Doubt

if TYPE_CHECKING:
    from pipeline.batch.discovery import SlideJob
    from pipeline.in_force import InForce
    from pipeline.settings import ScreenSettings


def doubts_of_workers(force: InForce) -> list[Doubt]:
    """Several processes on one CPU gain nothing, which is told."""
    runtime = force.settings["runtime"]
    if not isinstance(runtime, dict) or runtime["device"] != "cpu":
        return []
    text = (
        "one process keeps all cores of this machine busy: several share them, each with a network "
        "of its own, and take longer; leave --workers"
    )
    return [Doubt(code="workers-share-cores", text=text)]


def doubts_of_dicom(jobs: Sequence[SlideJob], settings: ScreenSettings) -> list[Doubt]:
    """Slides that get no DICOM objects where those of DICOM slides are wanted, which is told."""
    from pipeline.slides.readers.base import show

    if settings.reports.dicom != "source":
        return []
    others = [job.where for job in jobs if not job.gone and not _is_dicom(job)]
    if not others:
        return []
    text = (
        f"{len(others)} of {len(jobs)} slides are no DICOM, {show(others[0])} first: no DICOM "
        "objects of theirs; --dicom-derived gives them UIDs of their own"
    )
    return [Doubt(code="no-dicom-identity", text=text)]


def _is_dicom(job: SlideJob) -> bool:
    """What does not lie here, so that its content can't be asked, goes by its ending."""
    from pipeline.objects.source import is_dicom

    if job.remote:
        return job.remote.is_dicom
    return is_dicom(job.path) if job.path.is_file() else job.path.suffix.lower() == ".dcm"

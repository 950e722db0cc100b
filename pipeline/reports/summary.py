"""What became of each slide of a batch: a row of ``summary.csv``, ``.html`` and ``.xlsx``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.reports.slide_summary import SlideSummary

Status = Literal["complete", "failed", "pending", "not read"]


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """The outcome of one slide.

    Attributes:
        slide: the name of its folder below the output folder, with forward slashes.
        path: where the slide lies.
        status: "pending" is a slide that an interrupted run, or another shard, has not reached;
            "not read" a file that looks like a slide and is of a kind that isn't read.
        report: what it says, for complete slides only.
        error: why it failed or isn't read; empty for the others.
    """

    slide: str
    path: str
    status: Status
    report: SlideSummary | None = None
    error: str = ""

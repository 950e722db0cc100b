"""The settings of a screening run: one part a station."""

from __future__ import annotations

from pydantic import Field

from configs import StrictModel
from pipeline.cells.stitcher import StitcherSettings
from pipeline.network.detector import RuntimeSettings
from pipeline.reports.tables import ReportSettings
from pipeline.reports.triage import TriageSettings
from pipeline.tiles.foreground import ForegroundSettings
from pipeline.tiles.tiler import TilerSettings


class ScreenSettings(StrictModel):
    """Everything that shapes a slide's result, beside the slide and the model.

    Attributes:
        mpp: µm per level-0 pixel, for slides that carry none.
        threshold: one score for all classes; None for the model's own, one a class.
        foreground, tiler, runtime, stitcher, triage, reports: the stations' own settings.
        max_unread: largest share of the screened area that may be unreadable; a slide with more
            fails rather than pass for screened.
    """

    mpp: float | None = None
    threshold: float | None = Field(None, gt=0, lt=1)
    foreground: ForegroundSettings = ForegroundSettings()
    tiler: TilerSettings = TilerSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    stitcher: StitcherSettings = StitcherSettings()
    triage: TriageSettings = TriageSettings()
    reports: ReportSettings = ReportSettings()
    max_unread: float = Field(0.1, ge=0, le=1)

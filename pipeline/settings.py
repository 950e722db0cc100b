"""The settings of a screening run: one part a station."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from configs import StrictModel
from pipeline.cells.domain import DomainSettings
from pipeline.cells.found import KeptSettings
from pipeline.cells.second_look import SecondLookSettings
from pipeline.cells.stitcher import StitcherSettings
from pipeline.cloud.settings import CloudSettings
from pipeline.limits import LimitSettings
from pipeline.network.detector import RuntimeSettings
from pipeline.network.scale import ScaleSettings
from pipeline.reports.adequacy import AdequacySettings
from pipeline.reports.quality import QualitySettings
from pipeline.reports.tables import ReportSettings
from pipeline.reports.triage import TriageSettings
from pipeline.slides.mpp import Gap, GivenMpp, Mpp, check_mpp_argument
from pipeline.slides.mpp_table import load_mpp_table
from pipeline.slides.readers.profiled import ColorSettings
from pipeline.tiles.focal import PlaneChoice
from pipeline.tiles.foreground import ForegroundSettings
from pipeline.tiles.tiler import TilerSettings

MADE = frozenset({"threshold", "domain", "triage", "adequacy", "quality", "reports"})
"""Settings that say what is made of what the network found; all others shape what it finds. A
threshold does so only below what is kept, and then lowers ``kept.floor``."""

ASIDE = frozenset({"mpp_table", "strict", "isolate", "limits", "cloud"})
"""Settings that are no part of what is in force: what a table says is each slide's own, and the
others change no result."""


class ScreenSettings(StrictModel):
    """Everything that shapes a slide's result, beside the slide and the model.

    Attributes:
        mpp: µm per level-0 pixel, for slides that carry none; "estimate" estimates it.
        mpp_override: the same, whatever slides say.
        mpp_table: a CSV of slide and mpp, for slides that it names, whatever they say.
        strict: whether a slide with warnings fails.
        isolate: which slides are read and screened by a process of their own: those in doubt
            ("auto"), all ("always") or none ("never"). Several workers are processes anyway.
        limits: what one slide may take; with a limit, all slides are isolated.
        threshold: one score for all classes; None for the model's own, one a class.
        scale: how a slide's scale is held against its cells, or estimated from them.
        planes: which focal planes of a slide that has several are read: the best-focused "one", the
            "best" of each tile, "all" of them, or one by its number, from 1, or "z=" and its µm.
        color: how its colours are taken.
        foreground, tiler, runtime, stitcher, second_look, kept: the stations' own settings.
        domain, triage, adequacy, quality, reports: the stations' own settings.
        cloud: how slides that are named by URL are fetched.
        max_unread: largest share of the screened area that may be unreadable; a slide with more
            fails rather than pass for screened.
    """

    mpp: Gap | None = None
    mpp_override: Mpp | None = None
    mpp_table: Path | None = None
    strict: bool = False
    isolate: Literal["auto", "always", "never"] = "auto"
    limits: LimitSettings = LimitSettings()
    threshold: float | None = Field(None, gt=0, lt=1)
    scale: ScaleSettings = ScaleSettings()
    planes: PlaneChoice = "one"
    color: ColorSettings = ColorSettings()
    foreground: ForegroundSettings = ForegroundSettings()
    tiler: TilerSettings = TilerSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    stitcher: StitcherSettings = StitcherSettings()
    second_look: SecondLookSettings = SecondLookSettings()
    kept: KeptSettings = KeptSettings()
    domain: DomainSettings = DomainSettings()
    triage: TriageSettings = TriageSettings()
    adequacy: AdequacySettings = AdequacySettings()
    quality: QualitySettings = QualitySettings()
    reports: ReportSettings = ReportSettings()
    cloud: CloudSettings = CloudSettings()
    max_unread: float = Field(0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _check_isolation(self) -> Self:
        if self.isolate == "never" and self.limits.are_set:
            raise ValueError(
                "limits hold for slides in processes of their own, which isolate = never denies; "
                "leave one of them"
            )
        return self

    @property
    def isolates_all(self) -> bool:
        """Whether every slide is screened by a process of its own."""
        return self.isolate == "always" or self.limits.are_set

    def in_this_process(self) -> ScreenSettings:
        """The same without what is asked of those who give each slide a process."""
        return self.model_copy(update={"isolate": "auto", "limits": LimitSettings()})

    def check_mpp(self) -> None:
        """Refuses a scale that no microscope has.

        Raises:
            ConfigError: it is one.
        """
        check_mpp_argument(self.mpp)
        check_mpp_argument(self.mpp_override, "--mpp-override")

    def mpp_of(self, slide: Path) -> GivenMpp:
        """What is said of a slide's scale.

        Raises:
            ConfigError: the table can't be read, or a value is absurd.
        """
        self.check_mpp()
        table = load_mpp_table(self.mpp_table) if self.mpp_table else None
        return GivenMpp(self.mpp, self.mpp_override, table.find(slide) if table else None)

"""Who screens, wherever it runs, and what it needs to know for that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from models import ModelSource
from pipeline.batch.engines.base import Told
from pipeline.in_force import InForce, in_force
from pipeline.memory import give_back_large_blocks
from pipeline.network.detector import TileDetector, foresee
from pipeline.reports.report import SlideReport
from pipeline.screen import screen_slide
from pipeline.search import Stop
from pipeline.settings import ScreenSettings


@dataclass(frozen=True)
class Recipe:
    """What another process needs to screen as this one would.

    Attributes:
        model: name or path.
        settings: of all stations; the device among them is the process's own.
    """

    model: str | Path
    settings: ScreenSettings

    def foresee(self) -> InForce | None:
        """What will be in force on this machine, before anything is loaded; None where unknown.

        Raises:
            CytoLibraError: model and settings can't be used.
        """
        card = ModelSource.find(self.model).card
        settings = self.settings
        facts = foresee(
            card, settings.runtime, settings.threshold, settings.second_look, settings.kept
        )
        return in_force(settings, facts) if facts else None

    def worker(self, told: Told | None = None) -> Worker:
        """Who screens by it, in the process that calls this."""
        return Worker(self, told=told)

    def on(self, device: str, threads: int | None) -> Recipe:
        """The same on another device, with so many threads of the CPU."""
        where: dict[str, object] = {"device": device}
        if self.settings.runtime.threads is None:
            where["threads"] = threads
        runtime = self.settings.runtime.model_copy(update=where)
        return Recipe(self.model, self.settings.model_copy(update={"runtime": runtime}))


class Worker:
    """Who screens, here, in a process, or on a cluster: its detector is made with its first task.

    So what is wrong with model or settings is that task's failure, with its cause.

    Args:
        recipe: what to do.
        stop: set where what is in work is to end.
        told: hears of tiles.
    """

    def __init__(self, recipe: Recipe, stop: Stop | None = None, told: Told | None = None) -> None:
        self._recipe, self._stop, self._told = recipe, stop, told

    @cached_property
    def _detector(self) -> TileDetector:
        give_back_large_blocks()
        settings = self._recipe.settings
        return TileDetector(
            ModelSource.find(self._recipe.model),
            settings.runtime,
            settings.threshold,
            settings.second_look,
            settings.kept,
        )

    def describe(self) -> InForce:
        """What is in force here."""
        return in_force(self._recipe.settings, self._detector)

    def screen(self, path: Path) -> SlideReport:
        """Screens one slide."""
        told = partial(self._told, path) if self._told else None
        settings = self._recipe.settings.in_this_process()
        return screen_slide(path, self._detector, settings, progress=told, stop=self._stop)

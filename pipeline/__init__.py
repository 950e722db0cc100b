"""A slide's journey, one station a module; see ARCHITECTURE.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.screen import screen_slide
    from pipeline.settings import ScreenSettings

__all__ = ["ScreenSettings", "screen_slide"]


def __getattr__(name: str) -> object:
    """Loads what is asked for only then: importing torch takes seconds, geometry does not need it.

    Raises:
        AttributeError: the package has no such name.
    """
    if name == "screen_slide":
        from pipeline.screen import screen_slide

        return screen_slide
    if name == "ScreenSettings":
        from pipeline.settings import ScreenSettings

        return ScreenSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

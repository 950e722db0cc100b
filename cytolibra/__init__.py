"""CytoLibra under one name: ``from cytolibra import screen_slide, load_detector, grad_libra_loss``.

Its parts lie at top level under plain names (`models`, `data`, `scripts`, …), and so may files of
a user's own. Whoever imports this module first gets ours under these names, whatever lies beside
the script, and is told of what they hide; where another module has such a name already, importing
this one fails and says which. What is offered is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
"""Where our packages lie."""

PACKAGES = ("configs", "data", "losses", "models", "pipeline", "scripts")
"""Our packages at top level."""

_OFFERED = {
    "ConfigError": "configs",
    "CytoLibraError": "configs",
    "Doubt": "configs",
    "load_config": "configs",
    "grad_libra_loss": "losses",
    "ClassificationLoss": "losses",
    "DetectorConfig": "models",
    "ModelCard": "models",
    "ModelSource": "models",
    "build_detector": "models",
    "find_model": "models",
    "list_models": "models",
    "load_detector": "models",
    "save_detector": "models",
    "ScreenSettings": "pipeline",
    "screen_slide": "pipeline",
    "SlideReport": "pipeline.reports.report",
    "write_reports": "pipeline.reports.writers",
}
"""Of each public name the module that has it."""

__all__ = ["__version__", "main", *_OFFERED]


class _OursFirst(MetaPathFinder):
    """Finds our packages where they lie, before anything else is asked."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(fullname, [str(ROOT)]) if fullname in PACKAGES else None


def main() -> None:
    """The ``cytolibra`` command."""
    from scripts.cli import main as run

    run()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cytolibra")
    if name not in _OFFERED:
        raise AttributeError(f"module 'cytolibra' has no attribute {name!r}")
    return getattr(importlib.import_module(_OFFERED[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def _claim() -> None:
    """Makes our packages those that are found under their names.

    Raises:
        ImportError: another module has such a name already.
    """
    for name in PACKAGES:
        if name in sys.modules and not _is_ours(sys.modules[name]):
            there = getattr(sys.modules[name], "__file__", None) or "somewhere else"
            raise ImportError(
                f"{name} is imported from {there}, and is no package of CytoLibra: import "
                "cytolibra before it, or rename it"
            )
    if not any(isinstance(finder, _OursFirst) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OursFirst())
        for name, hidden in _hidden():
            text = f"{hidden} can't be imported as {name} beside CytoLibra, which has a package of "
            warnings.warn(f"{text}that name: rename it", ImportWarning, stacklevel=3)


def _is_ours(module: ModuleType) -> bool:
    place = getattr(module, "__file__", None)
    return place is not None and Path(place).resolve().is_relative_to(ROOT)


def _hidden() -> list[tuple[str, str]]:
    """Modules of others that would have been found before ours, by name."""
    found = []
    for name in PACKAGES:
        for entry in sys.path:
            if Path(entry or ".").resolve() == ROOT:
                break
            spec = PathFinder.find_spec(name, [entry])
            if spec is not None and spec.origin is not None:  # folders of no package yield anyway
                found.append((name, spec.origin))
                break
    return found


_claim()

"""The page of the Python API: the public names of `cytolibra`, each where it is defined.

The site's build reads their docstrings from there, without importing anything.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

_STUB = Path(__file__).parent.parent.parent / "cytolibra" / "__init__.pyi"
"""Which names are public, and whose they are; that package stands above this one."""

_START = """# Python

`cytolibra` offers the public names, and makes our packages (`models`, `data`, `scripts`, …) win
over files of these names beside your script, of which it warns.

<!-- with: slides -->
<!-- run: slow -->
```python
from cytolibra import screen_slide

report = screen_slide("slides/a.tif", "cric-fcos-light", {"mpp": 0.25})
print(report.counts, report.suggestion.category)
print(report.cells.boxes.shape)  # (N, 4), level-0 pixels
```

The same by package:

<!-- run: slow -->
```python
from losses import grad_libra_loss  # in the manner of torchvision's sigmoid_focal_loss
from models import ModelSource  # .find(name): its exported network, without torch
from models import build_detector, load_detector  # torchvision's calling convention
from pipeline import screen_slide  # (path, either of the two, settings) -> SlideReport
```
"""


def page() -> str:
    """``docs/reference/python.md``."""
    lines = [_START.rstrip()]
    for package, inside in groupby(sorted(_public()), lambda place: place.partition(".")[0]):
        lines += ["", f"## {package}"]
        for place in inside:
            lines += ["", f"::: {place}"]
    return "\n".join(lines) + "\n"


def _public() -> Iterator[str]:
    """Where each public name is defined, such as ``configs.errors.ConfigError``."""
    for node in ast.parse(_STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            package = importlib.import_module(node.module)
            for alias in node.names:
                found = getattr(package, alias.name)
                yield f"{found.__module__}.{found.__qualname__}"

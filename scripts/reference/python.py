"""The page of the Python API: the public names of `cytolibra`, each where it is defined.

The site's build reads their docstrings from there, without importing anything.
"""

from __future__ import annotations

from itertools import groupby

import cytolibra

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
    names = (name for name in dir(cytolibra) if name not in ("__version__", "main"))
    found = (getattr(cytolibra, name) for name in names)
    places = sorted(f"{one.__module__}.{one.__qualname__}" for one in found)
    for package, inside in groupby(places, lambda place: place.partition(".")[0]):
        lines += ["", f"## {package}"]
        for place in inside:
            lines += ["", f"::: {place}"]
    return "\n".join(lines) + "\n"

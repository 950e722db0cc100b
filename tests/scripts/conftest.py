"""A training run of seconds, and pages without pictures."""

import pytest
from PIL import Image
from smallbackbone import SMALL

from scripts.evaluation import plots

CLASSES = ["NILM", "HSIL"]


@pytest.fixture
def values(coco):
    source = {"annotations": str(coco[0]), "images": str(coco[1])}
    other = coco[1].parent / "val"
    other.mkdir()
    for image in coco[1].iterdir():
        Image.open(image).save(other / image.name, compress_level=1)  # no two files are the same
    return {
        "model": {
            "name": "fcos",
            **SMALL,
            "classes": CLASSES,
            "head_convs": 1,
            "pyramid": {"channels": 32, "levels": [3]},
        },
        "data": {
            "train": source,
            "val": source | {"images": str(other)},
            "mpp": 0.5,
            "crops": {"size": 64, "paste": 0.5},
        },
        "optimiser": {"freeze": 0, "warmup": 0.5},
        "loop": {"epochs": 2, "steps": 2, "batch_size": 2, "workers": 0, "precision": "32-true"},
        "card": {"name": "tiny"},
    }


@pytest.fixture
def undrawn(monkeypatch):
    """An evaluation's pictures stay empty: laying them out takes longer than all the rest."""
    monkeypatch.setattr(plots, "to_svg", lambda _, label: f'<svg aria-label="{label}"></svg>')

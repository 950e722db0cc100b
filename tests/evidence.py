"""Evidence made up for tests, without a network."""

from pathlib import Path

import numpy as np
from cellcases import cells
from PIL import Image

from data.fields.fieldset import Field, FieldSet
from models import DetectorConfig, ModelCard
from scripts.evaluation.evidence import Evidence

CLASSES = ("NILM", "LSIL", "HSIL")


def make_evidence(truth, found, thresholds=(0.5, 0.5, 0.5), classes=CLASSES, folder=None, **field):
    """Evidence from cells; fields are 200 x 100 px of 0.25 µm unless told otherwise."""
    config = DetectorConfig(name="fcos", classes=classes)
    names = dict(zip(classes, thresholds, strict=True))
    card = ModelCard(name="made up", detector=config, mpp=0.5, thresholds=names)
    fields = [make_field(one, i, folder, **field) for i, one in enumerate(truth)]
    return Evidence(
        FieldSet(tuple(classes), tuple(fields)), card, truth, found, np.array(thresholds, float)
    )


def make_field(truth, index=0, folder=None, width=200, height=100, mpp=0.25, **more):
    """A field with these cells; with a grey picture where there is a folder."""
    path = (folder or Path("fields")) / f"{index}.png"
    if folder is not None:
        Image.new("RGB", (width, height), (200, 200, 200)).save(path)
    boxes = truth.boxes.astype(np.float32)
    nuclei = (boxes[:, :2] + boxes[:, 2:]) / 2
    rest = (boxes, nuclei, truth.labels, truth.crowd)
    return Field(path, width, height, mpp, *rest, **more)


def two_fields():
    """One LSIL found, one HSIL called LSIL, one LSIL missed, a NILM found, two false alarms."""
    left, middle, right = [0, 0, 20, 20], [60, 40, 80, 60], [150, 70, 170, 90]
    truth = [cells((left, 1), (middle, 2)), cells((left, 1), (right, 0))]
    found = [
        cells((left, 1, 0.9), (middle, 1, 0.8), (right, 2, 0.7)),
        cells((left, 1, 0.2), (right, 0, 0.6), (middle, 0, 0.55)),
    ]
    return truth, found

"""Every detector learns eight real fields by heart: nothing between targets and boxes is broken."""

import numpy as np
import pytest
import torch

from data.coco import FieldSet, read_coco
from data.evaluation import field_metrics
from data.fields import WholeFieldDataset
from models import build_detector
from scripts.training import to_cells

MPP = 1.0
"""Cells are 20 px wide: coarse, so that the test takes a minute a detector."""

STEPS = 160


@pytest.fixture(scope="module")
def fields(shared):
    everything = read_coco(shared / "cric" / "train.json", shared / "cric" / "train")
    chosen = FieldSet(everything.classes, everything.fields[:80:10])
    dataset = WholeFieldDataset(chosen, MPP)
    return chosen.classes, [dataset[i] for i in range(len(dataset))]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["atss", "fcos", "reppoints", "retinanet", "yolof"])
def test_overfits_eight_real_fields(name, fields, shared):
    classes, samples = fields
    torch.manual_seed(0)
    model = build_detector(
        {
            "name": name,
            "classes": classes,
            "backbone_weights": str(shared / "weights" / "mobilenet_v2-b0353104.pth"),
            "pyramid": {"channels": 128, "levels": [3]},
            "head_convs": 2,
            "anchors": {"scale": 2.5, "octaves": 1, "aspect_ratios": [1.0]},
            "atss": {"anchor_scale": 2},
            "yolof": {"anchor_sides": [16, 24]},
            "loss": {"name": "cross_entropy"},
            "nms_iou": 0.5,
        }
    )
    learn(model, samples)
    metrics = judge(model, samples, classes)
    print(name, metrics)
    assert metrics["map50"] > 0.9


def learn(model, samples):
    """One cycle of AdamW over batches of four whole fields, in bf16."""
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, STEPS, pct_start=0.2)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        images, targets = zip(
            *(samples[i] for i in rng.choice(len(samples), 4, False)), strict=True
        )
        with torch.autocast("cpu", torch.bfloat16):
            losses = model(list(images), list(targets))
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        schedule.step()


def judge(model, samples, classes):
    images, targets = zip(*samples, strict=True)
    with torch.no_grad():
        found = [model.eval()([image])[0] for image in images]
    truth = [to_cells(target) for target in targets]
    return field_metrics(
        truth, [to_cells(f) for f in found], classes, [c != "NILM" for c in classes]
    )

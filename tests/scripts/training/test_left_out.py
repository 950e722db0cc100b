"""Whose findings a grader learns background from."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from configs import ConfigError, validate
from data.annotations import read_coco
from models import DetectorConfig, ModelCard
from pipeline.geometry import Detections
from scripts.candidates import find_candidates
from scripts.training import left_out
from scripts.training.left_out import Finder, assign_finders, find_on, recall_of, settle_floor
from scripts.training.run import write_settings
from scripts.training.settings import TrainSettings

CLASSES = ("NILM", "HSIL")
CARD = ModelCard(
    name="mine",
    detector=DetectorConfig(name="fcos", classes=CLASSES),
    mpp=0.5,
    thresholds=dict.fromkeys(CLASSES, 0.3),
)


@pytest.fixture
def fields(coco):
    return read_coco(*coco, classes=CLASSES)


@pytest.fixture
def runs(values, coco, tmp_path):
    """Two runs; each left one of the two fields out."""
    found = []
    for number in (1, 2):
        split = tmp_path / f"split{number}.csv"
        parts = {number: "val", 3 - number: "train"}
        split.write_text("image,part\n" + "".join(f"{n}.png,{p}\n" for n, p in parts.items()))
        source = {"annotations": str(coco[0]), "images": str(coco[1]), "split": str(split)}
        data = values["data"] | {
            "train": source | {"part": "train"},
            "val": source | {"part": "val"},
        }
        run = tmp_path / f"run{number}"
        run.mkdir()
        write_settings(validate(values | {"data": data}, TrainSettings, "test"), run)
        found.append(run)
    return found


def test_each_field_comes_from_the_run_that_left_it_out(runs, fields):
    finders = assign_finders(runs, CARD, fields)
    assert [(finder.model, list(finder.rows)) for finder in finders] == [
        (runs[0] / "model", [0]),
        (runs[1] / "model", [1]),
    ]
    backwards = assign_finders(runs[::-1], CARD, fields)
    assert [list(finder.rows) for finder in backwards] == [[1], [0]]


def test_a_field_that_no_run_left_out_is_refused(runs, fields):
    with pytest.raises(
        ConfigError, match=r"candidates: 1 of 2 training images .* such as .*2\.png"
    ):
        assign_finders(runs[:1], CARD, fields)


def test_runs_of_other_classes_or_scales_or_none_at_all_are_refused(runs, fields, tmp_path):
    other = CARD.model_copy(update={"mpp": 0.25})
    with pytest.raises(
        ConfigError, match=r"run1 looks at 0\.5 µm/px for NILM, HSIL, mine at 0\.25"
    ):
        assign_finders(runs, other, fields)
    config = yaml.safe_load((runs[1] / "config.yaml").read_text())
    config["model"]["classes"] = ["NILM", "LSIL"]
    (runs[1] / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r"run2 looks at 0\.5 µm/px for NILM, LSIL"):
        assign_finders(runs, CARD, fields)
    with pytest.raises(ConfigError, match="no folder of cytolibra train"):
        assign_finders([tmp_path], CARD, fields)


class Scripted:
    """A detector that finds the same at every field: 20 places, the first on each field's cell."""

    card, lanes = CARD, 1

    def __init__(self, model, least):
        self.least = least

    def detect(self, tiles):
        left = np.append(5.0, 300 + 30 * np.arange(19))
        boxes = np.column_stack([left, np.full(20, 10.0), left + 20, np.full(20, 30.0)])
        scores = np.linspace(0.9, 0.065, 20).astype(np.float32)
        known = np.column_stack([scores, scores / 10])
        kept = scores >= self.least
        found = Detections(boxes, scores, np.zeros(20, np.int64), known.astype(np.float32))
        return [found[kept] for _ in tiles]


@pytest.fixture
def scripted(monkeypatch):
    monkeypatch.setattr(left_out, "_detector", lambda model, least, _: Scripted(model, least))


def test_the_floor_gives_so_many_places_a_cell(scripted, fields):
    # Three cells on two fields of 20 places each: the seventh best of both is looked at last.
    everything = [Finder("any", range(2))]
    floor = settle_floor(everything, fields, 2.0)
    scores = np.sort(np.repeat(np.linspace(0.9, 0.065, 20), 2))[::-1]
    assert floor == pytest.approx(np.floor(100 * scores[6]) / 100)
    assert sum(len(one.places) for one in find_on(everything, fields, floor)) in (7, 8)
    assert settle_floor(everything, fields, 100.0) == left_out.LEAST_FLOOR


def test_boxes_are_in_the_fields_own_pixels(scripted, fields):
    found = find_on([Finder("any", [0, 1])], fields, 0.3)
    assert found[0].places.boxes[0].tolist() == [10, 20, 50, 60]  # 0.5 µm/px to 0.25


def test_recall_is_of_annotated_cells(scripted, fields):
    found = find_on([Finder("any", [0, 1])], fields, 0.3)
    assert recall_of(fields, found) == pytest.approx(1 / 3)
    nothing = find_candidates(Scripted("any", 1.0).detect([0])[0], CARD, 0.3)
    assert recall_of(fields, [nothing] * 2) == 0


def test_on_a_field_that_can_not_be_read_nothing_is_found(scripted, fields):
    fields.fields[1].image.write_bytes(b"no image")
    found = find_on([Finder("any", [0, 1])], fields, 0.3)
    assert len(found[0].places) > 0
    assert len(found[1].places) == 0


def test_what_is_found_at_all_may_lie_below_the_floor(scripted, fields):
    one, more = (find_on([Finder("any", [0, 1])], fields, 0.3, least=x)[0] for x in (None, 0.1))
    assert len(one.places) == len(more.places)
    assert len(one.rest) == 0
    assert len(more.rest) > 0
    assert replace(more, rest=one.rest, found=one.found).scores.min() >= 0.3

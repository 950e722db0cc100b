"""What a run's card tells beside the figures by which its epoch was chosen."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from configs import validate
from data.evaluation import FieldCells, load_cells
from data.fields.fieldset import FieldSet, of_source
from models import load_detector
from scripts.training.judge import Judge
from scripts.training.outcome import ALARM_DATA, facts_on, false_alarms_of, source_facts
from scripts.training.run import read_run_fields, run_training
from scripts.training.settings import TrainSettings

SIDE, MPP = 100, 0.5


def cells(*rows):
    boxes = np.array([row[:4] for row in rows], np.float64).reshape(-1, 4)
    labels = np.array([row[4] for row in rows], np.int64)
    scores = np.array([row[5] for row in rows], np.float64)
    return FieldCells(boxes, labels, scores, np.zeros(len(rows), bool))


def judged(settings, fields, truth, found):
    """A judge that has judged: of three fields the middle one could not be read."""
    judge = Judge(settings.model)
    judge.truth, judge.found, judge.fields = truth, found, fields
    return judge


@pytest.fixture
def settings(values):
    return validate(values, TrainSettings, "test")


@pytest.fixture
def six(settings):
    """Six fields; on each an abnormal cell stands in the false place, on one twice."""
    fields = read_run_fields(settings).train
    one = fields.fields[0]
    many = FieldSet(fields.classes, (one,) * 7)
    truth = [cells((10, 20, 50, 60, 0, 1.0))] * 6
    found = [cells((100, 60, 140, 100, 1, 0.9), (10, 20, 50, 60, 0, 0.9))] * 5
    found += [cells((100, 60, 140, 100, 1, 0.9), (10, 100, 40, 130, 1, 0.6))]
    return many, judged(settings, [0, 1, 2, 3, 4, 6], truth, found)


def test_false_alarms_are_counted_on_the_fields_that_could_be_read(six):
    fields, judge = six
    alarms = false_alarms_of(judge, fields, {"NILM": 0.5, "HSIL": 0.5})
    rate = alarms.groups["HSIL"]
    assert (rate.found, rate.units) == (7, 6)
    assert rate.mm2 == pytest.approx(6 * 200 * 150 * 0.25**2 / 1e6, rel=1e-2)
    assert alarms.unit == "field"
    assert alarms.data == f"{ALARM_DATA}: 6 fields without an abnormal cell, 0.01 mm²"
    fewer = false_alarms_of(judge, fields, {"NILM": 0.5, "HSIL": 0.7})
    assert fewer.groups["HSIL"].found == 6
    assert fewer.thresholds == {"NILM": 0.5, "HSIL": 0.7}


def test_figures_of_sources_are_of_their_own_fields(settings):
    fields = read_run_fields(settings).train
    two = [
        type(f)(**(vars(f) | {"source": name})) for f, name in zip(fields.fields, "ab", strict=True)
    ]
    fields = FieldSet(fields.classes, tuple(two))
    cell = cells((60, 60, 100, 100, 1, 1.0))
    judge = judged(settings, [0, 1], [cell, cell], [cell, cells()])
    facts = source_facts(judge, fields)
    assert {name: one["metrics"]["ap50/HSIL"] for name, one in facts.items()} == {"a": 1, "b": 0}
    assert facts["a"]["cells"] == {"NILM": 1, "HSIL": 1}
    assert "ap50/NILM" not in facts["a"]["metrics"]  # not defined: judged are the cells above
    assert "unreadable" not in facts["a"]
    assert source_facts(judge, FieldSet(fields.classes, tuple(two[:1]))) == {}
    assert of_source(fields, "b") == [1]


def test_figures_of_a_source_count_the_fields_that_were_judged(settings):
    fields = read_run_fields(settings).train  # of one NILM and HSIL, and of one HSIL
    cell = cells((60, 60, 100, 100, 1, 1.0))
    facts = facts_on(judged(settings, [1], [cell], [cell]), fields, [0, 1])
    assert (facts["fields"], facts["unreadable"]) == (1, 1)
    assert facts["cells"] == {"NILM": 0, "HSIL": 1}
    assert facts["metrics"]["ap50/HSIL"] == 1


@pytest.fixture
def many(values):
    """Six validation fields instead of two."""
    source = values["data"]["val"]
    content = json.loads(Path(source["annotations"]).read_text())
    images, cells = [], []
    for number in range(1, 7):
        images.append(content["images"][0] | {"id": number, "file_name": f"v{number}.png"})
        cells.append({"id": number, "image_id": number, "category_id": 1, "bbox": [9, 9, 40, 40]})
        pixels = np.full((150, 200, 3), 200 + number, np.uint8)
        Image.fromarray(pixels).save(Path(source["images"], f"v{number}.png"))
    path = Path(source["images"]).with_name("val.json")
    path.write_text(json.dumps(content | {"images": images, "annotations": cells}))
    source["annotations"] = str(path)
    return values


def run(values, out, **data):
    settings = validate(values | {"data": values["data"] | data}, TrainSettings, "test")
    out.mkdir(exist_ok=True)
    console = Console(record=True, width=200, file=(out / "told.txt").open("w"))
    return run_training(settings, out, None, console), console.export_text()


def test_a_run_writes_false_alarms_of_its_validation_fields_into_the_card(many, tmp_path):
    values = many
    values["loop"] |= {"epochs": 1}
    card, _ = run(values, tmp_path / "run")
    truth, found = load_cells(tmp_path / "run" / "validation.npz")
    above = sum(
        int((one.scores[one.labels == 1] >= card.thresholds["HSIL"]).sum()) for one in found
    )
    assert len(truth) == 6
    assert 0 <= card.false_alarms.groups["HSIL"].found <= above
    assert card.false_alarms.data.startswith(ALARM_DATA)
    assert card.false_alarms.thresholds == card.thresholds
    assert load_detector(tmp_path / "run" / "model").card == card


def test_a_run_that_cannot_tell_false_alarms_says_why(values, tmp_path):
    values["loop"] |= {"epochs": 1}
    card, told = run(values, tmp_path / "run")
    assert card.false_alarms is None
    assert "the card tells no false alarms: 2 fields or slides say nothing" in told


def test_a_run_reports_on_the_source_that_is_held_out(values, tmp_path):
    values["loop"] |= {"epochs": 1}
    away = values["data"]["train"] | {"name": "away"}
    away["images"] = str(tmp_path / "away")
    Path(away["images"]).mkdir()
    for image in Path(values["data"]["train"]["images"]).iterdir():
        Image.open(image).save(Path(away["images"], image.name), compress_level=2)
    train = [values["data"]["train"], away]
    card, told = run(values, tmp_path / "run", train=train, hold_out="away")
    held_out = card.training["held_out"]
    assert (held_out["name"], held_out["fields"]) == ("away", 2)
    assert held_out["cells"] == {"NILM": 1, "HSIL": 2}
    # The same pixels as the validation fields: the same figures.
    assert held_out["metrics"] == pytest.approx(card.metrics, abs=1e-3)
    assert card.training["fields"] == 2
    assert "held out: away, 2 fields" in told

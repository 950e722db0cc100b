"""What a recipe loses on disturbed fields: the disturbances, and the tables."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evidence import cells, make_evidence
from rich.console import Console
from slidefiles import picture

from configs import ConfigError
from scripts import robustness as module
from scripts.robustness import CHANGES, _tables, join, misstate

LEFT, RIGHT = (0, 0, 20, 20), (60, 0, 80, 20)


def evidence(score):
    """Five fields of one HSIL each, found with a false alarm of this score beside it."""
    truth = [cells((LEFT, 2))] * 5
    return make_evidence(truth, [cells((LEFT, 2, 0.6), (RIGHT, 2, score))] * 5)


def test_tables_tell_what_each_disturbance_costs_and_fit_a_terminal():
    stream = io.StringIO()
    console = Console(file=stream, width=80)
    for table in _tables({"as they are": evidence(0.3), "scale wrong by 0.75": evidence(0.9)}):
        console.print(table)
    told = stream.getvalue()
    assert "abnormal: AP50 of 5 fields out of fold" in told
    assert "…" not in told
    row = next(line for line in told.splitlines() if "scale wrong by 0.75" in line)
    assert "0.500" in row  # of ten detections, false alarms first
    assert "-0.500" in row


def test_runs_are_judged_together():
    both = join([evidence(0.3), evidence(0.9)])
    assert len(both.fields.fields) == len(both.truth) == len(both.found) == 10


@pytest.mark.parametrize("classes", [None, ("NILM", "HSIL", "LSIL")])
def test_runs_that_do_not_go_together_are_refused_before_the_work(classes, tmp_path, monkeypatch):
    """Of the same fields, which would count twice, or of other classes."""
    fields = evidence(0.3).fields
    moved = [replace(one, image=tmp_path / one.image.name) for one in fields.fields]
    other = replace(fields, classes=classes, fields=tuple(moved)) if classes else fields
    read = iter([(None, fields), (None, other)])
    monkeypatch.setattr(module, "load_config", lambda *_: None)
    monkeypatch.setattr(module, "read_fields", lambda _: next(read))
    monkeypatch.setattr(module, "disturb", lambda *_: pytest.fail("worked"))
    told = "b is of the classes NILM, HSIL, LSIL, a of NILM" if classes else "a and b both left"
    with pytest.raises(ConfigError, match=told):
        module._compare([Path("a"), Path("b")])


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "as they are"])
def test_a_disturbance_changes_a_field_always_alike(name):
    image, field = picture(64, 48), replace(evidence(0.3).fields.fields[0], mpp=0.25)
    one, other = (CHANGES[name](image, field) for _ in range(2))
    assert one.shape == image.shape
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, other)
    assert 1 < np.abs(one.astype(int) - image).mean() < 80


def test_a_misstated_scale_is_the_fields_times_the_factor():
    fields = evidence(0.3).fields
    known = replace(fields, fields=tuple(replace(one, mpp=0.25) for one in fields.fields))
    assert {one.mpp for one in misstate(known, 1.33).fields} == {0.25 * 1.33}

"""False alarms out of fold: what is counted, and what is not counted twice."""

from dataclasses import replace

import pytest
from cellcases import cells
from evidence import make_evidence

from models.card import read_card, save_card
from scripts import out_of_fold as module

ALARM = cells(([100, 50, 120, 70], 2, 0.9))


def left_out(folder, fields=6):
    """A run that left so many normal fields out, with a false alarm on each."""
    made = make_evidence([cells(([0, 0, 20, 20], 0))] * fields, [ALARM] * fields)
    moved = [replace(field, image=folder / field.image.name) for field in made.fields.fields]
    return replace(made.fields, fields=tuple(moved)), made.found, made.truth


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Measures by runs of such names; what lies in a folder is a run of its own fold."""
    save_card(make_evidence([], []).card, tmp_path)
    monkeypatch.setattr(module, "_of_run", lambda run: left_out(tmp_path / run.name))

    def measure(*runs):
        monkeypatch.setattr("sys.argv", ["out_of_fold", str(tmp_path), *runs])
        module.main()
        return read_card(tmp_path).false_alarms

    return measure


def test_all_folds_count(call):
    alarms = call("a/fold1", "a/fold2")
    assert (alarms.groups["HSIL"].found, alarms.groups["HSIL"].units) == (12, 12)
    assert alarms.data.startswith("out of fold: 12 fields without an abnormal cell")


@pytest.mark.parametrize("runs", [("a/fold1", "a/fold1"), ("a/fold1", "a/fold2", "b/fold1")])
def test_a_fold_counts_once(call, runs, tmp_path, capsys):
    with pytest.raises(SystemExit):
        call(*runs)
    assert f"{runs[0]} and {runs[-1]} both left" in capsys.readouterr().err
    assert read_card(tmp_path).false_alarms is None

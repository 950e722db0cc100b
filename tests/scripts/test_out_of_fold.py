"""False alarms out of fold: what is counted, and what is not counted twice."""

from dataclasses import replace

import pytest
from cellcases import cells
from evidence import make_evidence

from configs import ConfigError
from data.evaluation import save_cells
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


def test_a_run_of_other_classes_is_refused(call, tmp_path, monkeypatch, capsys):
    def other_order(run):
        fields, found, truth = left_out(tmp_path / run.name)
        return replace(fields, classes=fields.classes[::-1]), found, truth

    monkeypatch.setattr(module, "_of_run", other_order)
    with pytest.raises(SystemExit):
        call("a/fold1")
    assert "a/fold1 is of the classes HSIL, LSIL, NILM, made up of" in capsys.readouterr().err


def test_what_a_run_kept_is_judged_by_the_annotations_that_it_had(tmp_path, monkeypatch):
    fields, found, truth = left_out(tmp_path, fields=2)
    save_cells(tmp_path / "validation.npz", truth, found)
    (tmp_path / "config.yaml").touch()
    monkeypatch.setattr(module, "load_config", lambda *_: None)
    monkeypatch.setattr(module, "read_fields", lambda _: (None, fields))
    assert len(module._of_run(tmp_path)[2]) == 2
    relabelled = replace(fields.fields[1], labels=fields.fields[1].labels + 1)
    fields = replace(fields, fields=(fields.fields[0], relabelled))
    with pytest.raises(ConfigError, match=r"validation\.npz: .* annotations have changed since"):
        module._of_run(tmp_path)

"""A comparison of tiny runs: each is made once, kept with its settings, and told in the table."""

import csv
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from configs import ConfigError, load_config, validate
from configs.describing import listing
from configs.layers import join, read_layers
from configs.loading import resolve
from data.evaluation import FieldCells, field_metrics, save_cells
from models.learning.mean_teacher import MeanTeacher
from scripts.cli import build_app
from scripts.comparison import comparison, costs
from scripts.comparison.comparison import (
    ComparisonSettings,
    Run,
    check_made,
    digest,
    planned,
    read_result,
    run_comparison,
    run_settings,
    tuned_weight,
    tuning_runs,
)
from scripts.comparison.comparison_table import judge_all, write_table
from scripts.comparison.costs import Costs, measure_costs, read_costs, settings_apart
from scripts.comparison.judged import how_drawn, judge, schedule
from scripts.comparison.records import keep_records, take_records
from scripts.comparison.systems_table import BEGIN, END, write_page

CONSOLE = Console(quiet=True)


@pytest.fixture
def plan(values):
    values["loop"] |= {"epochs": 1, "steps": 10}
    return {
        "base": values,
        "detectors": {"fcos": {}, "atss": {"pyramid": {"levels": [3, 4]}}},
        "losses": {"ce": {"name": "cross_entropy"}, "libra": {"name": "grad_libra"}},
        "baseline": "ce",
        "tuning": {"detector": "fcos", "weights": [1, 2], "seed": 0},
        "runs": [
            {"detectors": ["fcos"], "losses": ["ce", "libra"], "seeds": [0, 1]},
            {"detectors": ["atss"], "losses": ["libra"], "seeds": [0]},
        ],
        "merged": {"low grade": ["NILM"]},
        "averaged": {"rare": ["HSIL"]},
    }


def table_of(settings, out):
    return write_table(settings, out, judge_all(settings, out))


def check(plan):
    return validate(plan, ComparisonSettings, "plan")


def pretend(settings, out, run, score, found=None, truth=None):
    """A finished run whose detections are given."""
    folder = out / run.folder
    folder.mkdir(parents=True)
    result = {"figures": {"score": score}, "settings": digest(run_settings(settings, run))}
    (folder / "result.json").write_text(json.dumps(result))
    rows = "step,class,positive,negative,ratio,share\n10,NILM,1,2,0.5,0.6\n10,HSIL,1,1,1,0.4\n"
    (folder / "gradients.csv").write_text(rows)
    if found is not None:
        save_cells(folder / "validation.npz", truth, found)


def test_each_group_is_tuned_before_it_and_after_the_groups_before(plan, tmp_path):
    plan["runs"] = [
        {"detectors": ["fcos"], "losses": ["ce"], "seeds": [0, 1]},
        {"detectors": ["fcos"], "losses": ["libra"], "seeds": [0]},
    ]
    settings = check(plan)
    for weight in (1, 2):
        pretend(settings, tmp_path, Run("fcos", "ce", weight, 0), weight)
    assert [(run.loss, run.weight, run.seed) for run in planned(settings, tmp_path)] == [
        ("ce", 1, 0),
        ("ce", 2, 0),
        ("ce", 2, 1),
        ("libra", 1, 0),
        ("libra", 2, 0),
    ]


def test_the_grid_comes_first_and_settles_the_weight_of_the_rest(plan, tmp_path):
    settings = check(plan)
    grid = [Run("fcos", loss, weight, 0) for loss in ("ce", "libra") for weight in (1, 2)]
    assert planned(settings, tmp_path) == grid
    for run, score in zip(grid, (0.4, 0.5, 0.7, 0.6), strict=True):
        pretend(settings, tmp_path, run, score)
    assert (tuned_weight(settings, tmp_path, "ce"), tuned_weight(settings, tmp_path, "libra")) == (
        2,
        1,
    )
    assert planned(settings, tmp_path) == [
        *grid,
        Run("fcos", "ce", 2, 1),
        Run("fcos", "libra", 1, 1),
        Run("atss", "libra", 1, 0),
    ]


def test_a_loss_that_says_its_weight_keeps_it_and_asks_no_grid(plan, tmp_path):
    plan["losses"]["ce"]["weight"] = 3
    settings = check(plan)
    assert [(run.loss, run.weight) for run in tuning_runs(settings, ["ce", "libra"])] == [
        ("libra", 1),
        ("libra", 2),
    ]
    runs = planned(settings, tmp_path)
    assert [(run.weight, run.seed) for run in runs if run.loss == "ce"] == [(3, 0), (3, 1)]
    for weight, score in ((1, 0.3), (2, 0.4)):
        pretend(settings, tmp_path, Run("fcos", "libra", weight, 0), score)
    told = "the best of 1, 2 for fcos with seed 0, but as configured for ce: ce 3, libra 2."
    assert told in schedule(settings, tmp_path)


def test_the_default_weight_of_a_loss_asks_no_grid_where_it_is_said(plan, tmp_path):
    plan["losses"] |= {"ce": {"name": "cross_entropy", "weight": 1}}
    plan["losses"]["libra"]["weight"] = None
    settings = check(plan)
    assert {run.loss for run in tuning_runs(settings, ["ce", "libra"])} == {"libra"}
    assert tuned_weight(settings, tmp_path, "ce") == 1
    settings = check(plan | {"tuning": None})
    assert tuned_weight(settings, tmp_path, "libra") == 1
    with pytest.raises(ConfigError, match=r"losses\.ce\..*weight = 0"):
        check(plan | {"losses": plan["losses"] | {"ce": {"name": "cross_entropy", "weight": 0}}})


@pytest.mark.parametrize("preset", ["cric", "losses", "seed-systems"])
def test_a_printed_configuration_plans_the_same_runs(preset, tmp_path):
    layers = read_layers([f"compare/{preset}"])
    first = resolve(layers, ComparisonSettings)
    path = tmp_path / "printed.yaml"
    path.write_text(listing(first, join(layers, ComparisonSettings)))
    again = load_config([path], ComparisonSettings)
    assert again == first
    runs = planned(first, tmp_path)
    assert runs
    assert planned(again, tmp_path) == runs
    for run in runs[:5]:
        assert run_settings(again, run) == run_settings(first, run)


@pytest.mark.parametrize("weights", [[1, 2, 2], [1, 1.0], [1, 2.0000001, 2]])
def test_a_grid_tries_no_weight_twice(plan, weights):
    plan["tuning"]["weights"] = weights
    with pytest.raises(ConfigError, match=r"tuning\.weights.*: .*2 of them are [12], as folders"):
        check(plan)


def test_a_run_differs_from_the_recipe_in_detector_loss_weight_and_seed_alone(plan):
    settings = check(plan)
    made = run_settings(settings, Run("atss", "libra", 2.0, 7))
    assert made.model.name == "atss"
    assert (made.model.loss.name, made.model.loss.weight) == ("grad_libra", 2.0)
    assert made.model.pyramid.levels == (3, 4)
    assert made.model.pyramid.channels == 32  # what is not changed stays
    assert made.loop.seed == 7
    same = made.model_copy(
        update={"model": settings.base.model, "loop": made.loop.model_copy(update={"seed": 0})}
    )
    assert same == settings.base


@pytest.mark.slow
def test_makes_every_run_once_and_resumes(plan, tmp_path):
    plan["runs"] = [{"detectors": ["fcos"], "losses": ["ce"], "seeds": [0, 1]}]
    settings = check(plan)
    run_comparison(settings, tmp_path, CONSOLE)
    folders = sorted(path.parent for path in tmp_path.rglob("result.json"))
    assert len(folders) == 3  # two weights, and the second seed
    for folder in folders:
        assert {"config.yaml", "gradients.png", "validation.npz"} <= {
            path.name for path in folder.iterdir()
        }
    told = [json.loads((folder / "result.json").read_text())["data"] for folder in folders]
    assert all(one == told[0] and set(one) == {"train", "val"} for one in told)
    assert check_made(settings, tmp_path) == ()
    times = [(folder / "result.json").stat().st_mtime_ns for folder in folders]
    interrupted = folders[0] / "result.json"
    interrupted.unlink()
    run_comparison(settings, tmp_path, CONSOLE)
    assert interrupted.is_file()
    again = [(folder / "result.json").stat().st_mtime_ns for folder in folders]
    assert again[1:] == times[1:]
    text = table_of(settings, tmp_path).read_text()
    assert "| fcos | ce | 2 |" in text
    assert "Not trained: fcos with libra." in text  # of atss nothing was asked


def test_processes_share_the_runs(plan, tmp_path, monkeypatch):
    plan["runs"] = [{"detectors": ["fcos"], "losses": ["ce", "libra"], "seeds": [0, 1, 2]}]
    settings, made, lock = check(plan), [], threading.Lock()
    together = threading.Barrier(2, timeout=60)

    def train(wanted, folder, console):
        with lock:
            made.append(folder)
        if len(made) <= 2:
            together.wait()  # both are at work at the same time
        part = folder / "part"
        part.write_text(json.dumps({"figures": {"score": 1.0}, "settings": digest(wanted)}))
        part.replace(folder / "result.json")  # as the real one: whole or not at all

    monkeypatch.setattr(comparison, "_train", train)
    workers = [
        threading.Thread(target=run_comparison, args=(settings, tmp_path, CONSOLE))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert len(made) == len(set(made)) == 8


def test_results_of_other_settings_are_refused(plan, tmp_path):
    """Of a record there is no config.yaml to look into, nor does it help to remove what it gave."""
    settings, run = check(plan), Run("fcos", "ce", 1, 0)
    pretend(settings, tmp_path, run, 0.5)
    plan["base"]["optimiser"]["lr"] = 1e-4
    with pytest.raises(ConfigError, match=r"seed0: was taken from the record of .* other settings"):
        run_comparison(check(plan), tmp_path, CONSOLE)
    (tmp_path / run.folder / "config.yaml").write_text("loop: {}")
    with pytest.raises(ConfigError, match=r"weight1-seed0: was made with other settings"):
        check_made(check(plan), tmp_path)
    check_made(settings, tmp_path)


def test_runs_made_or_judged_on_other_data_are_refused(plan, tmp_path):
    plan["runs"] = [{"detectors": ["fcos"], "losses": ["ce"], "seeds": [0]}]
    settings = check(plan)
    runs = [Run("fcos", "ce", weight, 0) for weight in (1, 2)]
    for run in runs:
        pretend(settings, tmp_path, run, 0.5)
    (doubt,) = check_made(settings, tmp_path)
    assert "2 runs, fcos/ce/weight1-seed0 first, don't say on which data" in str(doubt)

    def say(run, **data):
        path = tmp_path / run.folder / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"data": data}))

    for run in runs:
        say(run, train="a", val="b")
    assert check_made(settings, tmp_path) == ()
    say(runs[1], train="a", val="changed")
    with pytest.raises(ConfigError, match=r"weight2-seed0: .* content of data\.val than fcos"):
        check_made(settings, tmp_path)


def test_no_table_is_made_of_runs_with_other_settings(plan, tmp_path):
    plan["runs"] = [{"detectors": ["fcos"], "losses": ["ce"], "seeds": [0]}]
    found_and_missed(check(plan), tmp_path / "out")
    plan["base"]["loop"]["steps"] = 7
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    words = ["compare", "--config", tmp_path / "plan.yaml", "--out", tmp_path / "out"]
    told = CliRunner().invoke(build_app("compare"), [*map(str, words), "--only-table"])
    assert told.exit_code == 2
    assert "other settings" in " ".join(told.output.split())
    assert not (tmp_path / "out" / "table.md").exists()


@pytest.mark.parametrize("content", ["{}", "[]", "3", '{"figures": 1, "settings": "a"}'])
def test_what_is_no_result_of_a_run_is_told(plan, tmp_path, content):
    run = Run("fcos", "ce", 1, 0)
    pretend(check(plan), tmp_path, run, 0.5)
    (tmp_path / run.folder / "result.json").write_text(content)
    with pytest.raises(ConfigError, match=r"result\.json: .*; remove its folder"):
        check_made(check(plan), tmp_path)


def test_runs_go_on_where_the_files_lie_elsewhere(plan, tmp_path):
    run = Run("fcos", "ce", 1, 0)
    pretend(check(plan), tmp_path, run, 0.5)
    train = plan["base"]["data"]["train"]
    moved = {key: str(Path("/elsewhere", Path(value).name)) for key, value in train.items()}
    plan["base"]["data"]["train"] = moved
    assert digest(run_settings(check(plan), run)) == read_result(tmp_path, run)["settings"]
    plan["base"]["data"]["train"] = moved | {"annotations": "/elsewhere/others.json"}
    assert digest(run_settings(check(plan), run)) != read_result(tmp_path, run)["settings"]


def found_and_missed(settings, out):
    truth = [cells((0, 0, 1), (50, 1, 1)), cells((0, 0, 1), (70, 1, 1)), cells((20, 1, 1))]
    found = [cells((0, 0, 0.9), (50, 1, 0.8), (90, 1, 0.3)), cells((0, 0, 0.7)), cells()]
    for weight in (1, 2):
        run = Run("fcos", "ce", weight, 0)
        pretend(settings, out, run, 1 / weight, found[::weight] + found[1::2] * (weight - 1), truth)
    return run


def test_a_table_is_the_same_by_records_and_goes_on_from_them(plan, tmp_path, monkeypatch):
    plan["runs"] = [{"detectors": ["fcos"], "losses": ["ce"], "seeds": [0]}]
    settings, records = check(plan), tmp_path / "records"
    run = found_and_missed(settings, tmp_path / "one")
    keep_records(judge_all(settings, tmp_path / "one"), tmp_path / "one", records)
    files = [path.name for path in sorted((records / run.folder).iterdir())]
    assert files == ["judged.npz", "result.json"]
    take_records(records, tmp_path / "other")
    monkeypatch.setattr(comparison, "_train", lambda *_: pytest.fail("trained again"))
    run_comparison(settings, tmp_path / "other", CONSOLE)
    one, other = (table_of(settings, tmp_path / name).read_text() for name in ("one", "other"))
    assert one == other
    assert "| fcos | ce | 1 |" in one
    assert not (tmp_path / "other" / "gradients.png").exists()


def test_a_records_own_run_goes_before_it_and_a_bad_one_is_told(plan, tmp_path):
    plan["runs"] = [{"detectors": ["fcos"], "losses": ["ce"], "seeds": [0]}]
    settings, records = check(plan), tmp_path / "records"
    run = found_and_missed(settings, tmp_path / "one")
    keep_records(judge_all(settings, tmp_path / "one"), tmp_path / "one", records)
    for path in records.rglob("result.json"):
        path.write_text("{}")
    take_records(records, tmp_path / "one")
    assert read_result(tmp_path / "one", run)["figures"]["score"] == 0.5
    take_records(records, tmp_path / "other")
    plan["merged"] = {"all": ["NILM", "HSIL"]}
    with pytest.raises(ConfigError, match=r"judged\.npz: a record that lacks all"):
        judge(check(plan), tmp_path / "other", run)
    (tmp_path / "other" / run.folder / "judged.npz").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"judged\.npz: is no record of a run"):
        judge(settings, tmp_path / "other", run)
    (tmp_path / "other" / run.folder / "result.json").write_text("{")
    with pytest.raises(ConfigError, match=r"result\.json: can't be read .*remove its folder"):
        read_result(tmp_path / "other", run)
    (records / run.folder / "judged.npz").unlink()
    with pytest.raises(ConfigError, match=r"judged\.npz: No such file"):
        take_records(records, tmp_path / "third")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "focal"}, "focal: not among the losses ce, libra"),
        ({"merged": {"high": ["SCC"]}}, "SCC: not among the classes NILM, HSIL"),
        ({"detectors": {"fcos": {}}}, "atss: not among the detectors fcos"),
        ({"systems": {"plain": {}}, "plain": "bare"}, "bare: not among the systems plain"),
        ({"systems": {"plain": {}}}, "plain is missing"),
    ],
)
def test_unknown_names_are_refused(plan, change, message):
    with pytest.raises(ConfigError, match=message):
        check(plan | change)


@pytest.mark.parametrize(
    ("part", "changes", "key"),
    [
        ("systems", {"loop": {"seed": 3, "steps": 4}}, r"loop\.seed"),
        ("systems", {"model": {"name": "atss"}}, r"model\.name"),
        ("systems", {"model": {"loss": {"weight": 2.0}}}, r"model\.loss"),
        ("detectors", {"name": "atss", "loss": {"name": "focal"}}, "name, loss"),
    ],
)
def test_what_rows_are_called_by_is_changed_by_no_system_and_no_detector(plan, part, changes, key):
    others = {"plain": {}, "fcos": {}, "atss": {}, "mine": changes}
    match = rf"{part}\.mine: changes {key}, by which rows are called; leave that to the detectors"
    with pytest.raises(ConfigError, match=match):
        check(plan | {part: others, "plain": "plain" if part == "systems" else None})
    check(plan | {"systems": {"mine": {"loop": {"steps": 4}, "model": None}}, "plain": "mine"})


def test_a_wrong_change_of_a_detector_is_told_before_anything_is_trained(plan, tmp_path):
    plan["detectors"]["atss"] = {"pyramid": {"chanels": 3}}
    with pytest.raises(ConfigError, match="did you mean channels"):
        run_comparison(check(plan), tmp_path, CONSOLE)
    assert not list(tmp_path.glob("*/*/*"))


def cells(*rows):
    boxes = np.array([[x, 0, x + 10, 10] for x, _, _ in rows], float).reshape(-1, 4)
    labels, scores = (
        np.array([row[k] for row in rows], kind) for k, kind in ((1, int), (2, float))
    )
    return FieldCells(boxes, labels, scores, np.zeros(len(rows), bool))


def test_the_table_tells_figures_and_paired_differences(plan, tmp_path):
    settings = check(plan)
    truth = [cells((0, 0, 1), (50, 1, 1)) for _ in range(6)]
    good = [cells((0, 0, 0.9), (50, 1, 0.8)) for _ in range(6)]
    half = [cells((0, 0, 0.9), (90, 1, 0.8)) for _ in range(6)]  # misses every HSIL
    for weight in (1, 2):
        pretend(settings, tmp_path, Run("fcos", "ce", weight, 0), 1 / weight, half, truth)
        pretend(settings, tmp_path, Run("fcos", "libra", weight, 0), 1 / weight, good, truth)
    judged = judge(settings, tmp_path, Run("fcos", "ce", 1, 0))
    metrics = field_metrics(truth, half, ["NILM", "HSIL"], [False, True])
    for ours, theirs in [("abnormal", "ap50/abnormal"), ("any", "ap50/any"),
                         ("class mean", "map50"), ("HSIL", "ap50/HSIL")]:  # fmt: skip
        assert judged.figures[ours] == pytest.approx(metrics[theirs])
    assert judged.score == pytest.approx(metrics["score"])
    assert judged.figures["mean recall"] == pytest.approx(0.5)
    text = table_of(settings, tmp_path).read_text()
    assert "| fcos | libra | 1 | +100.0 (+100.0 to +100.0) | +50.0 (+50.0 to +50.0) |" in text
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["figure"] for row in rows} >= {"rare", "low grade", "mean recall", "NILM"}
    assert (tmp_path / "gradients.png").stat().st_size > 10_000


def test_rounds_without_a_class_have_no_class_mean(plan, tmp_path):
    """HSIL, never found, is in one of two fields; the mean is a half wherever there is one."""
    settings = check(plan)
    truth = [cells((0, 0, 1), (50, 1, 1)), cells((0, 0, 1))]
    found = [cells((0, 0, 0.9)), cells((0, 0, 0.9))]
    run = Run("fcos", "ce", 1, 0)
    pretend(settings, tmp_path, run, 1, found, truth)
    judged = judge(settings, tmp_path, run)
    means = judged.rounds["class mean"]
    with_hsil = ~np.isnan(judged.rounds["HSIL"])
    assert 600 < with_hsil.sum() < 900  # three quarters of all draws
    assert set(means[with_hsil]) == {0.5}
    assert np.isnan(means[~with_hsil]).all()
    assert f"the class mean has the {with_hsil.sum()} that drew them all" in how_drawn([judged])


@pytest.fixture
def systems(plan):
    runs = {"detectors": ["fcos"], "losses": ["ce"], "seeds": [0, 1]}
    return plan | {
        "tuning": None,
        "losses": {"ce": {"name": "cross_entropy", "weight": 3.0}},
        "systems": {
            "plain": {},
            "binary": {"model": {"abnormal_head": {"consistency": 0.5}}},
            "steered": {"data": {"crops": {"gradient": {}}}},
        },
        "plain": "plain",
        "runs": [runs | {"systems": ["plain", "binary", "steered"]}],
    }


def test_a_system_is_what_differs_from_the_recipe_and_needs_no_grid(systems, tmp_path):
    settings = check(systems)
    names = [(run.system, run.seed, run.weight) for run in planned(settings, tmp_path)]
    order = ["plain", "binary", "steered"]
    assert names == [(system, seed, 3.0) for seed in (0, 1) for system in order]
    plain, binary, steered = (
        run_settings(settings, Run("fcos", "ce", 3.0, 0, name)) for name in order
    )
    assert plain.model.abnormal_head is None
    assert binary.model.abnormal_head.consistency == 0.5
    assert binary.model.pyramid == plain.model.pyramid
    assert steered.data.crops.gradient.interval == 25
    assert steered.data.crops.size == plain.data.crops.size
    assert Run("fcos", "ce", 3.0, 0, "binary").folder.as_posix() == "fcos/ce/binary/weight3-seed0"
    systems["systems"]["binary"] = {"model": {"abnormal_hed": {}}}
    with pytest.raises(ConfigError, match="did you mean abnormal_head"):
        run_comparison(check(systems), tmp_path, CONSOLE)


def test_the_table_of_systems_tells_what_is_won_over_the_plain_one(systems, tmp_path):
    settings = check(systems)
    assert table_of(settings, tmp_path).read_text().startswith("None of these systems has been")
    truth = [cells((0, 0, 1), (50, 1, 1)) for _ in range(6)]
    good = [cells((0, 0, 0.9), (50, 1, 0.8)) for _ in range(6)]
    half = [cells((0, 0, 0.9), (90, 1, 0.8)) for _ in range(6)]  # misses every HSIL
    for seed in (0, 1):
        pretend(settings, tmp_path, Run("fcos", "ce", 3.0, seed, "plain"), 1, half, truth)
    pretend(settings, tmp_path, Run("fcos", "ce", 3.0, 1, "binary"), 1, good, truth)
    steps = {"fcos/ce/plain": 0.2, "fcos/ce/binary": 0.25}
    of = {f"fcos/ce/{name}": Run("fcos", "ce", 3.0, 1, name) for name in ("plain", "binary")}
    costs = Costs(
        told="this machine",
        step=steps,
        field={"fcos/ce/plain": 0.05},
        settings={name: settings_apart(settings, run) for name, run in of.items()},
    )
    (tmp_path / "costs.json").write_text(costs.model_dump_json())
    text = table_of(settings, tmp_path).read_text()
    rows = [line for line in text.splitlines() if line.startswith("| fcos | ce ")]
    assert rows[0].startswith("| fcos | ce | plain | 2 | 0.0 ± 0.0 |")
    assert rows[1].startswith("| fcos | ce | binary | 1 | 100.0 | 100.0 | 100.0 |")
    assert rows[2].startswith("| fcos | ce | binary | 1 | +100.0 (+100.0 to +100.0) |")
    assert "No run of: steered (fcos, ce)." in text
    assert "Costs: this machine" in text
    assert "| fcos | ce | plain | 200.0 | 50.0 |" in text
    assert "| fcos | ce | binary | 250.0 (+25.0%) | – |" in text
    with (tmp_path / "table.csv").open() as file:
        assert {row["system"] for row in csv.DictReader(file)} == {"plain", "binary"}
    costs.settings["fcos/ce/binary"] = "of before"
    (tmp_path / "costs.json").write_text(costs.model_dump_json())
    text = table_of(settings, tmp_path).read_text()
    assert "| fcos | ce | plain | 200.0 | 50.0 |" in text
    assert "| fcos | ce | binary | 250.0" not in text
    assert "Measured with other settings, and left out: binary (fcos, ce);" in text


def test_costs_are_measured_of_every_system_and_kept(systems, tmp_path):
    settings = check(systems)
    measured = measure_costs(settings, tmp_path)
    assert set(measured.step) == {"fcos/ce/plain", "fcos/ce/binary", "fcos/ce/steered"}
    assert all(seconds > 0 for seconds in measured.step.values())
    assert measured.field == {}  # of models that are not there
    assert "a step has 2 crops" in measured.told
    assert set(measured.settings) == set(measured.step)
    assert read_costs(tmp_path) == measured
    (tmp_path / "costs.json").write_text("{")
    with pytest.raises(ConfigError, match=r"costs\.json: is not what --costs of this"):
        read_costs(tmp_path)


def test_a_step_with_a_mean_teacher_costs_its_unlabelled_crops(systems, tmp_path, monkeypatch):
    systems["systems"]["taught"] = {"mean_teacher": {"images": "x", "crops": 3}}
    systems["runs"][0]["systems"] = ["plain", "taught"]
    taught = []
    call = MeanTeacher.__call__

    def counted(self, student, images, targets, progress):
        taught.append(len(images))
        return call(self, student, images, targets, progress)

    monkeypatch.setattr(MeanTeacher, "__call__", counted)
    assert set(measure_costs(check(systems), tmp_path).step) == {"fcos/ce/plain", "fcos/ce/taught"}
    assert set(taught) == {3}  # of a batch of two


def test_costs_are_of_each_systems_own_crops_and_batch(systems, tmp_path, monkeypatch):
    size = systems["base"]["data"]["crops"]["size"]
    systems["systems"]["large"] = {
        "data": {"crops": {"size": 2 * size}},
        "loop": {"batch_size": 2 * systems["base"]["loop"]["batch_size"]},
    }
    systems["runs"][0]["systems"] = ["plain", "large"]
    steps = []

    def step(of_run, batch):
        steps.append([tuple(image.shape[1:]) for image in batch[0]])
        return lambda: None

    monkeypatch.setattr(costs, "_step_of", step)
    told = measure_costs(check(systems), tmp_path).told
    assert steps == [[(size, size)] * 2, [(2 * size, 2 * size)] * 4]
    assert "a step has 2 crops" in told
    assert "a step has 4 crops" in told
    systems["systems"]["large"] = {"distillation": {"teacher": "cric-fcos-light"}}
    with pytest.raises(ConfigError, match=r"--costs: fcos/ce/large learns from a teacher"):
        measure_costs(check(systems), tmp_path)


def test_the_table_goes_into_its_place_on_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Systems\n\n{BEGIN}\nold\n{END}\n\nEnd.\n")
    write_page(page, "| new |\n")
    expected = f"# Systems\n\n{BEGIN}\n\n| new |\n\n{END}\n\nEnd.\n"
    assert page.read_text() == expected
    write_page(page, "| new |\n")
    assert page.read_text() == expected
    page.write_text(f"{END} {BEGIN}")
    with pytest.raises(ConfigError, match=r"--page .*has no lines"):
        write_page(page, "x")
    with pytest.raises(ConfigError, match=r"No such file"):
        write_page(tmp_path / "none.md", "x")


def test_wrong_calls_get_one_line_and_exit_code_2(plan, tmp_path):
    config = tmp_path / "plan.yaml"
    config.write_text(json.dumps(plan | {"baseline": "focal"}))
    words = ["compare", "--config", str(config), "--out", str(tmp_path)]
    result = CliRunner().invoke(build_app("compare"), words)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "not among the losses" in result.stderr


def test_every_system_of_the_preset_is_a_recipe_that_can_be_made():
    settings = load_config(["compare/seed-systems"], ComparisonSettings)
    for name in settings.systems:
        made = run_settings(settings, Run("fcos", "eqlv2", 1.0, 0, name))
        lite = made.model.backbone.startswith("efficientnet_lite")
        mean, spread = (127 / 255, 128 / 255) if lite else (0.485, 0.229)
        # The recipe's normalisation is merged with a system's: one of other weights needs its own.
        assert made.model.image_mean[0] == pytest.approx(mean, abs=1e-5)
        assert made.model.image_std[0] == pytest.approx(spread, abs=1e-5)

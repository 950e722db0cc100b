"""``cytolibra reviews export`` and ``select``: what is written, proposed, told and refused."""

import json
import shutil

import pytest
from reviewfolders import draw_slide, write_result
from typer.testing import CliRunner

from pipeline.review.catalogue import Catalogue
from pipeline.review.store import ReviewStore, parse_change
from scripts.cli import build_app


def run(*words):
    return CliRunner().invoke(build_app("reviews"), ["reviews", *map(str, words)])


@pytest.fixture
def reports(tmp_path):
    slide = draw_slide(tmp_path / "slides" / "one.tif")
    write_result(tmp_path / "reports", "one.tif", slide)
    write_result(tmp_path / "reports", "two.tif", draw_slide(tmp_path / "slides" / "two.tif", 1))
    return tmp_path / "reports"


def decide(reports, reader, verdicts, sign=True, category="HSIL"):
    """Decides the first cells of the first slide."""
    with Catalogue(reports) as catalogue, ReviewStore.open(reports) as store:
        result = next(one for one in catalogue if one.name == "one.tif")
        who, table = store.reader(reader), catalogue.cells(result)
        changes = []
        for row, verdict in enumerate(verdicts):
            box = table.cells.boxes[row].tolist()
            label = table.classes[table.cells.labels[row]].name
            said = {"label": label, "score": float(table.cells.scores[row]), "box": box}
            changes.append(
                {"kind": "cell", "key": table.key(row), "verdict": verdict, "said": said}
            )
        changes.append({"kind": "slide", "category": category, "adequacy": "satisfactory"})
        changes += [{"kind": "sign", "signed": True}] if sign else []
        for change in changes:
            version = store.reading(result.key, who).version
            number = f"{len(reader):016x}{version:016x}"
            store.apply(result.key, who, parse_change(change | {"id": number, "version": version}))


def test_what_was_signed_off_is_exported_and_the_rest_told(reports, tmp_path):
    decide(reports, "Ann", ["agree", "reject", "unsure"])
    result = run("export", reports, "--to", "coco", "--out", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    assert "1 cells, 1 rejected findings as background and 0 regions read in full" in result.output
    assert f"{tmp_path / 'slides'}: the folder of its images" in result.output
    content = json.loads((tmp_path / "a.json").read_text())
    assert [one["file_name"] for one in content["images"]] == ["one.tif"]
    names = {one["id"]: one["name"] for one in content["categories"]}
    told = [names[one["category_id"]] for one in content["annotations"]]
    assert told.count("region") == 2
    assert told.count("ignore") >= 1
    assert run("export", reports, "--to", "labels.csv", "--out", tmp_path / "l.csv").exit_code == 0
    assert (tmp_path / "l.csv").read_text().split() == ["slide,label", "one.tif,HSIL"]


@pytest.mark.parametrize("to", ["coco", "qupath"])
@pytest.mark.parametrize("verdict", ["unsure", "none"])
def test_a_slide_of_which_nothing_is_known_is_left_out(reports, tmp_path, to, verdict):
    # Without a region, readers of annotations take all that is not marked as background.
    decide(reports, "Ann", [verdict])
    result = run("export", reports, "--to", to, "--out", tmp_path / "a")
    assert result.exit_code == 2, result.output
    assert "left out: one.tif: no region was read in full" in " ".join(result.output.split())
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("to", ["coco", "qupath"])
def test_a_slide_of_which_the_category_alone_is_known_is_told(reports, tmp_path, to):
    decide(reports, "Ann", [])
    result = run("export", reports, "--to", to, "--out", tmp_path / "a")
    assert result.exit_code == 2, result.output
    told = " ".join(result.output.split())
    assert "left out: one.tif: nothing was decided about its cells" in told


@pytest.mark.parametrize("to", ["coco", "qupath"])
def test_a_slide_whose_file_is_another_by_now_is_left_out(reports, tmp_path, to):
    decide(reports, "Ann", ["agree"])
    slide = tmp_path / "slides" / "one.tif"
    slide.unlink()
    draw_slide(slide, seed=7)
    out = ("--to", to, "--out", tmp_path / "a")
    result = run("export", reports, *out)
    assert result.exit_code == 2, result.output
    told = " ".join(result.output.split())
    assert "one.tif: its file is no longer the slide that was screened" in told
    assert not (tmp_path / "a").exists()
    # Where the right one is found elsewhere, it is that one.
    draw_slide(tmp_path / "moved" / "one.tif")
    result = run("export", reports, *out, "--slides", tmp_path / "moved")
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / 'moved'}: the folder of its images" in result.output


def test_a_slide_that_could_not_be_checked_is_taken_and_told(reports, tmp_path):
    (reports / "one.tif" / "fingerprint.json").unlink()
    decide(reports, "Ann", ["agree"])
    result = run("export", reports, "--to", "coco", "--out", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    assert "taken unchecked: one.tif: no fingerprint beside the report" in result.output


def test_a_reading_that_is_not_signed_off_is_taken_only_where_one_asks(reports, tmp_path):
    decide(reports, "Ann", ["agree"], sign=False)
    out = ("--to", "qupath", "--out", tmp_path / "q")
    result = run("export", reports, *out)
    assert result.exit_code == 2
    assert "one.tif: not signed off (--unsigned takes it all the same)" in result.output
    assert run("export", reports, *out, "--unsigned").exit_code == 0
    assert [path.name for path in (tmp_path / "q").iterdir()] == ["one.tif.geojson"]


def test_readers_who_differ_have_no_consensus_but_each_his_own(reports, tmp_path):
    decide(reports, "Ann", ["agree"])
    decide(reports, "Bert", ["reject"])
    out = ("--to", "coco", "--out", tmp_path / "a.json")
    result = run("export", reports, *out)
    assert result.exit_code == 2
    assert "its readers differ in what nobody has adjudicated" in result.output
    assert "0 cells, 1 rejected" in run("export", reports, *out, "--reader", "Bert").output
    result = run("export", reports, *out, "--reader", "Eve")
    assert (result.exit_code, "who has: Ann, Bert" in result.output) == (2, True)


def test_fields_become_tasks_which_are_not_proposed_twice(reports):
    result = run("select", reports, "--fields", 4, "--field-um", 100, "--json")
    assert result.exit_code == 0, result.output
    fields = json.loads(result.stdout)["fields"]
    assert len(fields) == 4
    assert {one["slide"] for one in fields} <= {"one.tif", "two.tif"}
    with ReviewStore.open(reports) as store:
        tasks = store.tasks()
        assert [list(task.box) for task in tasks] == [one["box"] for one in fields]
    again = json.loads(run("select", reports, "--fields", 4, "--field-um", 100, "--json").stdout)
    boxes = [(one["slide"], tuple(one["box"])) for one in fields + again["fields"]]
    assert len(set(boxes)) == len(boxes)


def proposed(reports, *words):
    result = run("select", reports, "--field-um", 100, "--json", *words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    with ReviewStore.open(reports) as store:
        assert told["added"] == len(told["fields"]) <= len(store.tasks())
    return [one["slide"] for one in told["fields"]]


def test_a_copy_of_a_slide_has_no_share_of_its_own(reports, tmp_path):
    share = ("--fields", 6, "--per-slide", 2)
    wanted = proposed(reports, *share)
    (reports / "reviews.sqlite").unlink()
    copy = tmp_path / "slides" / "one-again.tif"
    shutil.copy2(tmp_path / "slides" / "one.tif", copy)
    write_result(reports, "one-again.tif", copy)
    found = [name.replace("-again", "") for name in proposed(reports, *share)]
    assert sorted(found) == sorted(wanted) == ["one.tif"] * 2 + ["two.tif"] * 2


def test_what_is_done_stays_where_fields_are_proposed_anew(reports):
    proposed(reports, "--fields", 2)
    with ReviewStore.open(reports) as store:
        first, ann = store.tasks()[0], store.reader("Ann")
        change = {"kind": "region", "id": "1" * 32, "version": 0, "key": "r", "box": first.box}
        store.apply(first.slide, ann, parse_change(change))
    proposed(reports, "--fields", 2, "--replace")
    with ReviewStore.open(reports) as store:
        tasks = store.tasks()
        assert [task.done for task in tasks] == [True, False, False]
        assert tasks[0] == first.__class__(**{**first.__dict__, "done": True})
        assert first.box not in [task.box for task in tasks[1:] if task.slide == first.slide]


def test_what_an_adjudicator_read_in_full_is_not_proposed(reports):
    decide(reports, "Ann", ["agree"])
    decide(reports, "Bert", ["reject"])
    with ReviewStore.open(reports) as store:
        (slide,), eve = store.slides(), store.reader("Eve")
        whole = {"kind": "region", "id": "e" * 32, "version": 0, "key": "r"}
        change = parse_change(whole | {"box": (0, 0, 1200, 900)})
        store.apply(slide, eve, change, "adjudication")
    assert set(proposed(reports, "--fields", 9, "--per-slide", 9)) == {"two.tif"}


def test_fields_of_models_with_different_classes_are_not_chosen_from(reports):
    path = reports / "two.tif" / "report.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    report["model"]["classes"].append(report["model"]["classes"][0] | {"name": "other"})
    report["model"]["threshold"]["other"], report["counts"]["other"] = 0.5, 0
    path.write_text(json.dumps(report), encoding="utf-8")
    result = run("select", reports, "--fields", 4)
    assert result.exit_code == 2, result.output
    told = " ".join(result.output.split())
    assert "are of models with different classes, whose scores don't compare" in told
    with ReviewStore.open(reports) as store:
        assert store.tasks() == []


def test_a_folder_without_reviews_or_reports_is_refused_in_a_line(reports, tmp_path):
    result = run("export", reports, "--to", "coco", "--out", tmp_path / "a.json")
    assert (result.exit_code, "nothing was reviewed here" in result.output) == (2, True)
    (tmp_path / "empty").mkdir()
    result = run("select", tmp_path / "empty")
    assert (result.exit_code, "has no reports" in result.output) == (2, True)
    assert list((tmp_path / "empty").iterdir()) == []

"""`cytolibra evaluate` from the call to the files."""

import contextlib
import io
import json

import numpy as np
import pytest
from graders import give_grader
from lively import saved
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from typer.testing import CliRunner

from data.annotations import read_coco
from models import load_detector
from models.card import CombinationRule, read_card, save_card
from pipeline.network.detector import RuntimeSettings, TileDetector
from scripts.candidates import LOWEST_SCORE
from scripts.cli import build_app
from scripts.evaluate import measure
from scripts.evaluation.finding import _detect

pytestmark = pytest.mark.usefixtures("undrawn")  # `test_page` draws


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    saved(folder, pyramid={"channels": 32, "levels": [3]})
    return folder


@pytest.fixture
def known(model, coco):
    """The fields, with every other thing that the model finds there as their truth, moved a bit."""
    return with_findings(model, coco)


def with_findings(model, coco):
    settings = RuntimeSettings(name="torch", precision="fp32", device="cpu")
    detector = TileDetector(load_detector(model), settings, 0.2)
    _, found = _detect(detector, read_coco(*coco, classes=["NILM", "HSIL"]))
    content = json.loads(coco[0].read_text())
    content["annotations"] = [
        {"id": 100 * i + row, "image_id": i, **annotation(cells.boxes[row], cells.labels[row], row)}
        for i, cells in enumerate(found, 1)
        for row in range(0, min(len(cells), 24), 2)
    ]
    coco[0].write_text(json.dumps(content))
    return coco


def annotation(box, label, row):
    left, top, right, bottom = box.tolist()
    width, height = right - left, bottom - top
    return {
        "category_id": int(label) + 1,
        "bbox": [left + width * (row % 5) / 23, top, width * 0.87, height],
    }


def call(model, coco, *arguments, code=0):
    exact = ["--runtime", "torch", "--precision", "fp32", "--device", "cpu"]
    options = ["--model", model, "--data", coco[0], "--images", coco[1], *exact, *arguments]
    result = CliRunner().invoke(build_app("evaluate"), ["evaluate", *map(str, options)])
    assert result.exit_code == code, result.output
    return result.output


def test_writes_figures_page_and_detections(model, coco, tmp_path):
    output = call(model, coco, "--out", tmp_path / "out", "--level", "0.9")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["detections.json", "metrics.json", "report.html", "truth.json"]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["intervals"]["level"] == 0.9
    assert metrics["settings"]["runtime"] == "torch"
    assert metrics["fields"] == 2
    assert "abnormal, merged" in output
    assert "interval: 90%" in " ".join(output.split())


def test_too_few_fields_say_nothing_of_false_alarms(model, coco, tmp_path):
    before = (model / "model.json").read_bytes()
    output = call(model, coco, "--out", tmp_path, "--write-false-alarms", code=2)
    assert "false alarms: 2 fields or slides say nothing about their spread" in output
    assert (tmp_path / "metrics.json").is_file()
    assert (model / "model.json").read_bytes() == before


def test_why_thresholds_go_without_false_alarms_is_told(model, known, tmp_path):
    """Those of the old thresholds hold no more."""
    wanted = ["--at-sensitivity", "abnormal=0.5", "--save-model", tmp_path / "copy"]
    output = call(model, known, "--out", tmp_path, *wanted)
    why = "2 fields or slides say nothing about their spread"
    told = json.loads((tmp_path / "metrics.json").read_text())["warnings"][-1]
    assert told == {
        "code": "false-alarms-unknown",
        "text": f"no false alarms a mm² are told: {why}",
    }
    assert told["text"] in (tmp_path / "report.html").read_text()
    assert f"warning: {told['text']} [false-alarms-unknown]\n" in output
    told = "warning: with the new thresholds the model knows no false alarms: "
    assert f"{told}{why} [false-alarms-unknown]\n" in output
    assert "2 fields say nothing about how counts vary [counting-unknown]\n" in output
    card = load_detector(tmp_path / "copy").card
    assert (card.false_alarms, card.accuracy.counting) == (None, None)


def test_tells_what_was_ignored(model, crowded, tmp_path):
    output = call(model, crowded, "--out", tmp_path)
    warnings = json.loads((tmp_path / "metrics.json").read_text())["warnings"]
    (told,) = [one for one in warnings if one["code"] == "crowds-ignored"]
    assert f"warning: {told['text']} [crowds-ignored]" in output


def test_a_name_that_ends_in_json_is_that_of_the_metrics(model, coco, tmp_path, monkeypatch):
    call(model, coco, "--out", tmp_path / "a" / "night.json")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["night.detections.json", "night.html", "night.json", "night.truth.json"]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    call(model, coco)
    assert (tmp_path / "here" / "metrics.json").is_file()  # without --out, where one is


def test_pycocotools_counts_the_same_on_what_was_written(model, known, tmp_path):
    call(model, known, "--out", tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "detections.json")), "bbox")
        evaluation.params.maxDets = [1, 10, 10_000]
        evaluation.evaluate()
        evaluation.accumulate()
    assert metrics["map50"] > 0.1  # there is something to count
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    recall = evaluation.eval["recall"][:, :, 0, -1]
    for label, entry in enumerate(metrics["classes"].values()):
        found = (precision[:, :, label].mean(), precision[0, :, label].mean())
        assert (entry["ap"], entry["ap50"]) == pytest.approx(found, abs=1e-4)
        assert entry["ar"] == pytest.approx(recall[:, label].mean(), abs=1e-4)


def test_thresholds_go_into_a_copy_and_a_better_model_is_told(model, known, tmp_path):
    """Against itself a model is no better, whether run again or read from what was kept."""
    kept = tmp_path / "first"
    wanted = ["--at-sensitivity", "abnormal=0.5", "--save-model", tmp_path / "copy"]
    output = call(model, known, "--out", kept, "--against", model, *wanted)
    assert f"Thresholds written: {tmp_path / 'copy'}" in output.replace("\n", "")
    first = json.loads((kept / "metrics.json").read_text())
    chosen = first["operating"]["classes"]["HSIL"]
    assert chosen["sensitivity"] >= 0.5
    assert load_detector(tmp_path / "copy").card.thresholds["HSIL"] == chosen["threshold"]
    call(model, known, "--out", tmp_path / "second", "--against", kept / "detections.json")
    for folder in (kept, tmp_path / "second"):
        against = json.loads((folder / "metrics.json").read_text())["against"]["ap50"]
        assert against["pooled"]["any"]["difference"] == 0


def test_a_part_of_a_split_is_judged(model, coco, tmp_path):
    split = tmp_path / "split.csv"
    split.write_text("part,image\ntrain,1.png\ntest,2.png\ntest,3.png\n")
    told = call(model, coco, "--out", tmp_path, "--split", split, "--part", "test")
    assert json.loads((tmp_path / "metrics.json").read_text())["classes"]["NILM"]["cells"] == 0
    assert "split.csv gives 2 images to test, of which 1 are not there, such as 3.png" in told
    told = call(model, coco, "--out", tmp_path, "--split", split, code=2)
    assert "--split, a file or name, and --part, one of its parts, go together" in told


def test_what_is_out_of_reach_costs_nobody_the_figures(model, coco, tmp_path):
    output = call(model, coco, "--out", tmp_path, "--at-precision", "HSIL=1", code=2)
    assert "error: --at-precision, HSIL: a precision of 1 is out of reach" in output
    assert (tmp_path / "metrics.json").is_file()
    assert "operating" not in json.loads((tmp_path / "metrics.json").read_text())


def test_wrong_calls_are_told_before_anything_is_run(model, coco, monkeypatch):
    def refuse(*_):
        raise AssertionError("nothing should have been run")

    monkeypatch.setattr("scripts.evaluation.finding._detect", refuse)
    for arguments, message in [
        (["--by", "cell"], "--by cell: expected field, slide, patient"),
        (["--by", "patient"], "--by patient: nobody says whose the images are; give --groups"),
        (["--level", "95"], "--level 95"),
        (["--at-sensitivity", "SCC=0.9"], "no class SCC"),
        (["--write-thresholds"], "need --at-sensitivity"),
        (["--at-sensitivity", "0.9", "--save-model", model], "there is a model already"),
    ]:
        assert message in call(model, coco, *arguments, code=2)


def test_measure_gives_the_same_figures_to_others(model, coco):
    detector = TileDetector(
        load_detector(model), RuntimeSettings(name="torch", device="cpu"), LOWEST_SCORE
    )
    metrics = measure(detector, read_coco(*coco, classes=["NILM", "HSIL"]))
    assert metrics["classes"]["HSIL"]["cells"] == 2
    rates = ["0.125", "0.25", "0.5", "1", "2", "4", "8"]
    for name in ("froc", "froc_mm2", "froc_interval"):
        assert list(metrics["pooled"]["abnormal"][name]) == rates


def look(model, coco, *arguments, code=0):
    """A grader made up for tests has a graph only."""
    return call(model, coco, "--runtime", "openvino", *arguments, code=code)


class TestSecondLook:
    """A model whose grader tells classes by colour: red is NILM, green is HSIL, blue background."""

    @pytest.fixture
    def looking(self, tmp_path):
        folder = tmp_path / "looking"
        card = saved(folder, pyramid={"channels": 32, "levels": [3]}).card
        trusting = CombinationRule(background=0, share=0, evidence=0, grade=1)
        save_card(give_grader(card, folder, name="by colour", rule=trusting), folder)
        return folder

    @pytest.fixture
    def green(self, model, coco):
        """All that is drawn is green: what is looked at is HSIL beyond doubt."""
        for path in coco[1].iterdir():
            pixels = np.asarray(Image.open(path)).copy()
            pixels[..., 0], pixels[..., 2] = 0, 0
            Image.fromarray(pixels).save(path)
        return with_findings(model, coco)

    def figures(self, folder):
        return json.loads((folder / "metrics.json").read_text())

    def test_both_are_judged_and_compared_pairwise(self, looking, green, tmp_path):
        output = look(looking, green, "--out", tmp_path / "both")
        for mode in ("on", "off"):
            look(looking, green, "--out", tmp_path / mode, "--second-look", mode)
        both, on, off = (self.figures(tmp_path / mode) for mode in ("both", "on", "off"))
        told = both["second_look"]
        for name in ("abnormal", "any"):
            entry = told["ap50"]["pooled"][name]
            assert entry["ap50"] == on["pooled"][name]["ap50"] == both["pooled"][name]["ap50"]
            assert entry["other"] == off["pooled"][name]["ap50"]
            assert entry["difference"] == pytest.approx(entry["ap50"] - entry["other"], abs=2e-4)
        assert "second_look" not in on
        assert "second_look" not in off
        assert on["settings"]["second_look"] == both["settings"]["second_look"] == told["sha256"]
        assert "second_look" not in off["settings"]
        assert "With the second look against the detector alone" in output
        page = (tmp_path / "both" / "report.html").read_text()
        assert "The second look against the detector alone" in page
        assert "by colour" in page

    def test_the_graders_word_counts_and_is_judged(self, looking, green, tmp_path):
        look(looking, green, "--out", tmp_path)
        figures = self.figures(tmp_path)
        found = json.loads((tmp_path / "detections.json").read_text())
        sure = [one for one in found if one["score"] > 0.1]
        assert {one["category_id"] for one in sure} == {2}
        grades = figures["second_look"]["grades"]
        hsil, nilm = (figures["classes"][name]["cells"] for name in ("HSIL", "NILM"))
        # Right of what was found for every HSIL, wrong for every NILM; sure of itself throughout.
        assert 0 < grades["right"] <= 1
        assert grades["cells"] <= hsil + nilm
        assert grades["named"]["excess"] > 0
        assert grades["places"] >= grades["cells"]

    def test_thresholds_after_the_look_are_the_looks_own(self, looking, green, tmp_path):
        before = read_card(looking)
        wanted = ("--at-sensitivity", "abnormal=0.5")
        look(looking, green, "--out", tmp_path, *wanted, "--save-model", tmp_path / "copy")
        card = read_card(tmp_path / "copy")
        assert card.thresholds == before.thresholds
        chosen = self.figures(tmp_path)["operating"]["classes"]["HSIL"]["threshold"]
        assert card.second_look.thresholds["HSIL"] == chosen
        assert card.second_look.thresholds["NILM"] == before.second_look.thresholds["NILM"]
        assert (tmp_path / "copy" / "grader.xml").is_file()

    def test_without_the_look_they_are_the_detectors(self, looking, green, tmp_path):
        before = read_card(looking)
        wanted = ("--at-sensitivity", "abnormal=0.5", "--second-look", "off")
        look(looking, green, "--out", tmp_path, *wanted, "--save-model", tmp_path / "copy")
        card = read_card(tmp_path / "copy")
        assert card.second_look.thresholds == before.second_look.thresholds
        assert card.thresholds["HSIL"] != before.thresholds["HSIL"]

    def test_what_a_model_has_not_got_can_not_be_judged(self, model, looking, coco):
        output = call(model, coco, "--second-look", "on", code=2)
        assert "error: --second-look on: lively has no second look" in output
        assert "expected both, on, off" in look(looking, coco, "--second-look", "maybe", code=2)

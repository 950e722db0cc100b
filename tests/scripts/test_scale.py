"""`cytolibra scale`: a network for the scale, made from fields and put beside a model."""

import csv
import json

import numpy as np
import pytest
from lively import saved
from PIL import Image
from typer.testing import CliRunner

from models.card import read_card
from models.storage.source import ModelSource
from pipeline.network.scale import ScaleSettings, estimate_scale
from pipeline.slides.slide import open_slide
from pipeline.tiles.foreground import ForegroundSettings, find_foreground
from scripts.cli import build_app


def dotted(seed, mpp=0.25, size=800):
    """Dark discs of 6 µm on bright glass."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] * mpp
    pixels = np.full((size, size, 3), (235, 230, 240), np.uint8)
    area = (size * mpp) ** 2
    for cx, cy in rng.uniform(0, size * mpp, (int(area / 300), 2)):
        rows, columns = (
            slice(max(int((c - 3) / mpp), 0), int((c + 3) / mpp) + 2) for c in (cy, cx)
        )
        disc = (x[rows, columns] - cx) ** 2 + (y[rows, columns] - cy) ** 2 < 3.0**2
        pixels[rows, columns][disc] = (90, 60, 140)
    return pixels


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """Twelve of them as COCO, and their folder."""
    folder = tmp_path_factory.mktemp("fields")
    images = []
    for i in range(12):
        Image.fromarray(dotted(i)).save(folder / f"{i}.png")
        images.append(
            {"id": i + 1, "file_name": f"{i}.png", "width": 800, "height": 800, "mpp": 0.25}
        )
    cell = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 80, 80]}
    content = {
        "images": images,
        "categories": [{"id": 1, "name": "NILM"}],
        "annotations": [cell | {"id": i + 1, "image_id": i + 1} for i in range(12)],
    }
    (folder / "fields.json").write_text(json.dumps(content))
    return folder


def call(*arguments):
    return CliRunner().invoke(build_app("scale"), ["scale", *map(str, arguments)])


TAUGHT = pytest.mark.xdist_group("taught")
"""Of tests of the model that is taught: it takes a while, and is for all of them."""


@pytest.fixture(scope="module")
def taught(fields, tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught")
    saved(folder)
    data = fields / "fields.json"
    result = call("--model", folder, "--data", data, "--images", fields, "--per-field", "6")
    assert result.exit_code == 0, result.output
    assert "Standard error of a slide's scale" in result.output
    return folder


@TAUGHT
@pytest.mark.slow
def test_the_sidecar_knows_the_network_and_its_error(taught):
    card = read_card(taught)
    assert set(card.graphs) == {"scale"}
    assert (taught / "scale.xml").is_file()
    assert 0 < card.scale.error(1) < 0.3
    assert card.scale.data == "12 fields, 12 slides or fields left out in turn"


@TAUGHT
@pytest.mark.slow
@pytest.mark.parametrize("true", [0.2, 0.32])
def test_it_tells_the_scale_of_pictures_that_it_never_saw(taught, tmp_path, true):
    from pipeline.network.scale import find_reader

    Image.fromarray(dotted(99, true)).save(tmp_path / "a.png")
    reader = find_reader(ModelSource.find(taught))
    with open_slide(tmp_path / "a.png", 0.25) as slide:
        mask = find_foreground(slide, ForegroundSettings(enabled=False))
        found = estimate_scale(slide, mask, reader, 0.25, ScaleSettings().places)
    assert found.mpp == pytest.approx(true, rel=0.15)


@TAUGHT
@pytest.mark.slow
def test_an_exported_model_keeps_it(taught, tmp_path):
    from models import load_detector
    from models.storage.export import copy_model

    copy_model(load_detector(taught), tmp_path / "copy")
    assert (tmp_path / "copy/scale.bin").read_bytes() == (taught / "scale.bin").read_bytes()
    assert set(read_card(tmp_path / "copy").graphs) == {"scale"}


def test_a_name_of_a_shipped_model_is_not_written_to(fields):
    data = fields / "fields.json"
    result = call("--model", "cric-fcos-mobilenet-v2", "--data", data, "--images", fields)
    assert result.exit_code == 2
    assert "no such folder" in result.output


def test_a_seed_below_zero_is_refused(fields):
    data = ["--data", fields / "fields.json", "--images", fields]
    result = call("--model", "cric-fcos-light", *data, "--seed", -1)
    assert result.exit_code == 2
    assert "--seed" in result.stderr


def test_fields_of_unknown_scale_teach_nothing(fields, tmp_path):
    content = json.loads((fields / "fields.json").read_text())
    del content["images"][3]["mpp"]
    (tmp_path / "fields.json").write_text(json.dumps(content))
    folder = tmp_path / "model"
    saved(folder)
    result = call("--model", folder, "--data", tmp_path / "fields.json", "--images", fields)
    assert result.exit_code == 2
    assert "3.png" in result.output
    assert "µm per pixel" in result.output


def screen(folder, *arguments):
    args = ["screen", str(folder), "--out", str(folder.parent / "out"), *map(str, arguments)]
    return CliRunner().invoke(build_app("screen"), args)


def test_a_model_without_one_does_not_estimate_and_nothing_is_started(tmp_path):
    saved(tmp_path / "model")
    (tmp_path / "slides").mkdir()
    Image.fromarray(dotted(5)).save(tmp_path / "slides" / "a.png")
    result = screen(tmp_path / "slides", "--model", tmp_path / "model", "--mpp", "estimate")
    assert result.exit_code == 2
    assert "has no network for it; make one with cytolibra scale" in result.output
    assert not (tmp_path / "out" / "a.png").exists()


def test_what_is_no_number_and_not_estimate_is_a_wrong_call(tmp_path):
    result = screen(tmp_path, "--mpp", "estimated")
    assert result.exit_code == 2
    assert "neither a number nor estimate" in result.output


@TAUGHT
@pytest.mark.slow
def test_screening_by_an_estimate_names_it_everywhere(taught, tmp_path):
    (tmp_path / "slides").mkdir()
    Image.fromarray(dotted(77)).save(tmp_path / "slides" / "a.png")
    options = ["--model", taught, "--mpp", "estimate", "--set", "tiler.size=512"]
    options += ["--set", "foreground.enabled=false", "--device", "cpu"]
    ahead = screen(tmp_path / "slides", *options, "--dry-run")
    assert ahead.exit_code == 0, ahead.output
    assert "a.png: to screen; warning: its scale is estimated from its cells" in ahead.output
    result = screen(tmp_path / "slides", *options)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out/a.png/report.json").read_text(encoding="utf-8"))
    assert report["slide"]["mpp_source"] == "estimate"
    assert report["slide"]["mpp"] == pytest.approx(0.25, rel=0.15)
    assert "mpp-estimated" in [warning["code"] for warning in report["warnings"]]
    page = (tmp_path / "out/a.png/report.html").read_text(encoding="utf-8")
    assert "estimated from its cells" in page
    with (tmp_path / "out/summary.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["mpp_source"], float(row["mpp"])) == ("estimate", report["slide"]["mpp"])

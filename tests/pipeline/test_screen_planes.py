"""A slide of several focal planes from file to report, with a detector that finds dark squares."""

import csv
import io
import json

import numpy as np
import pytest
from blobs import BlobDetector, blob_slide
from PIL import Image
from planefiles import damage_plane, write_planes

from configs import ConfigError
from pipeline.batch.discovery import SlideJob
from pipeline.batch.fingerprint import hash_found
from pipeline.batch.rescore import Rescorer
from pipeline.errors import SlideError
from pipeline.in_force import describe_model, settings_in_force
from pipeline.planning import plan_slide
from pipeline.reports.cells_table import read_cells
from pipeline.reports.detections import load_kept
from pipeline.reports.writers import write_reports
from pipeline.screen import screen_slide
from pipeline.settings import ScreenSettings
from pipeline.slides.slide import open_slide

SIZE = (700, 600)
LEFT, RIGHT, BOTH = (100, 300), (600, 300), (350, 300)
"""Cells in focus in the first plane, in the second, and in both."""

PLACES = [-1.5, 1.5]


def settings(**changes):
    values = {"tiler": {"size": 256, "overlap": 64}, "foreground": {"enabled": False}}
    return ScreenSettings.model_validate(values | changes)


def noisy(image, strength):
    """Structure that tells planes apart, too faint for the detector."""
    grain = np.random.default_rng(4).integers(-strength, strength + 1, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def write_stack(folder):
    first = noisy(blob_slide(SIZE, [LEFT, BOTH], [1, 0]), 4)
    second = noisy(blob_slide(SIZE, [RIGHT, BOTH], [1, 1]), 12)
    return write_planes(folder / "a.ome.tif", [first, second], PLACES, mpp=0.25)


@pytest.fixture
def stack(tmp_path):
    return write_stack(tmp_path)


def found(report):
    """Centre, label and plane of each cell."""
    cells = report.cells
    rows = np.column_stack([cells.centers.round(-1), cells.labels])
    planes = [None] * len(cells) if cells.planes is None else cells.planes.tolist()
    return sorted((*map(int, row), plane) for row, plane in zip(rows.tolist(), planes, strict=True))


@pytest.mark.parametrize(
    ("planes", "cells"),
    [
        ("one", [(350, 300, 1, 1), (600, 300, 1, 1)]),
        (1, [(100, 300, 1, 0), (350, 300, 0, 0)]),
        ("z=1.5", [(350, 300, 1, 1), (600, 300, 1, 1)]),
        ("all", [(100, 300, 1, 0), (350, 300, 1, 1), (600, 300, 1, 1)]),
    ],
)
def test_each_cell_is_of_the_plane_that_it_was_found_in(stack, planes, cells):
    report = screen_slide(stack, BlobDetector(), settings(planes=planes))
    assert found(report) == cells
    read = [plane.tiles > 0 for plane in report.planes]
    assert read == ([True, True] if planes == "all" else [planes == 1, planes != 1])
    counts = [(plane.cells, plane.abnormal_cells) for plane in report.planes]
    assert sum(total for total, _ in counts) == len(cells)
    assert [abnormal for _, abnormal in counts] == [
        sum(label == 1 and plane == n for _, _, label, plane in cells) for n in (0, 1)
    ]


@pytest.mark.parametrize("best", [0, 1, 2])
def test_of_a_cell_in_several_planes_the_best_score_counts(tmp_path, best):
    class Surer(BlobDetector):
        def detect(self, tiles):
            cells = super().detect(tiles)
            for one, tile in zip(cells, tiles, strict=True):
                one.scores[:] = 0.95 if tile.min() < 55 else 0.8
            return cells

    images = [np.maximum(blob_slide(SIZE, [BOTH], [1]), 50 if n == best else 60) for n in range(3)]
    images[best][290:310, 340:360] = 50
    path = write_planes(tmp_path / "a.ome.tif", images, mpp=0.25)
    report = screen_slide(path, Surer(), settings(planes="all"))
    assert found(report) == [(350, 300, 1, best)]
    assert report.cells.scores.tolist() == pytest.approx([0.95])


def test_best_follows_the_sharpest_plane_of_each_tile(tmp_path):
    """Each half of the slide has its grain, and its cells, in a plane of its own."""
    sharp, soft = (noisy(blob_slide(SIZE, [LEFT, RIGHT], [1, 1]), n) for n in (12, 2))
    halves = [
        np.hstack([sharp[:, :350], soft[:, 350:]]),
        np.hstack([soft[:, :350], sharp[:, 350:]]),
    ]
    path = write_planes(tmp_path / "a.ome.tif", halves, mpp=0.25)
    report = screen_slide(path, BlobDetector(), settings(planes="best"))
    assert found(report) == [(100, 300, 1, 0), (600, 300, 1, 1)]
    assert sum(plane.tiles for plane in report.planes) == len(_jobs(path, "one"))
    assert report.timing["focus"] > 0
    assert not any(doubt.code == "focal-planes" for doubt in report.warnings)


def _jobs(path, planes):
    wanted = settings(planes=planes)
    with open_slide(path) as slide:
        return plan_slide(slide, BlobDetector(), wanted).jobs


def test_cost_is_planned_plane_by_plane(stack):
    assert len(_jobs(stack, "all")) == 2 * len(_jobs(stack, "one")) == 2 * len(_jobs(stack, "best"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    report = screen_slide(write_stack(folder), BlobDetector(), settings(planes="all"))
    write_reports(report, folder)
    return folder


class TestFiles:
    def test_table(self, folder):
        rows = list(csv.DictReader((folder / "cells.csv").open(encoding="utf-8")))
        assert list(rows[0])[-2:] == ["plane", "z_um"]
        places = {(round(float(row["x_center"]), -1), row["plane"], row["z_um"]) for row in rows}
        assert places == {(100, "1", "-1.500"), (350, "2", "1.500"), (600, "2", "1.500")}

    def test_table_is_read_back(self, folder):
        classes = describe_model(BlobDetector()).classes
        plain = read_cells(folder / "cells.csv", classes)
        text = (folder / "cells.csv").read_text()
        (folder / "odd.csv").write_text(text.replace(",", ";"))  # read otherwise
        for cells in (plain, read_cells(folder / "odd.csv", classes)):
            assert cells.planes.dtype == np.int16
            assert sorted(cells.planes.tolist()) == [0, 1, 1]

    @pytest.mark.parametrize("number", ["0", "1.5", "x", ""])
    def test_a_number_that_is_none(self, folder, number, tmp_path):
        lines = (folder / "cells.csv").read_text().splitlines()
        cells = lines[1].split(",")
        cells[-2] = number
        damaged = tmp_path / "cells.csv"
        damaged.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
        with pytest.raises(ConfigError, match=r"cells\.csv: is no cells\.csv of this model"):
            read_cells(damaged, describe_model(BlobDetector()).classes)

    def test_geojson_is_in_qupaths_planes(self, folder):
        features = json.loads((folder / "cells.geojson").read_text())["features"]
        planes = [feature["geometry"]["plane"] for feature in features]
        assert sorted(plane["z"] for plane in planes) == [0, 1, 1]
        assert all((plane["c"], plane["t"]) == (-1, 0) for plane in planes)
        measured = [feature["properties"]["measurements"] for feature in features]
        assert sorted((one["plane"], one["z_um"]) for one in measured) == [
            (1, -1.5),
            (2, 1.5),
            (2, 1.5),
        ]

    def test_report_and_page(self, folder):
        planes = json.loads((folder / "report.json").read_text())["planes"]
        assert [(p["number"], p["z_um"], p["cells"]) for p in planes] == [(1, -1.5, 1), (2, 1.5, 2)]
        assert "plane 1 at z = -1.5 µm</div>" in (folder / "report.html").read_text()

    def test_what_is_kept(self, folder):
        kept = load_kept(folder)
        assert kept.choice == "all"
        assert [plane.z_um for plane in kept.planes] == PLACES
        assert sorted(kept.found.cells.planes.tolist()) == [0, 0, 1, 1]


def test_pictures_are_of_the_cells_planes(stack):
    report = screen_slide(stack, BlobDetector(), settings(planes="all"))
    assert len(report.pictures.crops) == 3
    for crop in report.pictures.crops:
        grey = np.asarray(Image.open(io.BytesIO(crop.jpeg)).convert("L"))
        half = grey.shape[0] // 2
        assert grey[half - 5 : half + 5, half - 5 : half + 5].mean() < 100


@pytest.mark.parametrize("planes", ["all", "best", 1])
def test_made_anew_of_what_was_found_it_is_the_same(stack, tmp_path, planes, monkeypatch):
    wanted, detector = settings(planes=planes), BlobDetector()
    report = screen_slide(stack, detector, wanted)
    write_reports(report, tmp_path)
    monkeypatch.setattr(Rescorer, "_detector", lambda *_: detector)
    other = settings()  # which planes were read is what was kept, whatever is asked for now
    job = SlideJob(stack, "a.ome.tif")
    again = Rescorer(detector.card, other, "").rescore_here(job, tmp_path)
    assert again.pictures == report.pictures
    assert found(again) == found(report)
    leave = {"timing"}
    assert again.model_dump(exclude=leave) == report.model_dump(exclude=leave)


def test_a_slide_of_one_plane_tells_none(tmp_path):
    image = blob_slide(SIZE, [LEFT], [1])
    path = write_planes(tmp_path / "a.ome.tif", [image], mpp=0.25)
    report = screen_slide(path, BlobDetector(), settings(planes="all"))
    assert report.planes is None
    assert report.cells.planes is None
    assert not {"planes-searched", "focal-planes"} & {doubt.code for doubt in report.warnings}
    write_reports(report, tmp_path)
    assert "plane" not in (tmp_path / "cells.csv").read_text()
    assert '"plane"' not in (tmp_path / "cells.geojson").read_text()


def test_a_damaged_plane_is_told_and_the_others_go_on(stack):
    damage_plane(stack, 0)
    report = screen_slide(stack, BlobDetector(), settings(planes="all", max_unread=0))
    assert found(report) == [(350, 300, 1, 1), (600, 300, 1, 1)]
    (doubt,) = [doubt for doubt in report.warnings if doubt.code == "plane-unread"]
    assert "plane 1 at z = -1.5 µm: 0.0262 mm²" in doubt.text  # all of it
    assert report.area.unread_mm2 == 0


def test_a_cell_that_its_tiles_plane_does_not_show_is_of_another(tmp_path):
    """Each plane of the only tile lacks a quarter, the sharper one that with the first cell."""
    places, labels = [(60, 60), (400, 60)], [1, 1]
    sharp, soft = (noisy(blob_slide((512, 512), places, labels), n) for n in (12, 2))
    path = write_planes(tmp_path / "a.ome.tif", [sharp, soft], mpp=0.25)
    damage_plane(damage_plane(path, 0, tiles=[0, 1]), 1, tiles=[40])
    report = screen_slide(path, BlobDetector(), settings(planes="best", max_unread=0))
    assert found(report) == [(60, 60, 1, 1), (400, 60, 1, 0)]
    assert len(report.pictures.crops) == 2
    assert not report.area.unread


def test_where_no_plane_can_be_read_the_slide_is_unread(stack):
    damage_plane(damage_plane(stack, 0), 1)
    with pytest.raises(SlideError, match="can't be read, more than max_unread"):
        screen_slide(stack, BlobDetector(), settings(planes="all"))


def test_a_plane_that_is_not_there_is_refused_in_one_line(stack):
    with pytest.raises(SlideError, match=r"has 2 focal planes: .*; planes = 7 asks for another"):
        screen_slide(stack, BlobDetector(), settings(planes=7))


def test_other_planes_are_another_finding():
    detector = BlobDetector()
    model = describe_model(detector)

    def hashed(**changes):
        return hash_found(settings_in_force(settings(**changes), detector), model)

    assert len({hashed(planes=planes) for planes in ("one", "best", "all", 1, 2, "z=1")}) == 6
    before = settings_in_force(settings(), detector)
    del before["planes"]  # as it was before there was a choice
    assert hashed() == hash_found(before, model)

import io
import json
from pathlib import Path

import numpy as np
from fakes import CLASSES, make_cells, make_report
from PIL import Image

from pipeline.geometry import Detections, Size
from pipeline.reports.pictures import Crop, Overview, Pictures
from pipeline.reports.previews import preview_files
from pipeline.reports.report import SlideReport, most_suspicious_first
from pipeline.reports.writers import write_reports

FILES = {"report.json", "cells.csv", "cells.geojson", "report.html"}


def jpeg(width: int, height: int, color: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), color).save(stream, "JPEG")
    return stream.getvalue()


def pictures_of(rows: list[int], overview: bool = True) -> Pictures:
    whole = Overview(jpeg(1600, 400, (200, 0, 0)), Size(1600, 400), 2.5)
    crops = tuple(Crop(jpeg(8, 8, (0, row, 0)), row, 0, 0, 8) for row in rows)
    return Pictures(whole if overview else None, crops)


def report_of(pictures: Pictures | None) -> SlideReport:
    return make_report(cells=most_suspicious_first(make_cells(50), CLASSES), pictures=pictures)


def test_thumbnail_and_the_first_three_of_the_gallery_lie_beside_the_report(tmp_path: Path) -> None:
    pictures = pictures_of([4, 0, 7, 1])
    report = report_of(pictures)
    write_reports(report, tmp_path)
    best = {f"best-{number}.jpg" for number in (1, 2, 3)}
    assert {p.name for p in tmp_path.iterdir()} == {*FILES, "thumbnail.jpg", *best}
    with Image.open(tmp_path / "thumbnail.jpg") as image:
        assert image.size == (320, 80)
        assert image.getpixel((160, 40))[0] > 190
    for place in range(3):
        assert (tmp_path / f"best-{place + 1}.jpg").read_bytes() == pictures.crops[place].jpeg
    told = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["preview"]
    cells = report.cells
    assert told == {
        "thumbnail": True,
        "cells": [
            {
                "id": row + 1,
                "name": CLASSES[cells.labels[row]].name,
                "score": round(float(cells.scores[row]), 4),
            }
            for row in (4, 0, 7)
        ],
    }


def test_without_pictures_there_are_neither_files_nor_a_word_of_them(tmp_path: Path) -> None:
    report = report_of(None)
    write_reports(report, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == FILES
    assert report.preview is None


def test_a_slide_without_abnormal_cells_has_its_thumbnail_alone() -> None:
    pictures = pictures_of([])
    assert [name for name, _ in preview_files(pictures)] == ["thumbnail.jpg"]
    report = make_report(cells=Detections.empty(), pictures=pictures)
    assert report.preview is not None
    assert (report.preview.thumbnail, report.preview.cells) == (True, ())
    few = report_of(pictures_of([3], overview=False)).preview
    assert few is not None
    assert (few.thumbnail, [cell.id for cell in few.cells]) == (False, [4])


def test_a_report_of_before_has_no_preview() -> None:
    values = json.loads(report_of(pictures_of([0])).model_dump_json())
    del values["preview"]
    assert SlideReport.model_validate(values).preview is None


def test_scores_of_any_kind_are_taken() -> None:
    cells = Detections(np.zeros((1, 4)), np.array([1.5], np.float32), np.array([5]))
    report = make_report(cells=cells, pictures=pictures_of([0]))
    assert report.preview is not None
    assert report.preview.cells[0].score == 1.5

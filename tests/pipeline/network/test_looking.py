"""The second look at a slide of coloured marks: which, where, and what comes of them."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from blobs import CLASSES, BlobDetector
from graders import ColourGrader, grader_facts, probabilities_of
from scipy import ndimage
from slidefiles import break_tiles, write_image, write_pyramid

from configs import ConfigError
from models.card import CombinationRule, FalseAlarms, RateFacts
from pipeline.cells.second_look import LookThresholds, SecondLookSettings, combine
from pipeline.errors import SlideError
from pipeline.geometry import Detections
from pipeline.in_force import in_force
from pipeline.network.looking import SecondLook
from pipeline.reports.cells_table import read_cells
from pipeline.reports.triage import BY_CHANCE, NO_CATEGORY
from pipeline.reports.writers import write_reports
from pipeline.screen import screen_slide
from pipeline.search import StoppedError
from pipeline.settings import ScreenSettings

SIZE = (700, 500)
GLASS = 235
SIDE = 24
MARKS = {(100, 100): 0.4, (300, 100): 0.8, (500, 100): 0.2, (100, 300): 0.65, (300, 300): 0.15}
"""Centres in level-0 pixels, and the detector's score that they are HSIL."""

RED, GREEN = (250, 120), (60, 120)
"""Red and blue of marks; green tells the detector's score."""


def mark_slide(marks, colours=None):
    """(H, W, 3) with squares: green is 80 + 100 times the score, red and blue are the mark's."""
    image = np.full((SIZE[1], SIZE[0], 3), GLASS, np.uint8)
    for number, ((x, y), score) in enumerate(marks.items()):
        red, blue = (colours or {}).get(number, GREEN)
        half = SIDE // 2
        image[y - half : y + half, x - half : x + half] = (red, round(80 + 100 * score), blue)
    return image


class MarkDetector(BlobDetector):
    """Boxes around marks, HSIL by their green, NILM 0.05 everywhere."""

    def __init__(self, mpp=0.5, facts=None, grader=None, look=None, threshold=None):
        super().__init__(mpp)
        self.floor = 0.5
        if facts is not None:
            self.card = self.card.model_copy(update={"second_look": facts})
            limits = LookThresholds.of(self.card, facts, threshold)
            self.floor = float(limits.floors.min())
            self.second_look = SecondLook(
                facts, grader or ColourGrader(), limits, look or SecondLookSettings()
            )
        if threshold is not None:
            self.thresholds = np.full(2, threshold, np.float32)
            self.floor = min(self.floor, threshold)

    def _detect(self, tile):
        parts, _ = ndimage.label(tile[..., 1] < 200)
        boxes, scores = [], []
        for rows, columns in ndimage.find_objects(parts):
            if (rows.stop - rows.start) * (columns.stop - columns.start) < 16:
                continue
            boxes.append([columns.start, rows.start, columns.stop, rows.stop])
            scores.append((np.median(tile[rows, columns, 1]) - 80) / 100)
        scores = np.array(scores, np.float32)
        all_scores = np.column_stack([np.full(len(scores), 0.05, np.float32), scores])
        boxes = np.array(boxes, float).reshape(-1, 4)
        found = Detections(boxes, scores, np.ones(len(scores), int), all_scores)
        return found[np.flatnonzero(scores >= self.floor)]


def settings(**changes):
    values = {"tiler": {"size": 256, "overlap": 64}, "foreground": {"enabled": False}}
    return ScreenSettings.model_validate(values | {"mpp": 0.25} | changes)


def looking(grader=None, cells=None, threshold=None, mpp=0.5, **facts):
    look = SecondLookSettings(cells=cells)
    return MarkDetector(mpp, grader_facts(CLASSES, **facts), grader, look, threshold)


@pytest.fixture
def slide(tmp_path):
    return write_image(tmp_path / "marks.png", mark_slide(MARKS))


def by_center(report):
    centers = report.cells.centers.round(-1).astype(int).tolist()
    return {tuple(center): row for row, center in enumerate(centers)}


def told(report):
    return [doubt.code for doubt in report.warnings]


def test_crops_show_the_cells_at_the_grader_s_scale_and_white_beyond_the_slide(tmp_path):
    marks = {(100, 100): 0.6, (14, 300): 0.7}
    image = mark_slide(marks)
    slide = write_image(tmp_path / "marks.png", image)
    grader = ColourGrader()
    screen_slide(slide, looking(grader), settings())

    shown = [crop for crop in grader.seen if crop.any()]  # batches are filled up with black
    assert len(shown) == 2
    around = np.pad(image, ((16, 16), (16, 16), (0, 0)), constant_values=255)
    for x, y in marks:
        expected = around[y : y + 32, x : x + 32]
        assert any(np.array_equal(crop, expected) for crop in shown), (x, y)


@pytest.mark.parametrize("mpp", [0.125, 0.2, 0.4])
def test_crops_of_slides_at_other_scales_are_resampled(tmp_path, mpp):
    slide = write_image(tmp_path / "marks.png", mark_slide({(300, 200): 0.7}))
    grader = ColourGrader()
    report = screen_slide(slide, looking(grader, size=64), settings(mpp=mpp))
    (crop,) = [crop for crop in grader.seen if crop.any()]

    mark = crop[..., 0] < 150
    assert np.sqrt(mark.sum()) == pytest.approx(SIDE * mpp / 0.25, abs=1)
    middle = np.argwhere(mark).mean(axis=0)
    np.testing.assert_allclose(middle, [31.5, 31.5], atol=2 * mpp / 0.25)  # boxes: 0.5 µm/px
    assert ("second-look-coarse" in told(report)) == (mpp > 0.25 * 1.3)


def test_scores_after_the_look_are_those_of_the_rule(slide):
    report = screen_slide(slide, looking(), settings())
    image = mark_slide(MARKS)
    rows = by_center(report)
    assert report.second_look.model_dump() == {
        "candidates": 5, "looked_at": 5, "unread": 0, "abnormal_by_detector": 0
    }  # fmt: skip
    for (x, y), score in MARKS.items():
        crop = image[None, y - 16 : y + 16, x - 16 : x + 16]
        detector = np.array([[0.05, np.float32((round(80 + 100 * score) - 80) / 100)]])
        expected = combine(
            detector, probabilities_of(crop), np.array([False, True]), CombinationRule()
        )[0]
        if expected[1] < 0.3:
            assert (x, y) not in rows
            continue
        row = rows[x, y]
        np.testing.assert_allclose(report.cells.class_scores[row], expected, atol=2e-3)
        np.testing.assert_allclose(report.cells.grades[row], probabilities_of(crop)[0], atol=2e-3)
        assert report.cells.scores[row] == report.cells.class_scores[row, 1]
    assert report.model.threshold == {"NILM": 0.3, "HSIL": 0.3}
    assert report.model.second_look.threshold_alone == {"NILM": 0.5, "HSIL": 0.5}


def sure(label):
    """A grader that is sure of one thing: an index of the classes, or 2 for background."""

    def answer(crops):
        return np.tile(np.eye(3, dtype=np.float32)[label] * 0.97 + 0.01, (len(crops), 1))

    return ColourGrader(answer)


def test_the_look_lifts_what_the_detector_alone_would_not_report_and_drops_what_it_would(slide):
    alone = screen_slide(slide, MarkDetector(), settings())
    assert set(by_center(alone)) == {(300, 100), (100, 300)}  # 0.8 and 0.65, from 0.5 on

    lifted = screen_slide(slide, looking(sure(1)), settings())
    assert set(by_center(lifted)) == {(300, 100), (100, 300), (100, 100)}  # 0.4 is over 0.3 now
    lower = looking(sure(1), thresholds={"NILM": 0.3, "HSIL": 0.12})
    assert set(by_center(screen_slide(slide, lower, settings()))) == set(MARKS)
    dropped = screen_slide(slide, looking(sure(2)), settings())
    assert set(by_center(dropped)) == set()  # 0.8 * 0.02 ** 0.2 * 0.5 ** 0.3 is 0.297


def test_a_threshold_of_the_user_s_holds_after_the_look(slide):
    report = screen_slide(slide, looking(sure(1), threshold=0.7), settings(threshold=0.7))
    assert set(by_center(report)) == {(300, 100)}
    report = screen_slide(slide, looking(sure(1), threshold=0.12), settings(threshold=0.12))
    assert set(by_center(report)) == set(MARKS)
    assert report.model.threshold == {"NILM": 0.12, "HSIL": 0.12}


def test_the_most_suspicious_are_looked_at_and_the_others_keep_the_detector_s_word(slide):
    report = screen_slide(slide, looking(sure(1), cells=1), settings())
    rows = by_center(report)
    assert set(rows) == {(300, 100), (100, 300)}
    looked, alone = rows[300, 100], rows[100, 300]
    expected = 0.8 * 0.99**0.2 * (0.98 / 0.99) ** 0.3  # its own share is 1
    assert report.cells.scores[looked] == pytest.approx(expected, abs=1e-4)
    np.testing.assert_allclose(report.cells.class_scores[alone], [0.05, 0.65], atol=5e-3)
    assert np.isnan(report.cells.grades[alone]).all()
    assert report.cells.grades[looked].sum() == pytest.approx(1)
    facts = report.second_look
    assert (facts.candidates, facts.looked_at, facts.abnormal_by_detector) == (5, 1, 1)


def files_of(report, folder):
    folder.mkdir(exist_ok=True)
    write_reports(report, folder)
    names = ("cells.csv", "cells.geojson")
    told = report.model_dump(mode="json", exclude={"timing"})
    return [*((folder / name).read_bytes() for name in names), json.dumps(told)]


def test_switched_off_all_is_as_without_a_grader(tmp_path, slide):
    without = files_of(screen_slide(slide, MarkDetector(), settings()), tmp_path / "1")
    off = MarkDetector()
    off.card = off.card.model_copy(update={"second_look": grader_facts(CLASSES)})
    chosen = settings(second_look={"enabled": False, "cells": 7})
    assert files_of(screen_slide(slide, off, chosen), tmp_path / "2") == without
    assert files_of(screen_slide(slide, looking(), settings()), tmp_path / "3") != without


def test_any_number_of_threads_gives_the_same_bytes(tmp_path):
    rng = np.random.default_rng(3)
    marks = {
        (x, y): float(rng.uniform(0.12, 0.9))
        for x in range(40, 680, 64)
        for y in range(40, 480, 64)
    }
    colours = {i: tuple(rng.integers(20, 250, 2).tolist()) for i in range(len(marks))}
    image = mark_slide(marks, colours)
    slide = write_pyramid(tmp_path / "slide.tif", image, levels=1, mpp=0.25, compression="deflate")
    files = []
    for readers, lanes in ((1, 1), (3, 2), (7, 4)):
        detector = looking(cells=30)
        detector.readers, detector.lanes = readers, lanes
        files.append(files_of(screen_slide(slide, detector, settings(mpp=None)), tmp_path / "out"))
    assert files[0] == files[1] == files[2]
    assert files[0][0].count(b"\n") > 20


def test_grades_are_columns_that_sum_to_one_and_read_back(tmp_path, slide):
    report = screen_slide(slide, looking(sure(1), cells=1), settings())
    files_of(report, tmp_path)
    with (tmp_path / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-3:] == ["grade_NILM", "grade_HSIL", "grade_background"]
    grades = [[row[name] for name in list(row)[-3:]] for row in rows]
    assert grades == [["0.0100", "0.9800", "0.0100"], ["", "", ""]]
    again = read_cells(tmp_path / "cells.csv", report.model.classes)
    np.testing.assert_allclose(again.grades, report.cells.grades, atol=1e-4)
    features = json.loads((tmp_path / "cells.geojson").read_text())["features"]
    measured = [feature["properties"]["measurements"] for feature in features]
    assert [m.get("grade_HSIL") for m in measured] == [0.98, None]
    page = (tmp_path / "report.html").read_text()
    assert "1 of 5 candidates" in page


def test_a_slide_much_coarser_than_the_grader_is_left_to_the_detector(tmp_path):
    slide = write_image(tmp_path / "marks.png", mark_slide(MARKS))
    grader = ColourGrader()
    report = screen_slide(slide, looking(grader), settings(mpp=0.6))
    assert grader.seen == []
    assert told(report) == ["second-look-coarse"]
    assert "2.4 times coarser" in report.warnings[0].text
    assert report.second_look is None
    assert report.model.second_look is None
    assert report.model.threshold == {"NILM": 0.5, "HSIL": 0.5}
    assert set(by_center(report)) == {(300, 100), (100, 300)}
    with pytest.raises(SlideError, match=r"marks\.png: .*\[second-look-coarse\].*\[strict\]"):
        screen_slide(slide, looking(grader), settings(mpp=0.6, strict=True))


def test_cells_that_cannot_be_read_again_keep_the_detector_s_word_and_it_is_told(tmp_path):
    """The finest level is damaged at one mark; the detector reads the next."""
    image = mark_slide({(100, 100): 0.65, (300, 300): 0.6})
    slide = write_pyramid(tmp_path / "a.tif", image, levels=2, mpp=0.25, compression="deflate")
    columns = -(-SIZE[0] // 64)
    break_tiles(slide, [columns + 1])
    report = screen_slide(slide, looking(sure(0)), settings(mpp=None))
    assert told(report) == ["second-look-unread"]
    assert report.second_look.unread == 1
    rows = by_center(report)
    assert set(rows) == {(100, 100)}  # the other one is none to the grader
    assert report.cells.scores[rows[100, 100]] == pytest.approx(0.65, abs=5e-3)


def with_figures(detector, after, alone):
    """The detector with false alarms a mm² in its card, after the look and without."""

    def alarms(rate, thresholds):
        facts = RateFacts(
            per_mm2=rate, between=0.05, within=0, units=30, slides=30, mm2=300, found=0, unit_mm2=10
        )
        return FalseAlarms(
            groups={"HSIL": facts, "abnormal": facts},
            unit="slide",
            data="made up",
            thresholds=thresholds,
        )

    look = detector.second_look.facts
    look = look.model_copy(update={"false_alarms": alarms(after, look.thresholds)})
    detector.second_look.facts = look
    own = alarms(alone, detector.card.thresholds)
    detector.card = detector.card.model_copy(update={"second_look": look, "false_alarms": own})
    return detector


def test_false_alarms_are_those_after_the_look_and_in_part_whichever_has_more(slide):
    few, many = 1.0, 1000.0
    whole = screen_slide(slide, with_figures(looking(sure(1)), few, many), settings())
    assert whole.suggestion.category == "HSIL"
    whole = screen_slide(slide, with_figures(looking(sure(1)), many, few), settings())
    assert whole.suggestion.category == BY_CHANCE
    part = screen_slide(slide, with_figures(looking(sure(1), cells=1), few, many), settings())
    assert part.suggestion.category == BY_CHANCE
    assert "whichever has more" in part.expectation.basis
    part = screen_slide(slide, with_figures(looking(sure(1), cells=1), few, few), settings())
    assert part.suggestion.category == "HSIL"
    detector = with_figures(looking(sure(1), cells=1), few, few)
    detector.card = detector.card.model_copy(update={"false_alarms": None})
    assert screen_slide(slide, detector, settings()).suggestion.category == NO_CATEGORY


def test_negatives_of_the_detector_alone_are_refused_with_a_look_and_the_other_way(tmp_path):
    same = {"thresholds": {"NILM": 0.5, "HSIL": 0.5}}
    detector = with_figures(looking(**same), 1.0, 1.0)
    path = tmp_path / "negatives.json"
    of_both = detector.second_look.facts.false_alarms
    alone = MarkDetector()
    alone.runtime = detector.runtime = SimpleNamespace(**vars(alone.runtime) | {"sha256": "aa"})
    identity = in_force(settings(), detector).model.identity
    assert (identity, in_force(settings(), alone).model.identity) == ("aa+11", "aa")
    chosen = settings(triage={"negatives": path})

    path.write_text(of_both.model_copy(update={"sha256": "aa"}).model_dump_json())
    in_force(chosen, alone)
    with pytest.raises(ConfigError, match="measured with another model"):
        in_force(chosen, detector)

    path = tmp_path / "others.json"
    chosen = settings(triage={"negatives": path})
    path.write_text(of_both.model_copy(update={"sha256": "aa+11"}).model_dump_json())
    in_force(chosen, detector)
    with pytest.raises(ConfigError, match="measured with another model"):
        in_force(chosen, alone)


def test_a_stop_ends_the_look_and_progress_counts_it(slide):
    steps = []
    screen_slide(slide, looking(), settings(), progress=lambda *step: steps.append(step))
    totals = {total for _, total in steps}
    assert len(totals) == 1
    assert steps[-1][0] == steps[-1][1] == totals.pop()
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)

    class Stop:
        def __init__(self):
            self.grader = ColourGrader()

        def is_set(self):
            return bool(self.grader.seen)

    stop = Stop()
    with pytest.raises(StoppedError):
        screen_slide(slide, looking(stop.grader), settings(), stop=stop)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda crops: np.full((len(crops), 3), np.nan, np.float32), "no probabilities"),
        (lambda crops: np.full((len(crops), 3), 0.5, np.float32), "their sum is 1.5"),
    ],
)
def test_what_are_no_probabilities_fails_the_slide_in_one_line(slide, answer, message):
    with pytest.raises(SlideError, match=message) as failed:
        screen_slide(slide, looking(ColourGrader(answer)), settings())
    assert "\n" not in str(failed.value)


def test_want_of_memory_says_what_to_turn_down(slide):
    def answer(crops):
        raise MemoryError("CUDA out of memory")

    with pytest.raises(SlideError, match=r"second_look\.batch_size \(4\)"):
        screen_slide(slide, looking(ColourGrader(answer)), settings())


def test_a_slide_without_a_candidate(tmp_path):
    slide = write_image(tmp_path / "a.png", mark_slide({}))
    report = screen_slide(slide, looking(), settings())
    assert report.second_look.model_dump() == {
        "candidates": 0, "looked_at": 0, "unread": 0, "abnormal_by_detector": 0
    }  # fmt: skip
    assert len(report.cells) == 0
    assert files_of(report, tmp_path / "out")[0].decode().strip().endswith("grade_background")

"""Where a picture has faults, how much that is, and which cells lie in it."""

import numpy as np
import pytest

from pipeline.geometry import Detections, Rect
from pipeline.reports.quality import (
    Quality,
    QualitySettings,
    find_faults,
    measure_faults,
    warn_of_quality,
)
from pipeline.tiles.deposit import Deposit
from pipeline.tiles.faults import Faults
from pipeline.tiles.plausible import Focus

SIDE = 256.0  # 64 µm at 0.25 µm/px
MPP = 0.25
BOUNDS = Rect(0, 0, 2560, 2048)
SQUARE_MM2 = 0.064**2


def squares(*where):
    """(8, 10) squares, those of slices set."""
    mask = np.zeros((8, 10), bool)
    for rows, columns in where:
        mask[rows, columns] = True
    return mask


def sharp(blurred=(), unknown=()):
    """(4, 5) squares of twice the side, sharp but for those."""
    values = np.full((4, 5), 0.6, np.float16)
    for row, column in blurred:
        values[row, column] = 0.2
    for row, column in unknown:
        values[row, column] = np.nan
    return values


ALL = np.s_[:, :]


def judged(faults, thick=None, cells=((300, 300),), settings=None, mask=None):
    settings = settings or QualitySettings()
    deposit = Deposit(squares(ALL) if mask is None else mask, thick, SIDE)
    picture = find_faults(deposit, faults, settings)
    centers = np.array(cells, float).reshape(-1, 2)
    boxes = np.concatenate([centers - 10, centers + 10], axis=1)
    found = Detections(boxes, np.full(len(boxes), 0.9, np.float32), np.zeros(len(boxes), int))
    abnormal = np.arange(len(boxes)) % 2 == 0
    return picture, *measure_faults(picture, deposit, BOUNDS, MPP, found, abnormal, settings)


def test_blurred_squares_are_told_with_area_share_and_cells():
    faults = Faults(None, None, sharp([(0, 0), (0, 1)], unknown=[(3, 4)]))
    cells = [(10, 10), (600, 500), (1023, 511), (1025, 10), (10, 513)]
    picture, quality, areas = judged(faults, cells=cells)
    # Of 20 squares of 128 µm one said nothing, two are blurred.
    assert quality.measured_mm2 == pytest.approx(19 * 4 * SQUARE_MM2)
    assert areas == {"out_of_focus_mm2": pytest.approx(8 * SQUARE_MM2)}
    assert quality.out_of_focus.share == pytest.approx(2 / 19, abs=1e-4)
    assert (quality.out_of_focus.cells, quality.out_of_focus.abnormal_cells) == (3, 2)
    assert picture.focus == Focus(2, 19)
    assert quality.dark is quality.ink is quality.bubbles is None


def test_what_sharpness_counts_as_blurred_is_a_setting():
    faults = Faults(None, None, sharp([(0, 0)]))
    for least, share in ((0.1, 0.0), (0.3, 1 / 20), (0.7, 1.0)):
        quality = judged(faults, settings=QualitySettings(least_sharp=least))[1]
        assert quality.out_of_focus.share == pytest.approx(share)
        assert quality.least_sharp == least


def test_what_lets_no_light_pass_is_dark_and_not_out_of_focus():
    thick = squares(np.s_[0:2, 0:2])
    _, quality, areas = judged(Faults(None, None, sharp([(0, 0), (1, 1)])), thick)
    assert areas["dark_mm2"] == pytest.approx(4 * SQUARE_MM2)
    assert quality.dark.share == pytest.approx(4 / 80)
    assert areas["out_of_focus_mm2"] == pytest.approx(4 * SQUARE_MM2)
    assert quality.out_of_focus.share == pytest.approx(1 / 19, abs=1e-4)


def test_one_dark_square_of_four_leaves_the_others_to_focus():
    thick = squares(np.s_[0:1, 0:1])
    assert judged(Faults(None, None, sharp([(0, 0)])), thick)[0].focus == Focus(1, 20)


def test_ink_is_no_dark_specimen_and_its_soft_border_not_out_of_focus():
    ink = squares(np.s_[2:4, 4:6])
    blurred = [(0, 2), (1, 1), (1, 2), (1, 3), (2, 2), (3, 4)]
    _, quality, areas = judged(Faults(ink, None, sharp(blurred)), thick=ink.copy())
    assert areas["ink_mm2"] == pytest.approx(4 * SQUARE_MM2)
    assert areas["dark_mm2"] == 0
    assert areas["out_of_focus_mm2"] == pytest.approx(4 * SQUARE_MM2)  # the last one alone
    assert quality.ink.share == pytest.approx(4 / 80)


def test_ink_beside_the_specimen_is_a_share_of_both():
    ink = squares(np.s_[:, 5:])
    quality = judged(Faults(ink), mask=squares(np.s_[:, :5]))[1]
    assert quality.ink.share == pytest.approx(0.5)


def test_squares_at_the_border_count_as_far_as_the_slide_was_scanned():
    deposit = Deposit(squares(ALL), None, SIDE)
    picture = find_faults(deposit, Faults(None, squares(ALL), None), QualitySettings())
    bounds = Rect(100, 0, 2200, 1900)
    areas = measure_faults(
        picture, deposit, bounds, MPP, Detections.empty(), np.zeros(0, bool), QualitySettings()
    )[1]
    assert areas["bubbles_mm2"] == pytest.approx(2200 * 1900 * (MPP / 1000) ** 2)


def test_cells_beyond_the_squares_lie_in_none():
    everywhere = Faults(None, squares(ALL), None)
    cells = [(-5, 10), (2570, 10), (10, 2060), (2559, 2047)]
    assert judged(everywhere, cells=cells)[1].bubbles.cells == 1


@pytest.mark.parametrize(
    ("deposit", "faults", "settings"),
    [
        (None, Faults(None, None, sharp()), {}),
        (Deposit(squares(ALL), squares(ALL), SIDE), Faults(squares(ALL)), {"enabled": False}),
        (Deposit(squares(ALL), None, SIDE), None, {}),
    ],
    ids=["no deposit", "not wanted", "an older result"],
)
def test_where_nobody_looked_nothing_is_told(deposit, faults, settings):
    chosen = QualitySettings(**settings)
    picture = find_faults(deposit, faults, chosen)
    assert picture.focus is None
    none = Detections.empty()
    told = measure_faults(picture, deposit, BOUNDS, MPP, none, np.zeros(0, bool), chosen)
    assert told == (None, {})
    assert warn_of_quality(*told, set()) == []


def test_of_no_specimen_there_is_no_share():
    faults = Faults(squares(), squares(), sharp(unknown=np.ndindex(4, 5)))
    quality = judged(faults, squares(), mask=squares())[1]
    assert quality.dark.share is quality.ink.share is quality.bubbles.share is None


def test_where_no_square_could_be_measured_none_is_in_focus():
    picture, quality, areas = judged(Faults(None, None, sharp(unknown=np.ndindex(4, 5))), squares())
    assert picture.focus is quality.out_of_focus is None
    assert "out_of_focus_mm2" not in areas
    assert quality.measured_mm2 == 0


def warned(known=(), **limits):
    faults = Faults(
        squares(np.s_[6:8, 0:8]), squares(np.s_[6:8, 8:10]), sharp([(0, 0), (0, 1), (0, 2)])
    )
    thick = squares(np.s_[2:5, :])
    _, quality, areas = judged(faults, thick, settings=QualitySettings(**limits))
    assert isinstance(quality, Quality)
    return warn_of_quality(quality, areas, known)


def test_a_fault_above_its_limit_is_warned_of_with_figures():
    doubts = warned(bubbles=0.05, dark=0.4)
    assert [doubt.code for doubt in doubts] == ["out-of-focus-areas", "pen-marks"]
    assert "0.05 mm², more than 10%" in doubts[0].text
    assert "1 of the reported cells lie there, 1 of them abnormal" in doubts[0].text
    assert "20% of the specimen and the pen's marks is covered" in doubts[1].text


@pytest.mark.parametrize(
    ("limits", "codes"),
    [
        ({"out_of_focus": 1, "dark": 1, "ink": 1, "bubbles": 1}, []),
        ({"out_of_focus": 1, "dark": 0.37, "ink": 1, "bubbles": 1}, ["dark-areas"]),
        ({"out_of_focus": 1, "dark": 0.375, "ink": 1, "bubbles": 1}, []),
        ({"out_of_focus": 1, "dark": 1, "ink": 1, "bubbles": 0.04}, ["bubbles"]),
    ],
)
def test_limits_are_settings_and_only_what_is_above_them_is_told(limits, codes):
    assert [doubt.code for doubt in warned(**limits)] == codes


def test_what_is_known_of_the_whole_slide_is_not_told_of_its_parts():
    quiet = {"dark": 1, "ink": 1, "bubbles": 1}
    assert [doubt.code for doubt in warned(**quiet)] == ["out-of-focus-areas"]
    assert warned({"out-of-focus"}, **quiet) == []
    assert warned({"too-dark"}) == []

"""One name a cell: abnormal by the margin, which of the abnormal by the score, a little weighed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cells.naming import NAMING, detection_floors, name_cells
from pipeline.cells.nms import greedy_nms, pair_iou
from pipeline.geometry import Detections

THRESHOLDS = np.array([0.6, 0.3, 0.45])
ABNORMAL = np.array([False, True, True])
"""Of NILM, ASC-US and LSIL, say."""

HERE, THERE = (10.0, 10.0, 50.0, 50.0), (200.0, 10.0, 240.0, 50.0)


def cells(*found):
    boxes, labels, scores = zip(*found, strict=True)
    return Detections(np.array(boxes), np.array(scores, np.float32), np.array(labels))


def names(*found):
    named = name_cells(cells(*found), THRESHOLDS, ABNORMAL, 0.5)
    return sorted(
        zip(named.labels.tolist(), named.scores.astype(float).round(3).tolist(), strict=True)
    )


def test_the_margin_tells_abnormal_from_normal():
    """0.7 is 1.17 times NILM's threshold, 0.4 is 1.33 times ASC-US's."""
    assert names((HERE, 0, 0.7), (HERE, 1, 0.4)) == [(1, 0.4)]
    assert names((HERE, 0, 0.9), (HERE, 1, 0.4)) == [(0, 0.9)]


def test_among_abnormal_names_the_score_counts_more_than_the_threshold():
    """0.5 / 0.3 beats 0.7 / 0.45 by the margin, but 0.7 is the better score by far."""
    assert names((HERE, 1, 0.5), (HERE, 2, 0.7)) == [(2, 0.7)]
    assert 0.5 / 0.3**NAMING < 0.7 / 0.45**NAMING
    assert names((HERE, 1, 0.5), (HERE, 2, 0.52)) == [(1, 0.5)]


def test_the_name_that_makes_a_cell_abnormal_need_not_be_the_one_it_gets():
    """ASC-US at 0.5 is further above its threshold than NILM; LSIL alone, at 0.62, were not."""
    found = (HERE, 0, 0.9), (HERE, 1, 0.5), (HERE, 2, 0.62)
    assert names(*found) == [(2, 0.62)]
    assert names(found[0], found[2]) == [(0, 0.9)]


def test_cells_elsewhere_keep_their_names():
    assert names((HERE, 1, 0.5), (THERE, 2, 0.7), (THERE, 0, 0.61)) == [(1, 0.5), (2, 0.7)]


def test_nothing_and_normal_cells_alone():
    assert len(name_cells(Detections.empty(), THRESHOLDS, ABNORMAL, 0.5)) == 0
    assert names((HERE, 0, 0.7)) == [(0, 0.7)]


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 2), st.floats(0.5, 1, width=32)), min_size=1
    )
)
def test_places_and_what_is_abnormal_are_those_of_the_margin(found):
    """Whatever the names, as many cells are abnormal as the margin alone says."""
    rows = {(x, label): score for x, label, score in found if score >= THRESHOLDS[label]}
    if not rows:
        return
    known = cells(*(((x * 100.0, 0, x * 100 + 40.0, 40), c, s) for (x, c), s in rows.items()))
    named = name_cells(known, THRESHOLDS, ABNORMAL, 0.5)
    margins: dict[int, tuple[float, bool]] = {}
    for (x, label), score in rows.items():
        entry = (score / THRESHOLDS[label], bool(ABNORMAL[label]))
        margins[x] = max(margins.get(x, (0.0, False)), entry)
    expected = sorted((x, flag) for x, (_, flag) in margins.items())
    places = (named.boxes[:, 0] / 100).round().astype(int).tolist()
    found_flags = sorted(zip(places, ABNORMAL[named.labels].tolist(), strict=True))
    assert found_flags == expected


BALANCE = np.array([0.6, 0.3, 0.45, 0.5])
CLASSES_ABNORMAL = np.array([False, True, True, False])
"""Of two normal and two abnormal classes."""

score = st.floats(0.0625, 1, width=32)


def crowd(seed, count=40):
    """Findings so close that each overlaps several others, many of them by just about half."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 12, (count, 2)) * 5.0
    boxes = np.hstack([corner, corner + rng.integers(5, 8, (count, 2)) * 5.0])
    scores = rng.uniform(0.02, 1, count).astype(np.float32)
    rows = rng.uniform(0, 1, (count, 4)).astype(np.float32) * scores[:, None]
    labels = rng.integers(0, 4, count)
    rows[np.arange(count), labels] = scores
    return Detections(boxes, scores, labels, rows)


def screened(found, thresholds, balance=BALANCE, iou=0.5):
    """What a detector that looks down to its floors finds, and a stitcher reports."""
    floors = detection_floors(thresholds, balance, CLASSES_ABNORMAL)
    seen = found[np.flatnonzero(found.scores >= floors[found.labels])]
    seen = seen[greedy_nms(seen, iou)]
    return name_cells(seen, thresholds, CLASSES_ABNORMAL, iou, balance)


def abnormal_boxes(cells):
    return cells.boxes[CLASSES_ABNORMAL[cells.labels]]


@given(st.integers(0, 2**32 - 1), *[st.tuples(*[score] * 4)] * 3)
def test_a_lower_threshold_hides_no_abnormal_cell(seed, ones, others, balance):
    """Of any class, at any balance: where one was reported, one is reported."""
    found, balance = crowd(seed), np.array(balance)
    higher, lower = np.maximum(ones, others), np.minimum(ones, others)
    before = abnormal_boxes(screened(found, higher, balance))
    after = abnormal_boxes(screened(found, lower, balance))
    for box in before:
        overlaps = pair_iou(np.tile(box, (len(after), 1)), after)
        assert (overlaps > 0.5).any(), (box, after)


@given(st.integers(0, 2**32 - 1), st.tuples(*[score] * 4))
def test_below_the_model_s_own_thresholds_abnormal_cells_are_only_added(seed, shares):
    """Not even their boxes change: what is added has the lesser margin."""
    found = crowd(seed)
    own = {tuple(box) for box in abnormal_boxes(screened(found, BALANCE)).tolist()}
    lower = {tuple(box) for box in abnormal_boxes(screened(found, BALANCE * shares)).tolist()}
    assert own <= lower


def test_one_low_threshold_for_all_leaves_an_abnormal_cell_abnormal():
    """By the scores alone the normal name would win here, as soon as the thresholds are alike."""
    found = cells((HERE, 0, 0.7), (HERE, 1, 0.4))
    for threshold in (0.3, 0.05):
        named = name_cells(found, np.full(3, threshold), ABNORMAL, 0.5, THRESHOLDS)
        assert named.labels.tolist() == [1]


def test_a_normal_finding_that_is_not_reported_counts_all_the_same():
    """Else a lower threshold, at which it is, would take the abnormal cell away again."""
    balance = np.array([0.3, 0.6, 0.6])
    found = cells((HERE, 0, 0.45), (HERE, 1, 0.55))
    for threshold, labels in ((0.5, []), (0.4, [0])):
        thresholds = np.full(3, threshold)
        assert detection_floors(thresholds, balance, ABNORMAL)[0] < 0.45
        named = name_cells(found, thresholds, ABNORMAL, 0.5, balance)
        assert named.labels.tolist() == labels


def test_a_detector_looks_no_lower_than_what_counts():
    own = THRESHOLDS
    np.testing.assert_array_equal(detection_floors(own, own, ABNORMAL), own.astype(np.float32))
    flat = np.full(3, 0.05)  # the normal class's own threshold is the highest
    np.testing.assert_array_equal(detection_floors(flat, own, ABNORMAL), flat.astype(np.float32))
    none = detection_floors(flat, np.zeros(3), np.zeros(3, bool))
    np.testing.assert_array_equal(none, flat.astype(np.float32))


def test_scores_of_all_classes_come_from_all_that_was_found_in_the_place():
    near, beside = (12.0, 10.0, 52.0, 50.0), (38.0, 10.0, 78.0, 50.0)
    boxes = np.array([HERE, near, beside, THERE])
    rows = np.float32([[0.3, 0.6, 0.2], [0.5, 0.1, 0.4], [0.9, 0.1, 0.1], [0.1, 0.2, 0.7]])
    labels = np.array([1, 2, 0, 2])
    found = Detections(boxes, rows[np.arange(4), labels], labels, rows)
    named = name_cells(found, np.full(3, 0.35), ABNORMAL, 0.5, np.full(3, 0.35))
    by_place = {tuple(box): row for box, row in zip(named.boxes, named.class_scores, strict=True)}
    np.testing.assert_array_equal(by_place[HERE], np.float32([0.5, 0.6, 0.4]))
    np.testing.assert_array_equal(by_place[beside], rows[2])
    np.testing.assert_array_equal(by_place[THERE], rows[3])


@given(st.integers(0, 2**32 - 1), score)
def test_no_finding_counts_for_two_cells_and_a_name_s_score_is_its_class_s(seed, threshold):
    found = crowd(seed)
    found.class_scores[:] = 0  # only what was found, so that each score tells whose it is
    found.class_scores[np.arange(len(found)), found.labels] = found.scores
    named = screened(found, np.full(4, threshold))
    of_all = named.class_scores
    np.testing.assert_array_equal(of_all[np.arange(len(named)), named.labels], named.scores)
    told = of_all[of_all > 0]
    assert len(np.unique(told)) == len(told)
    assert set(told.tolist()) <= set(found.scores.tolist())


def test_a_detector_that_tells_no_other_scores_has_those_of_what_it_found():
    named = name_cells(cells((HERE, 0, 0.7), (HERE, 1, 0.4)), THRESHOLDS, ABNORMAL, 0.5)
    np.testing.assert_array_equal(named.class_scores, np.float32([[0.7, 0.4, 0]]))


@given(st.integers(0, 2**32 - 1))
def test_where_all_names_are_kept_each_has_its_own_scores(seed):
    found = crowd(seed)
    kept = found[np.flatnonzero(found.scores >= 0.3)]
    named = name_cells(found, np.full(4, 0.3), CLASSES_ABNORMAL, 1.0, BALANCE)
    assert len(named) == len(kept)
    assert sorted(named.class_scores.tolist()) == sorted(kept.class_scores.tolist())

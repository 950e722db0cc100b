"""One name a cell: abnormal by the margin, which of the abnormal by the score, a little weighed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cells.naming import NAMING, name_cells
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

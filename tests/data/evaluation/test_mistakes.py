"""False alarms and confusions, counted field by field."""

import numpy as np

from data.evaluation import FieldCells, count_mistakes


def test_a_false_alarm_found_no_abnormal_cell_and_a_confusion_another_one():
    def cells(*rows):
        boxes = [[x, 0, x + 10, 10] for x, *_ in rows]
        return FieldCells(
            np.array(boxes, float).reshape(-1, 4),
            np.array([row[1] for row in rows], np.int64),
            np.ones(len(rows)),
            np.array([len(row) > 2 for row in rows], bool),
        )

    truth = [cells((0, 0), (100, 1), (200, 2), (300, 1, "ignored")), cells()]
    found = [cells((0, 1), (100, 1), (200, 1), (300, 2), (400, 2), (500, 0)), cells((0, 2))]
    mistakes = count_mistakes(truth, found, [False, True, True])
    assert mistakes.false_alarms.tolist() == [[0, 1, 1], [0, 0, 1]]
    assert mistakes.confused[0].tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert not mistakes.confused[1].any()
